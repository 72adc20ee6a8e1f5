//! Derivatives of a backward: Hessian-vector products, and whether a backward can be a gradient at all.
//!
//! For a fixed upstream gradient u a backward is a function of the arrays alone, g(x) = ∇ ⟨u, f(x)⟩, and its
//! Jacobian is a Hessian. Along v it is known from dual numbers, where the backward runs on any scalar (forward
//! over backward), from differences of the backward, and from a rule for it, where there is one. A Hessian
//! is its own transpose, so H v is also the vector-Jacobian product of g, which is what differences of g are
//! compared with, element by element.

use crate::arrays::{Arrays, Function, in_order, like, variables};
use crate::builder::Check;
use crate::dual::Dual;
use crate::forward_mode::{nudged, times};
use crate::gradients::{caught, check_with};
use crate::identity::{Identity, Nudge, Sides};
use crate::ladder::{Ladder, Rung};
use crate::outputs::Outputs;
use crate::pair::Pair;
use crate::random::{SEED, Stream};
use crate::real::Real;
use crate::report::Report;
use ndarray::{ArrayD, Zip};
use std::cell::RefCell;

/// Steps of the differences of a backward along a direction, each half of the one before.
const STEPS: i32 = 18;
/// Deviations of round-off that a bound allows.
const DEVIATIONS: f64 = 8.0;

/// A forward and a backward for any scalar: also the backward can be differentiated.
pub trait Differentiable {
    /// The outputs.
    fn forward<T: Real>(&self, at: &Arrays<T>) -> ArrayD<T>;
    /// From the gradient of the outputs that of every array, by name.
    fn backward<T: Real>(&self, at: &Arrays<T>, upstream: &ArrayD<T>) -> Arrays<T>;
}

/// Its first derivatives.
struct First<'a, F>(&'a F);

impl<F: Differentiable> Function for First<'_, F> {
    fn forward<T: Real>(&self, at: &Arrays<T>) -> ArrayD<T> {
        self.0.forward(at)
    }
    fn backward(&self, at: &Arrays, upstream: &ArrayD<f64>) -> Arrays {
        self.0.backward(at, upstream)
    }
}

/// A backward at a fixed upstream gradient: free arrays to one gradient for each.
type Backward<'a> = &'a dyn Fn(&Arrays) -> Vec<Vec<f64>>;
/// Free arrays and a direction to H v.
type HessianProduct<'a> = &'a dyn Fn(&Arrays, &[f64]) -> Vec<Vec<f64>>;

impl Check {
    /// Checks a function twice: its gradients as [`Check::function`] does, then the derivatives of its
    /// backward. Dual numbers through the backward give H v, which is compared with differences of the backward
    /// and must be symmetric, ⟨w, H v⟩ = ⟨v, H w⟩.
    ///
    /// ```
    /// use beit_check::{Arrays, Check, Differentiable, Real};
    /// use ndarray::{ArrayD, array};
    ///
    /// struct Softplus;
    ///
    /// impl Differentiable for Softplus {
    ///     fn forward<T: Real>(&self, a: &Arrays<T>) -> ArrayD<T> {
    ///         a["x"].mapv(|x| x.maximum(0.0) + (-Real::abs(x)).exp().ln_1p())
    ///     }
    ///     fn backward<T: Real>(&self, a: &Arrays<T>, dy: &ArrayD<T>) -> Arrays<T> {
    ///         Arrays::new().with("x", dy * &a["x"].mapv(|x| x.sigmoid()))
    ///     }
    /// }
    ///
    /// let check = Check::new("softplus").at(Arrays::new().with("x", array![-1.5, 0.2, 2.0]));
    /// let (first, second) = check.twice(&Softplus);
    /// assert!(first.passed() && second.passed(), "{first}\n{second}");
    /// ```
    pub fn twice(&self, function: &impl Differentiable) -> (Report, Report) {
        let first = self.function(&First(function));
        if !first.faults.is_empty() {
            return (first, Report::new(&format!("{} (second order)", self.name)));
        }
        let upstream = self.upstream(&function.forward(&self.at));
        let gradient = |free: &Arrays| self.gradient_of(function, free, &upstream);
        let product = |free: &Arrays, v: &[f64]| self.dual_product(function, free, &upstream, v);
        (first, self.second(&gradient, &product))
    }

    /// Checks a rule for Hessian-vector products against differences of the backward, and its symmetry. `hvp`
    /// gets the arrays, the gradient of the outputs and the direction, and returns for every array
    /// the rate at which its gradient changes.
    ///
    /// Backward itself is taken at its word: it is not compared with the forward, which runs before it for
    /// what they share and is not looked at. [`Check::gradients`] compares those; [`Check::twice`] does both.
    pub fn hessian<O: Outputs>(
        &self,
        forward: impl FnMut(&Arrays) -> O,
        backward: impl FnMut(&Arrays, &O) -> Arrays,
        hvp: impl FnMut(&Arrays, &O, &Arrays) -> Arrays,
    ) -> Report {
        let pair = match Pair::start(self, forward, backward) {
            Ok(pair) => pair,
            Err(report) => return *report,
        };
        let (at, upstream) = (&self.at, self.upstream(&pair.outputs));
        if let Some(fault) = pair.misshapen(&upstream) {
            return self.faulty(fault);
        }
        let hvp = RefCell::new(hvp);
        let gradient = |free: &Arrays| pair.gradients(free, &upstream);
        let product = |free: &Arrays, v: &[f64]| {
            let gradient = pair.returned(free, &upstream);
            let (here, v) = (self.constraints.at(at, free.clone()), at.with_numbers(v));
            let rates = hvp.borrow_mut()(&here, &upstream, &self.constraints.rates(at, free, &v));
            let missing =
                |name: &str| rates.get(name).is_none_or(|r| r.shape() != at[name].shape());
            if at.iter().any(|(name, _)| missing(name)) {
                return Vec::new();
            }
            self.bent(free, &v, &gradient, &rates)
        };
        match caught(|| product(at, &vec![0.0; at.numbers().len()])) {
            Err(text) => self.faulty(format!("hvp panicked: {text}")),
            Ok(rates) if rates.is_empty() => {
                self.faulty("hvp returns no rates of the right shape for every array".into())
            }
            Ok(_) => self.second(&gradient, &product),
        }
    }

    /// [`Check::hessian`] of a function whose backward runs on any scalar: the rule also against dual numbers
    /// through the backward, to rounding.
    pub fn hessian_of(
        &self,
        function: &impl Differentiable,
        hvp: impl FnMut(&Arrays, &ArrayD<f64>, &Arrays) -> Arrays,
    ) -> Report {
        let hvp = RefCell::new(hvp);
        let mut report = self.hessian(
            |a| function.forward(a),
            |a, dy| function.backward(a, dy),
            |a, dy, v| hvp.borrow_mut()(a, dy, v),
        );
        if !report.faults.is_empty() {
            return report;
        }
        let upstream = self.upstream(&function.forward(&self.at));
        let rule = |free: &Arrays, v: &[f64]| {
            let here = self.constraints.at(&self.at, free.clone());
            let v = self.at.with_numbers(v);
            let own = self.constraints.rates(&self.at, free, &v);
            let rates = hvp.borrow_mut()(&here, &upstream, &own);
            self.bent(free, &v, &function.backward(&here, &upstream), &rates).concat()
        };
        let exact =
            |free: &Arrays, v: &[f64]| self.dual_product(function, free, &upstream, v).concat();
        report.identities.push(
            self.pairing("⟨w, H v⟩ by the rule = by dual numbers", |at, v, w| {
                Sides::new((w, &rule(at, v)), (w, &exact(at, v)))
            }),
        );
        report
    }

    /// Checks a backward without a rule for its derivatives: whether it can be a gradient at all, near the
    /// point as well as there. Differences of the backward must be symmetric, ⟨w, ∂g/∂x v⟩ = ⟨v, ∂g/∂x w⟩,
    /// for a few directions; a backward that is right at one point by chance, or stops a
    /// gradient on the way, is seen. It is not compared with the forward: twice a gradient is one, too.
    pub fn symmetry<O: Outputs>(
        &self,
        forward: impl FnMut(&Arrays) -> O,
        backward: impl FnMut(&Arrays, &O) -> Arrays,
    ) -> Report {
        let pair = match Pair::start(self, forward, backward) {
            Ok(pair) => pair,
            Err(report) => return *report,
        };
        let upstream = self.upstream(&pair.outputs);
        let gradient = |free: &Arrays| pair.gradients(free, &upstream);
        let mut report = Report::new(&format!("{} (symmetry)", self.name));
        if let Some(fault) = pair.misshapen(&upstream) {
            report.faults.push(fault);
            return report;
        }
        let mut rng = Stream::new(SEED, 11);
        for d in 0..3 {
            let [v, w] = [0, 1].map(|_| self.sized(&mut rng));
            let [left, right] = [(&v, &w), (&w, &v)].map(|(v, w)| self.slope(&gradient, v, w));
            let name = format!("⟨w, ∂g/∂x v⟩ = ⟨v, ∂g/∂x w⟩, directions {d}");
            report.identities.push(Identity::new(
                name,
                self.settings.resolution,
                (left.0, right.0),
                (left.0 - right.0).abs(),
                left.1 + right.1,
                left.2.max(right.2),
            ));
        }
        report
    }

    /// A random gradient of the outputs.
    fn upstream<O: Outputs>(&self, outputs: &O) -> O {
        outputs.with_numbers(&Stream::new(SEED, 10).normal(outputs.numbers().len()))
    }

    /// Of free arrays, for f64 and for numbers that move.
    fn pulled<T: Real>(
        &self,
        function: &impl Differentiable,
        free: Arrays<T>,
        upstream: &ArrayD<f64>,
    ) -> Arrays<T> {
        let here = self.constraints.at(&self.at, free.clone());
        let gradients = function.backward(&here, &upstream.mapv(T::of));
        self.constraints.pull_back(&self.at, &free, gradients)
    }

    fn gradient_of(
        &self,
        function: &impl Differentiable,
        free: &Arrays,
        upstream: &ArrayD<f64>,
    ) -> Vec<Vec<f64>> {
        in_order(&self.at, &self.pulled(function, free.clone(), upstream))
    }

    /// The rates of the gradients by free arrays from those by the arrays: a constraint bends, so its
    /// pull-back moves, too.
    fn bent(&self, free: &Arrays, v: &Arrays, gradient: &Arrays, rates: &Arrays) -> Vec<Vec<f64>> {
        let pair = |name: &str, g: &ArrayD<f64>| {
            Zip::from(g).and(&rates[name]).map_collect(|g, r| Dual::new(*g, *r))
        };
        let moving = gradient.clone().map(|name, g| pair(name, &g));
        let pulled = self.constraints.pull_back(&self.at, &free.zip_with(v, Dual::new), moving);
        in_order(&self.at, &pulled.map(|_, g| g.mapv(|g| g.slope)))
    }

    /// Forward over backward.
    fn dual_product(
        &self,
        function: &impl Differentiable,
        free: &Arrays,
        upstream: &ArrayD<f64>,
        v: &[f64],
    ) -> Vec<Vec<f64>> {
        let moving = free.zip_with(&self.at.with_numbers(v), Dual::new);
        let rates = self.pulled(function, moving, upstream).map(|_, g| g.mapv(|g| g.slope));
        in_order(&self.at, &rates)
    }

    /// H v as what it is, the vector-Jacobian product of the gradient, and its symmetry.
    fn second(&self, gradient: Backward, product: HessianProduct) -> Report {
        let at = &self.at;
        let mut report = check_with(
            &self.settings,
            &format!("{} (second order)", self.name),
            &variables(at),
            &|values| gradient(&like(at, values)).concat(),
            &|values, v| product(&like(at, values), v),
        );
        report.identities.push(self.pairing("⟨w, H v⟩ = ⟨v, H w⟩", |at, v, w| {
            let [hv, hw] = [v, w].map(|v| product(at, v).concat());
            Sides::new((w, &hv), (v, &hw))
        }));
        report
    }

    /// An equation of two random directions.
    fn pairing(&self, name: &str, sides: impl Fn(&Arrays, &[f64], &[f64]) -> Sides) -> Identity {
        let (mut rng, n) = (Stream::new(SEED, 12), self.at.numbers().len());
        let (v, w) = (rng.normal(n), rng.normal(n));
        Identity::judge(name.into(), self.settings.resolution, |nudge: &mut Nudge| {
            let (a, b) = nudge.multiples;
            sides(&nudged(&self.at, nudge), &times(&v, a), &times(&w, b))
        })
    }

    /// A random direction, each array moved by its own size.
    fn sized(&self, rng: &mut Stream) -> Vec<f64> {
        let own = |v: crate::gradients::Variable| times(&rng.normal(v.values.len()), v.size());
        variables(&self.at).into_iter().flat_map(own).collect()
    }

    /// ⟨w, ∂g/∂x v⟩ from differences, how far it may be off, and the magnitudes that add up to it.
    fn slope(&self, gradient: Backward, v: &[f64], w: &[f64]) -> (f64, f64, f64) {
        let start = self.at.numbers();
        let along = |h: f64| {
            let moved: Vec<f64> = start.iter().zip(v).map(|(x, v)| x + h * v).collect();
            gradient(&self.at.with_numbers(&moved)).concat()
        };
        let here = along(0.0);
        // Steps at which nothing moves but round-off.
        let tiny = [1.0, 2.0, 3.0, 5.0, 7.0, 11.0].map(|k| {
            let there = along(k * f64::EPSILON);
            let terms = here.iter().zip(&there).zip(w).map(|((a, b), w)| w * (a - b));
            terms.sum::<f64>().abs()
        });
        let noise = tiny.into_iter().fold(0.0, f64::max);
        let mut ladder = Ladder::default();
        for rung in 0..STEPS {
            let step = 0.125 * 0.5f64.powi(rung);
            let (up, down) = (along(step), along(-step));
            let (mut change, mut bend, mut size) = (0.0, 0.0, 0.0);
            for i in 0..w.len() {
                change += w[i] * (up[i] - down[i]);
                bend += w[i] * (up[i] - here[i] - (here[i] - down[i]));
                size += (w[i] * (up[i] - down[i])).abs();
            }
            ladder.rungs.push(Rung {
                step,
                difference: change / (2.0 * step),
                jump: bend / step,
                size: size / (2.0 * step),
                noise: (DEVIATIONS * noise + f64::EPSILON * size) / (2.0 * step),
            });
        }
        let size = ladder.rungs.last().map_or(0.0, |r| r.size);
        match ladder.best() {
            Some(best) => (best.value, best.bound(), size),
            None => (f64::NAN, f64::INFINITY, size),
        }
    }
}
