//! Semantic segmentation: windows over an image, and figures over labelled ones.

mod confusion;
mod figures;
mod windows;

pub use confusion::PixelConfusion;
pub use figures::{ClassFigure, SegmentFigures};
pub use windows::windows;
