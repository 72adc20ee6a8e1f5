//! Running statistics of batch normalisation: what moves them, what does not, and who carries them.

use beit::cpu::Cpu;
use beit::ops::adamw::AdamW;
use beit::ops::batch_norm::{BatchNorm, BatchNormOp};
use beit::ops::linear::Linear;
use beit::optim::segments;
use beit::optim::state::State;
use beit::params::{Ctx, Init, Layout, Params, Registry, arena_len, initial_values};
use beit::real::Real;
use beit::tensor::Tensor;
use std::panic::{AssertUnwindSafe, catch_unwind};

fn model() -> (BatchNorm, Linear, Layout) {
    let mut reg = Registry::new();
    let before = Linear::new(&mut reg, "before", 3, 4, Init::Normal(1.0));
    let norm = BatchNorm::new(&mut reg, "norm", 4);
    (norm, before, reg.finish())
}

fn adamw_leaves<T: Real>() {
    let (bk, (norm, before, layout)) = (Cpu::<T>::new(), model());
    let mut start = initial_values(&layout, 1);
    start[norm.mean.range.clone()].copy_from_slice(&[0.1, -0.0, -3.3e-7, 1e9]);
    start[norm.var.range.clone()].copy_from_slice(&[0.7, 1.0, f32::MIN_POSITIVE, 3e12]);
    start[norm.count.range.clone()].fill(12_345.0);
    let mut state = State::new(&bk, &layout, &start, 0.9);
    let all = segments(&layout, 0.3);
    for step in 1..=4 {
        for p in [&before.weight, &norm.weight, &norm.bias] {
            state.g.master[p.range.clone()].fill(T::from_f64(0.3 * step as f64));
        }
        let (beta1, beta2, eps) = (0.9, 0.999, 1e-8);
        let adamw = AdamW { lr: 0.1, beta1, beta2, eps, step, max_norm: Some(1.0) };
        state.update(&bk, &all, &adamw).expect("finite");
    }
    let (now, average) = (state.w.to_host(&bk), state.best().to_host(&bk));
    for p in [&norm.mean, &norm.var, &norm.count] {
        for i in p.range.clone() {
            let (got, want) = (now[i].to_f64(), f64::from(start[i]));
            assert_eq!(got.to_bits(), want.to_bits(), "{} became {got}, was {want}", p.name);
            let off = (average[i].to_f64() - want).abs();
            assert!(off <= 1e-5 * want.abs(), "the average of {} is off by {off}", p.name);
        }
    }
    for p in [&before.weight, &norm.weight, &norm.bias] {
        let moved = |i: usize| now[i].to_f64() != f64::from(start[i]);
        assert!(p.range.clone().all(moved), "{} stayed", p.name);
    }
}

/// Without a gradient and without decay a step changes no bit of them, and the average of the weights has them.
#[test]
fn adamw_leaves_the_bits_of_running_statistics() {
    adamw_leaves::<f32>();
    adamw_leaves::<f64>();
}

#[test]
fn they_follow_a_batch_by_hand() {
    let (bk, mut reg) = (Cpu::<f64>::new(), Registry::new());
    let norm = BatchNorm::new(&mut reg, "norm", 2);
    let layout = reg.finish();
    let start = initial_values(&layout, 0);
    let mut w = Params::from_host(&bk, &layout, &start);
    // Means 3 and −1, biased variances 4 and 0; unbiased 8 and 0.
    let x = Tensor::from_f64(&bk, &[1.0, -1.0, 5.0, -1.0], &[2, 1, 1, 2]);
    for (mean, var, count) in [([0.3, -0.1], [1.7, 0.9], 1.0), ([0.57, -0.19], [2.33, 0.81], 2.0)] {
        let (_, stats) = norm.forward(Ctx::new(&bk, &w), &x, true);
        norm.follow(&bk, &stats, &mut w);
        let running = bk.batch_norm_running(&w, &norm);
        let near = |got: &[f64], want: [f64; 2]| {
            got.iter().zip(want).for_each(|(a, b)| assert!((a - b).abs() < 1e-15, "{a}, not {b}"));
        };
        near(&running.mean.to_f64(&bk), mean);
        near(&running.var.to_f64(&bk), var);
        assert_eq!(w.to_host(&bk)[norm.count.range.start], count);
    }
    // x = 3 is 2.43 from the running mean in the first channel.
    let x = Tensor::from_f64(&bk, &[3.0, -0.19], &[1, 2]);
    let (y, stats) = norm.forward(Ctx::new(&bk, &w), &x, false);
    let y = y.to_f64(&bk);
    assert!((y[0] - 2.43 / 2.330_01f64.sqrt()).abs() < 1e-12 && y[1].abs() < 1e-12, "{y:?}");
    // Running ones change nothing.
    let before = w.to_host(&bk);
    norm.follow(&bk, &stats, &mut w);
    assert_eq!(w.to_host(&bk), before);
    let follow = catch_unwind(AssertUnwindSafe(|| bk.batch_norm_follow(&stats, &mut w, &norm)));
    let text = follow.expect_err("must panic");
    let text = text.downcast_ref::<&str>().expect("plain text");
    assert_eq!(*text, "batch_norm_follow: running statistics cannot follow themselves");
}

/// One channel overflows: its statistics stay, the other's move, the batch counts.
#[test]
fn what_is_not_finite_is_not_followed() {
    let (bk, mut reg) = (Cpu::<f32>::new(), Registry::new());
    let norm = BatchNorm::new(&mut reg, "norm", 2);
    let layout = reg.finish();
    let mut start = vec![0.0f32; arena_len(&layout)];
    start[norm.mean.range.clone()].fill(0.25);
    start[norm.var.range.clone()].fill(0.75);
    let mut w = Params::from_host(&bk, &layout, &start);
    // The mean of the first channel is finite, its variance is not.
    let x = Tensor::from_f64(&bk, &[3e20, 1.0, -3e20, 5.0], &[2, 2]);
    norm.follow(&bk, &bk.batch_norm_statistics(&x), &mut w);
    let w = w.to_host(&bk);
    let of = |p: &beit::params::Param| w[p.range.clone()].to_vec();
    assert_eq!(of(&norm.mean)[0], 0.9 * 0.25);
    assert_eq!(of(&norm.var)[0], 0.75);
    assert!(of(&norm.var)[1] > 1.4 && of(&norm.mean)[1] > 0.5);
    assert_eq!(of(&norm.count), [1.0]);
}
