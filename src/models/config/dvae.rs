//! Sizes of the tokenizer.

use super::{TrunkConfig, within};
use crate::error::Result;
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

    /// The sizes of its networks.
    pub fn trunk(&self) -> TrunkConfig {
        TrunkConfig {
            width: self.width,
            init_width: self.init_width,
            groups: self.groups,
            blocks_per_group: self.blocks_per_group,
            image: self.image,
        }
    }

    /// Side of the square of pixels that one token stands for: 2 per pool.
    pub fn factor(&self) -> usize {
        self.trunk().factor()
    }

    /// Rows and columns of the token grid.
    pub fn grid(&self) -> (usize, usize) {
        self.trunk().grid()
    }

    /// Tokens per image.
    pub fn tokens(&self) -> usize {
        self.grid().0 * self.grid().1
    }

    /// Constant gain of every residual path, `1 / (groups * blocks)^2` (arXiv 2102.12092, A.1).
    pub fn gain(&self) -> f64 {
        self.trunk().gain()
    }

    /// Parameters of encoder and decoder together.
    pub fn parameters(&self) -> u64 {
        let trunk = self.trunk();
        trunk.encoder_parameters(self.vocab) + trunk.decoder_parameters(self.vocab)
    }

    /// Refuses sizes that no model can be built from.
    pub fn validate(&self) -> Result<()> {
        within("vocab", self.vocab, 2, 1 << 20)?;
        self.trunk().validate(self.vocab, self.vocab)
    }
}
