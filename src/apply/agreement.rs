//! How often two devices, or one in two precisions, give a patch the same token.

use super::frozen::{Tokenizer, load_all, spread, views};
use super::hard_codes::mapped;
use crate::data::augment::eval_views;
use crate::data::pixels::Normalise;
use crate::data::{Source, SourceOptions, Split};
use crate::error::{Error, Result};
use crate::ops::Backend;
use std::path::Path;

/// Images that go through the tokenizer together.
const BATCH: usize = 8;

/// Tokens that are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Images looked at.
    pub images: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Those on which both agree.
    pub same: usize,
}

impl Agreement {
    /// In per cent of all tokens.
    pub fn percent(&self) -> f64 {
        100.0 * self.same as f64 / self.tokens as f64
    }
}

/// Tokenizes at most `most` images of `data` on `a` and on `b`, each from the same pixels.
pub fn token_agreement<A: Backend, B: Backend>(
    (a, b): (&A, &B),
    tokenizer: &Path,
    data: &str,
    most: usize,
) -> Result<Agreement> {
    let (on_a, on_b) = (Tokenizer::load(a, tokenizer)?, Tokenizer::load(b, tokenizer)?);
    let size = on_a.dvae.config.image;
    let (source, augment) = (
        Source::open(data, &SourceOptions::new(Split::Test, 0))?,
        views(size, size, Normalise::Half),
    );
    let seen =
        load_all(&source, &spread(&source, most), |item| eval_views(&augment, &item.image).tokens);
    if seen.is_empty() {
        return Err(Error::config(format!("{data}: no readable image")));
    }
    let (mut tokens, mut same) = (0, 0);
    for images in seen.chunks(BATCH) {
        let (x, y) = (a.to_elem(&mapped(a, images), 1.0), b.to_elem(&mapped(b, images), 1.0));
        let (x, y) = (on_a.tokens(a, &x).to_vec(a), on_b.tokens(b, &y).to_vec(b));
        tokens += x.len();
        same += x.iter().zip(&y).filter(|(x, y)| x == y).count();
    }
    Ok(Agreement { images: seen.len(), tokens, same })
}
