//! Semantic segmentation: windows over an image, and figures over labelled ones.

mod confusion;
mod figures;
mod inference;
mod opened;
mod page;
mod windows;
mod written;

pub use confusion::PixelConfusion;
pub use figures::{ClassFigure, SegmentFigures};
pub use inference::{Weighted, Windows, confusion_over, segment_image, window_logits};
pub use opened::{OpenedSegmenter, SegmentEvaluation, evaluate_segmenter, expect_classes};
pub use page::{
    SegmentExample, add_examples, add_segment_figures, coloured, overlay, segment_examples,
    segmented_page,
};
pub use windows::windows;
pub use written::{MaskNames, palette_png};
