//! The gradient of a step that is computed in uneven parts is that of its samples one by one.

use super::plain::expect_near;
use beit::apply::frozen::Tokenizer;
use beit::apply::masked::MaskedSample;
use beit::config::{Preset, PretrainRun, RunConfig, TokenizerRun};
use beit::cpu::Cpu;
use beit::data::pixels::PixelMap;
use beit::data::{Dataset, Image, Loader, LoaderConfig, Masking, Split, Subset};
use beit::models::beit::{MaskedBatch, MaskedImageModel};
use beit::models::config::{BeitConfig, DvaeConfig};
use beit::models::dvae::{Dvae, DvaeStep, Likelihood};
use beit::models::kind::ModelConfig;
use beit::ops::gumbel_softmax::Noise;
use beit::params::{Ctx, Decay, Grad, Init, Params, Registry, compact, initial_values};
use beit::parts::Parts;
use beit::rng::{Philox, Purpose};
use beit::run::Begin;
use beit::tensor::{Ids, Master, Tensor};
use beit::train::driver::train;
use beit::train::pretrain::Pretraining;
use beit::train::task::Task;
use beit::train::tokenizer::TokenizerTraining;
use beit::weights::{TensorFile, save_weights};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

type Bk = Cpu<f64>;

const IMAGE: (usize, usize) = (12, 8);
const SEED: u64 = 6;
const BETA1: f64 = 0.875;

/// The gradient of the first step, from the first moments in its checkpoint.
fn gradient(run: &Path) -> Vec<f64> {
    let file = TensorFile::read(&run.join("checkpoints/step-0000000001.safetensors")).unwrap();
    file.f32s("m").unwrap().1.into_iter().map(|m| f64::from(m) / (1.0 - BETA1)).collect()
}

pub fn expect_gradient(what: &str, got: &[f64], want: &[f64]) {
    let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    assert!(largest > 1e-6, "{what}: nothing to compare");
    // Saved in f32, computed in f64.
    expect_near(what, got, want, 2e-7, 1e-9 * largest);
}

/// The samples of the first step, in order.
pub fn first_batch<T: Task<Bk>>(task: &T, batch: usize) -> Vec<T::Sample> {
    let all = Arc::new(task.open("synthetic:30", Split::Train).unwrap());
    let data = Arc::new(Subset::whole(all));
    assert_eq!(data.len(), 30);
    Loader::new(data, LoaderConfig::new(batch, SEED), task.sampler())
        .unwrap()
        .next_batch()
        .unwrap()
        .items
}

/// Sizes of `micros` micro-batches of a batch.
fn micro_sizes(batch: usize, micros: usize) -> Vec<usize> {
    (0..micros).map(|n| (n + 1) * batch / micros - n * batch / micros).collect()
}

pub fn pretraining(tokenizer: &Path, batch: usize, micros: usize) -> PretrainRun {
    let mut config = PretrainRun::preset(Preset::Tiny);
    (config.common.seed, config.common.batch, config.common.epochs) = (SEED, batch, 0);
    config.tokenizer = tokenizer.to_str().unwrap().to_owned();
    (
        config.sizes.patch_size,
        config.sizes.width,
        config.sizes.depth,
        config.sizes.heads,
        config.vocab,
    ) = (2, 8, 3, 2, 11);
    (config.sizes.drop_path, config.masking, config.masked_patches, config.mask_min_block) =
        (0.6, Masking::Block, 10, 2);
    let recipe = &mut config.recipe;
    (recipe.data, recipe.val, recipe.steps, recipe.accumulate) =
        ("synthetic:30".into(), "none".into(), 1, micros);
    (recipe.clip, recipe.ema, recipe.beta1) = (0.0, 0.0, BETA1);
    config.sizes.image_size = IMAGE.into();
    config
}

/// A tokenizer whose codes differ from patch to patch.
pub fn save_codes(bk: &Bk, folder: &Path) {
    let sizes = DvaeConfig {
        width: 4,
        init_width: 3,
        groups: 2,
        blocks_per_group: 1,
        vocab: 11,
        image: IMAGE,
    };
    let layout = Dvae::new(&sizes).layout;
    let values: Vec<f32> = initial_values(&layout, 1).into_iter().map(|x| 3.0 * x).collect();
    let w = Params::<Bk>::from_host(bk, &layout, &values);
    std::fs::create_dir_all(folder).unwrap();
    save_weights(bk, folder, &ModelConfig::Dvae(sizes), None, &w).unwrap();
}

/// Drop-path factors of micro-batch `micro` of `batch` samples, by block and branch: 0 with probability rate·l/(L − 1),
/// else 1/(1 − p); drawn block by block, branch by branch, sample by sample.
fn keep(config: &BeitConfig, batch: usize, micro: u32) -> Vec<[Vec<f64>; 2]> {
    let mut rng = Philox::new(SEED, Purpose::DropPath, micro, 0);
    let mut branch = |p: f64| {
        let mut draw = || if rng.unit() < p { 0.0 } else { 1.0 / (1.0 - p) };
        (0..batch).map(|_| if p > 0.0 { draw() } else { 1.0 }).collect()
    };
    (0..config.encoder.depth)
        .map(|l| {
            let p = config.encoder.drop_path * l as f64 / (config.encoder.depth - 1) as f64;
            [branch(p), branch(p)]
        })
        .collect()
}

/// Adds the gradient of samples as one batch, `keep` by block, branch and sample.
fn add_masked(
    bk: &Bk,
    (model, w): (&MaskedImageModel<Bk>, &Params<Bk>),
    tokenizer: &Tokenizer<Bk>,
    samples: &[(&MaskedSample, Vec<[f64; 2]>)],
    scale: f64,
    g: &mut Params<Bk>,
) {
    let (b, (h, w_), np) = (samples.len(), IMAGE, model.config.encoder.patches());
    let (mean, std) = beit::data::pixels::HALF;
    let (show, map) = (PixelMap::normalise(mean, std), PixelMap::map_pixels());
    let (mut images, mut mask, mut rows, mut labels) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (i, (sample, _)) in samples.iter().enumerate() {
        images.extend(show.apply(&sample.views.patch));
        let seen = Tensor::from_f32(bk, map.apply(&sample.views.tokens), &[1, h, w_, 3]);
        let tokens = tokenizer.tokens(bk, &seen).to_vec(bk);
        for (patch, (&hidden, &token)) in sample.mask.iter().zip(&tokens).enumerate() {
            mask.push(u32::from(hidden));
            if hidden {
                rows.push((i * (np + 1) + patch + 1) as u32);
                labels.push(token);
            }
        }
    }
    let m = rows.len();
    let keep = (0..model.config.encoder.depth).map(|l| {
        [0, 1].map(|branch| {
            let factors: Vec<f64> = samples.iter().map(|(_, keep)| keep[l][branch]).collect();
            Some(Master::from_f64(bk, &factors, &[b]))
        })
    });
    let batch = MaskedBatch {
        images: Tensor::from_f32(bk, images.clone(), &[b, h, w_, 3]),
        mask: Ids::from_vec(bk, mask, &[b, np]),
        rows: Ids::from_vec(bk, rows, &[m]),
        keep: Some(keep.collect()),
    };
    let labels = Ids::from_vec(bk, labels, &[m]);
    model.loss_and_gradients(&mut Grad::new(Ctx::new(bk, w), g), &batch, &labels, scale);
}

#[test]
fn every_part_of_a_large_batch_is_added_once() {
    let bk = Bk::new();
    let mut reg = Registry::new();
    // More numbers than a task adds.
    reg.add("w", &[70_001], Decay::No, Init::Constant(0.0));
    let layout = reg.finish();
    for samples in [1, 8, 9, 33, 70, 200] {
        let mut g = Params::<Bk>::zeros(&bk, &layout);
        g.master.fill(0.5);
        let seen = bk.in_parts(samples, &mut g, |range, g| {
            let sum: usize = range.clone().map(|sample| sample + 1).sum();
            g.master.iter_mut().enumerate().for_each(|(i, g)| *g += (sum * (i % 7)) as f64);
            range
        });
        assert!(seen.into_iter().flatten().eq(0..samples));
        let sum = (samples * (samples + 1) / 2) as f64;
        let right = |(i, g): (usize, &f64)| *g == 0.5 + sum * (i % 7) as f64;
        assert!(g.master[..70_001].iter().enumerate().all(right), "{samples} samples");
    }
}

#[test]
fn pretraining_in_uneven_parts_is_the_sum_over_its_samples() {
    let (bk, folder) = (Bk::new(), TempDir::new().unwrap());
    let (codes, run) = (folder.path().join("codes"), folder.path().join("run"));
    save_codes(&bk, &codes);
    // Micro-batches of 10 and 11, each of two parts.
    let config = pretraining(&codes, 21, 2);
    train::<Bk, Pretraining<Bk>>(&bk, &config, &run, &Begin::default()).unwrap().unwrap();
    let got = gradient(&run);
    let task = Pretraining::<Bk>::new(&bk, &config).unwrap();
    let batch = first_batch(&task, 21);
    let counts: Vec<usize> = batch.iter().map(|s| s.mask.iter().filter(|m| **m).count()).collect();
    assert!(
        counts.iter().min() < counts.iter().max(),
        "masks of one size show nothing: {counts:?}"
    );
    let scale = 1.0 / counts.iter().sum::<usize>() as f64;
    let model = MaskedImageModel::new(&bk, &config.beit());
    let w = Params::from_host(&bk, &model.layout, &initial_values(&model.layout, SEED));
    let tokenizer = Tokenizer::load(&bk, &codes).unwrap();
    let mut samples = batch.iter();
    let mut all = Vec::new();
    for (micro, size) in (0..).zip(micro_sizes(21, 2)) {
        let keep = keep(&model.config, size, micro);
        let factors = |i: usize| keep.iter().map(|[a, b]| [a[i], b[i]]).collect();
        all.extend((0..size).map(|i| (samples.next().unwrap(), factors(i))));
    }
    let sum = |pieces: &mut dyn Iterator<Item = &[(&MaskedSample, Vec<[f64; 2]>)]>| {
        let mut g = Params::zeros(&bk, &model.layout);
        pieces.for_each(|piece| add_masked(&bk, (&model, &w), &tokenizer, piece, scale, &mut g));
        compact(&model.layout, &g.master)
    };
    expect_gradient("one by one", &got, &sum(&mut all.chunks(1)));
    expect_gradient("all at once", &got, &sum(&mut all.chunks(21)));
}

pub fn tokenizer(usage: f64) -> TokenizerRun {
    let mut config = TokenizerRun::preset(Preset::Tiny);
    (config.common.seed, config.common.batch, config.common.epochs) = (SEED, 7, 0);
    let c = &mut config.coding;
    (c.width, c.init_width, c.groups, c.blocks, config.vocab) = (4, 3, 2, 1, 11);
    (
        config.usage_weight,
        config.coding.kl_weight,
        config.coding.kl_warmup,
        config.temperature_start,
    ) = (usage, 0.4, 0.0, 0.8);
    let recipe = &mut config.recipe;
    (recipe.data, recipe.val, recipe.steps, recipe.accumulate) =
        ("synthetic:30".into(), "none".into(), 1, 3);
    (recipe.clip, recipe.ema, recipe.beta1) = (0.0, 0.0, BETA1);
    config.coding.image_size = IMAGE.into();
    config
}

/// −ln(−ln u) of the random words of a micro-batch, four to a block.
fn gumbel(micro: u32, count: usize) -> Vec<f64> {
    let stream = Philox::new(SEED, Purpose::Gumbel, micro, 0);
    let words = (0..count.div_ceil(4) as u32).flat_map(|block| stream.block_at(block));
    let number = |word: u32| -(-((f64::from(word) + 0.5) / 4_294_967_296.0).ln()).ln();
    words.take(count).map(number).collect()
}

#[test]
fn the_tokenizer_in_uneven_parts_is_the_sum_over_its_images() {
    let (bk, folder) = (Bk::new(), TempDir::new().unwrap());
    let (h, w_) = IMAGE;
    for usage in [0.0, 0.7] {
        let (config, run) = (tokenizer(usage), folder.path().join(usage.to_string()));
        train::<Bk, TokenizerTraining>(&bk, &config, &run, &Begin::default()).unwrap().unwrap();
        let task = <TokenizerTraining as Task<Bk>>::new(&bk, &config).unwrap();
        let (batch, dvae) = (first_batch::<TokenizerTraining>(&task, 7), Dvae::new(&config.dvae()));
        let w = Params::from_host(&bk, &dvae.layout, &initial_values(&dvae.layout, SEED));
        let mut g = Params::zeros(&bk, &dvae.layout);
        let step = DvaeStep {
            temperature: 0.8,
            kl_weight: 0.4,
            usage_weight: usage,
            straight_through: false,
            likelihood: Likelihood::LogitLaplace,
            scale: 1.0 / (7 * h * w_ * 3) as f64,
        };
        let mut add = |images: &[Image], noise: &[f64]| {
            let pixels: Vec<f32> =
                images.iter().flat_map(|i| PixelMap::map_pixels().apply(i)).collect();
            let x = Tensor::from_f32(&bk, pixels.clone(), &[images.len(), h, w_, 3]);
            let noise = Master::from_f64(&bk, noise, &[images.len(), h / 2, w_ / 2, 11]);
            let grad = &mut Grad::new(Ctx::new(&bk, &w), &mut g);
            dvae.loss_and_gradients(grad, &x, &x, &Noise::Given(&noise), &step, false);
        };
        let (mut from, codes) = (0, h * w_ / 4 * 11);
        for (micro, size) in (0..).zip(micro_sizes(7, 3)) {
            let (images, noise) = (&batch[from..from + size], gumbel(micro, size * codes));
            // The usage term sees the codes of a micro-batch together.
            let piece = if usage > 0.0 { size } else { 1 };
            images.chunks(piece).zip(noise.chunks(piece * codes)).for_each(|(i, n)| add(i, n));
            from += size;
        }
        expect_gradient("tokenizer", &gradient(&run), &compact(&dvae.layout, &g.master));
    }
}
