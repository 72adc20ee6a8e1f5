//! AdamW over a range of the arena, with global-norm clipping folded in, and the running average.
//!
//! ```text
//! ĝ = g · min(1, max_norm / (‖g‖ + 1e−6))
//! p ← p (1 − lr·λ)                       decoupled decay, λ and the scale of lr per segment
//! m ← β₁ m + (1 − β₁) ĝ,  v ← β₂ v + (1 − β₂) ĝ²
//! p ← p − lr · (m / (1 − β₁ᵗ)) / (√v / √(1 − β₂ᵗ) + ε)
//! ```
//! Source: Loshchilov and Hutter, arXiv 1711.05101, algorithm 2, in the order and with the ε of
//! `torch.optim.AdamW`; clipping as `torch.nn.utils.clip_grad_norm_`. A number's update reads that number
//! and the norm, so ranges give the same bits as the whole.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::Cpu;
use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Threshold, Visitor};
use crate::params::{Layout, Params};
use crate::real::Float;
use crate::simd_fn;
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};
use std::ops::Range;

/// Numbers that share a learning-rate scale and a decay: all before `end` and after the segment
/// before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// End in the arena.
    pub end: usize,
    /// Factor on the learning rate.
    pub lr_scale: f64,
    /// Weight decay λ.
    pub decay: f64,
}

/// One step's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// β₁
    pub beta1: f64,
    /// β₂
    pub beta2: f64,
    /// ε
    pub eps: f64,
    /// Number of the step t, from 1.
    pub step: u64,
    /// Bound of the gradient's norm.
    pub max_norm: Option<f64>,
}

impl AdamW {
    /// 1 − β₁ᵗ and 1 − β₂ᵗ.
    fn bias_corrections(&self) -> [f64; 2] {
        let step = i32::try_from(self.step).unwrap_or(i32::MAX);
        [self.beta1, self.beta2].map(|beta| 1.0 - beta.powi(step))
    }
}

/// Running means of the gradients and of their squares.
pub struct Moments<B: Storage> {
    /// First moments.
    pub m: Params<B>,
    /// Second moments.
    pub v: Params<B>,
}

impl<B: Storage> Moments<B> {
    /// Those before the first step: zero.
    pub fn zeros(bk: &B, layout: &Layout) -> Self {
        Self { m: Params::zeros(bk, layout), v: Params::zeros(bk, layout) }
    }
}

/// What one step does, and to which numbers.
pub struct Update<'a, B: Storage> {
    /// Settings.
    pub adamw: AdamW,
    /// Segments of the arena; they cover the range.
    pub segments: &'a [Segment],
    /// `[1]`, the norm of all gradients, needed where `max_norm` is set. Where it is given and not
    /// finite, nothing changes.
    pub norm: Option<&'a Master<B>>,
    /// The numbers in the arena.
    pub range: Range<usize>,
}

impl<B: Storage> Update<'_, B> {
    /// Panics unless the range lies in an arena of `n` numbers and in the segments.
    #[track_caller]
    fn check(&self, n: usize) {
        let Range { start, end } = self.range;
        assert!(start <= end && end <= n, "adamw: {start}..{end} of {n} parameters");
        let covered = start == end || self.segments.last().is_some_and(|s| s.end >= end);
        assert!(covered, "adamw: the segments do not cover the {end} parameters");
        let clips = self.adamw.max_norm.is_some();
        assert!(!clips || self.norm.is_some(), "adamw: max_norm needs the norm");
    }
}

/// The update of the parameters in a range.
pub trait AdamWOp: Storage {
    /// Changes weights and moments.
    fn adamw_update(
        &self,
        w: &mut Params<Self>,
        moments: &mut Moments<Self>,
        g: &Params<Self>,
        update: &Update<'_, Self>,
    );

    /// average ← decay · average + (1 − decay) · w, in a range of the arena.
    fn ema_update(
        &self,
        average: &mut Params<Self>,
        w: &Params<Self>,
        decay: f64,
        range: Range<usize>,
    );
}

/// Factors of one segment, in the arithmetic of the backend.
#[derive(Clone, Copy)]
struct Factors<T> {
    clip: T,
    keep: T,
    step_size: T,
    beta1: T,
    beta2: T,
    rest1: T,
    rest2: T,
    root2: T,
    eps: T,
}

simd_fn! {
    fn update<T>(w: &mut [T], g: &[T], m: &mut [T], v: &mut [T], f: Factors<T>) {
        let moments = m.iter_mut().zip(v.iter_mut());
        for ((w, &g), (m, v)) in w.iter_mut().zip(g).zip(moments) {
            let g = g * f.clip;
            *m = f.beta1 * *m + f.rest1 * g;
            *v = f.beta2 * *v + f.rest2 * g * g;
            *w = *w * f.keep - f.step_size * *m / ((*v).sqrt() / f.root2 + f.eps);
        }
    }
}

simd_fn! {
    fn average<T>(a: &mut [T], w: &[T], decay: T, rest: T) {
        for (a, &w) in a.iter_mut().zip(w) {
            *a = decay * *a + rest * w;
        }
    }
}

const PIECE: usize = 1 << 16;

impl<T: Scalar> AdamWOp for Cpu<T> {
    #[track_caller]
    fn adamw_update(
        &self,
        w: &mut Params<Self>,
        moments: &mut Moments<Self>,
        g: &Params<Self>,
        step: &Update<'_, Self>,
    ) {
        step.check(w.master.len());
        let (adamw, norm) = (&step.adamw, step.norm.map(|norm| norm.slice()[0].to_f64()));
        if norm.is_some_and(|norm| !norm.is_finite()) {
            return;
        }
        let clip = match (adamw.max_norm, norm) {
            (Some(max), Some(norm)) => (max / (norm + 1e-6)).min(1.0),
            _ => 1.0,
        };
        let [bias1, bias2] = adamw.bias_corrections();
        let mut start = step.range.start;
        for segment in step.segments.iter().filter(|s| s.end > step.range.start) {
            let end = segment.end.min(step.range.end);
            let lr = adamw.lr * segment.lr_scale;
            let f = Factors {
                clip: T::Master::from_f64(clip),
                keep: T::Master::from_f64(1.0 - lr * segment.decay),
                step_size: T::Master::from_f64(lr / bias1),
                beta1: T::Master::from_f64(adamw.beta1),
                beta2: T::Master::from_f64(adamw.beta2),
                rest1: T::Master::from_f64(1.0 - adamw.beta1),
                rest2: T::Master::from_f64(1.0 - adamw.beta2),
                root2: T::Master::from_f64(bias2.sqrt()),
                eps: T::Master::from_f64(adamw.eps),
            };
            let (m, v) = (&mut moments.m.master[start..end], &mut moments.v.master[start..end]);
            let moments = m.par_chunks_mut(PIECE).zip(v.par_chunks_mut(PIECE));
            let inputs = g.master[start..end].par_chunks(PIECE).zip(moments);
            let pieces = w.master[start..end].par_chunks_mut(PIECE).zip(inputs);
            pieces.for_each(|(w, (g, (m, v)))| update(w, g, m, v, f));
            start = end;
        }
        w.elem = self.narrow_copy(&w.master);
    }

    #[track_caller]
    fn ema_update(
        &self,
        average_of: &mut Params<Self>,
        w: &Params<Self>,
        decay: f64,
        range: Range<usize>,
    ) {
        let (decay, rest) = (T::Master::from_f64(decay), T::Master::from_f64(1.0 - decay));
        let inputs = w.master[range.clone()].par_chunks(PIECE);
        let pieces = average_of.master[range].par_chunks_mut(PIECE).zip(inputs);
        pieces.for_each(|(a, w)| average(a, w, decay, rest));
        average_of.elem = self.narrow_copy(&average_of.master);
    }
}

/// Three updates and running averages of one size, in ranges of about the same length.
pub struct AdamWCase {
    pub(crate) instance: &'static str,
    pub(crate) len: usize,
    pub(crate) clipped: bool,
    pub(crate) ranges: usize,
}

impl Case for AdamWCase {
    fn name(&self) -> String {
        format!("adamw/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let inputs = Inputs::new(&self.name()).master("g", &[self.len]);
        inputs.param("w", &[self.len]).without_backward()
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (n, layout) = (self.len, io.w.layout.clone());
        let g =
            Params { layout: layout.clone(), master: bk.copy(io.master("g").buf()), elem: None };
        let mut moments = Moments::zeros(bk, &layout);
        let start: Vec<B::Master> = io.w.to_host(bk);
        let mut average = Params::from_host(bk, &layout, &start);
        let norm = bk.global_norm(&g, 0..n);
        let segments = [
            Segment { end: n / 3, lr_scale: 0.5, decay: 0.0 },
            Segment { end: n, lr_scale: 1.0, decay: 0.05 },
        ];
        io.forward_begins(bk);
        for step in 1..=3 {
            let max_norm = self.clipped.then_some(0.5);
            let adamw = AdamW { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8, step, max_norm };
            let norm = self.clipped.then_some(&norm);
            for i in 0..self.ranges {
                let range = i * n / self.ranges..(i + 1) * n / self.ranges;
                let update = Update { adamw, segments: &segments, norm, range: range.clone() };
                bk.adamw_update(&mut io.w, &mut moments, &g, &update);
                bk.ema_update(&mut average, &io.w, 0.75, range);
            }
        }
        let Moments { m, v } = moments;
        io.forward_ends(bk);
        for arena in [&io.w.master, &m.master, &v.master, &average.master].map(|a| bk.copy(a)) {
            io.output(bk, &Master::new(bk, arena, &[n]));
        }
        // What matrix products read where they have a copy of their own.
        if let Some(copy) = io.w.elem.as_ref().map(|copy| bk.copy(copy)) {
            io.output(bk, &Tensor::<B>::new(bk, copy, &[n]));
        } else {
            let same = bk.copy(&io.w.master);
            io.output(bk, &Master::new(bk, same, &[n]));
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        // The longer one of the two segments.
        vec![Threshold::new("PIECE", PIECE, self.len - self.len / 3)]
    }

    fn cost(&self) -> Cost {
        let n = 3.0 * self.len as f64;
        Cost { flops_forward: 16.0 * n, elements_forward: 10.0 * n, ..Cost::default() }
    }
}

/// One number, odd with clipping, two pieces without, three ranges that cut segments, and many pieces.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, len, clipped, ranges) in [
        ("one", 1, true, 1),
        ("odd", 37, true, 1),
        ("pieces", 98_305, false, 1),
        ("ranges", 1000, true, 3),
    ] {
        v.visit(AdamWCase { instance, len, clipped, ranges });
    }
    v.visit(Large(AdamWCase { instance: "many_pieces", len: 300_001, clipped: true, ranges: 2 }));
}

/// No parameters.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(AdamWCase { instance: "empty", len: 0, clipped: true, ranges: 1 });
}

/// Three steps with the running average, over enough numbers that no cache holds them.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(AdamWCase { instance: "3x4000000", len: 4_000_000, clipped: true, ranges: 1 });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Decay, Init, Registry};

    fn params(values: &[f64]) -> Params<Cpu<f64>> {
        let mut reg = Registry::new();
        reg.add("p", &[values.len()], Decay::Yes, Init::Constant(0.0));
        Params::from_host(&Cpu::new(), &reg.finish(), values)
    }

    #[test]
    fn first_step_by_hand() {
        // At t = 1 the bias-corrected moments are ĝ and ĝ², so each step is lr · sign(ĝ) but for ε.
        let bk = Cpu::<f64>::new();
        let (mut w, g) = (params(&[1.0, -2.0, 3.0]), params(&[0.6, -0.8, 0.0]));
        let mut moments = Moments::zeros(&bk, &w.layout);
        let norm = Master::<Cpu<f64>>::from_vec(&bk, vec![1.0], &[1]);
        let segments = [
            Segment { end: 1, lr_scale: 0.5, decay: 0.0 },
            Segment { end: 3, lr_scale: 1.0, decay: 0.1 },
        ];
        let adamw =
            AdamW { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 0.0, step: 1, max_norm: Some(0.5) };
        let update = Update { adamw, segments: &segments, norm: Some(&norm), range: 0..3 };
        bk.adamw_update(&mut w, &mut moments, &g, &update);
        let Moments { m, v } = moments;
        assert!((w.master[0] - (1.0 - 0.05)).abs() < 1e-12);
        assert!((w.master[1] - (-2.0 * 0.99 + 0.1)).abs() < 1e-12);
        assert!(w.master[2].is_nan(), "0/0 with eps 0 is visible, not hidden");
        let clip = 0.5 / (1.0 + 1e-6);
        assert!((m.master[0] - 0.1 * 0.6 * clip).abs() < 1e-15);
        assert!((v.master[1] - 0.01 * (0.8 * clip) * (0.8 * clip)).abs() < 1e-15);
    }

    #[test]
    fn average_moves_towards_the_weights() {
        let bk = Cpu::<f64>::new();
        let (mut a, w) = (params(&[1.0]), params(&[3.0]));
        bk.ema_update(&mut a, &w, 0.75, 0..1);
        assert_eq!(*a.master, [1.5]);
    }

    #[test]
    fn every_number_of_every_piece_is_updated() {
        // What happens to a number depends on nothing but it: each like the same one by itself.
        let bk = Cpu::<f64>::new();
        let adamw = AdamW { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, step: 1, max_norm: None };
        let update = |w: &mut Params<Cpu<f64>>, average: &mut Params<Cpu<f64>>, g: &_| {
            let (n, mut moments) = (w.master.len(), Moments::zeros(&bk, &w.layout));
            let segments = [Segment { end: n, lr_scale: 1.0, decay: 0.1 }];
            bk.adamw_update(
                w,
                &mut moments,
                g,
                &Update { adamw, segments: &segments, norm: None, range: 0..n },
            );
            bk.ema_update(average, w, 0.75, 0..n);
            moments
        };
        let start: Vec<f64> = (0..7).map(|i| f64::from(i) - 2.5).collect();
        let [mut w, mut a] = [params(&start), params(&start)];
        let moments = update(&mut w, &mut a, &params(&start));
        let of_one = [&w.master, &a.master, &moments.m.master, &moments.v.master];
        for n in [PIECE, PIECE + 1, PIECE + 2, 4 * PIECE + 5] {
            let many: Vec<f64> = (0..n).map(|i| start[i % 7]).collect();
            let [mut w, mut a] = [params(&many), params(&many)];
            let moments = update(&mut w, &mut a, &params(&many));
            for (got, want) in
                [&w.master, &a.master, &moments.m.master, &moments.v.master].into_iter().zip(of_one)
            {
                let wrong = (0..n).find(|&i| got[i] != want[i % 7]);
                assert_eq!(wrong, None, "of {n}");
            }
        }
    }

    #[test]
    fn a_range_touches_nothing_else() {
        let bk = Cpu::<f64>::new();
        let (mut w, g) = (params(&[1.0, 2.0, 3.0]), params(&[0.5; 3]));
        let (mut moments, mut a) = (Moments::zeros(&bk, &w.layout), params(&[0.0; 3]));
        let segments = [1, 3].map(|end| Segment { end, lr_scale: end as f64, decay: 0.0 });
        let adamw = AdamW { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 0.0, step: 1, max_norm: None };
        let update = Update { adamw, segments: &segments, norm: None, range: 1..2 };
        bk.adamw_update(&mut w, &mut moments, &g, &update);
        bk.ema_update(&mut a, &w, 0.5, 1..2);
        assert!((w.master[1] - (2.0 - 0.3)).abs() < 1e-12);
        assert_eq!((w.master[0], w.master[2], a.master[1]), (1.0, 3.0, 0.5 * w.master[1]));
        let zeros = [&moments.m, &moments.v, &a].map(|p| (p.master[0], p.master[2]));
        assert_eq!(zeros, [(0.0, 0.0); 3]);
    }
}
