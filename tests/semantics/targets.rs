//! What pretraining may predict, of which patches, and what it shows in the hidden places: the gradient of a step
//! beside one that is made image by image, its targets, its loss and its replaced patches from plain loops.

use super::accumulation::{expect_gradient, first_batch, pretraining, save_codes};
use beit::apply::frozen::Tokenizer;
use beit::apply::masked::MaskedSample;
use beit::config::{LossOver, PretrainRun, PretrainTarget, Replace};
use beit::cpu::Cpu;
use beit::data::pixels::PixelMap;
use beit::data::{Image, Masking};
use beit::layers::TRUNC_NORMAL;
use beit::models::beit::{MaskedBatch, MaskedImageModel};
use beit::models::kind::ModelConfig;
use beit::ops::patch_embed::PatchEmbed;
use beit::params::{Ctx, Grad, Params, Registry, compact, initial_values};
use beit::rng::{Philox, Purpose};
use beit::run::Begin;
use beit::tensor::{Ids, Tensor};
use beit::train::driver::train;
use beit::train::length::Length;
use beit::train::pretrain::Pretraining;
use beit::train::task::{At, Part, Task};
use beit::weights::{load_model, load_weights};
use std::ops::Range;
use std::path::Path;
use tempfile::TempDir;

type Bk = Cpu<f64>;

const SEED: u64 = 6;
const BATCH: usize = 7;
/// Rows and columns of patches, their side, and the values of one.
const GRID: (usize, usize) = (6, 4);
const SIDE: usize = 2;
const VALUES: usize = 3 * SIDE * SIDE;
const PATCHES: usize = GRID.0 * GRID.1;

const START: At = At { step: 0, length: Length { per_epoch: 4, total: 4 } };

struct Ablation {
    target: PretrainTarget,
    over: LossOver,
    masking: Masking,
    replace: Replace,
}

impl Ablation {
    fn config(&self, codes: &Path) -> PretrainRun {
        let mut config = pretraining(codes, BATCH, 1);
        (config.target, config.loss_over, config.masking, config.replace) =
            (self.target, self.over, self.masking, self.replace);
        config.sizes.drop_path = 0.0;
        if self.target != PretrainTarget::Tokens {
            config.tokenizer.clear();
        }
        config
    }
}

/// Byte of a pixel of a patch.
fn byte(image: &Image, patch: usize, (y, x, c): (usize, usize, usize)) -> u8 {
    let (row, column) = (patch / GRID.1 * SIDE + y, patch % GRID.1 * SIDE + x);
    image.pixels[(row * GRID.1 * SIDE + column) * 3 + c]
}

/// The values of a patch: channel by channel, row by row.
fn pixels(image: &Image, patch: usize, normalised: bool) -> Vec<f64> {
    let mut values = Vec::new();
    for c in 0..3 {
        for y in 0..SIDE {
            for x in 0..SIDE {
                let unit = f32::from(byte(image, patch, (y, x, c))) / 255.0;
                values.push(f64::from((unit - 0.5) / 0.5));
            }
        }
    }
    if normalised {
        let mean = values.iter().sum::<f64>() / VALUES as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (VALUES - 1) as f64;
        values.iter_mut().for_each(|v| *v = (*v - mean) / (variance + 1e-6).sqrt());
    }
    values
}

/// The images with a patch of the batch in each hidden place, drawn patch by patch from all others.
fn shown(samples: &[MaskedSample]) -> Vec<Image> {
    let mut rng = Philox::new(SEED, Purpose::Replace, 0, 0);
    let mut out: Vec<Image> = samples.iter().map(|s| s.views.patch.clone()).collect();
    for (own, sample) in samples.iter().enumerate() {
        for place in (0..PATCHES).filter(|&place| sample.mask[place]) {
            let this = own * PATCHES + place;
            let others: Vec<usize> = (0..BATCH * PATCHES).filter(|&p| p != this).collect();
            let from = others[rng.integer(others.len() - 1)];
            for (y, x, c) in (0..SIDE * SIDE * 3).map(|i| (i / 3 / SIDE, i / 3 % SIDE, i % 3)) {
                let value = byte(&samples[from / PATCHES].views.patch, from % PATCHES, (y, x, c));
                let (row, column) = (place / GRID.1 * SIDE + y, place % GRID.1 * SIDE + x);
                out[own].pixels[(row * GRID.1 * SIDE + column) * 3 + c] = value;
            }
        }
    }
    out
}

/// Gradient of the loss of one row of the head's output, before it is divided by the number of rows.
fn row_gradient(
    row: &[f64],
    target: PretrainTarget,
    token: u32,
    image: (&Image, usize),
) -> Vec<f64> {
    if target == PretrainTarget::Tokens {
        let total: f64 = row.iter().map(|x| x.exp()).sum();
        let right = |k: usize| if k == token as usize { 1.0 } else { 0.0 };
        return row.iter().enumerate().map(|(k, x)| x.exp() / total - right(k)).collect();
    }
    let normalised = target == PretrainTarget::NormalisedPixels;
    let wanted = pixels(image.0, image.1, normalised);
    row.iter().zip(wanted).map(|(p, t)| 2.0 * (p - t) / VALUES as f64).collect()
}

/// The gradient of the first step, image by image.
fn by_hand(
    bk: &Bk,
    ablation: &Ablation,
    config: &PretrainRun,
    samples: &[MaskedSample],
) -> Vec<f64> {
    let model = MaskedImageModel::new(bk, &config.beit());
    let w = Params::from_host(bk, &model.layout, &initial_values(&model.layout, SEED));
    let tokenizer = (ablation.target == PretrainTarget::Tokens)
        .then(|| Tokenizer::load(bk, Path::new(&config.tokenizer)).unwrap());
    let (h, wide) = (GRID.0 * SIDE, GRID.1 * SIDE);
    let (half, map) = (PixelMap::normalise([0.5; 3], [0.5; 3]), PixelMap::map_pixels());
    let (replaced, token) =
        (ablation.replace == Replace::RandomPatch, ablation.replace == Replace::MaskToken);
    let seen = if replaced { shown(samples) } else { Vec::new() };
    let counts = |mask: &[bool], p: usize| ablation.over == LossOver::All || mask[p];
    let total: usize =
        samples.iter().map(|s| (0..PATCHES).filter(|&p| counts(&s.mask, p)).count()).sum();
    let mut g = Params::zeros(bk, &model.layout);
    for (i, sample) in samples.iter().enumerate() {
        let view = seen.get(i).unwrap_or(&sample.views.patch);
        let asked: Vec<usize> = (0..PATCHES).filter(|&p| counts(&sample.mask, p)).collect();
        let rows = asked.iter().map(|&p| p as u32 + 1).collect();
        let mask = sample.mask.iter().map(|&m| u32::from(m && token)).collect();
        let batch = MaskedBatch {
            images: Tensor::from_f32(bk, half.apply(view), &[1, h, wide, 3]),
            mask: Ids::from_vec(bk, mask, &[1, PATCHES]),
            rows: Ids::from_vec(bk, rows, &[asked.len()]),
            keep: None,
        };
        let codes = tokenizer.as_ref().map(|tokenizer| {
            let x = Tensor::from_f32(bk, map.apply(&sample.views.tokens), &[1, h, wide, 3]);
            tokenizer.tokens(bk, &x).to_vec(bk)
        });
        let grad = &mut Grad::new(Ctx::new(bk, &w), &mut g);
        let (said, cache) = model.forward(grad.ctx, &batch);
        let columns = said.cols();
        let gradient: Vec<f64> = said
            .to_f64(bk)
            .chunks_exact(columns)
            .zip(&asked)
            .flat_map(|(row, &p)| {
                let code = codes.as_ref().map_or(0, |codes| codes[p]);
                row_gradient(row, ablation.target, code, (&sample.views.patch, p))
            })
            .map(|x| x / total as f64)
            .collect();
        let gradient = Tensor::from_f64(bk, &gradient, &[asked.len(), columns]);
        model.backward(grad, &batch, cache, gradient, false);
    }
    compact(&model.layout, &g.master)
}

/// The gradient of a step that is computed in these parts.
fn gradient(
    bk: &Bk,
    task: &Pretraining<Bk>,
    samples: &[MaskedSample],
    parts: &[Range<usize>],
) -> Vec<f64> {
    let layout = Task::<Bk>::layout(task);
    let w = Params::from_host(bk, layout, &initial_values(layout, SEED));
    let mut g = Params::zeros(bk, layout);
    let scale = 1.0 / task.terms(samples, START).unwrap() as f64;
    for range in parts {
        let part = Part {
            samples: &samples[range.clone()],
            range: range.clone(),
            whole: BATCH,
            stream: 0,
            scale,
            at: START,
        };
        task.gradients(bk, &w, &(), &part, &mut g).expect("every part has hidden patches");
    }
    compact(layout, &g.master)
}

/// Gradients of the mask token's numbers.
fn of_mask_token(bk: &Bk, config: &PretrainRun, gradient: &[f64]) -> Vec<f64> {
    let layout = MaskedImageModel::new(bk, &config.beit()).layout;
    let before = layout.iter().take_while(|p| &*p.name != "mask_token").map(|p| p.len()).sum();
    gradient[before..][..config.sizes.width].to_vec()
}

#[test]
fn every_ablation_is_the_sum_over_its_images_by_hand() {
    use {LossOver::All, LossOver::Masked, PretrainTarget as Of, Replace::*};
    let (bk, folder) = (Bk::new(), TempDir::new().unwrap());
    let codes = folder.path().join("codes");
    save_codes(&bk, &codes);
    let block = Masking::Block;
    for (target, over, masking, replace) in [
        (Of::Tokens, Masked, block, MaskToken),
        (Of::Tokens, All, block, MaskToken),
        (Of::Tokens, All, Masking::None, MaskToken),
        (Of::Tokens, Masked, block, RandomPatch),
        (Of::Pixels, Masked, block, MaskToken),
        (Of::NormalisedPixels, Masked, Masking::Random, MaskToken),
        (Of::NormalisedPixels, All, Masking::None, MaskToken),
        (Of::NormalisedPixels, Masked, block, RandomPatch),
    ] {
        let ablation = Ablation { target, over, masking, replace };
        let name = format!("{target}, {over}, {masking}, {replace}");
        let config = ablation.config(&codes);
        let task = Pretraining::<Bk>::new(&bk, &config).unwrap();
        let samples = task.collate(first_batch(&task, BATCH), START);
        let want = by_hand(&bk, &ablation, &config, &samples);
        for cut in [0, 3] {
            let parts = [0..cut, cut..BATCH]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>();
            let got = gradient(&bk, &task, &samples, &parts);
            expect_gradient(&name, &got, &want);
            let token = of_mask_token(&bk, &config, &got);
            let shown = replace == MaskToken && masking != Masking::None;
            assert_eq!(token.iter().any(|g| *g != 0.0), shown, "{name}: {token:?}");
        }
    }
}

#[test]
fn a_replaced_patch_has_the_embedding_of_another() {
    let (bk, folder) = (Bk::new(), TempDir::new().unwrap());
    let ablation = Ablation {
        target: PretrainTarget::Pixels,
        over: LossOver::Masked,
        masking: Masking::Random,
        replace: Replace::RandomPatch,
    };
    let task = Pretraining::<Bk>::new(&bk, &ablation.config(folder.path())).unwrap();
    let samples = task.collate(first_batch(&task, BATCH), START);
    let mut reg = Registry::new();
    let embed = PatchEmbed::new(&mut reg, (SIDE, 3), 5, TRUNC_NORMAL);
    let layout = reg.finish();
    let w = Params::from_host(&bk, &layout, &initial_values(&layout, 1));
    let half = PixelMap::normalise([0.5; 3], [0.5; 3]);
    let embedded = |image: &Image| -> Vec<Vec<f64>> {
        let x = Tensor::from_f32(&bk, half.apply(image), &[1, GRID.0 * SIDE, GRID.1 * SIDE, 3]);
        let e = embed.forward(Ctx::new(&bk, &w), &x).to_vec(&bk);
        e.chunks(5).map(<[f64]>::to_vec).collect()
    };
    let original: Vec<_> = samples.iter().map(|s| embedded(&s.views.patch)).collect();
    let mut moved = 0;
    for (sample, own) in samples.iter().zip(&original) {
        let shown = embedded(sample.shown.as_ref().unwrap());
        for (p, e) in shown.iter().enumerate() {
            assert!(if sample.mask[p] { original.concat().contains(e) } else { *e == own[p] });
            moved += usize::from(*e != own[p]);
        }
    }
    assert!(moved > 10, "{moved} patches were replaced by others");
}

#[test]
fn a_model_of_pixels_is_read_again_and_says_what_its_head_is() {
    let (bk, folder) = (Bk::new(), TempDir::new().unwrap());
    let run = folder.path().join("run");
    let ablation = Ablation {
        target: PretrainTarget::NormalisedPixels,
        over: LossOver::Masked,
        masking: Masking::Block,
        replace: Replace::MaskToken,
    };
    let config = ablation.config(folder.path());
    train::<Bk, Pretraining<Bk>>(&bk, &config, &run, &Begin::default()).unwrap().unwrap();
    let file = load_model(&run).unwrap();
    assert_eq!(file.config, ModelConfig::Beit(config.beit()));
    let model = MaskedImageModel::new(&bk, file.sizes().unwrap());
    load_weights(&bk, &file, &model.layout).unwrap();
    let text = std::fs::read_to_string(run.join("config.json")).unwrap();
    assert!(text.contains("\"pixels\": \"normalised\"") && !text.contains("vocab"), "{text}");
    for (other, says) in [
        (
            text.replace("\"pixels\": \"normalised\"", "\"vocab\": 11, \"pixels\": \"plain\""),
            "exclude",
        ),
        (text.replace("\"pixels\": \"normalised\",", ""), "missing field `vocab`, or `pixels`"),
    ] {
        let edited = other.replacen('{', "{ \"edited\": true,", 1);
        std::fs::write(run.join("config.json"), edited).unwrap();
        let error = load_model(&run).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
