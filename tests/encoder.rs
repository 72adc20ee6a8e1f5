//! What gradients alone do not show: computing blocks again changes no bit, another grid is the model
//! that was made for it, and every range of gradients is reported once.

use beit::cpu::Cpu;
use beit::layers::position::{TableResize, resize_bias_table, resize_pos_embed};
use beit::models::beit::{MaskedBatch, MaskedImageModel, masked_rows};
use beit::models::config::{DvaeConfig, EncoderConfig};
use beit::models::dvae::{Dvae, DvaeStep, Likelihood};
use beit::models::encoder::{Encoder, EncoderInput, EncoderParts, FeatureGradients, Features};
use beit::ops::Backend;
use beit::ops::gumbel_softmax::Noise;
use beit::params::{Ctx, Grad, Layout, Params, Registry, expand, initial_values};
use beit::rng::{Philox, Purpose};
use beit::storage::Storage;
use beit::tensor::{Ids, Master, Tensor};
use std::ops::Range;

fn numbers(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = Philox::new(seed, Purpose::Check, 0, 0);
    (0..n).map(|_| rng.uniform(-1.0, 1.0)).collect()
}

/// Every kind of position on a grid of 3 x 4.
fn config() -> EncoderConfig {
    let test = EncoderConfig::test();
    let image = (3 * test.patch, 4 * test.patch);
    EncoderConfig { image, rel_pos_bias: true, abs_pos: true, ..test }
}

fn encoder<B: Backend>(bk: &B, config: &EncoderConfig) -> (Encoder<B>, Layout) {
    let mut reg = Registry::new();
    let parts = EncoderParts { mask_token: false, norm: true };
    let encoder = Encoder::new(bk, &mut reg, config, parts);
    (encoder, reg.finish())
}

/// Gradients of all parameters and the bytes that the step held at most, from seeded numbers.
fn gradients(
    bk: &Cpu<f32>,
    config: &EncoderConfig,
    batch: usize,
    recompute: bool,
) -> (Vec<f32>, usize) {
    let (mut encoder, layout) = encoder(bk, config);
    encoder.recompute = recompute;
    let w = Params::from_host(bk, &layout, &initial_values(&layout, 1));
    let mut g = Params::zeros(bk, &layout);
    let (h, wide) = config.image;
    let pixels = numbers(batch * h * wide * 3, 2);
    let images = Tensor::from_f64(bk, &pixels, &[batch, h, wide, 3]);
    let input = EncoderInput::of(&images);
    bk.forget_peak();
    let held = bk.peak_bytes().expect("counted on the CPU");
    let (features, cache) = encoder.forward(Ctx::new(bk, &w), &input, &[1]);
    let shape = features.taps[0].shape().to_vec();
    let n = shape.iter().product();
    let upstream = FeatureGradients {
        dy: Some(Tensor::from_f64(bk, &numbers(n, 3), &shape)),
        taps: vec![(1, Master::from_f64(bk, &numbers(n, 4), &shape))],
    };
    drop(features);
    encoder.backward(&mut Grad::new(Ctx::new(bk, &w), &mut g), &input, cache, upstream, false);
    (g.to_host(bk), bk.peak_bytes().expect("counted on the CPU") - held)
}

#[test]
fn blocks_computed_again_give_the_same_gradients_from_less_memory() {
    let deep = EncoderConfig { depth: 12, heads: 4, ..config().with_width(32) };
    for config in [config(), EncoderConfig { layer_scale: 0.0, ..config() }, deep] {
        let bk = Cpu::<f32>::new();
        let (kept, most) = gradients(&bk, &config, 4, false);
        let (again, least) = gradients(&bk, &config, 4, true);
        let same = kept.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "depth {}: another bit", config.depth);
        assert!(kept.iter().any(|x| *x != 0.0), "nothing was computed");
        if config.depth == 12 {
            assert!(2 * least < most, "{least} bytes at most, {most} with all caches");
        }
    }
}

/// The parameters of `layout`, each resized where its name says that it belongs to a grid.
fn resized(
    layout: &Layout,
    values: &[f64],
    config: &EncoderConfig,
    grid: (usize, usize),
) -> Vec<f64> {
    let home = config.grid();
    let one = |p: &beit::params::Param| {
        let own = &values[p.range.clone()];
        if p.name.contains("bias_table") {
            let method = TableResize::Geometric;
            resize_bias_table(own, config.heads, home, grid, method).expect("3x4 is large enough")
        } else if &*p.name == "pos_embed" {
            resize_pos_embed(own, config.width, home, grid)
        } else {
            own.to_vec()
        }
    };
    layout.iter().flat_map(one).collect()
}

#[test]
fn another_grid_is_the_model_that_was_made_for_it() {
    let (bk, config) = (Cpu::<f64>::new(), config());
    let (small, layout) = encoder(&bk, &config);
    let drawn = numbers(layout.iter().map(|p| p.len()).sum(), 5);
    let values = expand(&layout, &drawn.iter().map(|x| 0.3 * x).collect::<Vec<_>>());
    let w = Params::from_host(&bk, &layout, &values);
    for (gh, gw) in [(5, 3), (4, 4), (2, 6), (1, 1)] {
        let (h, wide) = (gh * config.patch, gw * config.patch);
        let images = Tensor::from_f64(&bk, &numbers(2 * h * wide * 3, 6), &[2, h, wide, 3]);
        let input = EncoderInput::of(&images);
        let taps = [0, config.depth];
        let got = small.features(Ctx::new(&bk, &w), &input, &taps);
        let other = EncoderConfig { image: (h, wide), ..config.clone() };
        let (made, other_layout) = encoder(&bk, &other);
        let values = expand(&other_layout, &resized(&layout, &values, &config, (gh, gw)));
        let want = made.features(
            Ctx::new(&bk, &Params::from_host(&bk, &other_layout, &values)),
            &input,
            &taps,
        );
        let all = |f: Features<Cpu<f64>>| {
            let taps = f.taps.iter().flat_map(|s| s.to_f64(&bk)).collect::<Vec<_>>();
            [taps, f.y.expect("has a norm").to_f64(&bk)].concat()
        };
        let (got, want) = (all(got), all(want));
        assert_eq!(got.len(), want.len());
        let off = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-12, "grid {gh}x{gw}: off by {off:e}");
    }
}

#[test]
#[should_panic(expected = "patch_embed: x is [1, 7, 12, 3]")]
fn images_that_no_grid_fits_are_refused() {
    let (bk, config) = (Cpu::<f64>::new(), config());
    let (encoder, layout) = encoder(&bk, &config);
    let w = Params::zeros(&bk, &layout);
    let images = Tensor::zeros(&bk, &[1, 7, 12, 3]);
    encoder.features(Ctx::new(&bk, &w), &EncoderInput::of(&images), &[]);
}

/// Every number of the arena lies in exactly one of the ranges reported.
#[track_caller]
fn expect_each_once(layout: &Layout, ranges: &[Range<usize>]) {
    for p in layout.iter() {
        let count = ranges.iter().filter(|r| r.start <= p.range.start && p.range.end <= r.end);
        assert_eq!(count.count(), 1, "{} is reported so many times", p.name);
    }
}

#[test]
fn every_parameter_of_both_models_is_reported_once() {
    let bk = Cpu::<f64>::new();
    for config in [EncoderConfig::test(), config()] {
        let model = MaskedImageModel::new(&bk, &config.clone().with_vocab(11));
        let w = Params::from_host(&bk, &model.layout, &initial_values(&model.layout, 1));
        let (mut g, mut ranges) = (Params::zeros(&bk, &model.layout), Vec::new());
        let ((h, wide), np) = (config.image, config.patches());
        let mask: Vec<bool> = (0..np).map(|i| i % 2 == 0).collect();
        let rows = masked_rows(&mask, np);
        let labels = Ids::zeros(&bk, &[rows.len()]);
        let batch = MaskedBatch {
            images: Tensor::from_f64(&bk, &numbers(h * wide * 3, 7), &[1, h, wide, 3]),
            mask: Ids::from_vec(&bk, mask.into_iter().map(u32::from).collect(), &[1, np]),
            rows: Ids::from_vec(&bk, rows.clone(), &[rows.len()]),
            keep: None,
        };
        let mut report = |range| ranges.push(range);
        let mut grad = Grad::new(Ctx::new(&bk, &w), &mut g).on_ready(&mut report);
        model.loss_and_gradients(&mut grad, &batch, &labels, 1.0);
        expect_each_once(&model.layout, &ranges);
        assert_eq!(ranges.last().map(|r| r.start), Some(0), "the stem comes last");
    }
    let dvae = Dvae::new(&DvaeConfig::test());
    let w = Params::from_host(&bk, &dvae.layout, &initial_values(&dvae.layout, 1));
    let (mut g, mut ranges) = (Params::zeros(&bk, &dvae.layout), Vec::new());
    let (h, wide) = dvae.config.image;
    let x = Tensor::from_f64(&bk, &vec![0.5; h * wide * 3], &[1, h, wide, 3]);
    let step = DvaeStep {
        temperature: 1.0,
        kl_weight: 1.0,
        usage_weight: 0.0,
        straight_through: false,
        likelihood: Likelihood::LogitLaplace,
        scale: 1.0,
    };
    let mut report = |range| ranges.push(range);
    let mut grad = Grad::new(Ctx::new(&bk, &w), &mut g).on_ready(&mut report);
    dvae.loss_and_gradients(&mut grad, &x, &x, &Noise::None, &step, false);
    expect_each_once(&dvae.layout, &ranges);
}
