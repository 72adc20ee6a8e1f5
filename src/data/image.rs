//! An image in memory: bytes, as the originals' resampling and jitter want them.

use super::geometry::CropBox;

/// RGB bytes `[H,W,3]`, row-major.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Rows.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// `height * width * 3` bytes.
    pub pixels: Vec<u8>,
}

impl Image {
    /// An image of the given bytes.
    #[track_caller]
    pub fn new(height: usize, width: usize, pixels: Vec<u8>) -> Self {
        assert_eq!(pixels.len(), height * width * 3, "image: {height}x{width} RGB has other bytes");
        Self { height, width, pixels }
    }

    /// The box that covers the whole image.
    pub fn whole(&self) -> CropBox {
        CropBox { top: 0, left: 0, height: self.height, width: self.width }
    }

    /// The bytes of the box, row by row.
    #[track_caller]
    pub fn rows(&self, crop: CropBox) -> impl Iterator<Item = &[u8]> {
        assert!(
            crop.top + crop.height <= self.height && crop.left + crop.width <= self.width,
            "image: {crop:?} does not fit {}x{}",
            self.height,
            self.width
        );
        (crop.top..crop.top + crop.height)
            .map(move |y| &self.pixels[(y * self.width + crop.left) * 3..][..crop.width * 3])
    }

    /// A copy of the box.
    #[track_caller]
    pub fn crop(&self, crop: CropBox) -> Self {
        let pixels = self.rows(crop).flatten().copied().collect();
        Self { height: crop.height, width: crop.width, pixels }
    }

    /// Mirrors left and right in place.
    pub fn flip(&mut self) {
        for row in self.pixels.chunks_exact_mut(self.width.max(1) * 3) {
            row.as_chunks_mut::<3>().0.reverse();
        }
    }
}
