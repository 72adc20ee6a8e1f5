//! Models as they are used: frozen tokenizers, views of images.

use crate::data::loader::map_items;
use crate::data::pixels::Normalise;
use crate::data::{AugmentConfig, Dataset};
use crate::error::{Error, Result};
use crate::models::config::{BeitConfig, PatchHead};
use crate::models::dvae::Dvae;
use crate::ops::Backend;
use crate::params::{Ctx, Param, Params};
use crate::real::Float;
use crate::run::{is_news, note};
use crate::tensor::{Ids, Tensor};
use crate::weights::{Model, Project, load_model, load_weights};
use std::path::{Path, PathBuf};

/// A frozen tokenizer.
pub struct Tokenizer<B: Backend> {
    /// The model.
    pub dvae: Dvae,
    /// Its weights.
    pub w: Params<B>,
    /// Checksum of its file's tensors.
    pub checksum: u32,
    path: PathBuf,
    /// Whether its files say which size its images have.
    sized: bool,
}

impl<B: Backend> Tokenizer<B> {
    /// Reads `RUN|FILE`.
    pub fn load(bk: &B, path: &Path) -> Result<Self> {
        let file = load_model(path)?;
        let dvae = Dvae::new(file.sizes()?);
        let w = load_weights(bk, &file, &dvae.layout)?;
        let (checksum, path) = (file.tensors.checksum()?, path.to_path_buf());
        let sized = file.origin.is_none_or(|origin| origin.project != Project::Dalle);
        Ok(Self { dvae, w, checksum, path, sized })
    }

    /// The same for an encoder, whose head is over tokens; refuses one whose grid or vocabulary is another. One of
    /// DALL-E's files, which say nothing of a size, is shown images of the size that makes the encoder's grid.
    pub fn fitted(mut self, encoder: &BeitConfig) -> Result<Self> {
        if !self.sized {
            let ((h, w), factor) = (encoder.encoder.grid(), self.dvae.config.factor());
            self.dvae.config.image = (h * factor, w * factor);
        }
        let (own, sizes) = (&self.dvae.config, encoder);
        if own.grid() != sizes.encoder.grid() {
            let ((a, b), (c, d)) = (own.grid(), sizes.encoder.grid());
            return Err(Error::format(
                &self.path,
                format!(
                    "the tokenizer makes {a}x{b} tokens, the encoder has {c}x{d} patches; choose \
                     image_size and patch_size so that the grids agree"
                ),
            ));
        }
        if own.vocab != sizes.outputs() {
            let (a, b) = (own.vocab, sizes.outputs());
            return Err(Error::format(
                &self.path,
                format!("the tokenizer has {a} tokens, the encoder's head {b}; set vocab={a}"),
            ));
        }
        Ok(self)
    }

    /// Tokens of mapped pixels `[B,H,W,3]`, image by image, row-major.
    pub fn tokens(&self, bk: &B, x: &Tensor<B>) -> Ids<B> {
        self.dvae.tokens(Ctx::new(bk, &self.w), x)
    }
}

/// The sizes of an encoder that predicts tokens; another is refused.
pub fn predicts_tokens(file: &Model) -> Result<&BeitConfig> {
    let sizes = file.sizes::<BeitConfig>()?;
    match sizes.head {
        PatchHead::Tokens(_) => Ok(sizes),
        PatchHead::Pixels(_) => Err(Error::format(
            file.tensors.path(),
            "was pretrained with pixels as its target and predicts no tokens: give an encoder that was pretrained \
             with target=tokens",
        )),
    }
}

/// Name of the first parameter that holds something not finite.
pub fn broken_parameter<B: Backend>(bk: &B, w: &Params<B>) -> Option<String> {
    let host = w.to_host(bk);
    let broken = |p: &&Param| host[p.range.clone()].iter().any(|x| !x.to_f64().is_finite());
    w.layout.iter().find(broken).map(|p| p.name.to_string())
}

/// Views of an encoder of this size and a tokenizer of that size.
pub fn views(
    encoder: (usize, usize),
    tokenizer: (usize, usize),
    normalise: Normalise,
) -> AugmentConfig {
    let (mean, std) = normalise.moments();
    let original = AugmentConfig::original(encoder.0, encoder.1, tokenizer.0, tokenizer.1);
    AugmentConfig { mean, std, ..original }
}

/// `f` of the items at `indices`, in parallel, in order; unreadable ones are left out and named on
/// standard error.
pub fn load_all<D: Dataset, T: Send>(
    source: &D,
    indices: &[usize],
    f: impl Fn(D::Item) -> T + Sync,
) -> Vec<T> {
    let (good, bad) = map_items(source, indices, f);
    let lines = bad.values().map(|reason| format!("skipped: {reason}"));
    lines.filter(|line| is_news(line)).for_each(|line| note(&line));
    good.into_iter().map(|(_, item)| item).collect()
}

/// Indices of at most `most` items, spread evenly over the data, so that a folder sorted by class shows
/// every class.
pub fn spread(source: &impl Dataset, most: usize) -> Vec<usize> {
    let count = source.len().min(most);
    (0..count).map(|i| i * source.len() / count).collect()
}
