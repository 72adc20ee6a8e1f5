//! Random choices: what they are numbered by, their law, and what they touch.

use super::accumulation::{pretraining, save_codes, tokenizer};
use beit::apply::frozen::views;
use beit::cpu::Cpu;
use beit::data::augment::{token_view, two_views};
use beit::data::loader::epoch_order;
use beit::data::pixels::{Normalise, PixelMap};
use beit::data::{AugmentConfig, Image, Labelled, MaskConfig};
use beit::models::beit::{MaskedBatch, MaskedImageModel};
use beit::models::config::EncoderConfig;
use beit::ops::cross_entropy::{CrossEntropyOp, Target};
use beit::ops::gumbel_softmax::{GumbelSoftmaxOp, Noise};
use beit::params::{Ctx, Grad, Params, initial_values};
use beit::rng::{Philox, Purpose};
use beit::tensor::{Ids, Master, Tensor};
use beit::train::drop_path;
use beit::train::pretrain::Pretraining;
use beit::train::task::Task;
use beit::train::tokenizer::TokenizerTraining;
use std::collections::BTreeMap;
use std::ops::Range;
use tempfile::TempDir;

type Bk = Cpu<f64>;

fn deep(depth: usize, drop_path: f64) -> EncoderConfig {
    EncoderConfig { depth, drop_path, ..EncoderConfig::test() }
}

/// Factors of some samples, by block and branch; none where nothing is dropped.
fn factors(
    config: &EncoderConfig,
    batch: usize,
    part: Range<usize>,
    seed: u64,
    step: u64,
) -> Vec<Vec<f64>> {
    let bk = Bk::new();
    let all = drop_path(&bk, config, batch, &part, seed, step).into_iter().flatten();
    all.map(|keep| keep.map_or_else(Vec::new, |keep| keep.to_f64(&bk))).collect()
}

#[test]
fn drop_path_keeps_the_expected_value_sample_by_sample() {
    let (config, batch, steps) = (deep(5, 0.4), 7, 1500);
    let mut dropped = vec![vec![0u32; batch]; 10];
    let mut together = [0u32; 10];
    for step in 0..steps {
        for (place, keep) in factors(&config, batch, 0..batch, 3, step).iter().enumerate() {
            let p = 0.1 * (place / 2) as f64;
            assert_eq!(keep.len(), if place < 2 { 0 } else { batch });
            for (count, &factor) in dropped[place].iter_mut().zip(keep) {
                assert!(
                    factor == 0.0 || (factor * (1.0 - p) - 1.0).abs() < 1e-15,
                    "{factor} at rate {p}"
                );
                *count += u32::from(factor == 0.0);
            }
            together[place] += u32::from(!keep.is_empty() && keep[0] == 0.0 && keep[1] == 0.0);
        }
    }
    // Five deviations.
    let near = |count: u32, p: f64| {
        let (n, share) = (steps as f64, f64::from(count) / steps as f64);
        assert!(
            (share - p).abs() < 5.0 * (p * (1.0 - p) / n).sqrt() + 1e-12,
            "share {share}, expected {p}"
        );
    };
    for (place, counts) in dropped.iter().enumerate() {
        let p = 0.1 * (place / 2) as f64;
        counts.iter().for_each(|&count| near(count, p));
        near(together[place], p * p);
    }
}

#[test]
fn drop_path_is_numbered_by_seed_and_stream_and_a_part_is_cut_from_the_whole() {
    let config = deep(4, 0.5);
    let of = |seed, step| factors(&config, 40, 0..40, seed, step);
    let whole = of(3, 8);
    assert_eq!(whole, of(3, 8));
    let others = [of(4, 8), of(3 + (1 << 32), 8), of(3, 9), of(3, 8 + (1 << 32))];
    others.iter().for_each(|other| assert_ne!(&whole, other));
    whole[2..]
        .windows(2)
        .for_each(|pair| assert_ne!(pair[0], pair[1], "two branches are dropped together"));
    for part in [0..13, 13..40, 39..40] {
        for (all, some) in whole.iter().zip(factors(&config, 40, part.clone(), 3, 8)).skip(2) {
            assert_eq!(all[part.clone()], some[..]);
        }
    }
}

/// Where a branch of a block is dropped for all samples, the parameters of that branch get no gradient, and those of
/// every other do.
#[test]
fn a_dropped_branch_is_the_one_that_was_meant() {
    let bk = Bk::new();
    let model = MaskedImageModel::new(&bk, &deep(3, 0.5).with_vocab(11));
    let w = Params::from_host(&bk, &model.layout, &initial_values(&model.layout, 2));
    let ((h, w_), np) = (model.config.encoder.image, model.config.encoder.patches());
    let mut rng = Philox::new(1, Purpose::Check, 0, 0);
    let pixels: Vec<f64> = (0..2 * h * w_ * 3).map(|_| rng.unit()).collect();
    let one = || Some(Master::from_f64(&bk, &[1.0; 2], &[2]));
    for (l, branch) in (0..3).flat_map(|l| [(l, 0), (l, 1)]) {
        let mut keep: Vec<_> = (0..3).map(|_| [one(), one()]).collect();
        keep[l][branch] = Some(Master::from_f64(&bk, &[0.0; 2], &[2]));
        let batch = MaskedBatch {
            images: Tensor::from_f64(&bk, &pixels, &[2, h, w_, 3]),
            mask: Ids::from_vec(
                &bk,
                (0..2 * np).map(|i| u32::from(i % np == 1)).collect(),
                &[2, np],
            ),
            rows: Ids::from_vec(&bk, vec![2, np as u32 + 3], &[2]),
            keep: Some(keep),
        };
        let mut g = Params::zeros(&bk, &model.layout);
        let labels = Ids::from_vec(&bk, vec![1, 5], &[2]);
        model.loss_and_gradients(&mut Grad::new(Ctx::new(&bk, &w), &mut g), &batch, &labels, 0.5);
        for p in model.layout.iter().filter(|p| p.name.starts_with("blocks.")) {
            let (block, part) = p.name[7..].split_once('.').unwrap();
            let second = ["mlp.", "norm2", "gamma_2"].iter().any(|own| part.starts_with(own));
            let own = (block.parse::<usize>().unwrap(), usize::from(second)) == (l, branch);
            let zero = g.master[p.range.clone()].iter().all(|&g| g == 0.0);
            assert_eq!(zero, own, "{} with branch {branch} of block {l} dropped", p.name);
        }
    }
}

#[test]
fn gumbel_noise_is_the_formula_at_every_row() {
    let bk = Bk::new();
    // More rows than a task takes.
    let (rows, k) = (1100, 33);
    for (seed, step) in [(5, 1u64 << 33), (5 + (1 << 40), 7)] {
        let logits = Master::zeros(&bk, &[rows, k]);
        let (_, y) = bk.gumbel_softmax_forward(&logits, &Noise::Philox { seed, step }, 1.0, false);
        let stream = Philox::new(seed, Purpose::Gumbel, step as u32, (step >> 32) as u32);
        let words: Vec<u32> =
            (0..(rows * k).div_ceil(4) as u32).flat_map(|b| stream.block_at(b)).collect();
        for (row, y) in y.to_f64(&bk).chunks_exact(k).enumerate() {
            // The softmax of −ln(−ln u) is −1/ln u by its sum.
            let weight = |&word: &u32| -1.0 / ((f64::from(word) + 0.5) / 4_294_967_296.0).ln();
            let want: Vec<f64> = words[row * k..(row + 1) * k].iter().map(weight).collect();
            let total: f64 = want.iter().sum();
            for (y, want) in y.iter().zip(&want) {
                assert!(
                    (y - want / total).abs() < 1e-12,
                    "row {row}: {y}, expected {}",
                    want / total
                );
            }
        }
    }
}

#[test]
fn of_equal_logits_the_first_is_chosen() {
    let bk = Bk::new();
    let rows = [[0.0, 2.0, 1.0, 2.0, 2.0], [1.0; 5], [-3.0, -2.0, -3.0, -2.0, -4.0]];
    let values: Vec<f64> = rows.concat();
    assert_eq!(bk.argmax(&Master::from_f64(&bk, &values, &[3, 5])).to_vec(&bk), [1, 0, 1]);
    let (labels, logits) =
        (Ids::from_vec(&bk, vec![0, 0, 0], &[3]), || Tensor::from_f64(&bk, &values, &[3, 5]));
    let target = Target::Hard { labels: &labels, ignore: None };
    assert_eq!(bk.cross_entropy_forward(&logits(), &target).argmax.to_vec(&bk), [1, 0, 1]);
    assert_eq!(bk.cross_entropy_backward(logits(), &target, 1.0).0.argmax.to_vec(&bk), [1, 0, 1]);
    let (z, _) = bk.gumbel_softmax_forward(
        &Master::from_f64(&bk, &values, &[3, 5]),
        &Noise::None,
        0.5,
        true,
    );
    for (row, first) in z.to_f64(&bk).chunks_exact(5).zip([1, 0, 1]) {
        assert!(row.iter().enumerate().all(|(i, &z)| z == f64::from(i == first)), "{row:?}");
    }
}

fn picture(index: usize) -> Labelled {
    let pixels = (0..20 * 30 * 3).map(|i| (i * 7 % 251 + index) as u8).collect();
    Labelled { index, label: None, image: Image::new(20, 30, pixels).into() }
}

#[test]
fn crops_and_masks_are_numbered_by_epoch_and_image_and_share_no_number() {
    let (bk, folder) = (Bk::new(), TempDir::new().unwrap());
    save_codes(&bk, folder.path());
    let config = pretraining(folder.path(), 21, 2);
    let (seed, image) = (config.common.seed, config.beit().encoder.image);
    let task = Pretraining::<Bk>::new(&bk, &config).unwrap();
    let masks =
        MaskConfig::block(image.0 / 2, image.1 / 2, config.masked_patches, config.mask_min_block);
    let (flip, crop_scale) = (config.recipe.flip, (config.crops.crop_min, 1.0));
    let augment = AugmentConfig {
        jitter: config.jitter,
        flip,
        crop_scale,
        ..views(image, image, config.normalise)
    };
    let make = task.sampler();
    for (index, epoch) in [(0, 0), (3, 0), (3, 2)] {
        let stream = |purpose| Philox::new(seed, purpose, epoch, index as u32);
        let got = make(picture(index), epoch);
        assert_eq!(got.mask, masks.draw(&mut stream(Purpose::Mask)));
        let want = two_views(&augment, &picture(index).image, &mut stream(Purpose::Augment));
        assert!(got.views == want, "views of image {index} in epoch {epoch}");
    }
    let distinct = |all: Vec<Vec<bool>>| all.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(distinct((0..20).map(|epoch| make(picture(3), epoch).mask).collect()) > 15);
    assert!(distinct((0..20).map(|index| make(picture(index), 3).mask).collect()) > 15);
    let config = tokenizer(0.0);
    let task = <TokenizerTraining as Task<Bk>>::new(&bk, &config).unwrap();
    let (flip, crop_scale) = (config.recipe.flip, (config.crops.crop_min, 1.0));
    let augment = AugmentConfig { flip, crop_scale, ..views(image, image, Normalise::Half) };
    let make = Task::<Bk>::sampler(&task);
    for (index, epoch) in [(0, 0), (3, 0), (3, 2)] {
        let mut stream = Philox::new(seed, Purpose::Augment, epoch, index as u32);
        let want = token_view(&augment, &picture(index).image, &mut stream);
        assert!(make(picture(index), epoch) == want, "view of image {index} in epoch {epoch}");
    }
}

#[test]
fn every_order_of_an_epoch_is_equally_likely_and_no_two_epochs_share_one() {
    let mut counts = BTreeMap::<Vec<u32>, u32>::new();
    let epochs = 6000;
    (0..epochs).for_each(|epoch| *counts.entry(epoch_order(3, 9, epoch)).or_default() += 1);
    assert_eq!(counts.len(), 6, "{counts:?}");
    // Five deviations of a sixth.
    let (mean, far) = (f64::from(epochs) / 6.0, 5.0 * (f64::from(epochs) * 5.0 / 36.0).sqrt());
    assert!(counts.values().all(|&n| (f64::from(n) - mean).abs() < far), "{counts:?}");
    let orders: std::collections::BTreeSet<_> =
        (0..50).map(|epoch| epoch_order(100, 9, epoch)).collect();
    assert_eq!(orders.len(), 50);
}

#[test]
fn masks_reach_every_side_of_a_tall_and_of_a_wide_grid_alike() {
    for (h, w) in [(12, 5), (5, 12)] {
        let law = MaskConfig::block(h, w, 24, 4);
        let mut rng = Philox::new(2, Purpose::Check, 0, 0);
        let mut hidden = vec![0u32; h * w];
        (0..4000).for_each(|_| {
            hidden.iter_mut().zip(law.draw(&mut rng)).for_each(|(n, m)| *n += u32::from(m))
        });
        let row = |y: usize| hidden[y * w..(y + 1) * w].iter().sum::<u32>();
        let column = |x: usize| hidden.iter().skip(x).step_by(w).sum::<u32>();
        for (first, last) in [(row(0), row(h - 1)), (column(0), column(w - 1))] {
            let ratio = f64::from(first) / f64::from(last);
            assert!((ratio - 1.0).abs() < 0.1, "{h}x{w}: {first} at one side, {last} at the other");
        }
    }
}

#[test]
fn initial_values_differ_between_parameters_and_shrink_with_depth() {
    let bk = Bk::new();
    let layout = MaskedImageModel::new(&bk, &deep(4, 0.0).with_width(32).with_vocab(11)).layout;
    let values = initial_values(&layout, 8);
    let of = |name: &str| &values[layout.iter().find(|p| &*p.name == name).unwrap().range.clone()];
    for l in 0..4 {
        for part in ["attn.proj.weight", "mlp.fc2.weight"] {
            let bound = 0.02 / (2.0 * (l + 1) as f32).sqrt();
            let largest =
                of(&format!("blocks.{l}.{part}")).iter().fold(0.0f32, |m, x| m.max(x.abs()));
            assert!(
                (0.97 * bound..=1.000_001 * bound).contains(&largest),
                "block {l}: {largest}, bound {bound}"
            );
        }
    }
    let (a, b) = (of("blocks.0.attn.qkv.weight"), of("blocks.1.attn.qkv.weight"));
    let same = a.iter().zip(b).filter(|(a, b)| a == b).count();
    assert!(same < a.len() / 100, "{same} of {} numbers of two blocks are the same", a.len());
}

#[test]
fn pixels_are_normalised_by_the_moments_of_their_channel() {
    let image = Image::new(1, 2, vec![0, 51, 255, 102, 204, 153]);
    for (which, mean, std) in [
        (Normalise::Half, [0.5; 3], [0.5; 3]),
        (Normalise::Imagenet, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ] {
        let (m, s) = which.moments();
        let got = PixelMap::normalise(m, s).apply(&image);
        let bytes = image.pixels.iter().enumerate();
        let want = bytes.map(|(i, &x)| (f64::from(x) / 255.0 - mean[i % 3]) / std[i % 3]);
        got.iter()
            .zip(want)
            .for_each(|(a, b)| assert!((f64::from(*a) - b).abs() < 1e-6, "{a}, expected {b}"));
    }
    let mapped = PixelMap::map_pixels().apply(&image);
    let want = image.pixels.iter().map(|&x| 0.1 + 0.8 * f64::from(x) / 255.0);
    mapped
        .iter()
        .zip(want)
        .for_each(|(a, b)| assert!((f64::from(*a) - b).abs() < 1e-7, "{a}, expected {b}"));
}
