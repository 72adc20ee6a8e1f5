//! A check with everything that it may need.

use crate::arrays::{Arrays, like, misnamed, variables};
use crate::constraint::{Constraint, Constraints};
use crate::gradients::{Settings, caught, check_with};
use crate::outputs::Outputs;
use crate::pair::Pair;
use crate::report::Report;
use std::cell::RefCell;

/// A layer with state: what forward keeps, backward uses.
pub trait Layer {
    /// One array, several by name, one number.
    type Outputs: Outputs;
    /// The outputs; keeps what backward needs.
    fn forward(&mut self, at: &Arrays) -> Self::Outputs;
    /// From the gradient of the outputs of the last forward that of every array, by name.
    fn backward(&mut self, upstream: &Self::Outputs) -> Arrays;
}

/// A check: its name, the point, what is kept there, how thorough it is; then what is checked.
///
/// The log-likelihood of counts under a distribution p, which moves on the simplex. Two outputs, and counts,
/// which are integers, captured by the closures:
///
/// ```
/// use beit_check::{Arrays, Check, Constraint};
/// use ndarray::{Array1, arr0, array};
///
/// let counts = [3u32, 1, 6];
/// let of = |p: f64, n: u32| f64::from(n) * p.ln();
/// let report = Check::new("likelihood")
///     .at(Arrays::new().with("p", array![0.2, 0.3, 0.5]))
///     .constrain("p", Constraint::Simplex)
///     .gradients(
///         |a| {
///             let terms: Array1<f64> = a.vector("p").iter().zip(counts).map(|(p, n)| of(*p, n)).collect();
///             Arrays::new().with("sum", arr0(terms.sum())).with("terms", terms)
///         },
///         |a, up| {
///             let pairs = a["p"].iter().zip(counts).zip(up.vector("terms"));
///             let dp: Array1<f64> =
///                 pairs.map(|((p, n), u)| (up["sum"][[]] + u) * f64::from(n) / p).collect();
///             Arrays::new().with("p", dp)
///         },
///     );
/// assert!(report.passed(), "{report}");
/// ```
#[derive(Clone, Debug)]
pub struct Check {
    pub(crate) name: String,
    pub(crate) at: Arrays,
    pub(crate) constraints: Constraints,
    pub(crate) settings: Settings,
}

impl Check {
    /// A check of this name, at no arrays yet.
    pub fn new(name: &str) -> Self {
        let (at, constraints) = (Arrays::new(), Constraints::default());
        Self { name: name.into(), at, constraints, settings: Settings::default() }
    }

    /// The arrays, and where they are. What has no gradient (ids, a mask, targets) belongs into the
    /// closures, see [`Check::gradients`].
    #[must_use]
    pub fn at(mut self, at: Arrays) -> Self {
        self.at = at;
        self
    }

    /// What one of the arrays keeps while it moves.
    ///
    /// The given point must keep it already: positive elements above 0, rows of a simplex that sum to 1,
    /// symmetric matrices. Nothing is mended: a point that breaks its constraint is a fault of the report,
    /// which says where and how.
    ///
    /// ```
    /// use beit_check::{Arrays, Check, Constraint};
    /// use ndarray::{Array2, array};
    ///
    /// // Logarithms: every element above 0.
    /// let positive = Check::new("logs")
    ///     .at(Arrays::new().with("s", array![0.2, 1e-3, 4.0]))
    ///     .constrain("s", Constraint::Positive)
    ///     .gradients(|a| a["s"].mapv(f64::ln).sum(), |a, dy| Arrays::new().with("s", a["s"].mapv(|s| dy / s)));
    ///
    /// // Entropy of a row of probabilities.
    /// let entropy = |p| {
    ///     Check::new("entropy")
    ///         .at(Arrays::new().with("p", p))
    ///         .constrain("p", Constraint::Simplex)
    ///         .gradients(
    ///             |a| -a["p"].mapv(|p| p * p.ln()).sum(),
    ///             |a, dy| Arrays::new().with("p", a["p"].mapv(|p| -dy * (p.ln() + 1.0))),
    ///         )
    /// };
    /// let simplex = entropy(array![0.2, 0.3, 0.5]);
    ///
    /// // xᵀ A x with a symmetric A.
    /// let x = array![0.5, -1.2];
    /// let symmetric = Check::new("quadratic")
    ///     .at(Arrays::new().with("a", array![[2.0, 0.3], [0.3, 1.0]]))
    ///     .constrain("a", Constraint::Symmetric)
    ///     .gradients(
    ///         |a| x.dot(&a.matrix("a").dot(&x)),
    ///         |_, dy| Arrays::new().with("a", Array2::from_shape_fn((2, 2), |(i, j)| dy * x[i] * x[j])),
    ///     );
    /// for report in [positive, simplex, symmetric] {
    ///     assert!(report.passed(), "{report}");
    /// }
    ///
    /// // Not on the simplex:
    /// let outside = entropy(array![0.2, 0.3, 0.4]);
    /// assert!(outside.faults[0].starts_with("p has elements that sum to 0.9"), "{outside}");
    /// ```
    #[must_use]
    pub fn constrain(mut self, name: &str, constraint: Constraint) -> Self {
        self.constraints.add(name, constraint);
        self
    }

    /// How thorough it is, and of what numbers the arguments are.
    ///
    /// A layer that computes in f32 is moved to points that f32 has and passes at what its rounding leaves, at
    /// most [`Settings::coarsest`]; [`crate::gradients_f32`] does the same with arrays of f32. In arrays of more
    /// than [`Settings::dense`] elements the directions through many of them drown in that rounding: raise
    /// it, too.
    ///
    /// ```
    /// use beit_check::{Arrays, Check, Precision, Settings};
    /// use ndarray::{ArrayD, array};
    ///
    /// let single = |x: &ArrayD<f64>| x.mapv(|x| x as f32);
    /// let report = Check::new("softplus")
    ///     .at(Arrays::new().with("x", array![[-1.5, 0.2], [2.0, 7.0]]))
    ///     .settings(Settings { precision: Precision::F32, coarsest: 1e-3, ..Settings::default() })
    ///     .gradients(
    ///         |a| single(&a["x"]).mapv(|x| f64::from(x.exp().ln_1p())),
    ///         |a, dy| {
    ///             let dx = single(dy) / single(&a["x"]).mapv(|x| 1.0 + (-x).exp());
    ///             Arrays::new().with("x", dx.mapv(f64::from))
    ///         },
    ///     );
    /// assert!(report.passed(), "{report}");
    /// ```
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Checks a backward against differences of its forward, as [`crate::gradients()`] does.
    ///
    /// **Several outputs** are [`Arrays`], and so is their gradient, by the same names:
    ///
    /// ```
    /// use beit_check::{Arrays, Check};
    /// use ndarray::{Axis, array};
    ///
    /// let at = Arrays::new().with("x", array![[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]]);
    /// let report = Check::new("sums").at(at).gradients(
    ///     |a| {
    ///         let x = a.matrix("x");
    ///         Arrays::new().with("sum", x.sum_axis(Axis(1))).with("squares", x.mapv(|x| x * x))
    ///     },
    ///     |a, up| {
    ///         let each = up.vector("sum").insert_axis(Axis(1));
    ///         Arrays::new().with("x", a.matrix("x").to_owned() * 2.0 * up.matrix("squares") + &each)
    ///     },
    /// );
    /// assert!(report.passed(), "{report}");
    /// ```
    ///
    /// **State.** Before each backward, forward runs at the same arrays, so that both closures may share what
    /// forward keeps, in a `RefCell`; each may change what it captured alone. A type that has state goes
    /// through [`Check::layer`].
    ///
    /// ```
    /// use beit_check::{Arrays, Check};
    /// use ndarray::{Array1, array};
    /// use std::cell::RefCell;
    ///
    /// let (kept, mut runs) = (RefCell::new(Array1::zeros(0)), 0);
    /// let report = Check::new("exp").at(Arrays::new().with("x", array![0.3, -1.2])).gradients(
    ///     |a| {
    ///         runs += 1;
    ///         kept.replace(a.vector("x").mapv(f64::exp));
    ///         kept.borrow().clone()
    ///     },
    ///     |_, dy: &Array1<f64>| Arrays::new().with("x", dy * &*kept.borrow()),
    /// );
    /// assert!(report.passed() && runs > 2, "{report}");
    /// ```
    ///
    /// **Ids,** a mask and targets have no gradient: the closures capture them.
    ///
    /// ```
    /// use beit_check::{Arrays, Check};
    /// use ndarray::{Array2, Axis, array};
    ///
    /// let ids = [2usize, 0, 2];
    /// let at = Arrays::new().with("table", array![[0.1, 0.5], [-0.3, 0.2], [0.7, -0.4]]);
    /// let report = Check::new("embedding").at(at).gradients(
    ///     |a| a.matrix("table").select(Axis(0), &ids),
    ///     |_, dy| {
    ///         let mut table = Array2::zeros((3, 2));
    ///         for (&id, dy) in ids.iter().zip(dy.rows()) {
    ///             let mut row = table.row_mut(id);
    ///             row += &dy;
    ///         }
    ///         Arrays::new().with("table", table)
    ///     },
    /// );
    /// assert!(report.passed(), "{report}");
    /// ```
    pub fn gradients<O: Outputs>(
        &self,
        forward: impl FnMut(&Arrays) -> O,
        backward: impl FnMut(&Arrays, &O) -> Arrays,
    ) -> Report {
        let at = &self.at;
        let pair = match Pair::start(self, forward, backward) {
            Ok(pair) => pair,
            Err(report) => return *report,
        };
        let zero = vec![0.0; pair.outputs.numbers().len()];
        let nothing = pair.outputs.with_numbers(&zero);
        let mut faults = match caught(|| misnamed(at, &pair.returned(at, &nothing))) {
            Ok(faults) => faults,
            Err(text) => return self.faulty(format!("backward panicked: {text}")),
        };
        if zero.is_empty() && at.iter().any(|(_, array)| !array.is_empty()) {
            faults.push("forward returns no outputs".into());
        }
        let mut report = check_with(
            &self.settings,
            &self.name,
            &variables(at),
            &|values| pair.forward(&like(at, values)).numbers(),
            &|values, upstream| {
                pair.gradients(&like(at, values), &pair.outputs.with_numbers(upstream))
            },
        );
        report.faults.splice(0..0, faults);
        report
    }

    /// Checks a layer with state. Its forward has run elsewhere before: state that is kept from the first
    /// run shows.
    ///
    /// ```
    /// use beit_check::{Arrays, Check, Layer};
    /// use ndarray::{Array1, array};
    ///
    /// #[derive(Default)]
    /// struct Tanh {
    ///     y: Array1<f64>,
    /// }
    ///
    /// impl Layer for Tanh {
    ///     type Outputs = Array1<f64>;
    ///     fn forward(&mut self, at: &Arrays) -> Array1<f64> {
    ///         self.y = at.vector("x").mapv(f64::tanh);
    ///         self.y.clone()
    ///     }
    ///     fn backward(&mut self, dy: &Array1<f64>) -> Arrays {
    ///         Arrays::new().with("x", dy * self.y.mapv(|y| 1.0 - y * y))
    ///     }
    /// }
    ///
    /// let check = Check::new("tanh").at(Arrays::new().with("x", array![0.3, -1.2]));
    /// let report = check.layer(&mut Tanh::default());
    /// assert!(report.passed(), "{report}");
    /// ```
    pub fn layer<L: Layer>(&self, layer: &mut L) -> Report {
        if let Some(report) = self.impossible() {
            return report;
        }
        let elsewhere = self.at.clone().map(|_, x| x.mapv(|x| x * (1.0 + 1.0 / 64.0)));
        layer.forward(&self.constraints.at(&self.at, elsewhere));
        let layer = RefCell::new(layer);
        self.gradients(
            |at| layer.borrow_mut().forward(at),
            |_, upstream| layer.borrow_mut().backward(upstream),
        )
    }

    /// A report of one fault.
    pub(crate) fn faulty(&self, fault: String) -> Report {
        Report { faults: vec![fault], ..Report::new(&self.name) }
    }

    /// The report where nothing can be checked.
    pub(crate) fn impossible(&self) -> Option<Report> {
        let faults = self.constraints.violated(&self.at);
        (!faults.is_empty()).then(|| Report { faults, ..Report::new(&self.name) })
    }
}
