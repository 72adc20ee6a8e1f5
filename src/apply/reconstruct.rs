//! `beit reconstruct`: original and its tokens decoded, and, with an encoder, the masked image and the
//! tokens of the hidden patches predicted and decoded.

use super::frozen::{Tokenizer, load_all, predicts_tokens, spread, views};
use super::hard_codes::mapped;
use super::masked::{block_masks, usual_masks};
use crate::config::Replace;
use crate::data::augment::{Views, eval_views};
use crate::data::pixels::Normalise;
use crate::data::{AugmentConfig, Image, MaskConfig, PatchGrid, Source, SourceOptions, Split};
use crate::error::{Error, Result};
use crate::models::beit::{MaskedBatch, MaskedImageModel, masked_rows};
use crate::models::dvae::pixels;
use crate::ops::Backend;
use crate::params::{Ctx, Params};
use crate::report::page::{Page, Table};
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
    /// Law of the masks, of a run that has one of its own.
    pub masks: Option<MaskConfig>,
    /// Shares of the patches that are hidden, one after the other, where there is no such law; where there are
    /// none, the usual one.
    pub ratios: &'a [f64],
    /// What is shown in the hidden places.
    pub replace: Replace,
}

/// What was made of one image.
struct ReconstructedImage {
    name: String,
    original: Picture,
    decoded: Picture,
    /// Under the mask of each ratio.
    hidden: Vec<HiddenPatches>,
}

/// An image with hidden patches.
struct HiddenPatches {
    seen: Picture,
    predicted: Picture,
    /// Hidden patches whose token was predicted, all hidden, and all.
    right: usize,
    hidden: usize,
    patches: usize,
}

/// How an image is shown under one mask.
struct ShownMasked {
    mask: Vec<bool>,
    patch: Image,
    tokens: Image,
}

/// An encoder and its weights.
struct Predictor<B: Backend> {
    model: MaskedImageModel<B>,
    w: Params<B>,
}

/// Models and how images are shown to them.
struct Reconstructor<B: Backend> {
    tokenizer: Tokenizer<B>,
    encoder: Option<Predictor<B>>,
    augment: AugmentConfig,
    replace: Replace,
}

/// One row per image: original | masked | tokens decoded | predicted tokens decoded; without an encoder,
/// original | tokens decoded; with ratios, original | tokens decoded | masked and predicted for each of them.
pub fn reconstruction_picture<B: Backend>(bk: &B, task: &Reconstruction) -> Result<Picture> {
    let (all, mut tiles, mut columns) = (reconstructed(bk, task)?, Vec::new(), 0);
    for image in all {
        let hidden = image.hidden.into_iter().map(|h| [h.seen, h.predicted]);
        let mut row: Vec<_> = hidden.flatten().collect();
        row.insert(0, image.original);
        row.insert(if task.ratios.is_empty() && row.len() > 1 { 2 } else { 1 }, image.decoded);
        columns = row.len();
        tiles.extend(row);
    }
    Ok(Picture::grid(&tiles, columns))
}

/// The same as a page: a row for each image, with what each picture shows and how many of the hidden tokens were
/// predicted.
pub fn reconstruction_page<B: Backend>(bk: &B, task: &Reconstruction) -> Result<Page> {
    let all = reconstructed(bk, task)?;
    let share = |n: usize, all: usize| format!("{:.0} %", 100.0 * n as f64 / all.max(1) as f64);
    let mut page = Page::new("Reconstructions").text(&match task.model {
        None => format!("Images of {} and their visual tokens decoded.", task.data),
        Some(_) => format!(
            "Images of {}, their visual tokens decoded, and what the encoder predicts where patches are hidden from \
             it: the tokens of those patches predicted, the others as they are, all decoded.",
            task.data
        ),
    });
    let (each, columns) = (all[0].hidden.len(), ["hidden patches", "tokens predicted"]);
    page = page.table(Table::new(&columns, 0).rows((0..each).map(|r| {
        let of = |f: fn(&HiddenPatches) -> usize| all.iter().map(|i| f(&i.hidden[r])).sum();
        let (right, hidden) = (of(|h| h.right), of(|h| h.hidden));
        [share(hidden, of(|h| h.patches)), share(right, hidden)]
    })));
    for image in &all {
        let shown =
            [("original".into(), &image.original), ("tokens decoded".into(), &image.decoded)];
        let hidden = image.hidden.iter().flat_map(|h| {
            [
                (format!("{} hidden", share(h.hidden, h.patches)), &h.seen),
                (format!("predicted, {} of {} right", h.right, h.hidden), &h.predicted),
            ]
        });
        page = page.subsection(&image.name).gallery(shown.into_iter().chain(hidden));
    }
    Ok(page)
}

fn reconstructed<B: Backend>(bk: &B, task: &Reconstruction) -> Result<Vec<ReconstructedImage>> {
    let mut tokenizer = Tokenizer::load(bk, task.tokenizer)?;
    let (mut encoder, mut trained) = (None, None);
    if let Some(path) = task.model {
        let file = load_model(path)?;
        let model = MaskedImageModel::new(bk, predicts_tokens(&file)?);
        tokenizer = tokenizer.fitted(&model.config)?;
        let w = load_weights(bk, &file, &model.layout)?;
        (encoder, trained) = (Some(Predictor { model, w }), file.normalise);
    } else if !task.ratios.is_empty() {
        return Err(Error::config("--ratios hides patches from an encoder: give --model"));
    }
    let (size, grid) = (tokenizer.dvae.config.image, tokenizer.dvae.config.grid());
    let source = Source::open_aloud(task.data, &SourceOptions::new(task.split, task.seed))?;
    let seen_size = encoder.as_ref().map_or(size, |e| e.model.config.encoder.image);
    let augment = views(seen_size, size, task.normalise.or(trained).unwrap_or(Normalise::Half));
    let seen = load_all(&source, &spread(&source, task.images), |item| {
        (item.index, eval_views(&augment, &item.image))
    });
    if seen.is_empty() {
        return Err(Error::config(format!("{}: no readable image", task.data)));
    }
    work_begins();
    let laws = task.masks.map_or_else(|| masks(grid, task.ratios), |law| vec![law]);
    let shown: Vec<Vec<ShownMasked>> = laws.iter().map(|law| shown(task, law, &seen)).collect();
    let made = Reconstructor { tokenizer, encoder, augment, replace: task.replace };
    let image = |(place, (i, views)): (usize, &(usize, Views))| {
        let under: Vec<&ShownMasked> = shown.iter().map(|all| &all[place]).collect();
        made.image(bk, source.name(*i), views, &under)
    };
    Ok(seen.iter().enumerate().map(image).collect())
}

/// All images under masks of one law. Random patches are those of the other images, the same in both views.
fn shown(task: &Reconstruction, law: &MaskConfig, seen: &[(usize, Views)]) -> Vec<ShownMasked> {
    let draw = |i: usize| law.draw(&mut Philox::new(task.seed, Purpose::Mask, u32::MAX, i as u32));
    let masks: Vec<Vec<bool>> = seen.iter().map(|(i, _)| draw(*i)).collect();
    let as_shown = |view: fn(&Views) -> &Image| -> Vec<Image> {
        let images: Vec<&Image> = seen.iter().map(|(_, views)| view(views)).collect();
        if task.replace == Replace::MaskToken {
            return images.into_iter().cloned().collect();
        }
        let (height, width) = (images[0].height, images[0].width);
        let grid = PatchGrid::of((height, width), height / law.height);
        let hidden: Vec<&[bool]> = masks.iter().map(|mask| &**mask).collect();
        let mut rng = Philox::new(task.seed, Purpose::Replace, u32::MAX, 0);
        grid.replaced(&images, &hidden, &mut rng)
    };
    let (patch, tokens) = (as_shown(|v| &v.patch), as_shown(|v| &v.tokens));
    let each = masks.into_iter().zip(patch).zip(tokens);
    each.map(|((mask, patch), tokens)| ShownMasked { mask, patch, tokens }).collect()
}

/// The law of the masks of each ratio.
fn masks((height, width): (usize, usize), ratios: &[f64]) -> Vec<MaskConfig> {
    let all = height * width;
    let count = |ratio: &f64| (ratio * all as f64).round() as usize;
    let law = |ratio| block_masks((height, width), count(ratio).clamp(1, all.max(2) - 1));
    if ratios.is_empty() {
        vec![usual_masks((height, width))]
    } else {
        ratios.iter().map(law).collect()
    }
}

impl<B: Backend> Reconstructor<B> {
    fn image(
        &self,
        bk: &B,
        name: String,
        views: &Views,
        under: &[&ShownMasked],
    ) -> ReconstructedImage {
        let (h, w) = self.tokenizer.dvae.config.image;
        let original = Picture::from_bytes(&views.tokens.pixels, h, w);
        let x = bk.to_elem(&mapped(bk, std::slice::from_ref(&views.tokens)), 1.0);
        let tokens = self.tokenizer.tokens(bk, &x).to_vec(bk);
        let decoded = self.decoded(bk, tokens.clone());
        let hidden = self.encoder.iter().flat_map(|encoder| {
            let each = |shown: &&ShownMasked| self.hide(bk, encoder, shown, &tokens);
            under.iter().map(each).collect::<Vec<_>>()
        });
        let (hidden, original) = (hidden.collect(), self.enlarged(&original));
        ReconstructedImage { name, original, decoded: self.enlarged(&decoded), hidden }
    }

    /// What an encoder makes of an image that it sees the unmasked patches of; where nothing is masked, of all
    /// patches.
    fn hide(
        &self,
        bk: &B,
        encoder: &Predictor<B>,
        ShownMasked { mask, patch, tokens: shown }: &ShownMasked,
        tokens: &[u32],
    ) -> HiddenPatches {
        let ((h, w), (gh, gw)) =
            (self.tokenizer.dvae.config.image, self.tokenizer.dvae.config.grid());
        let (ih, iw) = encoder.model.config.encoder.image;
        let k = encoder.model.config.outputs();
        let asked = if mask.contains(&true) { mask } else { &vec![true; gh * gw] };
        let rows = masked_rows(asked, gh * gw);
        let view = self.augment.normalise().apply(patch);
        let hide = self.replace == Replace::MaskToken;
        let bits = mask.iter().map(|&m| u32::from(m && hide)).collect();
        let batch = MaskedBatch {
            images: Tensor::from_f32(bk, view, &[1, ih, iw, 3]),
            mask: Ids::from_vec(bk, bits, &[1, gh * gw]),
            rows: Ids::from_vec(bk, rows.clone(), &[rows.len()]),
            keep: None,
        };
        let logits = encoder.model.logits(Ctx::new(bk, &encoder.w), &batch).to_f64(bk);
        let (mut seen, mut all, mut right) =
            (Picture::from_bytes(&shown.pixels, h, w), tokens.to_vec(), 0);
        let places: Vec<usize> = (0..mask.len()).filter(|&p| asked[p]).collect();
        for (&p, row) in places.iter().zip(logits.chunks_exact(k)) {
            if hide && mask[p] {
                seen.fill(p / gw * (h / gh), p % gw * (w / gw), h / gh, w / gw, [128, 128, 128]);
            }
            let best = (0..k).fold(0, |best, i| if row[i] > row[best] { i } else { best });
            right += usize::from(all[p] == best as u32);
            all[p] = best as u32;
        }
        let predicted = self.decoded(bk, all);
        let (seen, predicted) = (self.enlarged(&seen), self.enlarged(&predicted));
        HiddenPatches { seen, predicted, right, hidden: places.len(), patches: mask.len() }
    }

    /// Large enough to be looked at.
    fn enlarged(&self, picture: &Picture) -> Picture {
        picture.enlarge((128 / self.tokenizer.dvae.config.image.0.max(1)).max(1))
    }

    fn decoded(&self, bk: &B, tokens: Vec<u32>) -> Picture {
        let Tokenizer { dvae, w, .. } = &self.tokenizer;
        let ((height, width), (gh, gw)) = (dvae.config.image, dvae.config.grid());
        let z = dvae.one_hot(bk, &Ids::from_vec(bk, tokens, &[1, gh, gw]));
        let out = dvae.decode(Ctx::new(bk, w), &z).0.to_f64(bk);
        let shown: Vec<f32> = pixels(&out).into_iter().map(|p| p as f32).collect();
        Picture::from_unit(&shown, height, width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ratio_hides_its_share_and_none_is_the_usual_one() {
        assert_eq!(masks((14, 14), &[]), [usual_masks((14, 14))]);
        let counts = |grid, ratios: &[f64]| -> Vec<_> {
            masks(grid, ratios).iter().map(|m| (m.count, m.min_block)).collect()
        };
        assert_eq!(counts((8, 8), &[0.2, 0.4, 0.8]), [(13, 4), (26, 4), (51, 4)]);
        // At least one patch, and one that is seen; blocks no larger than what is hidden.
        assert_eq!(counts((14, 14), &[0.001, 0.999]), [(1, 1), (195, 16)]);
        for law in masks((14, 14), &[0.2, 0.8]) {
            let mean: usize = (0..20)
                .map(|i| {
                    law.draw(&mut Philox::new(0, Purpose::Mask, 0, i))
                        .iter()
                        .filter(|m| **m)
                        .count()
                })
                .sum();
            assert!((law.count - 3..=law.count).contains(&(mean / 20)), "{law:?}: {mean}");
        }
    }
}
