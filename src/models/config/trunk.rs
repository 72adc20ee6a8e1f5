//! Sizes of encoder and decoder, whatever lies between them.

use super::{affordable, conv, divides, within, within_image};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Sizes that the discrete and the Gaussian VAE share (`dall_e/encoder.py`, `dall_e/decoder.py`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrunkConfig {
    /// Channels after the encoder's first convolution (`n_hid`); group g has `width << g`.
    pub width: usize,
    /// Channels after the decoder's first convolution (`n_init`).
    pub init_width: usize,
    /// Groups of residual blocks; one 2x pool or upsampling stands between neighbours.
    pub groups: usize,
    /// Residual blocks in each group.
    pub blocks_per_group: usize,
    /// Height and width of the view it sees, in pixels.
    pub image: (usize, usize),
}

impl TrunkConfig {
    /// Side of the square of pixels that one position stands for: 2 per pool.
    pub fn factor(&self) -> usize {
        1 << (self.groups - 1)
    }

    /// Rows and columns of the latent grid.
    pub fn grid(&self) -> (usize, usize) {
        (self.image.0 / self.factor(), self.image.1 / self.factor())
    }

    /// Constant gain of every residual path, `1 / (groups * blocks)^2` (arXiv 2102.12092, A.1).
    pub fn gain(&self) -> f64 {
        let layers = (self.groups * self.blocks_per_group) as f64;
        1.0 / (layers * layers)
    }

    /// Parameters of an encoder that makes `out` channels.
    pub fn encoder_parameters(&self, out: usize) -> u64 {
        let widths: Vec<usize> = (0..self.groups).map(|g| self.width << g).collect();
        let last = widths[self.groups - 1];
        let middle = self.group_parameters(self.width, &widths, 3, 1);
        conv(3, self.width, 7) + middle + conv(last, out, 1)
    }

    /// Parameters of a decoder that reads `input` channels.
    pub fn decoder_parameters(&self, input: usize) -> u64 {
        let widths: Vec<usize> = (0..self.groups).rev().map(|g| self.width << g).collect();
        let middle = self.group_parameters(self.init_width, &widths, 1, 3);
        conv(input, self.init_width, 1) + middle + conv(self.width, 6, 1)
    }

    fn group_parameters(&self, input: usize, widths: &[usize], first: usize, last: usize) -> u64 {
        let (mut total, mut input) = (0, input);
        for &out in widths {
            for _ in 0..self.blocks_per_group {
                let inner = out / 4;
                let identity = if input == out { 0 } else { conv(input, out, 1) };
                let ends = conv(input, inner, first) + conv(inner, out, last);
                total += identity + ends + 2 * conv(inner, inner, 3);
                input = out;
            }
        }
        total
    }

    /// Refuses sizes that no networks with so many channels between them can be built from.
    pub fn validate(&self, out: usize, input: usize) -> Result<()> {
        within("width", self.width, 4, 1 << 14)?;
        within("init_width", self.init_width, 1, 1 << 14)?;
        within("groups", self.groups, 1, 6)?;
        within("blocks", self.blocks_per_group, 1, 64)?;
        within_image(self.image)?;
        if !self.width.is_multiple_of(4) {
            return Err(Error::config(format!(
                "width {} is not divisible by 4 (a block's inner width is a quarter of it)",
                self.width
            )));
        }
        divides("image_size", self.image, "the tokenizer's factor", self.factor())?;
        affordable(self.encoder_parameters(out) + self.decoder_parameters(input))
    }
}
