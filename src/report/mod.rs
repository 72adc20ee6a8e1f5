//! Reports: one HTML file with everything in it, readable without a network, in light and dark mode
//! and at the width of a phone.

pub mod about;
pub mod page;
pub mod picture;

pub use beit_check::plot;
