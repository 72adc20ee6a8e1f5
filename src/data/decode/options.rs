//! What a caller may want of decoding.

use crate::words::words;

words! {
    /// Which way up an image is decoded.
    Orientation {
        /// As its EXIF orientation says.
        Upright = "upright",
        /// As its pixels are stored.
        Stored = "stored",
    }
}

/// How files become images.
#[derive(Clone, Copy, Debug)]
pub struct DecodeOptions {
    /// Which way up.
    pub orientation: Orientation,
    /// Megabytes that all decoding of the process may take at a time; 0 is a quarter of the machine's memory.
    pub memory: usize,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { orientation: Orientation::Upright, memory: 0 }
    }
}
