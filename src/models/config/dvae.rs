//! Sizes of the tokenizer.

use super::{affordable, conv, divides, within, within_image};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Sizes of the discrete VAE, encoder and decoder (`dall_e/encoder.py`, `dall_e/decoder.py`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DvaeConfig {
    /// Channels after the encoder's first convolution (`n_hid`); group g has `width << g`.
    pub width: usize,
    /// Channels after the decoder's first convolution (`n_init`), the length of a code.
    pub init_width: usize,
    /// Groups of residual blocks; one 2x pool or upsampling stands between neighbours.
    pub groups: usize,
    /// Residual blocks in each group.
    pub blocks_per_group: usize,
    /// Number of visual tokens.
    pub vocab: usize,
    /// Height and width of the view it sees, in pixels.
    pub image: (usize, usize),
}

impl DvaeConfig {
    /// The DALL-E tokenizer: 256/128 channels, 4 groups of 2, 8192 codes, 112 px view.
    pub fn dalle() -> Self {
        Self {
            width: 256,
            init_width: 128,
            groups: 4,
            blocks_per_group: 2,
            vocab: 8192,
            image: (112, 112),
        }
    }

    /// For 32 px images on a laptop: factor 4, 512 codes.
    pub fn tiny() -> Self {
        Self {
            width: 32,
            init_width: 32,
            groups: 3,
            blocks_per_group: 1,
            vocab: 512,
            image: (32, 32),
        }
    }

    /// For a 32 px view of 64 px images: factor 4, 2048 codes.
    pub fn small() -> Self {
        Self {
            width: 64,
            init_width: 64,
            groups: 3,
            blocks_per_group: 2,
            vocab: 2048,
            image: (32, 32),
        }
    }

    /// The smallest that has every part; its grid and vocabulary fit [`BeitConfig::test`](super::BeitConfig::test).
    pub fn test() -> Self {
        Self { width: 4, init_width: 3, groups: 3, blocks_per_group: 1, vocab: 11, image: (8, 12) }
    }

    /// Side of the square of pixels that one token stands for: 2 per pool.
    pub fn factor(&self) -> usize {
        1 << (self.groups - 1)
    }

    /// Rows and columns of the token grid.
    pub fn grid(&self) -> (usize, usize) {
        (self.image.0 / self.factor(), self.image.1 / self.factor())
    }

    /// Tokens per image.
    pub fn tokens(&self) -> usize {
        self.grid().0 * self.grid().1
    }

    /// Constant gain of every residual path, `1 / (groups * blocks)^2` (arXiv 2102.12092, A.1).
    pub fn gain(&self) -> f64 {
        let layers = (self.groups * self.blocks_per_group) as f64;
        1.0 / (layers * layers)
    }

    /// Parameters of encoder and decoder together.
    pub fn parameters(&self) -> u64 {
        self.encoder_parameters() + self.decoder_parameters()
    }

    /// Parameters of the encoder.
    pub fn encoder_parameters(&self) -> u64 {
        let widths: Vec<usize> = (0..self.groups).map(|g| self.width << g).collect();
        let last = widths[self.groups - 1];
        let middle = self.group_parameters(self.width, &widths, 3, 1);
        conv(3, self.width, 7) + middle + conv(last, self.vocab, 1)
    }

    /// Parameters of the decoder.
    pub fn decoder_parameters(&self) -> u64 {
        let widths: Vec<usize> = (0..self.groups).rev().map(|g| self.width << g).collect();
        let middle = self.group_parameters(self.init_width, &widths, 1, 3);
        conv(self.vocab, self.init_width, 1) + middle + conv(self.width, 6, 1)
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

    /// Refuses sizes that no model can be built from.
    pub fn validate(&self) -> Result<()> {
        within("width", self.width, 4, 1 << 14)?;
        within("init_width", self.init_width, 1, 1 << 14)?;
        within("groups", self.groups, 1, 6)?;
        within("blocks", self.blocks_per_group, 1, 64)?;
        within("vocab", self.vocab, 2, 1 << 20)?;
        within_image(self.image)?;
        if !self.width.is_multiple_of(4) {
            return Err(Error::config(format!(
                "width {} is not divisible by 4 (a block's inner width is a quarter of it)",
                self.width
            )));
        }
        divides("image_size", self.image, "the tokenizer's factor", self.factor())?;
        affordable(self.parameters())
    }
}
