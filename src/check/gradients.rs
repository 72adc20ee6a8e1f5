//! Gradients against finite differences, in f64.
//!
//! This is the check that anybody's closures can go through. The crate's cases, whose forwards run on any
//! scalar, are also compared with exact derivatives ([`super::exact`]), which see far smaller errors.
//!
//! For outputs y(x) and a *random* upstream gradient u, the checked function is L = Σ u·y (never a
//! plain sum: under a sum, softmax has no gradient at all). The difference quotient is the 4-point
//! stencil (8 (L₊₁ − L₋₁) − (L₊₂ − L₋₂)) / 12h, whose error is h⁴/30 of the fifth derivative, with
//! h = 1e-3, unless the quotient at 1e-4 says otherwise: a step that straddles a kink (a ReLU inside
//! a model) or a strong curvature disagrees with the next smaller one, whatever backward returned.
//! The outputs are subtracted one by one, before they are weighted and summed: those that do not
//! move contribute exactly nothing, so the quotient's round-off is that of the outputs that do move
//! and not that of the whole of L.
//!
//! **What is moved.** Every element of a small tensor by itself. Of a larger one the elements with
//! the largest and the smallest gradient, a seeded sample, and all elements at once along two random
//! directions of length 1: a plain normal one, and a levelled one in which each element has a random
//! sign and a length inverse to its gradient, so that a row with small gradients weighs as much as
//! one with large ones. If backward is wrong by e, a normal direction misses it when the normal
//! number e·v/‖e‖ happens to be below about 1e-6 ‖g‖/‖e‖: for ‖e‖ = 1e-3 ‖g‖ in one case of a
//! thousand, for a wrong row or factor practically never.
//!
//! **What passes.** |a − n| ≤ 1e-6 max(|a|, |n|, floor). The floor is the larger of
//! * 1e-3 of the tensor's largest gradient (for a direction: of what its elements would add up to).
//!   An element far below its neighbours is judged on their scale, because the truncation error
//!   belongs to the tensor. So an absolute error up to 1e-9 of the largest gradient passes; and
//!   since the largest element is always compared itself, a wrong large value does not hide the rest.
//! * what the differences cannot resolve: 32 ε ‖u·y‖/h (outputs are sums themselves) over the
//!   outputs that moved, divided by the limit. It is measured at each comparison and follows the
//!   size of the function: a constant floor would wave through everything in a function whose
//!   gradients are all tiny. A gradient that is zero throughout must therefore be zero to within the
//!   quotient's own round-off.
//!
//! ```
//! use beit::check::gradients::{Variable, check};
//!
//! // Softplus, an activation of one's own: y = ln(1 + eˣ), dx = dy / (1 + e⁻ˣ).
//! let x = Variable::new("x", &[3], vec![-1.5, 0.2, 2.0]);
//! let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.exp().ln_1p()).collect();
//! let backward = |v: &[Vec<f64>], dy: &[f64]| {
//!     vec![v[0].iter().zip(dy).map(|(x, dy)| dy / (1.0 + (-x).exp())).collect()]
//! };
//! assert!(check("softplus", std::slice::from_ref(&x), forward, backward).passed());
//!
//! // The sign in the exponent forgotten:
//! let wrong = |v: &[Vec<f64>], dy: &[f64]| {
//!     vec![v[0].iter().zip(dy).map(|(x, dy)| dy / (1.0 + x.exp())).collect()]
//! };
//! let report = check("softplus", &[x], forward, wrong);
//! assert!(!report.passed());
//! println!("{}", report.failures(1)[0]); // softplus: x [2]: analytic ..., numeric ...
//! ```

use super::dual::Dual;
pub use super::report::{Comparison, LIMIT, Place, Report};
use super::semantics;
use super::subject::{Start, run};
use crate::case::Case;
use crate::cpu::Cpu;
use crate::rng::{Philox, Purpose};
use rand_distr::{Distribution, StandardNormal};
use std::collections::BTreeSet;

/// Step of the difference quotient.
pub const STEP: f64 = 1e-3;

/// Values of the variables to all outputs in one array.
pub type Forward<'a> = dyn Fn(&[Vec<f64>]) -> Vec<f64> + 'a;
/// Values of the variables and gradient of the outputs to one gradient per variable.
pub type Backward<'a> = dyn Fn(&[Vec<f64>], &[f64]) -> Vec<Vec<f64>> + 'a;

/// How much of each tensor is moved element by element.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Tensors up to this size completely.
    pub dense: usize,
    /// This many elements of a larger one.
    pub samples: usize,
}

impl Effort {
    /// Ops have few tensors and are checked thoroughly. Layers and models have many and are made of
    /// ops so checked; what is left to prove there is the wiring, which every element shows.
    pub(super) fn new(tensors: usize) -> Self {
        if tensors <= 8 { Self { dense: 96, samples: 12 } } else { Self { dense: 12, samples: 4 } }
    }
}

/// One named array with respect to which a function is differentiated.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Name in the report.
    pub name: String,
    /// Shape; reports give indices along its axes.
    pub shape: Vec<usize>,
    /// Where the gradient is checked, row-major.
    pub values: Vec<f64>,
}

impl Variable {
    /// A variable; panics where shape and values do not fit together.
    #[track_caller]
    pub fn new(name: &str, shape: &[usize], values: Vec<f64>) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}: wrong length");
        Self { name: name.into(), shape: shape.to_vec(), values }
    }

    pub(super) fn index(&self, mut flat: usize) -> Vec<usize> {
        let mut index = vec![0; self.shape.len()];
        for (slot, &len) in index.iter_mut().zip(&self.shape).rev() {
            *slot = flat % len;
            flat /= len;
        }
        index
    }
}

/// Checks a function of one's own.
///
/// `forward` maps the variables' values, in order, to all outputs in one array; `backward` maps the
/// values and the gradient with respect to the outputs to one gradient per variable, in order.
/// Both must be functions of their arguments alone; that, too, is checked.
pub fn check(
    name: &str,
    variables: &[Variable],
    forward: impl Fn(&[Vec<f64>]) -> Vec<f64>,
    backward: impl Fn(&[Vec<f64>], &[f64]) -> Vec<Vec<f64>>,
) -> Report {
    check_with(Effort::new(variables.len()), name, variables, &forward, &backward)
}

/// [`check`] with more or less effort.
pub fn check_with(
    effort: Effort,
    name: &str,
    variables: &[Variable],
    forward: &Forward,
    backward: &Backward,
) -> Report {
    let mut report = Report::new(name);
    report.tensors = variables.iter().map(|v| v.name.clone()).collect();
    if variables.is_empty() {
        report.faults.push("there is nothing to differentiate".into());
    }
    let mut rng = Philox::new(0x5eed, Purpose::Check, 1, 0);
    let values: Vec<_> = variables.iter().map(|v| v.values.clone()).collect();
    let outputs = forward(&values);
    let upstream = normal(&mut rng, outputs.len());
    let gradients = backward(&values, &upstream);
    report.faults.extend(semantics::of_function(
        variables, &values, &outputs, &upstream, &gradients, forward, backward,
    ));

    let mut differences = Differences { forward, values, upstream };
    for (t, (variable, gradient)) in variables.iter().zip(&gradients).enumerate() {
        if gradient.len() != variable.values.len() {
            continue; // reported as a fault
        }
        let first = report.comparisons.len();
        let n = gradient.len();
        let largest = gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
        let elements: Vec<usize> =
            if n <= effort.dense { (0..n).collect() } else { sample(gradient, &effort, &mut rng) };
        for i in elements {
            let (numeric, noise) = differences.along(t, &[(i, 1.0)]);
            let floor = (1e-3 * largest).max(noise / LIMIT);
            let place = Place::Element(variable.index(i));
            let compared = Comparison::new(&variable.name, place, gradient[i], numeric, floor);
            report.comparisons.push(compared);
        }
        if n > effort.dense {
            let plain = normal(&mut rng, n);
            let least = if largest > 0.0 { 1e-3 * largest } else { 1.0 };
            let levelled = levelled(gradient, least, &mut rng);
            for (d, direction) in [plain, levelled].into_iter().enumerate() {
                let length = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
                let direction: Vec<_> =
                    direction.into_iter().map(|v| v / length).enumerate().collect();
                let (numeric, noise) = differences.along(t, &direction);
                let terms = direction.iter().map(|&(i, v)| gradient[i] * v);
                let size = terms.clone().map(|x| x * x).sum::<f64>().sqrt();
                let floor = (1e-3 * size).max(noise / LIMIT);
                let (place, analytic) = (Place::Direction(d), terms.sum());
                let compared = Comparison::new(&variable.name, place, analytic, numeric, floor);
                report.comparisons.push(compared);
            }
        }
        if report.comparisons[first..].iter().all(|c| c.analytic == 0.0) {
            report.all_zero.push(variable.name.clone());
        }
    }
    report
}

/// Checks every differentiable input and every parameter of `case`, and that its backward adds to
/// parameter gradients, gives the same bits on any number of threads, and touches no parameter. The
/// gradients are also compared with exact derivatives ([`super::exact`]).
pub fn check_case<C: Case>(case: &C) -> Report {
    let on_cpu = |start: &Start| run(&Cpu::<f64>::new(), case, start);
    let on_dual = |start: &Start| run(&Cpu::<Dual>::new(), case, start);
    semantics::check_case(&case.name(), &case.inputs(), &on_cpu, Some(&on_dual), None, true)
}

pub(super) fn normal(rng: &mut Philox, n: usize) -> Vec<f64> {
    (0..n).map(|_| StandardNormal.sample(&mut *rng)).collect()
}

/// Random signs, each divided by the gradient's magnitude or by `least`, if that is larger.
pub(super) fn levelled(gradient: &[f64], least: f64, rng: &mut Philox) -> Vec<f64> {
    let sign = |rng: &mut Philox| if rng.integer(1) == 0 { 1.0 } else { -1.0 };
    gradient.iter().map(|g| sign(rng) / g.abs().max(least)).collect()
}

/// Indices of the largest and the smallest gradient and of random ones.
fn sample(gradient: &[f64], effort: &Effort, rng: &mut Philox) -> Vec<usize> {
    let by = |a: &usize, b: &usize| gradient[*a].abs().total_cmp(&gradient[*b].abs());
    let all = 0..gradient.len();
    let extremes = [all.clone().max_by(by), all.min_by(by)];
    let mut chosen: BTreeSet<usize> = extremes.into_iter().flatten().collect();
    while chosen.len() < effort.samples {
        chosen.insert(rng.integer(gradient.len() - 1));
    }
    chosen.into_iter().collect()
}

/// Difference quotients of Σ u·forward.
struct Differences<'a> {
    forward: &'a Forward<'a>,
    values: Vec<Vec<f64>>,
    upstream: Vec<f64>,
}

impl Differences<'_> {
    /// dL/dt along `direction` of variable `t` and its round-off, at the largest of three steps, a
    /// factor 10 apart, that agrees with the next smaller one.
    fn along(&mut self, t: usize, direction: &[(usize, f64)]) -> (f64, f64) {
        let mut coarse = self.quotient(t, direction, STEP);
        for step in [STEP / 10.0, STEP / 100.0] {
            let fine = self.quotient(t, direction, step);
            let agree = 0.1 * LIMIT * coarse.0.abs().max(fine.0.abs()) + fine.1;
            if (coarse.0 - fine.0).abs() <= agree {
                break;
            }
            coarse = fine;
        }
        coarse
    }

    /// The 4-point stencil at one step, and its round-off.
    fn quotient(&mut self, t: usize, direction: &[(usize, f64)], step: f64) -> (f64, f64) {
        let mut moved = |steps: f64| {
            let old: Vec<f64> = direction.iter().map(|&(i, _)| self.values[t][i]).collect();
            for &(i, d) in direction {
                self.values[t][i] += steps * step * d;
            }
            let outputs = (self.forward)(&self.values);
            for (&(i, _), old) in direction.iter().zip(old) {
                self.values[t][i] = old;
            }
            outputs
        };
        let [up, down, up2, down2] = [1.0, -1.0, 2.0, -2.0].map(&mut moved);
        let (mut sum, mut squares) = (0.0, 0.0);
        for (i, u) in self.upstream.iter().enumerate() {
            let change = 8.0 * (up[i] - down[i]) - (up2[i] - down2[i]);
            sum += u * change;
            if change != 0.0 {
                squares += (u * up[i]).powi(2);
            }
        }
        (sum / (12.0 * step), 32.0 * f64::EPSILON * squares.sqrt() / step)
    }
}
