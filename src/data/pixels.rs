//! Bytes to the numbers a model reads, and back.

use super::image::Image;
use crate::words::words;

/// Mean and deviation of the BEiT models trained on ImageNet-22k.
pub const HALF: ([f32; 3], [f32; 3]) = ([0.5; 3], [0.5; 3]);
/// Mean and deviation of ImageNet, used for the models trained on ImageNet-1k.
pub const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

words! {
    /// Mean and deviation of an encoder's view.
    Normalise {
        /// [`HALF`].
        Half = "half",
        /// [`IMAGENET`].
        Imagenet = "imagenet",
    }
}

impl Normalise {
    /// Mean and deviation, per channel.
    pub fn moments(self) -> ([f32; 3], [f32; 3]) {
        match self {
            Self::Half => HALF,
            Self::Imagenet => IMAGENET,
        }
    }
}

/// The dVAE's distance from 0 and 1, which its logit-Laplace likelihood needs (arXiv 2102.12092, A.3).
const EPS: f32 = 0.1;

/// A map from bytes to numbers, channel by channel, by table: there are only 768 answers.
#[derive(Clone, Debug)]
pub struct PixelMap([[f32; 256]; 3]);

impl PixelMap {
    fn new(f: impl Fn(f32, usize) -> f32) -> Self {
        Self(std::array::from_fn(|c| std::array::from_fn(|x| f(x as f32 / 255.0, c))))
    }

    /// `(x/255 - mean) / std`, what the encoder reads.
    pub fn normalise(mean: [f32; 3], std: [f32; 3]) -> Self {
        Self::new(|x, c| (x - mean[c]) / std[c])
    }

    /// `φ(x/255) = 0.8 x/255 + 0.1`, what the tokenizer reads and reconstructs.
    pub fn map_pixels() -> Self {
        Self::new(|x, _| (1.0 - 2.0 * EPS) * x + EPS)
    }

    /// The table `[3,256]` by which [`pixels`](crate::ops::pixels) maps bytes on a device.
    pub fn table(&self) -> Vec<f32> {
        self.0.concat()
    }

    /// The image as numbers `[H,W,3]`.
    pub fn apply(&self, image: &Image) -> Vec<f32> {
        let [r, g, b] = &self.0;
        let (pixels, _) = image.pixels.as_chunks::<3>();
        pixels.iter().flat_map(|p| [r[p[0] as usize], g[p[1] as usize], b[p[2] as usize]]).collect()
    }
}

/// `φ⁻¹`: from the tokenizer's numbers to `0..=1`, clipped.
pub fn unmap_pixels(x: f32) -> f32 {
    ((x - EPS) / (1.0 - 2.0 * EPS)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::ops::pixels::PixelsOp;
    use crate::tensor::{Bytes, Master};

    #[test]
    fn unmapping_returns_every_byte() {
        let bytes: Vec<u8> = (0..=255).collect();
        let image = Image::new(1, 256, bytes.iter().flat_map(|&b| [b; 3]).collect());
        let mapped = PixelMap::map_pixels().apply(&image);
        let back = mapped.into_iter().map(|x| (255.0 * unmap_pixels(x)).round() as u8);
        assert_eq!(back.collect::<Vec<_>>(), image.pixels);
    }

    /// On a device, by table: the same number of every byte of every channel.
    #[test]
    fn the_op_makes_the_numbers_of_the_map() {
        let bk = Cpu::<f32>::new();
        let bytes: Vec<u8> = (0..=255u8).flat_map(|x| [x, 255 - x, x ^ 0x5A]).collect();
        let image = Image::new(16, 16, bytes);
        for map in [PixelMap::normalise(IMAGENET.0, IMAGENET.1), PixelMap::map_pixels()] {
            let table = Master::from_f32(&bk, map.table(), &[3, 256]);
            let pieces = [&image.pixels[..300], &image.pixels[300..]];
            let x = Bytes::from_pieces(&bk, &pieces, &[1, 16, 16, 3]);
            assert_eq!(bk.pixels(&x, &table).to_vec(&bk), map.apply(&image));
        }
    }
}
