//! `beit reconstruct`: original and its tokens decoded, and, with an encoder, the masked image and the
//! tokens of the hidden patches predicted and decoded.

use super::frozen::{Tokenizer, load_all, spread, views};
use super::hard_codes::mapped;
use super::masked::usual_masks;
use crate::data::augment::eval_views;
use crate::data::pixels::Normalise;
use crate::data::{Source, SourceOptions, Split};
use crate::error::{Error, Result};
use crate::models::beit::{MaskedBatch, MaskedImageModel, masked_rows};
use crate::models::dvae::pixels;
use crate::ops::Backend;
use crate::params::Ctx;
use crate::report::picture::Picture;
use crate::rng::{Philox, Purpose};
use crate::run::work_begins;
use crate::tensor::{Ids, Tensor};
use crate::weights::{load_model, load_weights};
use std::path::Path;

/// What is drawn.
pub struct Reconstruction<'a> {
    /// Run folder or file of the tokenizer.
    pub tokenizer: &'a Path,
    /// Run folder or file of an encoder, for the last column.
    pub model: Option<&'a Path>,
    /// Images, as on the command line.
    pub data: &'a str,
    /// Rows of the picture.
    pub images: usize,
    /// Seed of the masks.
    pub seed: u64,
    /// Which part of a source that has two.
    pub split: Split,
    /// Mean and deviation of the encoder's view; where `None`, those that the encoder was trained with.
    pub normalise: Option<Normalise>,
}

/// One row per image: original | masked | tokens decoded | predicted tokens decoded; without an encoder,
/// original | tokens decoded.
pub fn reconstruction_picture<B: Backend>(bk: &B, task: &Reconstruction) -> Result<Picture> {
    let tokenizer = Tokenizer::load(bk, task.tokenizer)?;
    let sizes = &tokenizer.dvae.config;
    let ((h, wide), (gh, gw)) = (sizes.image, sizes.grid());
    let encoder = match task.model {
        None => None,
        Some(path) => {
            let file = load_model(path)?;
            let model = MaskedImageModel::new(bk, file.sizes()?);
            tokenizer.fits(&model.config)?;
            let w = load_weights(bk, &file, &model.layout)?;
            Some((model, w, file.normalise))
        }
    };
    let source = Source::open_aloud(task.data, &SourceOptions::new(task.split, task.seed))?;
    let size = encoder.as_ref().map_or((h, wide), |(m, ..)| m.config.encoder.image);
    let trained = encoder.as_ref().and_then(|(.., normalise)| *normalise);
    let augment = views(size, (h, wide), task.normalise.or(trained).unwrap_or(Normalise::Half));
    let seen = load_all(&source, &spread(&source, task.images), |item| {
        (item.index, eval_views(&augment, &item.image))
    });
    if seen.is_empty() {
        return Err(Error::config(format!("{}: no readable image", task.data)));
    }
    work_begins();
    let masks = usual_masks((gh, gw));
    let mut tiles = Vec::new();
    for (i, views) in seen {
        let x = bk.to_elem(&mapped(bk, std::slice::from_ref(&views.tokens)), 1.0);
        let tokens = bk.argmax(&tokenizer.dvae.encode(Ctx::new(bk, &tokenizer.w), &x).0);
        let decoded = |tokens: &Ids<B>| -> Picture {
            let z = tokenizer.dvae.one_hot(bk, tokens);
            let out = tokenizer.dvae.decode(Ctx::new(bk, &tokenizer.w), &z).0.to_f64(bk);
            let shown: Vec<f32> = pixels(&out).into_iter().map(|p| p as f32).collect();
            Picture::from_unit(&shown, h, wide)
        };
        let original = Picture::from_bytes(&views.tokens.pixels, h, wide);
        let mask = masks.draw(&mut Philox::new(task.seed, Purpose::Mask, u32::MAX, i as u32));
        let mut hidden = original.clone();
        let (ph, pw) = (h / gh, wide / gw);
        for (p, _) in mask.iter().enumerate().filter(|(_, hidden)| **hidden) {
            hidden.fill(p / gw * ph, p % gw * pw, ph, pw, [128, 128, 128]);
        }
        tiles.push(original);
        if encoder.is_some() {
            tiles.push(hidden);
        }
        tiles.push(decoded(&tokens));
        if let Some((model, w, _)) = &encoder {
            let (ih, iw) = model.config.encoder.image;
            let rows = masked_rows(&mask, gh * gw);
            let batch = MaskedBatch {
                images: Tensor::from_f32(
                    bk,
                    augment.normalise().apply(&views.patch),
                    &[1, ih, iw, 3],
                ),
                mask: Ids::from_vec(
                    bk,
                    mask.iter().map(|&m| u32::from(m)).collect(),
                    &[1, gh * gw],
                ),
                rows: Ids::from_vec(bk, rows.clone(), &[rows.len()]),
                keep: None,
            };
            let logits = model.logits(Ctx::new(bk, w), &batch);
            let k = model.config.vocab;
            let predicted = logits.to_f64(bk);
            let mut all = tokens.to_vec(bk);
            let places = mask.iter().enumerate().filter(|(_, hidden)| **hidden);
            for ((p, _), row) in places.zip(predicted.chunks_exact(k)) {
                let best =
                    row.iter().enumerate().fold(0, |b, (i, x)| if *x > row[b] { i } else { b });
                all[p] = best as u32;
            }
            let shape = tokens.shape().to_vec();
            tiles.push(decoded(&Ids::from_vec(bk, all, &shape)));
        }
    }
    let zoom = (128 / h.max(1)).max(1);
    let tiles: Vec<_> = tiles.iter().map(|p| p.enlarge(zoom)).collect();
    Ok(Picture::grid(&tiles, if encoder.is_some() { 4 } else { 2 }))
}
