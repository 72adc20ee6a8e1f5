//! Sizes of DINO's student and teacher.

use super::{EncoderConfig, affordable, within};
use crate::error::Result;

/// Sizes of an encoder with DINO's projection head (`DINOHead` of `vision_transformer.py`).
#[derive(Clone, Debug, PartialEq)]
pub struct DinoConfig {
    /// The encoder.
    pub encoder: EncoderConfig,
    /// Width of the two hidden layers of the head (2048 in the original).
    pub hidden: usize,
    /// Width of what is normalised (256 in the original).
    pub bottleneck: usize,
    /// Outputs K (65,536 in the original).
    pub outputs: usize,
    /// Whether the rows of the last layer have lengths that are learnt; else all have length one.
    pub lengths: bool,
}

impl DinoConfig {
    /// The smallest that has every part.
    pub fn test() -> Self {
        Self { encoder: EncoderConfig::test(), hidden: 7, bottleneck: 5, outputs: 6, lengths: true }
    }

    /// Parameters of encoder, final norm and head.
    pub fn parameters(&self) -> u64 {
        let [width, hidden, bottleneck, outputs] =
            [self.encoder.width, self.hidden, self.bottleneck, self.outputs].map(|n| n as u64);
        let layer = |input: u64, output: u64| input * output + output;
        let lengths = if self.lengths { outputs } else { 0 };
        self.encoder.parameters()
            + 2 * width
            + layer(width, hidden)
            + layer(hidden, hidden)
            + layer(hidden, bottleneck)
            + bottleneck * outputs
            + lengths
    }

    /// Refuses sizes that no model can be built from.
    pub fn validate(&self) -> Result<()> {
        self.encoder.validate()?;
        within("head_hidden", self.hidden, 1, 1 << 14)?;
        within("head_bottleneck", self.bottleneck, 1, 1 << 12)?;
        within("head_outputs", self.outputs, 2, 1 << 20)?;
        affordable(self.parameters())
    }
}
