//! Sizes of BERT on bytes.

use super::{EncoderConfig, affordable, within};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// Sizes of a masked language model over bytes. A text of N bytes is an image of one row and N pixels, whose
/// channels are the symbols: 1 where the byte is that one, else 0. A patch is one pixel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BertConfig {
    /// The encoder.
    #[serde(flatten)]
    pub encoder: EncoderConfig,
}

impl BertConfig {
    /// Bytes that the head chooses from.
    pub const BYTES: usize = 256;
    /// The symbol that stands in the place of a hidden byte.
    pub const MASK: u32 = 256;
    /// What a place of the text may hold: a byte or [`BertConfig::MASK`].
    pub const SYMBOLS: usize = 257;

    /// An encoder of these sizes over texts of `length` bytes.
    pub fn over(encoder: EncoderConfig, length: usize) -> Self {
        Self {
            encoder: EncoderConfig {
                image: (1, length),
                patch: 1,
                channels: Self::SYMBOLS,
                ..encoder
            },
        }
    }

    /// The smallest that has every part: six bytes.
    pub fn test() -> Self {
        Self::over(EncoderConfig::test(), 6)
    }

    /// Bytes of a text, N.
    pub fn length(&self) -> usize {
        self.encoder.image.1
    }

    /// Parameters of encoder, norm and head.
    pub fn parameters(&self) -> u64 {
        let [width, bytes] = [self.encoder.width, Self::BYTES].map(|n| n as u64);
        self.encoder.parameters() + 2 * width + width * bytes + bytes
    }

    /// Refuses sizes that no model can be built from.
    pub fn validate(&self) -> Result<()> {
        let EncoderConfig { image, patch, channels, .. } = self.encoder;
        within("length", image.1, 2, 1 << 12)?;
        within("rows of a text", image.0, 1, 1)?;
        within("patch_size", patch, 1, 1)?;
        within("channels", channels, Self::SYMBOLS, Self::SYMBOLS)?;
        // Everything else is as of images.
        let colours = EncoderConfig::test().channels;
        EncoderConfig { channels: colours, ..self.encoder.clone() }.validate()?;
        affordable(self.parameters())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_those_of_a_text_or_of_an_image() {
        let text = BertConfig::test();
        text.validate().expect("usable");
        let refused = text.encoder.validate().expect_err("no image").to_string();
        assert!(refused.contains("channels = 257 is out of range"), "{refused}");
        for encoder in [
            EncoderConfig::test(),
            EncoderConfig { channels: 3, ..text.encoder.clone() },
            EncoderConfig { image: (2, 6), ..text.encoder.clone() },
            EncoderConfig { image: (1, 1), ..text.encoder.clone() },
            EncoderConfig { image: (1, 1 << 13), ..text.encoder.clone() },
            EncoderConfig { heads: 3, ..text.encoder.clone() },
        ] {
            BertConfig { encoder }.validate().expect_err("no text");
        }
        // Files that were written before there was the field say nothing, and still do.
        let image = serde_json::to_value(EncoderConfig::test()).expect("JSON");
        assert!(image.get("channels").is_none());
        let back: EncoderConfig = serde_json::from_value(image).expect("sizes");
        assert_eq!(back, EncoderConfig::test());
    }
}
