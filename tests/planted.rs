//! The checker is itself checked: mistakes that people make in backward passes are planted between
//! a right op and the checker, and every one must be rejected. For each group a control shows that
//! the same wrapper without damage passes.
//!
//! No op has a switch for this. [`Planted`] runs the right op and then damages what it returned as
//! the mistake would; attention, which needs a mistake in its middle, is written out here.

use beit::check::gradients::{Report, Variable, check};
use beit::ops::Backend;
use beit::ops::case::{Case, Cost, Inputs, Io};
use beit::ops::layer_norm::Norm;
use beit::ops::linear::Linear;
use beit::params::{Params, expand};
use beit::selfcheck::check_case;
use beit::tensor::{Master, Tensor};
use libtest_mimic::{Arguments, Failed, Trial};
use std::f64::consts::{FRAC_1_SQRT_2, PI};
use std::sync::{Arc, Mutex};

/// Rows, inputs and outputs of the damaged ops: all different, so that a swap shows.
const R: usize = 7;
const I: usize = 5;
const O: usize = 3;
/// Large, so that its place in the formula matters.
const EPS: f64 = 0.5;

#[derive(Clone, Copy, PartialEq)]
enum Op {
    Linear,
    LinearGelu,
    LayerNorm,
}

/// What a backward pass read and what it returned, open to damage.
struct Pass {
    x: Vec<f64>,
    weight: Vec<f64>,
    /// Gradient of y.
    dy: Vec<f64>,
    /// Pre-activation of `linear_gelu`.
    a: Vec<f64>,
    dx: Vec<f64>,
    dw: Vec<f64>,
    db: Vec<f64>,
    /// Write parameter gradients over what was there instead of adding them.
    assign: bool,
    /// What forward returned.
    y: Vec<f64>,
}

impl Pass {
    /// dx, dW and db of the linear layer from the gradient of its result.
    fn linear_from(&mut self, da: &[f64]) {
        self.dx = (0..R * I)
            .map(|k| (0..O).map(|o| da[k / I * O + o] * self.weight[o * I + k % I]).sum())
            .collect();
        self.dw = (0..O * I)
            .map(|k| (0..R).map(|r| da[r * O + k / I] * self.x[r * I + k % I]).sum())
            .collect();
        self.db = (0..O).map(|o| (0..R).map(|r| da[r * O + o]).sum()).collect();
    }

    /// The linear layer's gradients, had the derivative of GELU been `slope(a)`.
    fn gelu_slope(&mut self, slope: fn(f64) -> f64) {
        let da: Vec<f64> = self.dy.iter().zip(&self.a).map(|(dy, &a)| dy * slope(a)).collect();
        self.linear_from(&da);
    }

    /// dx row by row, had layer norm's backward been `row`.
    fn norm_rows(&mut self, eps: f64, row: fn(&NormRow) -> Vec<f64>) {
        self.dx = (0..R).flat_map(|r| row(&self.norm_row(r, eps))).collect();
    }

    fn norm_row(&self, r: usize, eps: f64) -> NormRow {
        let x = &self.x[r * I..(r + 1) * I];
        let mean = average(x);
        let centred: Vec<f64> = x.iter().map(|x| x - mean).collect();
        let variance = average(&products(&centred, &centred));
        let rstd = 1.0 / (variance + eps).sqrt();
        let xhat = centred.iter().map(|c| c * rstd).collect();
        let dy = self.dy[r * I..(r + 1) * I].to_vec();
        NormRow { h: products(&dy, &self.weight), dy, xhat, rstd, variance }
    }
}

/// One row of layer norm's backward.
struct NormRow {
    dy: Vec<f64>,
    h: Vec<f64>,
    xhat: Vec<f64>,
    rstd: f64,
    variance: f64,
}

impl NormRow {
    /// r (h − mean · a − xhat · mean(h ⊙ xhat) · b); a = b = 1 is right.
    fn dx(&self, h: &[f64], rstd: f64, a: f64, b: f64) -> Vec<f64> {
        let (mean_h, mean_hx) = (a * average(h), b * average(&products(h, &self.xhat)));
        h.iter().zip(&self.xhat).map(|(h, xhat)| rstd * (h - mean_h - xhat * mean_hx)).collect()
    }
}

fn average(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

fn products(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}

/// A right op with damage behind it: one type for all kinds of damage, so that one case is compiled.
struct Planted {
    op: Op,
    damage: Box<dyn Fn(&mut Pass) + Send + Sync>,
}

impl Planted {
    fn new(op: Op, damage: impl Fn(&mut Pass) + Send + Sync + 'static) -> Self {
        Self { op, damage: Box::new(damage) }
    }
}

impl Case for Planted {
    fn name(&self) -> String {
        "planted/case".into()
    }

    fn inputs(&self) -> Inputs {
        let inputs = Inputs::new("planted");
        match self.op {
            Op::LayerNorm => inputs.master("x", &[R, I]).param("weight", &[I]).param("bias", &[I]),
            _ => inputs.elem("x", &[R, I]).param("weight", &[O, I]).param("bias", &[O]),
        }
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (weight, bias) = (io.param("weight"), io.param("bias"));
        let host = |w: &Params<B>| w.to_host(bk).into_iter().map(beit::real::Float::to_f64);
        let values: Vec<f64> = host(&io.w).collect();
        // Gradients of this pass alone; what was there before is added below.
        let mut g = Params::zeros(bk, &io.w.layout);
        let wants = io.wants_backward();
        let norm = Norm { weight: weight.clone(), bias: bias.clone(), eps: EPS };
        let p = Linear { weight: weight.clone(), bias: Some(bias.clone()) };
        let (x, y, a, dy, dx, shape);
        if self.op == Op::LayerNorm {
            let input = io.master("x");
            let (out, stats) = bk.layer_norm_forward(&input, &io.w, &norm);
            io.output(bk, &out);
            if !wants {
                return;
            }
            let up = io.upstream(bk, 0);
            let back = bk.layer_norm_backward(&input, &stats, &io.w, &norm, &up, &mut g);
            (x, y, a, dy) = (input.to_f64(bk), out.to_f64(bk), Vec::new(), up.to_f64(bk));
            (dx, shape) = (back.to_f64(bk), input.shape().to_vec());
        } else {
            let input = io.elem("x");
            let (out, pre) = if self.op == Op::Linear {
                let out = bk.linear_forward(&input, &io.w, &p);
                (out, None)
            } else {
                let (out, pre) = bk.linear_gelu_forward(&input, &io.w, &p);
                (out, Some(pre))
            };
            io.output(bk, &out);
            if !wants {
                return;
            }
            let up = io.upstream::<B::Elem>(bk, 0);
            dy = up.to_f64(bk);
            let back = match &pre {
                None => bk.linear_backward(&input, &io.w, &p, &up, &mut g),
                Some(a) => bk.linear_gelu_backward(&input, a, &io.w, &p, up, &mut g),
            };
            a = pre.map(|a| a.to_f64(bk)).unwrap_or_default();
            (x, y) = (input.to_f64(bk), out.to_f64(bk));
            (dx, shape) = (back.to_f64(bk), input.shape().to_vec());
        }
        let fresh: Vec<f64> = host(&g).collect();
        let mut pass = Pass {
            x,
            weight: values[weight.range.clone()].to_vec(),
            dy,
            a,
            dx,
            dw: fresh[weight.range.clone()].to_vec(),
            db: fresh[bias.range.clone()].to_vec(),
            assign: false,
            y,
        };
        (self.damage)(&mut pass);
        if !pass.dx.is_empty() {
            let dx: Master<B> = Tensor::from_f64(bk, &pass.dx, &shape);
            io.grad(bk, "x", &dx);
        }
        let own = expand(&io.g.layout, &[pass.dw, pass.db].concat());
        let pairs = host(&io.g).zip(own);
        let after: Vec<f64> = pairs.map(|(b, g)| if pass.assign { g } else { b + g }).collect();
        io.g = Params::from_host(bk, &io.g.layout, &after);
    }

    fn cost(&self) -> Cost {
        Cost::default()
    }
}

/// A linear layer with a weight of 10,000 elements, the gradient of one of which is too large by a part
/// in ten million: too little for differences, not for exact derivatives.
struct Nudged(Option<usize>);

impl Case for Nudged {
    fn name(&self) -> String {
        "nudged/case".into()
    }

    fn inputs(&self) -> Inputs {
        Inputs::new("nudged").elem("x", &[R, 100]).param("weight", &[100, 100])
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (x, weight) = (io.elem("x"), io.param("weight"));
        let p = Linear { weight: weight.clone(), bias: None };
        io.output(bk, &bk.linear_forward(&x, &io.w, &p));
        if io.wants_backward() {
            let mut g = Params::zeros(bk, &io.w.layout);
            let dy = io.upstream(bk, 0);
            let dx = bk.linear_backward(&x, &io.w, &p, &dy, &mut g);
            io.grad(bk, "x", &dx);
            let host = |g: &Params<B>| -> Vec<f64> {
                g.to_host(bk).into_iter().map(beit::real::Float::to_f64).collect()
            };
            let mut dw = host(&g);
            if let Some(i) = self.0 {
                dw[i] *= 1.0 + 1e-7;
            }
            let sum: Vec<f64> = host(&io.g).iter().zip(dw).map(|(before, g)| before + g).collect();
            io.g = Params::from_host(bk, &io.g.layout, &sum);
        }
    }

    fn cost(&self) -> Cost {
        Cost::default()
    }
}

/// The error must be found, and named by its index.
fn nudged(t: &mut Trials) {
    t.control("nudged", || check_case(&Nudged(None)));
    for i in [0, 4321, 9999] {
        t.0.push(Trial::test(format!("located::weight_{i}"), move || {
            let report = check_case(&Nudged(Some(i)));
            let want = format!("weight[{},{}]: analytic", i / 100, i % 100);
            let text = report.failures(8).join("\n");
            if report.passed() || !text.contains(&want) {
                return Err(format!("`{want}` is not in: {text}").into());
            }
            Ok(())
        }));
    }
}

/// One head of attention over N tokens, the parts of its backward apart.
const N: usize = 4;
const D: usize = 3;

struct Attention {
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    /// softmax(q kᵀ / √D + bias), `[N,N]`.
    probs: Vec<f64>,
}

impl Attention {
    fn new(values: &[Vec<f64>]) -> Self {
        let [q, k, v, bias] = values else { panic!("four variables") };
        let mut probs = Vec::new();
        for i in 0..N {
            let score = |j: usize| {
                let dot: f64 = (0..D).map(|c| q[i * D + c] * k[j * D + c]).sum();
                (dot / (D as f64).sqrt() + bias[i * N + j]).exp()
            };
            let row: Vec<f64> = (0..N).map(score).collect();
            let sum: f64 = row.iter().sum();
            probs.extend(row.iter().map(|e| e / sum));
        }
        Self { q: q.clone(), k: k.clone(), v: v.clone(), probs }
    }

    fn out(&self) -> Vec<f64> {
        let row = |k: usize| (0..N).map(move |j| (k / D * N + j, j * D + k % D));
        (0..N * D).map(|k| row(k).map(|(p, v)| self.probs[p] * self.v[v]).sum()).collect()
    }

    /// dprobs = dout vᵀ
    fn dprobs(&self, dout: &[f64]) -> Vec<f64> {
        let term = |i: usize, j: usize, c: usize| dout[i * D + c] * self.v[j * D + c];
        (0..N * N).map(|k| (0..D).map(|c| term(k / N, k % N, c)).sum()).collect()
    }

    /// dscores = probs (dprobs − correction · Σ_j probs dprobs); 1 is right.
    fn dscores(&self, dout: &[f64], correction: f64) -> Vec<f64> {
        let dprobs = self.dprobs(dout);
        let dot =
            |i: usize| -> f64 { (i * N..(i + 1) * N).map(|k| self.probs[k] * dprobs[k]).sum() };
        (0..N * N).map(|k| self.probs[k] * (dprobs[k] - correction * dot(k / N))).collect()
    }

    /// Gradients of q, k, v and bias.
    fn gradients(&self, dout: &[f64], dscores: &[f64], scale: f64) -> Vec<Vec<f64>> {
        let sum = |term: &dyn Fn(usize, usize, usize) -> f64| -> Vec<f64> {
            (0..N * D).map(|k| (0..N).map(|j| term(k / D, j, k % D)).sum()).collect()
        };
        let dq = sum(&|i, j, c| scale * dscores[i * N + j] * self.k[j * D + c]);
        let dk = sum(&|j, i, c| scale * dscores[i * N + j] * self.q[i * D + c]);
        let dv = sum(&|j, i, c| self.probs[i * N + j] * dout[i * D + c]);
        vec![dq, dk, dv, dscores.to_vec()]
    }
}

/// Runs the checker on attention with a backward made from its parts.
fn attention(backward: impl Fn(&Attention, &[f64]) -> Vec<Vec<f64>>) -> Report {
    let variables =
        [("q", [N, D]), ("k", [N, D]), ("v", [N, D]), ("bias", [N, N])].map(|(n, s)| {
            let wave =
                |i: usize| ((i * 7 + n.len() * 3 + usize::from(n.as_bytes()[0])) as f64).sin();
            Variable::new(n, &s, (0..s[0] * s[1]).map(wave).collect())
        });
    let forward = |values: &[Vec<f64>]| Attention::new(values).out();
    check("attention", &variables, forward, |values, dout| backward(&Attention::new(values), dout))
}

const SCALE: f64 = 0.577_350_269_189_625_8; // 1/√3

/// y = x + max(x, 0)³ over many elements: a residual with a branch, large enough to be sampled.
fn residual(len: usize, damage: impl Fn(&mut Vec<f64>, &[f64], &[f64])) -> Report {
    let x = (0..len).map(|i| (i as f64 * 0.7).sin() * 2.0 + 0.01).collect();
    let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x + x.max(0.0).powi(3)).collect();
    check("residual", &[Variable::new("x", &[len], x)], forward, |v, dy| {
        let slope = |x: f64| 1.0 + 3.0 * x.max(0.0).powi(2);
        let mut dx = v[0].iter().zip(dy).map(|(&x, dy)| dy * slope(x)).collect();
        damage(&mut dx, &v[0], dy);
        vec![dx]
    })
}

fn cdf(a: f64) -> f64 {
    0.5 * (1.0 + libm::erf(a * FRAC_1_SQRT_2))
}

fn pdf(a: f64) -> f64 {
    (-0.5 * a * a).exp() / (2.0 * PI).sqrt()
}

/// All trials: of each the checker is asked, and must find or not find something.
#[derive(Default)]
struct Trials(Vec<Trial>);

impl Trials {
    fn add(&mut self, name: String, good: bool, run: impl FnOnce() -> Report + Send + 'static) {
        self.0.push(Trial::test(name, move || {
            let report = run();
            match (report.passed(), good) {
                (true, true) => Ok(()),
                (false, false) if !report.failures(1).is_empty() => Ok(()),
                (true, false) => Err(Failed::from("the checker did not notice")),
                _ => Err(Failed::from(report.failures(8).join("\n"))),
            }
        }));
    }

    /// A mistake behind a right op.
    fn op(&mut self, op: Op, mistake: &str, damage: impl Fn(&mut Pass) + Send + Sync + 'static) {
        let name = match op {
            Op::Linear => "linear",
            Op::LinearGelu => "linear_gelu",
            Op::LayerNorm => "layer_norm",
        };
        self.add(format!("rejected::{name}/{mistake}"), false, move || {
            check_case(&Planted::new(op, damage))
        });
    }

    fn run(&mut self, mistake: &str, run: impl FnOnce() -> Report + Send + 'static) {
        self.add(format!("rejected::{mistake}"), false, run);
    }

    fn control(&mut self, name: &str, run: impl FnOnce() -> Report + Send + 'static) {
        self.add(format!("control::{name}"), true, run);
    }
}

fn controls(t: &mut Trials) {
    for (name, op) in
        [("linear", Op::Linear), ("linear_gelu", Op::LinearGelu), ("layer_norm", Op::LayerNorm)]
    {
        t.control(name, move || check_case(&Planted::new(op, |_| {})));
    }
    // The formulas written out here are right where they are not damaged.
    t.control("linear_rewritten", || {
        let damage = |p: &mut Pass| p.linear_from(&p.dy.clone());
        check_case(&Planted::new(Op::Linear, damage))
    });
    t.control("linear_gelu_rewritten", || {
        let damage = |p: &mut Pass| p.gelu_slope(|a| cdf(a) + a * pdf(a));
        check_case(&Planted::new(Op::LinearGelu, damage))
    });
    t.control("layer_norm_rewritten", || {
        let damage = |p: &mut Pass| p.norm_rows(EPS, |r| r.dx(&r.h, r.rstd, 1.0, 1.0));
        check_case(&Planted::new(Op::LayerNorm, damage))
    });
    t.control("attention", || attention(|a, dout| a.gradients(dout, &a.dscores(dout, 1.0), SCALE)));
    t.control("residual", || residual(9, |_, _, _| {}));
    t.control("residual_large", || residual(10_000, |_, _, _| {}));
}

fn linear(t: &mut Trials) {
    let op = Op::Linear;
    t.op(op, "wrong_factor", |p| p.dx.iter_mut().for_each(|g| *g *= 2.0));
    t.op(op, "factor_wrong_by_1e-5", |p| p.dw.iter_mut().for_each(|g| *g *= 1.0 + 1e-5));
    t.op(op, "sign", |p| p.dx.iter_mut().for_each(|g| *g = -*g));
    t.op(op, "transposed_weight_gradient", |p| {
        p.dw = (0..O * I).map(|k| p.dw[k % O * I + k / O]).collect();
    });
    t.op(op, "transposed_index", |p| {
        let term = |r: usize, i: usize, o: usize| p.dy[r * O + o] * p.weight[i * O + o];
        p.dx = (0..R * I).map(|k| (0..O).map(|o| term(k / I, k % I, o)).sum()).collect();
    });
    t.op(op, "assigned_instead_of_added", |p| p.assign = true);
    t.op(op, "missing_bias_gradient", |p| p.db.fill(0.0));
    t.op(op, "missing_input_gradient", |p| p.dx.clear());
    t.op(op, "not_a_number", |p| p.db[0] = f64::NAN);
    t.op(op, "off_by_one_row", |p| p.dx.rotate_right(I));
    t.op(op, "last_row_skipped", |p| p.dx[(R - 1) * I..].fill(0.0));
    t.op(op, "last_row_skipped_in_the_sum", |p| {
        for o in 0..O {
            p.db[o] -= p.dy[(R - 1) * O + o];
        }
    });
    t.op(op, "forward_read_as_gradient", |p| p.linear_from(&p.y.clone()));
    t.op(op, "upstream_taken_as_ones", |p| p.linear_from(&[1.0; R * O]));
    t.op(op, "averaged_over_rows", |p| p.dw.iter_mut().for_each(|g| *g /= R as f64));
    t.op(op, "clipped_upstream", |p| {
        // Right for gradients of ordinary size.
        let clipped: Vec<f64> = p.dy.iter().map(|g| g.clamp(-20.0, 20.0)).collect();
        p.linear_from(&clipped);
    });
    let kept: Arc<Mutex<Option<Vec<f64>>>> = Arc::default();
    t.op(op, "stale_buffer", move |p| {
        // Right the first time, and that gradient again at every later call.
        p.dx = kept.lock().unwrap().get_or_insert_with(|| p.dx.clone()).clone();
    });
    let total: Arc<Mutex<Vec<f64>>> = Arc::new(Mutex::new(vec![0.0; R * I]));
    t.op(op, "buffer_not_cleared", move |p| {
        let mut total = total.lock().unwrap();
        total.iter_mut().zip(&p.dx).for_each(|(t, g)| *t += g);
        p.dx = total.clone();
    });
    t.op(op, "differs_between_threads", |p| {
        // What a sum in the order of the threads does: a last bit that depends on their number.
        if rayon::current_num_threads() == 4 {
            p.dw[0] = p.dw[0].next_up();
        }
    });
}

fn layer_norm(t: &mut Trials) {
    let op = Op::LayerNorm;
    t.op(op, "dropped_mean_term", |p| p.norm_rows(EPS, |r| r.dx(&r.h, r.rstd, 0.0, 1.0)));
    t.op(op, "dropped_variance_term", |p| p.norm_rows(EPS, |r| r.dx(&r.h, r.rstd, 1.0, 0.0)));
    t.op(op, "weight_forgotten", |p| p.norm_rows(EPS, |r| r.dx(&r.dy, r.rstd, 1.0, 1.0)));
    t.op(op, "eps_outside_the_root", |p| {
        p.norm_rows(EPS, |r| r.dx(&r.h, 1.0 / (r.variance.sqrt() + EPS), 1.0, 1.0));
    });
    t.op(op, "eps_forgotten", |p| p.norm_rows(0.0, |r| r.dx(&r.h, r.rstd, 1.0, 1.0)));
    t.op(op, "unbiased_variance", |p| {
        p.norm_rows(EPS, |r| {
            let n = I as f64;
            r.dx(&r.h, 1.0 / (r.variance * n / (n - 1.0) + EPS).sqrt(), 1.0, 1.0)
        });
    });
    t.op(op, "input_not_normalised", |p| {
        p.dw = (0..I).map(|i| (0..R).map(|r| p.dy[r * I + i] * p.x[r * I + i]).sum()).collect();
    });
    t.op(op, "weight_and_bias_swapped", |p| std::mem::swap(&mut p.dw, &mut p.db));
    t.op(op, "input_gradient_added_twice", |p| p.dx.iter_mut().for_each(|g| *g += *g));
}

fn linear_gelu(t: &mut Trials) {
    let op = Op::LinearGelu;
    t.op(op, "missing_sqrt_2", |p| p.gelu_slope(|a| 0.5 * (1.0 + libm::erf(a)) + a * pdf(a)));
    t.op(op, "dropped_density_term", |p| p.gelu_slope(cdf));
    t.op(op, "missing_branch_below_0", |p| {
        p.gelu_slope(|a| if a > 0.0 { cdf(a) + a * pdf(a) } else { 0.0 });
    });
    t.op(op, "tanh_form_in_backward", |p| {
        p.gelu_slope(|a| {
            let c = (2.0 / PI).sqrt();
            let t = (c * (a + 0.044_715 * a * a * a)).tanh();
            0.5 * (1.0 + t) + 0.5 * a * (1.0 - t * t) * c * (1.0 + 3.0 * 0.044_715 * a * a)
        });
    });
    t.op(op, "activation_skipped", |p| p.linear_from(&p.dy.clone()));
    t.op(op, "result_for_preactivation", |p| {
        let slope = |y: f64| cdf(y) + y * pdf(y);
        let da: Vec<f64> = p.dy.iter().zip(&p.y).map(|(dy, &y)| dy * slope(y)).collect();
        p.linear_from(&da);
    });
}

fn written_out(t: &mut Trials) {
    t.run("attention/missing_softmax_correction", || {
        attention(|a, dout| a.gradients(dout, &a.dscores(dout, 0.0), SCALE))
    });
    t.run("attention/scale_forgotten", || {
        attention(|a, dout| a.gradients(dout, &a.dscores(dout, 1.0), 1.0))
    });
    t.run("attention/q_and_k_swapped", || {
        attention(|a, dout| {
            let mut g = a.gradients(dout, &a.dscores(dout, 1.0), SCALE);
            g.swap(0, 1);
            g
        })
    });
    t.run("attention/scores_transposed", || {
        attention(|a, dout| {
            let ds = a.dscores(dout, 1.0);
            let transposed: Vec<f64> = (0..N * N).map(|k| ds[k % N * N + k / N]).collect();
            let mut g = a.gradients(dout, &transposed, SCALE);
            g[3] = ds;
            g
        })
    });
    t.run("attention/bias_gradient_scaled", || {
        attention(|a, dout| {
            let mut g = a.gradients(dout, &a.dscores(dout, 1.0), SCALE);
            g[3].iter_mut().for_each(|g| *g *= SCALE);
            g
        })
    });
    t.run("attention/one_gradient_too_few", || {
        attention(|a, dout| {
            let mut g = a.gradients(dout, &a.dscores(dout, 1.0), SCALE);
            g.pop();
            g
        })
    });
    t.run("residual/missing_branch", || residual(9, |dx, _, dy| dx.copy_from_slice(dy)));
    t.run("residual/missing_skip", || {
        residual(9, |dx, _, dy| dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx -= dy))
    });
    t.run("residual/wrong_length", || residual(9, |dx, _, _| dx.truncate(8)));
    t.run("residual/infinite", || residual(9, |dx, _, _| dx[4] = f64::INFINITY));
    // Few of 10,000 elements are moved one by one: the rest is left to the directions.
    t.run("residual_large/one_element_missing", || residual(10_000, |dx, _, _| dx[4321] = 0.0));
    t.run("residual_large/a_thousandth_off_in_a_hundredth", || {
        residual(10_000, |dx, _, _| dx[5000..5100].iter_mut().for_each(|g| *g *= 1.001))
    });
    t.run("residual_large/small_gradients_dropped", || {
        // Less than a thousandth of the largest gradient, and one in a few hundred elements.
        residual(10_000, |dx, _, _| {
            let largest = dx.iter().fold(0.0f64, |m, g| m.max(g.abs()));
            for g in dx.iter_mut().filter(|g| g.abs() < 1e-3 * largest) {
                *g = 0.0;
            }
        })
    });
    // A function whose gradients are all far below any fixed floor.
    t.run("tiny_scale/wrong_factor", || {
        let x = Variable::new("x", &[3], vec![0.3, -0.4, 1.2]);
        let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| 1e-9 * x.sin()).collect();
        check("tiny_scale", &[x], forward, |v, dy| {
            vec![v[0].iter().zip(dy).map(|(x, dy)| 1.01e-9 * dy * x.cos()).collect()]
        })
    });
}

fn main() {
    let mut trials = Trials::default();
    controls(&mut trials);
    linear(&mut trials);
    layer_norm(&mut trials);
    linear_gelu(&mut trials);
    written_out(&mut trials);
    nudged(&mut trials);
    libtest_mimic::run(&Arguments::from_args(), trials.0).exit();
}
