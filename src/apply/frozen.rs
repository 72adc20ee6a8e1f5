//! Models as they are used: frozen tokenizers, views of images.

use crate::data::loader::map_images;
use crate::data::pixels::{HALF, IMAGENET};
use crate::data::{AugmentConfig, Image, Source};
use crate::error::{Error, Result};
use crate::models::config::BeitConfig;
use crate::models::dvae::Dvae;
use crate::ops::Backend;
use crate::params::{Ctx, Params};
use crate::run::note;
use crate::tensor::{Ids, Tensor};
use crate::weights::{load_model, load_weights};
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
}

impl<B: Backend> Tokenizer<B> {
    /// Reads `RUN|FILE`.
    pub fn load(bk: &B, path: &Path) -> Result<Self> {
        let file = load_model(path)?;
        let dvae = Dvae::new(file.sizes()?);
        let w = load_weights(bk, &file, &dvae.layout)?;
        Ok(Self { dvae, w, checksum: file.tensors.checksum(""), path: path.to_path_buf() })
    }

    /// Refuses an encoder whose grid or vocabulary is another.
    pub fn fits(&self, encoder: &BeitConfig) -> Result<()> {
        let (own, sizes) = (&self.dvae.config, encoder);
        if own.grid() != sizes.grid() {
            let ((a, b), (c, d)) = (own.grid(), sizes.grid());
            return Err(Error::format(
                &self.path,
                format!(
                    "the tokenizer makes {a}x{b} tokens, the encoder has {c}x{d} patches; choose \
                     image_size and patch_size so that the grids agree"
                ),
            ));
        }
        if own.vocab != sizes.vocab {
            let (a, b) = (own.vocab, sizes.vocab);
            return Err(Error::format(
                &self.path,
                format!("the tokenizer has {a} tokens, the encoder's head {b}; set vocab={a}"),
            ));
        }
        Ok(())
    }

    /// Tokens of mapped pixels `[B,H,W,3]`, image by image, row-major.
    pub fn tokens(&self, bk: &B, x: &Tensor<B>) -> Ids<B> {
        self.dvae.tokens(Ctx::new(bk, &self.w), x)
    }
}

/// Views of an encoder of this size and a tokenizer of that size, with the mean and deviation of
/// this name (`half` or `imagenet`).
pub fn views(encoder: (usize, usize), tokenizer: (usize, usize), normalise: &str) -> AugmentConfig {
    let (mean, std) = if normalise == "imagenet" { IMAGENET } else { HALF };
    let original = AugmentConfig::original(encoder.0, encoder.1, tokenizer.0, tokenizer.1);
    AugmentConfig { mean, std, ..original }
}

/// `f` of the images at `indices`, in parallel, in order; unreadable ones are left out and named on
/// standard error.
pub fn load_all<T: Send>(
    source: &Source,
    indices: &[usize],
    f: impl Fn(&Image, usize) -> T + Sync,
) -> Vec<T> {
    let (good, bad) = map_images(source, indices, f);
    bad.values().for_each(|reason| note(&format!("skipped: {reason}")));
    good.into_iter().map(|(_, item)| item).collect()
}

/// Indices of at most `most` images, spread evenly over the source, so that a folder sorted by class
/// shows every class.
pub fn spread(source: &Source, most: usize) -> Vec<usize> {
    let count = source.len().min(most);
    (0..count).map(|i| i * source.len() / count).collect()
}
