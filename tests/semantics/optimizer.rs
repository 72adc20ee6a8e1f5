//! AdamW, clipping, groups and the running average against a plain loop.

use super::plain::{Optimizer, StepRule, expect_near};
use beit::cpu::Cpu;
use beit::models::beit::MaskedImageModel;
use beit::models::config::{DvaeConfig, EncoderConfig};
use beit::models::dvae::Dvae;
use beit::ops::adamw::{AdamW, Segment};
use beit::optim::state::State;
use beit::optim::{layer_id, layer_scale, scaled_segments, segments};
use beit::params::{Decay, Init, Layout, Registry, arena_len, compact, initial_values};
use beit::real::Real;
use beit::rng::{Philox, Purpose};

const DECAY: f64 = 0.3;

/// Decayed and not, at three rates; one is longer than what a task takes, and the norm has many pieces.
fn layout() -> Layout {
    let mut reg = Registry::new();
    for (name, len, decay) in [
        ("patch_embed.proj.bias", 3, Decay::No),
        ("blocks.0.attn.proj.weight", 37, Decay::Yes),
        ("blocks.0.mlp.fc1.weight", 70_001, Decay::Yes),
        ("blocks.1.norm1.weight", 41, Decay::No),
        ("lm_head.weight", 7, Decay::Yes),
        ("lm_head.bias", 5, Decay::No),
    ] {
        reg.add(name, &[len], decay, Init::Normal(0.5));
    }
    reg.finish()
}

fn rate_of(name: &str) -> f64 {
    match name.split('.').nth(1) {
        Some("0") => 0.5,
        Some("1") => 0.7,
        _ => 1.0,
    }
}

/// Of each number of the arena, what `of` says about its parameter; 0 in the gaps.
fn spread(layout: &Layout, of: impl Fn(&beit::params::Param) -> f64) -> Vec<f64> {
    let mut all = vec![0.0; arena_len(layout)];
    layout.iter().for_each(|p| all[p.range.clone()].fill(of(p)));
    all
}

/// Gradients of a step whose norm is `norm`.
fn gradients(layout: &Layout, step: u64, norm: f64) -> Vec<f64> {
    let mut rng = Philox::new(step, Purpose::Check, 18, 0);
    let mut g = vec![0.0; arena_len(layout)];
    layout.iter().for_each(|p| g[p.range.clone()].fill_with(|| rng.unit() - 0.4));
    let own = g.iter().map(|g| g * g).sum::<f64>().sqrt();
    g.iter().map(|g| g * norm / own).collect()
}

fn adamw_at<T: Real>(clip: Option<f64>, norms: [f64; 6], ema: f64, error: f64) {
    let (bk, layout) = (Cpu::<T>::new(), layout());
    let start = initial_values(&layout, 4);
    let mut state = State::new(&bk, &layout, &start, ema);
    let mut plain = Optimizer::new(start.iter().map(|&x| f64::from(x)).collect());
    let decay = spread(&layout, |p| {
        if p.name.ends_with("weight") && !p.name.contains("norm") { DECAY } else { 0.0 }
    });
    let scale = spread(&layout, |p| rate_of(&p.name));
    let groups = scaled_segments(&layout, DECAY, rate_of);
    let (betas, eps) = ((0.8, 0.95), 1e-3);
    for (done, norm) in (0..).zip(norms) {
        let g = gradients(&layout, done, norm);
        for (to, &from) in state.g.master.iter_mut().zip(&g) {
            *to = T::from_f64(from);
        }
        let lr = 0.05 / (1 + done) as f64;
        let adamw =
            AdamW { lr, beta1: betas.0, beta2: betas.1, eps, step: done + 1, max_norm: clip };
        let got = state.update(&bk, &groups, &adamw).unwrap();
        let want = plain.step(&g, &scale, &StepRule { lr, decay: &decay, betas, eps, clip, ema });
        assert!((got - want).abs() < error * want, "step {done}: norm {got}, expected {want}");
        assert!(state.g.master.iter().all(|g| g.to_f64() == 0.0));
    }
    let numbers = |x: &[T]| x.iter().map(|x| x.to_f64()).collect::<Vec<_>>();
    expect_near("weights", &numbers(&state.w.master), &plain.w, error, error);
    expect_near("average", &numbers(&state.best().master), &plain.average, error, error);
    for (name, got) in state.to_host(&bk) {
        let want = match name {
            "weights" => &plain.w,
            "m" => &plain.m,
            "v" => &plain.v,
            _ => &plain.average,
        };
        // As it is saved: in f32, without the gaps.
        let got: Vec<f64> = got.into_iter().map(f64::from).collect();
        let floor = error * if name == "v" { 1e-4 } else { 1e-2 };
        expect_near(name, &got, &compact(&layout, want), 1e-6 + error, floor);
    }
}

#[test]
fn adamw_is_the_plain_loop() {
    let norms = [5.0, 0.5, 0.2, 40.0, 3.0, 1.0];
    // Never, sometimes (norms below 1 among them), and not asked to clip.
    for clip in [Some(100.0), Some(0.3), None] {
        adamw_at::<f64>(clip, norms, 0.9, 1e-12);
        adamw_at::<f32>(clip, norms, 0.9, 3e-6);
    }
}

/// A state of one number each of which is driven to another place, and the plain loop beside it.
fn beside(ema: f64, from: u64, steps: u64) {
    let bk = Cpu::<f64>::new();
    let mut reg = Registry::new();
    reg.add("w", &[3], Decay::No, Init::Constant(0.0));
    let layout = reg.finish();
    let start: Vec<f32> =
        (0..arena_len(&layout)).map(|i| if i < 3 { i as f32 - 0.5 } else { 0.0 }).collect();
    let mut state = State::new(&bk, &layout, &start, ema);
    let saved = [
        ("weights", [0.25, 1.5, -1.0]),
        ("m", [0.0; 3]),
        ("v", [1.0; 3]),
        ("average", [1.0, -1.0, 0.5]),
    ];
    let find = |name: &str| {
        Ok(saved.iter().find(|(n, _)| *n == name).unwrap().1.map(|x| x as f32).to_vec())
    };
    let mut plain = Optimizer::new(start[..3].iter().map(|&x| f64::from(x)).collect());
    if from > 0 {
        state.restore(&bk, from, find).unwrap();
        let [w, m, v, average] = saved.map(|(_, values)| values.to_vec());
        plain = Optimizer { w, m, v, average, done: from };
    }
    let groups = segments(&layout, 0.0);
    for step in from..from + steps {
        let g = [1.0, -2.0, (step as f64).sin()];
        state.g.master[..3].copy_from_slice(&g);
        let adamw =
            AdamW { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, step: step + 1, max_norm: None };
        state.update(&bk, &groups, &adamw).unwrap();
        let rule =
            StepRule { lr: 0.1, decay: &[0.0; 3], betas: (0.9, 0.99), eps: 1e-8, clip: None, ema };
        plain.step(&g, &[1.0; 3], &rule);
        expect_near("weights", &state.w.master[..3], &plain.w, 1e-12, 1e-12);
        expect_near("average", &state.best().master[..3], &plain.average, 1e-12, 1e-12);
    }
    assert_eq!((state.step, plain.done), (from + steps, from + steps));
}

#[test]
fn the_average_is_the_plain_loop_from_the_start_and_after_a_restart() {
    // All of it warm-up, both sides of its end (t = 80 at 0.9), and long past it.
    beside(0.999, 0, 30);
    beside(0.9, 0, 100);
    beside(0.9, 77, 8);
    beside(0.9999, 200_000, 20);
}

#[test]
fn a_step_that_is_dropped_moves_the_average_alone() {
    let bk = Cpu::<f64>::new();
    let layout = layout();
    let start = initial_values(&layout, 4);
    let groups = segments(&layout, DECAY);
    let adamw = |step| AdamW { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, step, max_norm: None };
    let mut state = State::new(&bk, &layout, &start, 0.99);
    state.g.master.copy_from_slice(&gradients(&layout, 0, 1.0));
    state.update(&bk, &groups, &adamw(1)).unwrap();
    let (w, mut average) = (state.w.master.to_vec(), state.best().master.to_vec());
    for (step, value) in [(2, f64::NAN), (3, 1.0)] {
        state.g.master.copy_from_slice(&gradients(&layout, step, value));
        if value.is_nan() {
            assert!(state.update(&bk, &groups, &adamw(step)).is_err());
        } else {
            state.skip(&bk);
        }
        let t = (step - 1) as f64;
        let decay = (1.0 + t) / (10.0 + t);
        average.iter_mut().zip(&w).for_each(|(a, w)| *a += (1.0 - decay) * (w - *a));
        assert!(state.w.master[..] == w[..], "step {step} changed a weight");
        expect_near("average", &state.best().master, &average, 1e-12, 1e-12);
        assert!(state.g.master.iter().all(|&g| g == 0.0), "step {step} left its gradients");
        assert_eq!(state.step, step);
    }
}

/// Decay and rate of the segment that a number lies in.
fn group_of(segments: &[Segment], place: usize) -> (f64, f64) {
    let own = segments.iter().find(|s| place < s.end).unwrap();
    (own.decay, own.lr_scale)
}

fn expect_groups(layout: &Layout, decayed: impl Fn(&beit::params::Param) -> bool, depth: usize) {
    let rate = |name: &str| layer_scale(0.65, depth, layer_id(name, depth));
    let (plain, scaled) = (segments(layout, DECAY), scaled_segments(layout, DECAY, rate));
    for p in layout.iter() {
        let decay = if decayed(p) { DECAY } else { 0.0 };
        for place in [p.range.start, p.range.end - 1] {
            assert_eq!(group_of(&plain, place), (decay, 1.0), "{}", p.name);
            let layer = match p.name.split('.').collect::<Vec<_>>()[..] {
                ["cls_token" | "mask_token" | "pos_embed" | "patch_embed", ..] => 0,
                ["blocks", block, ..] => block.parse::<i32>().unwrap() + 1,
                _ => depth as i32 + 1,
            };
            let want = 0.65f64.powi(depth as i32 + 1 - layer);
            let (got_decay, got) = group_of(&scaled, place);
            assert!(
                (got - want).abs() < 1e-15 && got_decay == decay,
                "{}: {got}, expected {want}",
                p.name
            );
        }
    }
}

#[test]
fn every_parameter_is_in_the_group_of_the_original() {
    let bk = Cpu::<f32>::new();
    let test = EncoderConfig { depth: 3, ..EncoderConfig::test() };
    let own = EncoderConfig {
        rel_pos_bias: true,
        shared_rel_pos_bias: false,
        abs_pos: true,
        ..test.clone()
    };
    for config in [test, own] {
        // Not decayed: vectors, biases, positions and the class token. Decayed: matrices and kernels, the mask
        // token and the bias tables.
        expect_groups(
            &MaskedImageModel::new(&bk, &config.with_vocab(11)).layout,
            |p| {
                p.shape.len() > 1
                    && !p.name.ends_with(".bias")
                    && !["pos_embed", "cls_token"].contains(&&*p.name)
            },
            3,
        );
    }
    // The dVAE's authors name no exception.
    expect_groups(&Dvae::new(&DvaeConfig::test()).layout, |_| true, 3);
}
