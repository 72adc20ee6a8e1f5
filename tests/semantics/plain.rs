//! Optimizer and schedules number by number.

use std::f64::consts::PI;

/// Settings of a step; the decay is that of each number.
pub struct StepRule<'a> {
    pub lr: f64,
    pub decay: &'a [f64],
    pub betas: (f64, f64),
    pub eps: f64,
    pub clip: Option<f64>,
    pub ema: f64,
}

/// Weights, moments and running average.
#[derive(Clone)]
pub struct Optimizer {
    pub w: Vec<f64>,
    pub m: Vec<f64>,
    pub v: Vec<f64>,
    pub average: Vec<f64>,
    pub done: u64,
}

impl Optimizer {
    pub fn new(w: Vec<f64>) -> Self {
        let zeros = vec![0.0; w.len()];
        Self { average: w.clone(), w, m: zeros.clone(), v: zeros, done: 0 }
    }

    /// One step of AdamW (arXiv 1711.05101, algorithm 2) on clipped gradients, with the running average after
    /// it; the norm before clipping. `scale` is the factor on the rate of each number.
    pub fn step(&mut self, g: &[f64], scale: &[f64], rule: &StepRule) -> f64 {
        let norm = g.iter().map(|g| g * g).sum::<f64>().sqrt();
        let clip = rule.clip.map_or(1.0, |max| (max / (norm + 1e-6)).min(1.0));
        let (beta1, beta2) = rule.betas;
        let t = (self.done + 1) as i32;
        for i in 0..g.len() {
            let (g, lr) = (g[i] * clip, rule.lr * scale[i]);
            self.w[i] -= lr * rule.decay[i] * self.w[i];
            self.m[i] = beta1 * self.m[i] + (1.0 - beta1) * g;
            self.v[i] = beta2 * self.v[i] + (1.0 - beta2) * g * g;
            let (m, v) = (self.m[i] / (1.0 - beta1.powi(t)), self.v[i] / (1.0 - beta2.powi(t)));
            self.w[i] -= lr * m / (v.sqrt() + rule.eps);
        }
        self.follow(rule.ema);
        norm
    }

    /// The running average and the count of a step.
    pub fn follow(&mut self, ema: f64) {
        let t = self.done as f64;
        let decay = ema.min((1.0 + t) / (10.0 + t));
        for (a, w) in self.average.iter_mut().zip(&self.w) {
            *a += (1.0 - decay) * (w - *a);
        }
        self.done += 1;
    }
}

/// The table of a warm-up and a cosine: `warmup` even steps from 0 to `peak`, both included, then
/// end + (peak − end)(1 + cos(πi/K))/2 for i = 0 .. K − 1.
pub fn cosine_table(peak: f64, end: f64, warmup: u64, total: u64) -> Vec<f64> {
    let rising =
        (0..warmup).map(|i| if warmup == 1 { 0.0 } else { peak * i as f64 / (warmup - 1) as f64 });
    let k = total - warmup;
    let falling =
        (0..k).map(|i| end + 0.5 * (peak - end) * (1.0 + (PI * i as f64 / k as f64).cos()));
    rising.chain(falling).collect()
}

/// v₁ + (v₀ − v₁)(1 + cos(πt/T))/2 up to T, v₁ from there.
pub fn half_cosine(v0: f64, v1: f64, t: f64, end: f64) -> f64 {
    if t >= end { v1 } else { v1 + 0.5 * (v0 - v1) * (1.0 + (PI * t / end).cos()) }
}

/// Panics where two lists of numbers are further apart than `relative` of each and `floor`.
#[track_caller]
pub fn expect_near(what: &str, got: &[f64], want: &[f64], relative: f64, floor: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        assert!(
            (a - b).abs() <= relative * b.abs() + floor,
            "{what}, number {i}: {a}, expected {b}"
        );
    }
}
