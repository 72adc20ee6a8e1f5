//! Sizes of BEiT, and what its head says of a patch.

use super::{EncoderConfig, affordable, encoder_flops, within};
use crate::error;
use crate::words::words;
use serde::{Deserialize, Serialize};

words! {
    /// The numbers of a patch that a head over pixels predicts.
    PixelValues {
        /// Pixels as the encoder's view is normalised.
        Plain = "plain",
        /// The same less their mean, over their deviation, patch by patch.
        Normalised = "normalised",
    }
}

/// What the head says of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchHead {
    /// Which of so many visual tokens it is: BEiT.
    Tokens(usize),
    /// Its pixels, the 3 P² of them in the order of a convolution's kernel: channel, row, column.
    Pixels(PixelValues),
}

impl PatchHead {
    /// Name of its layer.
    pub fn layer(self) -> &'static str {
        match self {
            Self::Tokens(_) => "lm_head",
            Self::Pixels(_) => "pixel_head",
        }
    }
}

impl EncoderConfig {
    /// The same under a head that chooses from `vocab` visual tokens.
    pub fn with_vocab(self, vocab: usize) -> BeitConfig {
        BeitConfig { encoder: self, head: PatchHead::Tokens(vocab) }
    }

    /// The same under a head over pixels.
    pub fn with_pixels(self, values: PixelValues) -> BeitConfig {
        BeitConfig { encoder: self, head: PatchHead::Pixels(values) }
    }
}

/// Sizes of BEiT: the encoder and its masked-image head (`modeling_pretrain.py`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BeitFields", into = "BeitFields")]
pub struct BeitConfig {
    /// The encoder.
    pub encoder: EncoderConfig,
    /// What the head says of a patch.
    pub head: PatchHead,
}

impl BeitConfig {
    /// `beit_base_patch16_224_8k_vocab`: 91,965,776 parameters.
    pub fn base_patch16_224() -> Self {
        EncoderConfig::base_patch16_224().with_vocab(8192)
    }

    /// `beit_large_patch16_224_8k_vocab`: 311,534,016 parameters.
    pub fn large_patch16_224() -> Self {
        EncoderConfig::large_patch16_224().with_vocab(8192)
    }

    /// [`EncoderConfig::tiny`] over 512 tokens.
    pub fn tiny() -> Self {
        EncoderConfig::tiny().with_vocab(512)
    }

    /// [`EncoderConfig::small`] over 2048 tokens.
    pub fn small() -> Self {
        EncoderConfig::small().with_vocab(2048)
    }

    /// The smallest that has every part; fits [`DvaeConfig::test`](super::DvaeConfig::test).
    pub fn test() -> Self {
        EncoderConfig::test().with_vocab(11)
    }

    /// Numbers that the head says of a patch.
    pub fn outputs(&self) -> usize {
        match self.head {
            PatchHead::Tokens(vocab) => vocab,
            PatchHead::Pixels(_) => 3 * self.encoder.patch * self.encoder.patch,
        }
    }

    /// Parameters of encoder, mask token, norm and head.
    pub fn parameters(&self) -> u64 {
        let [width, outputs] = [self.encoder.width, self.outputs()].map(|n| n as u64);
        self.encoder.parameters() + width + 2 * width + width * outputs + outputs
    }

    /// Refuses sizes that no model can be built from.
    pub fn validate(&self) -> error::Result<()> {
        self.encoder.validate()?;
        if let PatchHead::Tokens(vocab) = self.head {
            within("vocab", vocab, 2, 1 << 20)?;
        }
        affordable(self.parameters())
    }
}

/// The fields of `config.json`: of `vocab` and `pixels` one is there.
#[derive(Serialize, Deserialize)]
struct BeitFields {
    #[serde(flatten)]
    encoder: EncoderConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    vocab: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pixels: Option<PixelValues>,
}

impl From<BeitConfig> for BeitFields {
    fn from(BeitConfig { encoder, head }: BeitConfig) -> Self {
        match head {
            PatchHead::Tokens(vocab) => Self { encoder, vocab: Some(vocab), pixels: None },
            PatchHead::Pixels(values) => Self { encoder, vocab: None, pixels: Some(values) },
        }
    }
}

impl TryFrom<BeitFields> for BeitConfig {
    type Error = &'static str;

    fn try_from(BeitFields { encoder, vocab, pixels }: BeitFields) -> Result<Self, Self::Error> {
        let head = match (vocab, pixels) {
            (Some(vocab), None) => PatchHead::Tokens(vocab),
            (None, Some(values)) => PatchHead::Pixels(values),
            (None, None) => return Err("missing field `vocab`, or `pixels` of a head over pixels"),
            (Some(_), Some(_)) => return Err("`vocab` and `pixels` exclude each other: one head"),
        };
        Ok(Self { encoder, head })
    }
}

/// The same with the head on `masked` patches.
pub fn forward_flops(config: &BeitConfig, masked: usize) -> f64 {
    let head = 2.0 * (masked * config.outputs() * config.encoder.width) as f64;
    encoder_flops(&config.encoder) + head
}
