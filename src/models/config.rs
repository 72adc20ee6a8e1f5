//! Sizes of the models: plain structs with named constructors.
//!
//! No size is a constant of a module; every model is built from one of these, every test from
//! `test()`, whose sides and grid are uneven on purpose so that a swap of height and width shows.

mod beit;
mod bert;
mod classifier;
mod dino;
mod dvae;
mod moco;
mod segmenter;
mod trunk;
mod vae;

pub use beit::{BeitConfig, PatchHead, PixelValues, forward_flops};
pub use bert::BertConfig;
pub use classifier::{ClassifierConfig, Pooling};
pub use dino::DinoConfig;
pub use dvae::DvaeConfig;
pub use moco::MocoConfig;
pub use segmenter::{SegmentClass, SegmenterConfig};
pub use trunk::TrunkConfig;
pub use vae::VaeConfig;

use crate::error::{Error, Result};
use crate::layers::block::BlockConfig;
use serde::{Deserialize, Serialize};

/// Sizes of the encoder (`modeling_pretrain.py`, `modeling_finetune.py`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncoderConfig {
    /// Height and width of the image, in pixels.
    pub image: (usize, usize),
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Channels of a pixel: the 3 of an image, or one for each symbol of a text ([`BertConfig`]).
    #[serde(default = "colours", skip_serializing_if = "are_colours")]
    pub channels: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads of a block.
    pub heads: usize,
    /// Hidden width of the MLP: four times `width` in the original's models, not in all of others'.
    pub mlp_width: usize,
    /// One relative-position table for all blocks, the original's choice for pretraining.
    pub shared_rel_pos_bias: bool,
    /// One relative-position table in each block, the original's choice for fine-tuning.
    pub rel_pos_bias: bool,
    /// Learned absolute positions, as in the paper's plain ViT.
    pub abs_pos: bool,
    /// Initial value of `gamma_1` and `gamma_2`; at 0 these parameters do not exist.
    pub layer_scale: f64,
    /// Drop-path rate of the last block, rising linearly from 0 in the first.
    pub drop_path: f64,
    /// Epsilon of every layer norm.
    pub layer_norm_eps: f64,
}

impl EncoderConfig {
    /// `beit_base_patch16_224`.
    ///
    /// `Deviation:` the paper's main tables are of a plain ViT with absolute positions, without bias
    /// table and layer scale; the released weights and this default are its "+" variant.
    pub fn base_patch16_224() -> Self {
        Self {
            image: (224, 224),
            patch: 16,
            channels: colours(),
            width: 768,
            depth: 12,
            heads: 12,
            mlp_width: 4 * 768,
            shared_rel_pos_bias: true,
            rel_pos_bias: false,
            abs_pos: false,
            layer_scale: 0.1,
            drop_path: 0.1,
            layer_norm_eps: 1e-6,
        }
    }

    /// `beit_large_patch16_224`.
    pub fn large_patch16_224() -> Self {
        let base = Self::base_patch16_224();
        Self { depth: 24, heads: 16, layer_scale: 1e-5, ..base }.with_width(1024)
    }

    /// 32 px, 8x8 patches: trains on a laptop in minutes.
    pub fn tiny() -> Self {
        let base = Self::base_patch16_224();
        Self { image: (32, 32), patch: 4, depth: 6, heads: 4, ..base }.with_width(128)
    }

    /// 64 px, 8x8 patches: trains on a laptop in hours.
    pub fn small() -> Self {
        let base = Self::base_patch16_224();
        Self { image: (64, 64), patch: 8, depth: 6, heads: 6, ..base }.with_width(384)
    }

    /// The smallest that has every part, on a 2x3 grid.
    pub fn test() -> Self {
        let base = Self::base_patch16_224();
        Self { image: (6, 9), patch: 3, depth: 2, heads: 2, ..base }.with_width(8)
    }

    /// The same at another width, its MLP four times as wide as the original's.
    pub fn with_width(self, width: usize) -> Self {
        Self { width, mlp_width: 4 * width, ..self }
    }

    /// The same as a plain ViT (arXiv 2010.11929): absolute positions alone, and no layer scale.
    pub fn plain(self) -> Self {
        let (shared_rel_pos_bias, rel_pos_bias) = (false, false);
        Self { shared_rel_pos_bias, rel_pos_bias, abs_pos: true, layer_scale: 0.0, ..self }
    }

    /// What each block is made of.
    pub fn block(&self) -> BlockConfig {
        BlockConfig {
            width: self.width,
            heads: self.heads,
            mlp_width: self.mlp_width,
            rel_pos_bias: self.rel_pos_bias.then(|| self.grid()),
            layer_scale: self.layer_scale,
            layer_norm_eps: self.layer_norm_eps,
        }
    }

    /// Rows and columns of the patch grid.
    pub fn grid(&self) -> (usize, usize) {
        (self.image.0 / self.patch, self.image.1 / self.patch)
    }

    /// Patches of an image; the sequence has one token more, the class token.
    pub fn patches(&self) -> usize {
        self.grid().0 * self.grid().1
    }

    /// Length N of the sequence: the class token and the patches.
    pub fn tokens(&self) -> usize {
        self.patches() + 1
    }

    /// Rows of a relative-position table: every offset and three for the class token.
    pub fn rel_pos_rows(&self) -> usize {
        let (gh, gw) = self.grid();
        (2 * gh - 1) * (2 * gw - 1) + 3
    }

    /// Drop-path rate of block `index` (`modeling_pretrain.py`).
    pub fn drop_path_of(&self, index: usize) -> f64 {
        if self.depth < 2 {
            return 0.0;
        }
        self.drop_path * index as f64 / (self.depth - 1) as f64
    }

    /// Parameters of embedding, blocks and bias tables, without mask token and final norm.
    pub fn parameters(&self) -> u64 {
        let [width, mlp] = [self.width, self.mlp_width].map(|n| n as u64);
        let table = (self.rel_pos_rows() * self.heads) as u64;
        let when = |present: bool, count: u64| if present { count } else { 0 };
        let block = 4 * width // two layer norms
            + 4 * width * width + 3 * width // qkv with q and v biases, projection
            + 2 * width * mlp + mlp + width
            + when(self.layer_scale > 0.0, 2 * width)
            + when(self.rel_pos_bias, table);
        let embedding = width // class token
            + conv(self.channels, self.width, self.patch)
            + when(self.abs_pos, self.tokens() as u64 * width)
            + when(self.shared_rel_pos_bias, table);
        embedding + self.depth as u64 * block
    }

    /// Its sizes in two indented lines.
    pub fn describe(&self) -> String {
        let ((gh, gw), (h, w)) = (self.grid(), self.image);
        format!(
            "  image {h}x{w}, patch {}, grid {gh}x{gw}\n  width {}, MLP {}, depth {}, heads {}",
            self.patch, self.width, self.mlp_width, self.depth, self.heads
        )
    }

    /// Refuses sizes that no model can be built from.
    pub fn validate(&self) -> Result<()> {
        within_image(self.image)?;
        within("patch_size", self.patch, 1, 1 << 10)?;
        within("channels", self.channels, colours(), colours())?;
        within("width", self.width, 1, 1 << 14)?;
        within("depth", self.depth, 1, 256)?;
        within("heads", self.heads, 1, 256)?;
        within("mlp_width", self.mlp_width, 1, 1 << 18)?;
        divides("image_size", self.image, "patch_size", self.patch)?;
        if !self.width.is_multiple_of(self.heads) {
            return Err(Error::config(format!(
                "width {} is not divisible by heads {}",
                self.width, self.heads
            )));
        }
        if self.shared_rel_pos_bias && self.rel_pos_bias {
            return Err(Error::config(
                "shared_rel_pos_bias and rel_pos_bias exclude each other: one table or one per block",
            ));
        }
        real("layer_scale", self.layer_scale, 0.0, 10.0)?;
        real("drop_path", self.drop_path, 0.0, 0.99)?;
        real("layer_norm_eps", self.layer_norm_eps, 1e-12, 1e-2)?;
        within("the number of patches", self.patches(), 1, 1 << 12)
    }
}

/// Parameters of a convolution with bias.
fn conv(input: usize, output: usize, side: usize) -> u64 {
    (input * output * side * side + output) as u64
}

/// Channels of a pixel of an image.
fn colours() -> usize {
    3
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn are_colours(channels: &usize) -> bool {
    *channels == colours()
}

/// Refuses a model before its buffers are allocated, four times this and more in training.
fn affordable(parameters: u64) -> Result<()> {
    const MOST: u64 = 2_000_000_000;
    if parameters <= MOST {
        return Ok(());
    }
    Err(Error::config(format!(
        "these sizes make a model of {parameters} parameters; at most {MOST} are supported"
    )))
}

fn within(key: &str, value: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::config(format!("{key} = {value} is out of range: allowed is {min} to {max}")))
}

fn real(key: &str, value: f64, min: f64, max: f64) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::config(format!("{key} = {value} is out of range: allowed is {min} to {max}")))
}

fn within_image((height, width): (usize, usize)) -> Result<()> {
    within("image_size (height)", height, 1, 1 << 13)?;
    within("image_size (width)", width, 1, 1 << 13)
}

fn divides(what: &str, (h, w): (usize, usize), by: &str, side: usize) -> Result<()> {
    if h >= side && w >= side && h.is_multiple_of(side) && w.is_multiple_of(side) {
        return Ok(());
    }
    Err(Error::config(format!("{what} {h}x{w} is not divisible by {by} {side}")))
}

/// Floating-point operations of one image forward: blocks and patch embedding; matrix products only (a
/// multiply-add counts 2).
pub fn encoder_flops(config: &EncoderConfig) -> f64 {
    let [n, c, h] = [config.tokens(), config.width, config.mlp_width].map(|x| x as f64);
    let block = 8.0 * n * c * c + 4.0 * n * n * c + 4.0 * n * c * h;
    let patch =
        2.0 * config.patches() as f64 * (config.patch * config.patch * config.channels) as f64 * c;
    config.depth as f64 * block + patch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_sizes_are_valid_and_fit_each_other() {
        let pairs = [
            (BeitConfig::tiny(), DvaeConfig::tiny()),
            (BeitConfig::small(), DvaeConfig::small()),
            (BeitConfig::base_patch16_224(), DvaeConfig::dalle()),
            (BeitConfig::large_patch16_224(), DvaeConfig::dalle()),
            (BeitConfig::test(), DvaeConfig::test()),
        ];
        for (beit, dvae) in pairs {
            beit.validate().unwrap();
            dvae.validate().unwrap();
            assert_eq!(beit.encoder.grid(), dvae.grid());
            assert_eq!(beit.head, PatchHead::Tokens(dvae.vocab));
            assert_eq!(beit.encoder.tokens(), dvae.tokens() + 1);
        }
        assert_eq!(EncoderConfig::base_patch16_224().rel_pos_rows(), 732);
        assert_eq!(DvaeConfig::dalle().gain(), 1.0 / 64.0);
        assert_eq!(EncoderConfig::base_patch16_224().drop_path_of(11), 0.1);
    }

    #[test]
    fn unusable_sizes_are_named() {
        let bad = EncoderConfig { image: (30, 32), ..EncoderConfig::tiny() };
        let text = bad.validate().unwrap_err().to_string();
        assert_eq!(text, "image_size 30x32 is not divisible by patch_size 4");
        let none = EncoderConfig { mlp_width: 0, ..EncoderConfig::tiny() };
        let text = none.validate().unwrap_err().to_string();
        assert_eq!(text, "mlp_width = 0 is out of range: allowed is 1 to 262144");
        assert!(EncoderConfig { heads: 5, ..EncoderConfig::tiny() }.validate().is_err());
        assert!(EncoderConfig { drop_path: f64::NAN, ..EncoderConfig::tiny() }.validate().is_err());
        assert!(DvaeConfig { groups: 0, ..DvaeConfig::tiny() }.validate().is_err());
        assert!(DvaeConfig { image: (34, 32), ..DvaeConfig::tiny() }.validate().is_err());
    }
}
