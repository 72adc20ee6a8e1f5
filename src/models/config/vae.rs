//! Sizes of the Gaussian VAE.

use super::{DvaeConfig, TrunkConfig, within};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// Sizes of the Gaussian VAE: the tokenizer's networks with latent channels between them in place of codes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeConfig {
    /// Both networks.
    pub trunk: TrunkConfig,
    /// Latent channels of a position.
    pub latent_channels: usize,
}

impl VaeConfig {
    /// Beside a tokenizer: the same networks, and a channel for each three nats, or nearly, of the ln K that
    /// a code says at most.
    fn beside(dvae: &DvaeConfig, latent_channels: usize) -> Self {
        Self { trunk: dvae.trunk(), latent_channels }
    }

    /// Beside [`DvaeConfig::dalle`].
    pub fn dalle() -> Self {
        Self::beside(&DvaeConfig::dalle(), 3)
    }

    /// Beside [`DvaeConfig::tiny`].
    pub fn tiny() -> Self {
        Self::beside(&DvaeConfig::tiny(), 2)
    }

    /// Beside [`DvaeConfig::small`].
    pub fn small() -> Self {
        Self::beside(&DvaeConfig::small(), 3)
    }

    /// The smallest that has every part.
    pub fn test() -> Self {
        Self::beside(&DvaeConfig::test(), 3)
    }

    /// Positions per image.
    pub fn positions(&self) -> usize {
        self.trunk.grid().0 * self.trunk.grid().1
    }

    /// Parameters of encoder and decoder together.
    pub fn parameters(&self) -> u64 {
        let d = self.latent_channels;
        self.trunk.encoder_parameters(2 * d) + self.trunk.decoder_parameters(d)
    }

    /// Refuses sizes that no model can be built from.
    pub fn validate(&self) -> Result<()> {
        within("latent_channels", self.latent_channels, 1, 1 << 12)?;
        self.trunk.validate(2 * self.latent_channels, self.latent_channels)
    }
}
