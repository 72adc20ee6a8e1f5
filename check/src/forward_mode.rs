//! Jacobian-vector products: a rule for them against differences, against dual numbers and against the backward of
//! the same function.

use crate::arrays::{Arrays, Function, flat, like};
use crate::builder::Check;
use crate::directions::levelled;
use crate::dual::Dual;
use crate::gradients::{Variable, caught, check_with};
use crate::identity::{Identity, Nudge, Sides};
use crate::outputs::Outputs;
use crate::pair::Pair;
use crate::promises::largest;
use crate::random::{SEED, Stream};
use crate::report::Report;
use std::cell::RefCell;

/// Directions for which both products are compared; all but the first are levelled.
const DIRECTIONS: usize = 4;
/// A power of two, large: what is clipped shows.
const FACTOR: f64 = -1024.0;

/// Numbers to numbers, at a point.
type Product<'a> = &'a dyn Fn(&Arrays, &[f64]) -> Vec<f64>;

/// Both sides of an equation at a point, for a multiple of the direction.
type LinearSides<'a> = &'a dyn Fn(&Arrays, f64) -> (Vec<f64>, Vec<f64>);

/// Directions along which one array moves.
enum Moves {
    /// Each element by itself.
    Elements,
    /// These, from 0 on.
    Along(Vec<Vec<f64>>),
}

impl Check {
    /// Checks a rule for the Jacobian-vector product J v against differences. `jvp` gets the arrays and the
    /// rates at which they move, and returns the rates of the outputs. What the report calls analytic
    /// is ⟨u, J v⟩ for a random u and for v along one element.
    ///
    /// ```
    /// use beit_check::{Arrays, Check};
    /// use ndarray::array;
    ///
    /// let report = Check::new("tanh").at(Arrays::new().with("x", array![0.3, -1.2])).forward_mode(
    ///     |a| a["x"].mapv(f64::tanh),
    ///     |a, v| &v["x"] * &a["x"].mapv(|x| 1.0 - x.tanh().powi(2)),
    /// );
    /// assert!(report.passed(), "{report}");
    /// ```
    pub fn forward_mode<O: Outputs>(
        &self,
        forward: impl FnMut(&Arrays) -> O,
        jvp: impl FnMut(&Arrays, &Arrays) -> O,
    ) -> Report {
        if let Some(report) = self.impossible() {
            return report;
        }
        let (at, forward, jvp) = (&self.at, RefCell::new(forward), RefCell::new(jvp));
        let forward =
            |free: &Arrays| forward.borrow_mut()(&self.constraints.at(at, free.clone())).numbers();
        let outputs = match caught(|| forward(at).len()) {
            Ok(outputs) => outputs,
            Err(text) => return self.faulty(format!("forward panicked: {text}")),
        };
        let product = |free: &Arrays, v: &[f64]| {
            forward(free);
            let here = self.constraints.at(at, free.clone());
            let rates = self.constraints.rates(at, free, &at.with_numbers(v));
            jvp.borrow_mut()(&here, &rates).numbers()
        };
        let total = at.numbers().len();
        match caught(|| product(at, &vec![1.0; total]).len()) {
            Ok(got) if got == outputs => {}
            Ok(got) => {
                return self.faulty(format!("jvp returns {got} numbers, forward {outputs}"));
            }
            Err(text) => return self.faulty(format!("jvp panicked: {text}")),
        }
        let mut report = self.against_differences(&forward, &product);
        report.identities = self.linear(&product, outputs);
        report
    }

    /// [`Check::forward_mode`], and the rule against a backward of the same function: ⟨u, J v⟩ = ⟨Jᵀ u, v⟩ along
    /// random directions, to rounding.
    pub fn forward_and_reverse<O: Outputs>(
        &self,
        forward: impl FnMut(&Arrays) -> O,
        jvp: impl FnMut(&Arrays, &Arrays) -> O,
        backward: impl FnMut(&Arrays, &O) -> Arrays,
    ) -> Report {
        let at = &self.at;
        let (forward, jvp) = (RefCell::new(forward), RefCell::new(jvp));
        let run = |a: &Arrays| forward.borrow_mut()(a);
        let mut report = self.forward_mode(run, |a, v| jvp.borrow_mut()(a, v));
        if !report.faults.is_empty() {
            return report;
        }
        let pair = match Pair::start(self, run, backward) {
            Ok(pair) => pair,
            Err(report) => return *report,
        };
        if let Some(fault) = pair.misshapen(&pair.outputs) {
            report.faults.push(fault);
            return report;
        }
        let product = |free: &Arrays, v: &[f64]| {
            pair.forward(free);
            let here = self.constraints.at(at, free.clone());
            let rates = self.constraints.rates(at, free, &at.with_numbers(v));
            jvp.borrow_mut()(&here, &rates).numbers()
        };
        let transposed =
            |free: &Arrays, u: &[f64]| pair.gradients(free, &pair.outputs.with_numbers(u)).concat();
        let outputs = pair.outputs.numbers().len();
        report.identities.extend(self.both("⟨u, J v⟩ = ⟨Jᵀ u, v⟩", &product, &transposed, outputs));
        report
    }

    /// [`Check::forward_and_reverse`] of a function whose forward runs on any scalar: the rule also against
    /// dual numbers, to rounding.
    pub fn forward_mode_of(
        &self,
        function: &impl Function,
        jvp: impl FnMut(&Arrays, &Arrays) -> ndarray::ArrayD<f64>,
    ) -> Report {
        let jvp = RefCell::new(jvp);
        let mut report = self.forward_and_reverse(
            |a| function.forward(a),
            |a, v| jvp.borrow_mut()(a, v),
            |a, dy| function.backward(a, dy),
        );
        if !report.faults.is_empty() {
            return report;
        }
        let at = &self.at;
        let outputs = function.forward(&self.constraints.at(at, at.clone())).len();
        let name = "⟨u, J v⟩ by the rule = by dual numbers".to_string();
        let mut rng = Stream::new(SEED, 8);
        let (v, u) = (rng.normal(at.numbers().len()), rng.normal(outputs));
        report.identities.push(Identity::judge(name, self.settings.resolution, |nudge| {
            let free = nudged(at, nudge);
            let here = self.constraints.at(at, free.clone());
            let (v, u) = (times(&v, nudge.multiples.0), times(&u, nudge.multiples.1));
            let rates = self.constraints.rates(at, &free, &at.with_numbers(&v));
            let exact = function.forward(&here.zip_with(&rates, Dual::new));
            let exact: Vec<f64> = exact.iter().map(|y| y.slope).collect();
            let rule = jvp.borrow_mut()(&here, &rates).numbers();
            Sides::new((&u, &rule), (&u, &exact))
        }));
        report
    }

    /// ⟨u, J v⟩ for all single elements of small arrays and for some directions of large ones.
    fn against_differences(
        &self,
        forward: &dyn Fn(&Arrays) -> Vec<f64>,
        product: Product,
    ) -> Report {
        let (at, settings) = (&self.at, &self.settings);
        let mut rng = Stream::new(SEED, 6);
        let (mut variables, mut moves) = (Vec::new(), Vec::new());
        for (name, array) in at.iter() {
            let own = Variable::new(name, array.shape(), flat(array));
            if array.len() <= settings.dense {
                moves.push(Moves::Elements);
                variables.push(own);
                continue;
            }
            let size = own.size();
            let n = array.len();
            let mut all: Vec<Vec<f64>> = Vec::new();
            for _ in 0..settings.samples {
                let mut one = vec![0.0; n];
                one[rng.integer(n - 1)] = size;
                all.push(one);
            }
            let length = size / (n as f64).sqrt();
            for _ in 0..settings.projections {
                all.push((0..n).map(|_| length * rng.sign()).collect());
            }
            let name = format!("{name} along directions ");
            variables.push(Variable::new(&name, &[all.len()], vec![0.0; all.len()]));
            moves.push(Moves::Along(all));
        }
        let free = |values: &[Vec<f64>]| {
            let start: Vec<Vec<f64>> = at.iter().map(|(_, array)| flat(array)).collect();
            let parts = moves.iter().zip(values).zip(start);
            let moved = parts.map(|((moves, values), start)| match moves {
                Moves::Elements => values.clone(),
                Moves::Along(all) => all.iter().zip(values).fold(start, |mut x, (v, c)| {
                    x.iter_mut().zip(v).for_each(|(x, v)| *x += c * v);
                    x
                }),
            });
            like(at, &moved.collect::<Vec<_>>())
        };
        let backward = |values: &[Vec<f64>], u: &[f64]| -> Vec<Vec<f64>> {
            let free = free(values);
            let total = at.numbers().len();
            let mut first = 0;
            let mut along = |length: usize, moves: &Moves| -> Vec<f64> {
                let (mut v, range) = (vec![0.0; total], first..first + length);
                first = range.end;
                let one = |v: &[f64]| {
                    let rates = product(&free, v);
                    rates.iter().zip(u).map(|(r, u)| r * u).sum()
                };
                match moves {
                    Moves::Elements => (range.map(|i| {
                        v[i] = 1.0;
                        let slope = one(&v);
                        v[i] = 0.0;
                        slope
                    }))
                    .collect(),
                    Moves::Along(all) => (all.iter().map(|own| {
                        v[range.clone()].copy_from_slice(own);
                        one(&v)
                    }))
                    .collect(),
                }
            };
            at.iter().zip(&moves).map(|((_, x), moves)| along(x.len(), moves)).collect()
        };
        let name = format!("{} (jvp)", self.name);
        check_with(settings, &name, &variables, &|values| forward(&free(values)), &backward)
    }

    /// Whether a product is linear in its direction.
    fn linear(&self, product: Product, outputs: usize) -> Vec<Identity> {
        let (at, mut rng) = (&self.at, Stream::new(SEED, 7));
        let n = at.numbers().len();
        let (v, w, u) = (rng.normal(n), rng.normal(n), rng.normal(outputs));
        let sum: Vec<f64> = v.iter().zip(&w).map(|(v, w)| v + w).collect();
        let judge = |name: &str, sides: LinearSides| {
            Identity::judge(name.into(), self.settings.resolution, |nudge| {
                let u = times(&u, nudge.multiples.1);
                let (left, right) = sides(&nudged(at, nudge), nudge.multiples.0);
                Sides::new((&u, &left), (&u, &right))
            })
        };
        let additive = judge("J (v + w) = J v + J w", &|at, factor| {
            let [one, other] = [&v, &w].map(|v| product(at, &times(v, factor)));
            let both = one.iter().zip(&other).map(|(a, b)| a + b).collect();
            (product(at, &times(&sum, factor)), both)
        });
        let scaled = judge("J (−1024 v) = −1024 J v", &|at, factor| {
            let left = product(at, &times(&v, FACTOR * factor));
            (left, times(&product(at, &times(&v, factor)), FACTOR))
        });
        vec![additive, scaled]
    }

    /// ⟨u, A v⟩ = ⟨B u, v⟩ along random directions.
    pub(crate) fn both(&self, name: &str, a: Product, b: Product, outputs: usize) -> Vec<Identity> {
        let (at, mut rng) = (&self.at, Stream::new(SEED, 9));
        let u = rng.normal(outputs);
        let gradient = b(at, &u);
        let least = match largest(&gradient) {
            most if most > 0.0 && most.is_finite() => 1e-3 * most,
            _ => 1.0,
        };
        let mut all = Vec::new();
        for d in 0..DIRECTIONS {
            let v = match d {
                0 => rng.normal(gradient.len()),
                _ => times(&levelled(&gradient, least, &mut rng), least),
            };
            let name = format!("{name}, direction {d}");
            let mut found = Identity::judge(name, self.settings.resolution, |nudge| {
                let here = nudged(at, nudge);
                let (v, u) = (times(&v, nudge.multiples.0), times(&u, nudge.multiples.1));
                Sides::new((&u, &a(&here, &v)), (&b(&here, &u), &v))
            });
            if found.verdict == crate::verdict::Verdict::Fail {
                found.located = Some(self.locate(&u, &v, a, &gradient));
            }
            all.push(found);
        }
        all
    }

    /// Halves a direction until one element is left, following the half with the larger disagreement.
    fn locate(&self, u: &[f64], v: &[f64], a: Product, gradient: &[f64]) -> String {
        let off = |range: &std::ops::Range<usize>| {
            let mut own = vec![0.0; v.len()];
            own[range.clone()].copy_from_slice(&v[range.clone()]);
            let Sides { left, right, .. } = Sides::new((u, &a(&self.at, &own)), (gradient, &own));
            let off = (left - right).abs();
            if off.is_nan() { f64::INFINITY } else { off }
        };
        let mut part = 0..v.len();
        while part.len() > 1 {
            let middle = part.start + part.len() / 2;
            let (first, second) = (part.start..middle, middle..part.end);
            part = if off(&first) >= off(&second) { first } else { second };
        }
        place(&self.at, part.start)
    }
}

/// The arrays beside where they are.
pub(crate) fn nudged(at: &Arrays, nudge: &mut Nudge) -> Arrays {
    at.clone().map(|name, x| {
        let size = Variable::new(name, x.shape(), flat(&x)).size();
        x.mapv(|x| nudge.near(x, size))
    })
}

/// Each number times one.
pub(crate) fn times(all: &[f64], factor: f64) -> Vec<f64> {
    all.iter().map(|x| x * factor).collect()
}

/// Name and index of an element by its number among all.
fn place(at: &Arrays, mut number: usize) -> String {
    for (name, array) in at.iter() {
        if number < array.len() {
            let variable = Variable::new(name, array.shape(), flat(array));
            let place = crate::verdict::Location::Element(variable.index(number));
            return format!("{name}{place}");
        }
        number -= array.len();
    }
    unreachable!("there are as many elements as numbers")
}
