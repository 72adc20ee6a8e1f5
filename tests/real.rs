//! The forwards run on any `Real`: on dual numbers they give exact directional derivatives, which
//! must agree with the hand-written backwards to rounding. No step size is involved.

use beit::check::dual::Dual;
use beit::cpu::Cpu;
use beit::ops::layer_norm::{LayerNormOp, Norm};
use beit::ops::linear::{Linear, LinearOp};
use beit::ops::linear_gelu::LinearGeluOp;
use beit::params::{Decay, Init, Layout, Param, Params, Registry, expand};
use beit::rng::{Philox, Purpose};
use beit::storage::Storage;
use beit::tensor::Tensor;
use rand_distr::{Distribution, StandardNormal};

/// Seeded normal numbers.
struct Draw(Philox);

impl Draw {
    fn new(seed: u64) -> Self {
        Self(Philox::new(seed, Purpose::Check, 2, 0))
    }

    fn normal(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| StandardNormal.sample(&mut self.0)).collect()
    }
}

/// An x, a weight and a bias of an op, with a direction in which all three move together.
struct Point {
    shape: Vec<usize>,
    x: Vec<f64>,
    vx: Vec<f64>,
    layout: Layout,
    w: Vec<f64>,
    vw: Vec<f64>,
}

impl Point {
    fn new(seed: u64, x: &[usize], weight: &[usize], bias: &[usize]) -> (Self, Param, Param) {
        let mut draw = Draw::new(seed);
        let mut registry = Registry::new();
        let weight = registry.add("weight", weight, Decay::Yes, Init::Constant(0.0));
        let bias = registry.add("bias", bias, Decay::No, Init::Constant(0.0));
        let (n, p) = (x.iter().product(), weight.len() + bias.len());
        let [x_, vx] = [0, 1].map(|_| draw.normal(n));
        let layout = registry.finish();
        let [w, vw] = [0, 1].map(|_| expand(&layout, &draw.normal(p)));
        (Self { shape: x.to_vec(), x: x_, vx, layout, w, vw }, weight, bias)
    }

    fn on_f64(&self) -> (Tensor<Cpu<f64>>, Params<Cpu<f64>>) {
        let bk = Cpu::new();
        let w = Params::from_host(&bk, &self.layout, &self.w);
        (Tensor::from_vec(&bk, self.x.clone(), &self.shape), w)
    }

    fn on_dual(&self) -> (Tensor<Cpu<Dual>>, Params<Cpu<Dual>>) {
        let bk = Cpu::new();
        let seeded = |x: &[f64], v: &[f64]| -> Vec<Dual> {
            x.iter().zip(v).map(|(&x, &v)| Dual::new(x, v)).collect()
        };
        let mut w = Params::zeros(&bk, &self.layout);
        w.master = bk.upload(seeded(&self.w, &self.vw));
        (Tensor::from_vec(&bk, seeded(&self.x, &self.vx), &self.shape), w)
    }

    /// ⟨u, J v⟩ from dual numbers against ⟨Jᵀ u, v⟩ from backward, relative to Σ |uᵢ (J v)ᵢ|; and
    /// the values of both forwards against each other.
    #[track_caller]
    fn compare(
        &self,
        y: &Tensor<Cpu<f64>>,
        y_dual: &Tensor<Cpu<Dual>>,
        backward: impl FnOnce(Tensor<Cpu<f64>>, &mut Params<Cpu<f64>>) -> Tensor<Cpu<f64>>,
    ) {
        let bk = Cpu::new();
        for (y, d) in y.slice().iter().zip(y_dual.slice()) {
            assert!((y - d.value).abs() <= 1e-12 * (1.0 + y.abs()), "{y} is not {}", d.value);
        }
        let u = Draw::new(99).normal(y.len());
        let terms = || y_dual.slice().iter().zip(&u).map(|(d, u)| d.slope * u);
        let (forward, scale) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
        let mut g = Params::zeros(&bk, &self.layout);
        let dx = backward(Tensor::from_vec(&bk, u.clone(), y.shape()), &mut g);
        let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let reverse = inner(dx.slice(), &self.vx) + inner(&g.master, &self.vw);
        let error = (forward - reverse).abs() / scale;
        assert!(error <= 1e-12, "dual {forward}, backward {reverse}, relative error {error:e}");
        assert!(scale > 1e-3, "nothing moved");
    }
}

#[test]
fn linear_agrees_with_dual_numbers() {
    let (point, weight, bias) = Point::new(1, &[7, 5], &[3, 5], &[3]);
    let (bk, bd) = (Cpu::<f64>::new(), Cpu::<Dual>::new());
    let ((x, w), (xd, wd)) = (point.on_f64(), point.on_dual());
    let p = Linear { weight, bias: Some(bias) };
    let y = bk.linear_forward(&x, &w, &p);
    let yd = bd.linear_forward(&xd, &wd, &p);
    point.compare(&y, &yd, |dy, g| bk.linear_backward(&x, &w, &p, &dy, g));
}

#[test]
fn layer_norm_agrees_with_dual_numbers() {
    let (point, weight, bias) = Point::new(2, &[3, 5, 37], &[37], &[37]);
    let (bk, bd) = (Cpu::<f64>::new(), Cpu::<Dual>::new());
    let ((x, w), (xd, wd)) = (point.on_f64(), point.on_dual());
    let norm = Norm { weight, bias, eps: 1e-6 };
    let (y, stats) = bk.layer_norm_forward(&x, &w, &norm);
    let (yd, _) = bd.layer_norm_forward(&xd, &wd, &norm);
    point.compare(&y, &yd, |dy, g| bk.layer_norm_backward(&x, &stats, &w, &norm, &dy, g));
}

#[test]
fn linear_gelu_agrees_with_dual_numbers() {
    let (point, weight, bias) = Point::new(3, &[6, 5], &[19, 5], &[19]);
    let (bk, bd) = (Cpu::<f64>::new(), Cpu::<Dual>::new());
    let ((x, w), (xd, wd)) = (point.on_f64(), point.on_dual());
    let p = Linear { weight, bias: Some(bias) };
    let (y, a) = bk.linear_gelu_forward(&x, &w, &p);
    let (yd, _) = bd.linear_gelu_forward(&xd, &wd, &p);
    point.compare(&y, &yd, |dy, g| bk.linear_gelu_backward(&x, &a, &w, &p, dy, g));
}
