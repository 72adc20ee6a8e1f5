//! Checks of gradients, for the crate's own cases and for anybody's.

pub mod gradients;
