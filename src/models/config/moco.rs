//! Sizes of MoCo v3's encoder with its two heads.

use super::{EncoderConfig, affordable, within};
use crate::error::Result;

/// Sizes of an encoder with projector and predictor (`moco/builder.py`, MoCo_ViT).
#[derive(Clone, Debug, PartialEq)]
pub struct MocoConfig {
    /// The encoder.
    pub encoder: EncoderConfig,
    /// Width of the hidden layers of both heads (4096 in the original).
    pub hidden: usize,
    /// Width of what is compared (256 in the original).
    pub outputs: usize,
}

impl MocoConfig {
    /// The smallest that has every part.
    pub fn test() -> Self {
        Self { encoder: EncoderConfig::test(), hidden: 5, outputs: 4 }
    }

    /// Parameters of encoder, final norm and heads, without the statistics of the batch norms.
    pub fn parameters(&self) -> u64 {
        let [width, hidden, outputs] =
            [self.encoder.width, self.hidden, self.outputs].map(|n| n as u64);
        let norm = 2 * hidden;
        let projector = width * hidden + norm + hidden * hidden + norm + hidden * outputs;
        let predictor = outputs * hidden + norm + hidden * outputs;
        self.encoder.parameters() + 2 * width + projector + predictor
    }

    /// Refuses sizes that no model can be built from.
    pub fn validate(&self) -> Result<()> {
        self.encoder.validate()?;
        within("head_hidden", self.hidden, 1, 1 << 14)?;
        within("head_outputs", self.outputs, 2, 1 << 14)?;
        affordable(self.parameters())
    }
}
