//! Gradients against finite differences, in f64.
//!
//! For outputs y(x) and a *random* upstream gradient u, the checked function is L = Σ u·y (never a
//! plain sum: under a sum, softmax has no gradient at all). The difference quotient is the 4-point
//! stencil (8 (L₊₁ − L₋₁) − (L₊₂ − L₋₂)) / 12h with h = 1e-3, whose error is of order h⁴. Every
//! element of a small tensor is moved by itself; of a large one a seeded sample and, in addition,
//! all elements at once along random directions, so that no element is left out.

use crate::case::{Case, Inputs, Io};
use crate::cpu::Cpu;
use crate::rng::{Philox, Purpose};
use rand_distr::{Distribution, StandardNormal};

/// Step of the difference quotient.
pub const STEP: f64 = 1e-3;
/// Largest relative error that passes.
pub const LIMIT: f64 = 1e-6;
/// Tensors up to this size are moved element by element.
const DENSE: usize = 96;
/// Elements of a larger tensor that are moved by themselves.
const SAMPLES: usize = 12;
/// Random directions along which a larger tensor is moved.
const DIRECTIONS: usize = 2;

/// What was compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// One element, by its index along each axis.
    Element(Vec<usize>),
    /// All elements of the tensor along seeded random direction number n.
    Direction(usize),
}

/// One comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Input or parameter.
    pub tensor: String,
    /// Where in it.
    pub place: Place,
    /// What backward returned.
    pub analytic: f64,
    /// What the differences say.
    pub numeric: f64,
    /// |a − n| / max(|a|, |n|, floor); infinite where one of the two is not finite.
    pub error: f64,
}

/// All comparisons of one case.
#[derive(Clone, Debug)]
pub struct Report {
    /// Name of the case.
    pub case: String,
    /// One entry per comparison.
    pub comparisons: Vec<Comparison>,
    /// What is wrong beside the numbers: a gradient that is missing or has the wrong length.
    pub faults: Vec<String>,
}

impl Report {
    /// The comparison with the largest error.
    pub fn worst(&self) -> Option<&Comparison> {
        self.comparisons.iter().max_by(|a, b| a.error.total_cmp(&b.error))
    }

    /// Whether something was compared and everything agrees within [`LIMIT`].
    pub fn passed(&self) -> bool {
        self.faults.is_empty()
            && !self.comparisons.is_empty()
            && self.comparisons.iter().all(|c| c.error <= LIMIT)
    }

    /// One line per fault and failed comparison, at most `most`.
    pub fn failures(&self, most: usize) -> Vec<String> {
        let wrong = self.comparisons.iter().filter(|c| !(c.error <= LIMIT));
        let lines = wrong.map(|c| {
            format!(
                "{}: {} {}: analytic {:e}, numeric {:e}, relative error {:.1e}",
                self.case, c.tensor, c.place, c.analytic, c.numeric, c.error
            )
        });
        self.faults.iter().map(|f| format!("{}: {f}", self.case)).chain(lines).take(most).collect()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Element(index) => write!(f, "{index:?}"),
            Self::Direction(n) => write!(f, "along random direction {n}"),
        }
    }
}

/// |a − n| / max(|a|, |n|, floor); not finite counts as infinitely wrong.
pub fn relative_error(analytic: f64, numeric: f64, floor: f64) -> f64 {
    if !(analytic.is_finite() && numeric.is_finite()) {
        return f64::INFINITY;
    }
    (analytic - numeric).abs() / analytic.abs().max(numeric.abs()).max(floor)
}

/// The function under test: inputs to outputs, and with upstream gradients also to gradients.
struct Subject<'a, C> {
    case: &'a C,
    bk: Cpu<f64>,
    upstream: Vec<Vec<f64>>,
}

impl<C: Case> Subject<'_, C> {
    fn loss(&self, inputs: &Inputs) -> f64 {
        let mut io = Io::new(&self.bk, inputs);
        self.case.run(&self.bk, &mut io);
        let terms = io.outputs.iter().zip(&self.upstream);
        terms.map(|(y, u)| y.iter().zip(u).map(|(y, u)| y * u).sum::<f64>()).sum()
    }

    /// dL/dt along `direction` of tensor `t` by the 4-point stencil.
    fn difference(&self, inputs: &Inputs, at: &Target, direction: &[(usize, f64)]) -> f64 {
        let moved = |t: f64| {
            let mut inputs = inputs.clone();
            let values = at.values_mut(&mut inputs);
            for &(i, d) in direction {
                values[i] += t * STEP * d;
            }
            self.loss(&inputs)
        };
        (8.0 * (moved(1.0) - moved(-1.0)) - (moved(2.0) - moved(-2.0))) / (12.0 * STEP)
    }
}

/// One differentiable tensor: an input or a parameter.
struct Target {
    name: String,
    shape: Vec<usize>,
    source: From,
}

enum From {
    Input(usize),
    Param(std::ops::Range<usize>),
}

impl Target {
    fn values_mut<'a>(&self, inputs: &'a mut Inputs) -> &'a mut [f64] {
        match &self.source {
            From::Input(i) => &mut inputs.tensors[*i].values,
            From::Param(range) => &mut inputs.values[range.clone()],
        }
    }

    fn index(&self, mut flat: usize) -> Vec<usize> {
        let mut index = vec![0; self.shape.len()];
        for (slot, &len) in index.iter_mut().zip(&self.shape).rev() {
            *slot = flat % len;
            flat /= len;
        }
        index
    }
}

/// Checks every differentiable input and every parameter of `case`.
pub fn check_case<C: Case>(case: &C) -> Report {
    let bk = Cpu::<f64>::new();
    let inputs = case.inputs();
    let mut rng = Philox::new(0x5eed, Purpose::Check, 1, 0);
    let mut io = Io::new(&bk, &inputs);
    case.run(&bk, &mut io);
    let draw = |rng: &mut Philox, n: usize| -> Vec<f64> {
        (0..n).map(|_| StandardNormal.sample(&mut *rng)).collect()
    };
    let upstream: Vec<_> = io.outputs.iter().map(|y| draw(&mut rng, y.len())).collect();
    let subject = Subject { case, bk, upstream: upstream.clone() };

    let mut io = Io::new(&bk, &inputs).with_upstream(upstream);
    case.run(&bk, &mut io);
    let param_grads = io.g.to_host(&bk);

    let mut report = Report { case: case.name(), comparisons: Vec::new(), faults: Vec::new() };
    let mut targets = Vec::new();
    for (i, t) in inputs.tensors.iter().enumerate().filter(|(_, t)| t.differentiable) {
        let (name, shape) = (t.name.clone(), t.shape.clone());
        targets
            .push((Target { name, shape, source: From::Input(i) }, io.grads.get(&t.name).cloned()));
    }
    for p in inputs.layout.iter() {
        let source = From::Param(p.range.clone());
        let target = Target { name: p.name.to_string(), shape: p.shape.clone(), source };
        targets.push((target, Some(param_grads[p.range.clone()].to_vec())));
    }
    for (target, analytic) in targets {
        let n: usize = target.shape.iter().product();
        let Some(analytic) = analytic else {
            report.faults.push(format!("backward returned no gradient for {}", target.name));
            continue;
        };
        if analytic.len() != n {
            report.faults.push(format!(
                "gradient of {} has {} elements, the tensor {n}",
                target.name,
                analytic.len()
            ));
            continue;
        }
        // An element whose gradient is tiny beside its neighbours' is compared on their scale:
        // the differences cannot resolve it better than the loss's own rounding.
        let largest = analytic.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let floor = (1e-3 * largest).max(1e-6);
        let elements: Vec<usize> =
            if n <= DENSE { (0..n).collect() } else { sample(&analytic, &mut rng) };
        for i in elements {
            let numeric = subject.difference(&inputs, &target, &[(i, 1.0)]);
            let place = Place::Element(target.index(i));
            push(&mut report, &target.name, place, analytic[i], numeric, floor);
        }
        for d in 0..if n > DENSE { DIRECTIONS } else { 0 } {
            let scale = 1.0 / (n as f64).sqrt();
            let direction: Vec<_> =
                draw(&mut rng, n).into_iter().map(|x| x * scale).enumerate().collect();
            let along = direction.iter().map(|&(i, v)| analytic[i] * v).sum();
            let numeric = subject.difference(&inputs, &target, &direction);
            push(&mut report, &target.name, Place::Direction(d), along, numeric, floor);
        }
    }
    report
}

fn push(report: &mut Report, tensor: &str, place: Place, analytic: f64, numeric: f64, floor: f64) {
    let error = relative_error(analytic, numeric, floor);
    report.comparisons.push(Comparison { tensor: tensor.into(), place, analytic, numeric, error });
}

/// Indices of the largest and the smallest gradients and of random ones.
fn sample(gradient: &[f64], rng: &mut Philox) -> Vec<usize> {
    let by = |a: &usize, b: &usize| gradient[*a].abs().total_cmp(&gradient[*b].abs());
    let all = 0..gradient.len();
    let mut chosen: Vec<usize> =
        [all.clone().max_by(by), all.min_by(by)].into_iter().flatten().collect();
    while chosen.len() < SAMPLES {
        chosen.push(rng.integer(gradient.len() - 1));
    }
    chosen
}
