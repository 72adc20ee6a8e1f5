//! `beit reconstruct`: original and its tokens decoded, and, with an encoder, the masked image and the
//! tokens of the hidden patches predicted and decoded.

use super::frozen::{Tokenizer, load_all, predicts_tokens, spread, views};
use super::hard_codes::mapped;
use super::masked::usual_masks;
use crate::config::Replace;
use crate::data::augment::{Views, eval_views};
use crate::data::pixels::Normalise;
use crate::data::{Image, MaskConfig, PatchGrid, Source, SourceOptions, Split};
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
    /// Law of the masks; where `None`, the usual one. Where nothing is masked, all patches are predicted.
    pub masks: Option<MaskConfig>,
    /// What is shown in the masked places.
    pub replace: Replace,
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
            let model = MaskedImageModel::new(bk, predicts_tokens(&file)?);
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
    let law = task.masks.unwrap_or_else(|| usual_masks((gh, gw)));
    let mask = |i: usize| law.draw(&mut Philox::new(task.seed, Purpose::Mask, u32::MAX, i as u32));
    let masks: Vec<Vec<bool>> = seen.iter().map(|(i, _)| mask(*i)).collect();
    let views: Vec<&Views> = seen.iter().map(|(_, views)| views).collect();
    let patch: Vec<&Image> = views.iter().map(|v| &v.patch).collect();
    let token: Vec<&Image> = views.iter().map(|v| &v.tokens).collect();
    let [patch, token] = [patch, token].map(|images| as_shown(task, &images, &masks, gh));
    let mut tiles = Vec::new();
    for (i, (views, mask)) in views.iter().zip(&masks).enumerate() {
        let x = bk.to_elem(&mapped(bk, std::slice::from_ref(&views.tokens)), 1.0);
        let tokens = bk.argmax(&tokenizer.dvae.encode(Ctx::new(bk, &tokenizer.w), &x).0);
        tiles.push(Picture::from_bytes(&views.tokens.pixels, h, wide));
        if encoder.is_some() {
            let mut masked = Picture::from_bytes(&token[i].pixels, h, wide);
            let (ph, pw) = (h / gh, wide / gw);
            let hidden = mask.iter().enumerate().filter(|(_, hidden)| **hidden);
            for (p, _) in hidden.filter(|_| task.replace == Replace::MaskToken) {
                masked.fill(p / gw * ph, p % gw * pw, ph, pw, [128, 128, 128]);
            }
            tiles.push(masked);
        }
        tiles.push(decoded(bk, &tokenizer, &tokens));
        if let Some((model, w, _)) = &encoder {
            let asked = if mask.contains(&true) { mask } else { &vec![true; gh * gw] };
            let hide = task.replace == Replace::MaskToken;
            let numbers = augment.normalise().apply(&patch[i]);
            let hidden = mask.iter().map(|&m| u32::from(m && hide)).collect();
            let rows = masked_rows(asked, gh * gw);
            let batch = MaskedBatch {
                images: Tensor::from_f32(bk, numbers, &[1, size.0, size.1, 3]),
                mask: Ids::from_vec(bk, hidden, &[1, gh * gw]),
                rows: Ids::from_vec(bk, rows.clone(), &[rows.len()]),
                keep: None,
            };
            let logits = model.logits(Ctx::new(bk, w), &batch);
            tiles.push(decoded(bk, &tokenizer, &predicted(bk, &logits, &tokens, asked)));
        }
    }
    let zoom = (128 / h.max(1)).max(1);
    let tiles: Vec<_> = tiles.iter().map(|p| p.enlarge(zoom)).collect();
    Ok(Picture::grid(&tiles, if encoder.is_some() { 4 } else { 2 }))
}

/// The images as an encoder is shown them, of `rows` rows of patches each, but for mask tokens.
fn as_shown(
    task: &Reconstruction,
    images: &[&Image],
    masks: &[Vec<bool>],
    rows: usize,
) -> Vec<Image> {
    if task.replace == Replace::MaskToken {
        return images.iter().map(|&image| image.clone()).collect();
    }
    let (height, width) = (images[0].height, images[0].width);
    let grid = PatchGrid::of((height, width), height / rows);
    let masks: Vec<&[bool]> = masks.iter().map(|mask| &**mask).collect();
    // The same for both views.
    let mut rng = Philox::new(task.seed, Purpose::Replace, u32::MAX, 0);
    grid.replaced(images, &masks, &mut rng)
}

/// The image of some tokens.
fn decoded<B: Backend>(bk: &B, tokenizer: &Tokenizer<B>, tokens: &Ids<B>) -> Picture {
    let (height, width) = tokenizer.dvae.config.image;
    let z = tokenizer.dvae.one_hot(bk, tokens);
    let out = tokenizer.dvae.decode(Ctx::new(bk, &tokenizer.w), &z).0.to_f64(bk);
    let shown: Vec<f32> = pixels(&out).into_iter().map(|p| p as f32).collect();
    Picture::from_unit(&shown, height, width)
}

/// The tokens, those that were asked for as the logits of each say.
fn predicted<B: Backend>(bk: &B, logits: &Tensor<B>, tokens: &Ids<B>, asked: &[bool]) -> Ids<B> {
    let (said, mut all) = (logits.to_f64(bk), tokens.to_vec(bk));
    let places = asked.iter().enumerate().filter(|(_, asked)| **asked);
    for ((p, _), row) in places.zip(said.chunks_exact(logits.cols())) {
        let best = row.iter().enumerate().fold(0, |b, (i, x)| if *x > row[b] { i } else { b });
        all[p] = best as u32;
    }
    Ids::from_vec(bk, all, tokens.shape())
}
