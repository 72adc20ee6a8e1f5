//! Sizes of the classifier.

use super::{EncoderConfig, affordable, within};
use crate::error::Result;
use crate::words::words;
use serde::{Deserialize, Serialize};

words! {
    /// What of the last stream a classifier reads.
    Pooling {
        /// The mean of the patch tokens, under a norm of its own.
        Mean = "mean",
        /// The class token, after the final norm.
        Class = "class",
    }
}

/// Sizes of a classifier: an encoder, its pooling and a linear head (`modeling_finetune.py`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifierConfig {
    /// The encoder.
    #[serde(flatten)]
    pub encoder: EncoderConfig,
    /// What the head reads.
    pub pooling: Pooling,
    /// Factor on the head's initial weights (0.001 in the original).
    pub head_scale: f64,
    /// Names of the classes, in the order of the head's rows.
    pub classes: Vec<String>,
}

impl ClassifierConfig {
    /// The smallest that has every part: three classes, mean pooling, a bias table in each block.
    pub fn test() -> Self {
        let test = EncoderConfig::test();
        Self {
            encoder: EncoderConfig { shared_rel_pos_bias: false, rel_pos_bias: true, ..test },
            pooling: Pooling::Mean,
            head_scale: 0.001,
            classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
        }
    }

    /// Parameters of encoder, norm and head.
    pub fn parameters(&self) -> u64 {
        let [width, classes] = [self.encoder.width, self.classes.len()].map(|n| n as u64);
        self.encoder.parameters() + 2 * width + width * classes + classes
    }

    /// Refuses sizes that no model can be built from.
    pub fn validate(&self) -> Result<()> {
        self.encoder.validate()?;
        within("the number of classes", self.classes.len(), 2, 1 << 20)?;
        affordable(self.parameters())
    }
}
