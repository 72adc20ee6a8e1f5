//! Sizes of the segmenter.

use super::{EncoderConfig, affordable, within};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// A class of pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentClass {
    /// Its name.
    pub name: String,
    /// Its colour in pictures: red, green, blue.
    pub colour: [u8; 3],
}

/// Sizes of a segmenter: an encoder that four levels of a pyramid are made of, a UPerNet head, and an auxiliary head
/// (`semantic_segmentation/configs/beit/upernet`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmenterConfig {
    /// The encoder.
    #[serde(flatten)]
    pub encoder: EncoderConfig,
    /// Where the encoder is read for each level, finest first: l + 1 is what block l puts out, counted from 0.
    pub taps: [usize; 4],
    /// Channels of the UPerNet head.
    pub channels: usize,
    /// Channels of the auxiliary head; 0 is none.
    pub auxiliary: usize,
    /// What the shorter and the longer side of an image are scaled to at most before it is looked at, in pixels.
    pub scale: (usize, usize),
    /// The classes, in the order of the heads' rows.
    pub classes: Vec<SegmentClass>,
}

impl SegmenterConfig {
    /// Bins a side of the pyramid pooling.
    pub const POOLS: [usize; 4] = [1, 2, 3, 6];

    /// The original's of an encoder: read after each third of its blocks and a fourth time at its end, as many
    /// channels as it is wide, 256 in the auxiliary head.
    pub fn original(encoder: EncoderConfig, classes: Vec<SegmentClass>) -> Self {
        let depth = encoder.depth;
        // Blocks 3, 5, 7, 11 of 12 and 7, 11, 15, 23 of 24, counted from 0.
        let taps = [depth.div_ceil(3), depth.div_ceil(2), (2 * depth).div_ceil(3), depth];
        let short = encoder.image.0.min(encoder.image.1);
        let scale = (short, 4 * short);
        Self { taps, channels: encoder.width, auxiliary: 256, scale, encoder, classes }
    }

    /// The smallest that has every part: three classes, a bias table in each block.
    pub fn test() -> Self {
        let test = EncoderConfig::test();
        let encoder = EncoderConfig { shared_rel_pos_bias: false, rel_pos_bias: true, ..test };
        let class =
            |i: u8| SegmentClass { name: format!("class {i}"), colour: [i, 2 * i, 255 - i] };
        Self {
            encoder,
            taps: [0, 1, 1, 2],
            channels: 4,
            auxiliary: 5,
            scale: (6, 24),
            classes: (0..3).map(class).collect(),
        }
    }

    /// Taps in a text, as `4,6,8,12`.
    pub fn taps_in(text: &str) -> Option<[usize; 4]> {
        let numbers = text.split(',').map(|part| part.trim().parse().ok());
        numbers.collect::<Option<Vec<usize>>>()?.try_into().ok()
    }

    /// Names of the classes.
    pub fn class_names(&self) -> Vec<String> {
        self.classes.iter().map(|class| class.name.clone()).collect()
    }

    /// Height and width of the finest level, which the logits have.
    pub fn finest(&self) -> (usize, usize) {
        let (gh, gw) = self.encoder.grid();
        (4 * gh, 4 * gw)
    }

    /// Parameters of encoder, pyramid and heads, statistics of the batch norms among them.
    pub fn parameters(&self) -> u64 {
        let [c, h, a, k] = [self.encoder.width, self.channels, self.auxiliary, self.classes.len()]
            .map(|n| n as u64);
        let norm = |width: u64| 4 * width + 1;
        let block =
            |input: u64, output: u64, side: u64| input * output * side * side + norm(output);
        let deconv = 4 * c * c + c;
        let pyramid = 3 * deconv + norm(c);
        let head = 4 * block(c, h, 1)
            + block(c + 4 * h, h, 3)
            + 3 * block(c, h, 1)
            + 3 * block(h, h, 3)
            + block(4 * h, h, 3)
            + h * k
            + k;
        let auxiliary = if a > 0 { block(c, a, 3) + a * k + k } else { 0 };
        self.encoder.parameters() + pyramid + head + auxiliary
    }

    /// Floating-point operations of one image forward above the encoder: matrix products only (a multiply-add
    /// counts 2).
    pub fn head_flops(&self) -> f64 {
        let [c, h, a, k] = [self.encoder.width, self.channels, self.auxiliary, self.classes.len()]
            .map(|n| n as f64);
        let (n, coarsest) = (self.encoder.patches() as f64, self.encoder.patches() as f64 / 4.0);
        let deconvs = n * 4.0 * c * c * (1.0 + 4.0 + 1.0);
        let pools: f64 = Self::POOLS.map(|s| (s * s) as f64 * c * h).iter().sum();
        let finer = n * (16.0 + 4.0 + 1.0);
        let head = coarsest * 9.0 * (c + 4.0 * h) * h
            + finer * (c * h + 9.0 * h * h)
            + n * 16.0 * (36.0 * h * h + h * k);
        2.0 * (deconvs + pools + head + n * (9.0 * c * a + a * k))
    }

    /// Refuses sizes that no model can be built from.
    pub fn validate(&self) -> Result<()> {
        self.encoder.validate()?;
        within("channels", self.channels, 1, 1 << 13)?;
        within("auxiliary", self.auxiliary, 0, 1 << 13)?;
        within("scale (shorter side)", self.scale.0, 1, 1 << 13)?;
        within("scale (longer side)", self.scale.1, self.scale.0, 1 << 16)?;
        within("the number of classes", self.classes.len(), 2, 255)?;
        let depth = self.encoder.depth;
        if !self.taps.is_sorted() || self.taps[3] > depth {
            return Err(Error::config(format!(
                "taps {:?} are not ascending numbers from 0 to the depth, {depth}",
                self.taps
            )));
        }
        let (gh, gw) = self.encoder.grid();
        if gh < 2 || gw < 2 {
            return Err(Error::config(format!(
                "a grid of {gh}x{gw} patches has no coarser level: want at least 2x2"
            )));
        }
        affordable(self.parameters())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_original() {
        let taps = |encoder| SegmenterConfig::original(encoder, Vec::new()).taps;
        assert_eq!(taps(EncoderConfig::base_patch16_224()), [4, 6, 8, 12]);
        assert_eq!(taps(EncoderConfig::large_patch16_224()), [8, 12, 16, 24]);
        assert_eq!(taps(EncoderConfig::tiny()), [2, 3, 4, 6]);
    }

    #[test]
    fn unusable_sizes_are_named() {
        let test = SegmenterConfig::test;
        test().validate().unwrap();
        let text = |config: SegmenterConfig| config.validate().unwrap_err().to_string();
        let beyond = SegmenterConfig { taps: [0, 1, 2, 3], ..test() };
        assert!(text(beyond).contains("taps [0, 1, 2, 3] are not ascending numbers from 0 to"));
        let flat = EncoderConfig { image: (3, 9), ..test().encoder };
        let flat = SegmenterConfig { encoder: flat, ..test() };
        assert_eq!(text(flat), "a grid of 1x3 patches has no coarser level: want at least 2x2");
        let few = SegmenterConfig { classes: Vec::new(), ..test() };
        assert_eq!(text(few), "the number of classes = 0 is out of range: allowed is 2 to 255");
    }
}
