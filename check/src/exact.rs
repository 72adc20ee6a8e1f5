//! Gradients against exact directional derivatives.
//!
//! A forward pass on dual numbers ([`super::dual`]) returns J v, the rate at which the outputs change
//! when inputs and parameters move along v. Backward returns Jᵀ u. Whatever u and v are,
//!
//! ```text
//! ⟨u, J v⟩ = ⟨Jᵀ u, v⟩
//! ```
//!
//! There is no step and no truncation, so the two agree to rounding, and at a kink they agree as long
//! as both take the same branch. u is random; all differentiable inputs and parameters move at once,
//! along five directions: a plain normal one, and four levelled ones in which each element has a random
//! sign and a length inverse to its gradient, so that every element of every tensor weighs the same.
//! In these a relative error e in one element of n stands out by e/n, whichever element it is. What is
//! left to chance is that several errors cancel under random signs: where their sum could be above what
//! passes at all, in each direction with a probability of at most 1/2 ([`mod@super::gradients`]), in all four of at most 1/16. A gradient that is what
//! cancellation left of larger numbers has a large round-off, which levelling would blow up. So the
//! round-off is measured, by running backward at three and at seven times the upstream gradient and
//! dividing, and no element is made so long that its round-off comes near what may pass.
//!
//! **What passes.** |⟨Jᵀu, v⟩ − ⟨u, J v⟩| ≤ 1e-13 max(Σ |uᵢ (J v)ᵢ|, Σ |(Jᵀu)ⱼ vⱼ|) + 8 σ. That is 450 ε:
//! every rounding on the way from an input to an output is at most ε/2 of a number that takes part in
//! the sum, and they have random signs; the hundreds of roundings along the longest way through a
//! model add up to some tens of ε. Where numbers cancel on the way, as in 1 − tanh² next to 1, the roundings
//! are larger than the result lets see: σ is what was measured of backward's ([`mod@super::gradients`]).
//!
//! **Where the forward cancels,** as E\[x²\] − m² does, dual numbers lose the same digits. What they say of a
//! direction they disagree on is asked of double-double, which loses the sixteen digits behind those of f64
//! first ([`super::certificate`]), and that counts.
//!
//! **Where it is wrong.** A direction that fails is cut in halves, over tensors first, then over the
//! elements of one, always following the half with the larger disagreement, down to one element; its
//! derivative is then computed by itself.
//!
//! **What this cannot see.** The forward is taken at its word: a wrong formula differentiated rightly
//! passes, as it does under finite differences. A straight-through estimator has a backward that is not the
//! derivative of its forward by definition: check it with the forward that its backward is declared to be the
//! derivative of. Elements whose gradient is below 1e-3 of their tensor's largest, or not far above its round-off,
//! weigh accordingly less, and tensors whose gradient is below 1e-9 of the largest of all are taken for
//! zeros.

use super::certificate::{self, Doubles};
use super::climb::DEVIATIONS;
use super::directions::levelled;
use super::noise::Squares;
use super::promises::largest;
use super::variable::Variable;
use crate::random::{SEED, Stream};
use serde::Serialize;
use std::fmt;
use std::ops::Range;

/// Largest disagreement that passes, relative to the sum of the magnitudes of all terms.
pub const LIMIT: f64 = 1e-13;

/// Levelled directions.
const LEVELLED: usize = 4;
/// Largest probability with which all of them miss a fault.
pub(super) const MISS_PROBABILITY: f64 = 1.0 / (1 << LEVELLED) as f64;

/// A tensor whose largest gradient is below this part of the largest of all has a gradient of zero and
/// round-off: it is not levelled, which would drown the others in that round-off.
const ZERO: f64 = 1e-9;

/// One element of which backward returned another derivative than the exact one.
#[derive(Clone, Debug, Serialize)]
pub struct Located {
    /// Input or parameter.
    pub tensor: String,
    /// Index along each axis.
    pub index: Vec<usize>,
    /// What backward returned.
    pub analytic: f64,
    /// What dual numbers say.
    pub exact: f64,
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index: Vec<String> = self.index.iter().map(usize::to_string).collect();
        let (tensor, index) = (&self.tensor, index.join(","));
        write!(f, "{tensor}[{index}]: analytic {:.16e}, exact {:.16e}", self.analytic, self.exact)
    }
}

/// One comparison along one direction.
#[derive(Clone, Debug, Serialize)]
pub struct Projection {
    /// Name of the direction: `normal` or `levelled`.
    pub direction: &'static str,
    /// Which of that name, from 0 on.
    pub number: usize,
    /// ⟨Jᵀu, v⟩, from backward.
    pub analytic: f64,
    /// ⟨u, J v⟩, from dual numbers, or from double-double where those lost digits.
    pub exact: f64,
    /// How far dual numbers were off, relative to the scale, where double-double was asked.
    pub cancelled: Option<f64>,
    /// The larger of Σ |uᵢ (J v)ᵢ| and Σ |(Jᵀu)ⱼ vⱼ|.
    pub scale: f64,
    /// |analytic − exact| / scale; infinite (`null` in JSON) where one is not finite.
    pub error: f64,
    /// The largest error that passes: [`LIMIT`] and what was measured of backward's round-off.
    pub limit: f64,
    /// Where the largest disagreement is, if they disagree.
    pub located: Option<Located>,
}

impl Projection {
    /// Whether both agree to rounding.
    pub fn agrees(&self) -> bool {
        self.error <= self.limit
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { direction, number, error, limit, .. } = self;
        write!(
            f,
            "along {direction} direction {number} off by {error:.1e} of the exact derivative"
        )?;
        write!(f, " (limit {limit:.1e})")?;
        self.located.iter().try_for_each(|at| write!(f, "; largest at {at}"))
    }
}

/// Slopes of all outputs when the variables move at the given rates.
pub type Slopes<'a> = dyn Fn(&[Vec<f64>]) -> Vec<f64> + 'a;

/// Gradients of the variables from that of all outputs.
pub type Gradients<'a> = dyn Fn(&[f64]) -> Vec<Vec<f64>> + 'a;

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub projections: Vec<Projection>,
    /// For each tensor and element the smallest error that was visible.
    pub seen: Vec<Vec<f64>>,
    /// The largest gradient of each tensor.
    pub largest: Vec<f64>,
}

/// Compares the gradients that `backward` returns for a random upstream gradient of `outputs` numbers
/// with `slopes`, along five directions. `measured` are deviations of the round-off of each gradient, where
/// they are known. Gradients of the wrong length are left to others to report.
pub(super) fn compare(
    variables: &[Variable],
    outputs: usize,
    backward: &Gradients,
    slopes: &Slopes,
    double: Option<&Doubles>,
    measured: &[Vec<f64>],
) -> Found {
    let mut rng = Stream::new(SEED, 3);
    let upstream = rng.normal(outputs);
    let gradients = backward(&upstream);
    let fits = |(v, g): (&Variable, &Vec<f64>)| v.values.len() == g.len();
    if gradients.len() != variables.len() || !variables.iter().zip(&gradients).all(fits) {
        return Found::default();
    }
    let noise = round_off(&upstream, &gradients, backward);
    let plain = gradients.iter().map(|g| rng.normal(g.len())).collect();
    let mut directions = vec![("normal", plain)];
    for _ in 0..LEVELLED {
        directions.push(("levelled", all_levelled(&gradients, &noise, &mut rng)));
    }
    let exact = Exact { variables, upstream, gradients, slopes, double, measured };
    let all = directions.iter().enumerate();
    // The first is the normal one, the others are numbered by themselves.
    let projections: Vec<Projection> =
        all.map(|(d, (name, v))| exact.along((name, d.saturating_sub(1)), v)).collect();
    let mut seen: Vec<Vec<f64>> =
        variables.iter().map(|v| vec![f64::INFINITY; v.values.len()]).collect();
    for (p, (_, v)) in projections.iter().zip(&directions) {
        for (seen, v) in seen.iter_mut().flatten().zip(v.iter().flatten()) {
            *seen = seen.min(p.limit * p.scale / v.abs());
        }
    }
    let largest = exact.gradients.iter().map(|g| largest(g)).collect();
    Found { projections, seen, largest }
}

/// What rounding does to each gradient, root mean square: other multiples of the upstream gradient are
/// rounded otherwise, and a backward is linear in it.
fn round_off(upstream: &[f64], gradients: &[Vec<f64>], backward: &Gradients) -> Vec<f64> {
    let mut squares = vec![0.0; gradients.len()];
    for factor in [3.0, 7.0] {
        let scaled: Vec<f64> = upstream.iter().map(|u| factor * u).collect();
        for ((sum, g), again) in squares.iter_mut().zip(gradients).zip(backward(&scaled)) {
            *sum += g.iter().zip(again).map(|(g, a)| (a / factor - g).powi(2)).sum::<f64>();
        }
    }
    let counts = gradients.iter().map(|g| 2.0 * g.len().max(1) as f64);
    squares.iter().zip(counts).map(|(sum, n)| (sum / n).sqrt()).collect()
}

/// Signs divided by gradients, tensor by tensor.
fn all_levelled(gradients: &[Vec<f64>], noise: &[f64], rng: &mut Stream) -> Vec<Vec<f64>> {
    let overall = gradients.iter().map(|g| largest(g)).fold(0.0, f64::max);
    let one = |(g, noise): (&Vec<f64>, &f64)| match largest(g) {
        most if most > ZERO * overall => levelled(g, (1e-3 * most).max(4.0 * noise / LIMIT), rng),
        _ => levelled(g, if overall > 0.0 { overall } else { 1.0 }, rng),
    };
    gradients.iter().zip(noise).map(one).collect()
}

/// A part of a tensor: its number, and which of its elements.
type TensorRange = (usize, Range<usize>);

struct Exact<'a> {
    variables: &'a [Variable],
    upstream: Vec<f64>,
    gradients: Vec<Vec<f64>>,
    slopes: &'a Slopes<'a>,
    double: Option<&'a Doubles<'a>>,
    measured: &'a [Vec<f64>],
}

impl Exact<'_> {
    fn along(&self, (direction, number): (&'static str, usize), v: &[Vec<f64>]) -> Projection {
        let slopes = (self.slopes)(v);
        let exact = terms(&self.upstream, &slopes);
        let pairs = self.gradients.iter().zip(v).map(|(g, v)| terms(g, v));
        let analytic = pairs.fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        let scale = exact.1.max(analytic.1);
        let (analytic, mut exact) = (analytic.0, exact.0);
        let error = |exact: f64| match (analytic - exact).abs() / scale {
            // Nothing moved and nothing was claimed.
            _ if scale == 0.0 && analytic == exact => 0.0,
            error if error.is_finite() => error,
            _ => f64::INFINITY,
        };
        let mut noise = Squares::default();
        for (s, v) in self.measured.iter().flatten().zip(v.iter().flatten()) {
            noise.add(s * v);
        }
        let own = DEVIATIONS * noise.root() / scale;
        let limit = LIMIT + if own.is_finite() { own } else { 0.0 };
        let mut cancelled = None;
        if error(exact) > limit && scale > 0.0 {
            let enough = 0.1 * limit * scale;
            let asked = self.double.map(|d| certificate::along(&self.upstream, v, d, enough));
            if let Some(sure) = asked.filter(|c| c.uncertainty <= enough) {
                cancelled = Some((sure.value - exact).abs() / scale);
                exact = sure.value;
            }
        }
        let error = error(exact);
        let nothing = v.iter().all(Vec::is_empty);
        let located = if error <= limit || nothing { None } else { Some(self.locate(v)) };
        Projection { direction, number, analytic, exact, cancelled, scale, error, limit, located }
    }

    /// Halves the direction until one element is left.
    fn locate(&self, v: &[Vec<f64>]) -> Located {
        let not_a_number = |g: &Vec<f64>| g.iter().position(|g| !g.is_finite());
        for (t, g) in self.gradients.iter().enumerate() {
            if let Some(i) = not_a_number(g) {
                return self.element(t, i);
            }
        }
        let sizes = v.iter().enumerate().filter(|(_, v)| !v.is_empty());
        let mut parts: Vec<TensorRange> = sizes.map(|(t, v)| (t, 0..v.len())).collect();
        loop {
            let (first, second) = match &parts[..] {
                [(t, range)] if range.len() == 1 => return self.element(*t, range.start),
                [(t, range)] => {
                    let middle = range.start + range.len() / 2;
                    (vec![(*t, range.start..middle)], vec![(*t, middle..range.end)])
                }
                several => {
                    let (first, second) = several.split_at(several.len() / 2);
                    (first.to_vec(), second.to_vec())
                }
            };
            let [a, b] = [&first, &second].map(|parts| self.disagreement(v, parts));
            // What is not a number is followed.
            parts = if a >= b || a.is_nan() { first } else { second };
        }
    }

    /// |⟨Jᵀu, v⟩ − ⟨u, J v⟩| with all of v but these parts set to 0.
    fn disagreement(&self, v: &[Vec<f64>], parts: &[TensorRange]) -> f64 {
        let mut own: Vec<Vec<f64>> = v.iter().map(|v| vec![0.0; v.len()]).collect();
        let mut analytic = 0.0;
        for (t, range) in parts {
            own[*t][range.clone()].copy_from_slice(&v[*t][range.clone()]);
            analytic += terms(&self.gradients[*t][range.clone()], &v[*t][range.clone()]).0;
        }
        (analytic - terms(&self.upstream, &(self.slopes)(&own)).0).abs()
    }

    /// One element by itself.
    fn element(&self, t: usize, i: usize) -> Located {
        let mut unit: Vec<Vec<f64>> = self.gradients.iter().map(|g| vec![0.0; g.len()]).collect();
        unit[t][i] = 1.0;
        let (tensor, index) = (self.variables[t].name.clone(), self.variables[t].index(i));
        let exact = terms(&self.upstream, &(self.slopes)(&unit)).0;
        Located { tensor, index, analytic: self.gradients[t][i], exact }
    }
}

/// Σ aᵢbᵢ and Σ |aᵢbᵢ|.
fn terms(a: &[f64], b: &[f64]) -> (f64, f64) {
    let products = a.iter().zip(b).map(|(a, b)| a * b);
    products.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()))
}
