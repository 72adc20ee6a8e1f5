//! The check for layers of one's own: forward and backward over named ndarrays.

use super::gradients::{Settings, Variable};
use super::report::Report;
use super::variable::Precision;
use crate::builder::Check;
use crate::real::Real;
use ndarray::{
    Array, ArrayBase, ArrayD, ArrayView, ArrayView1, ArrayView2, ArrayView3, Data, Dimension,
    IxDyn, Zip,
};
use std::ops::Index;

/// Named arrays in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct Arrays<T = f64>(Vec<(String, ArrayD<T>)>);

impl<T> Arrays<T> {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// One more, of any number of axes and any memory order, owned or a view; panics where there is one of
    /// that name.
    #[track_caller]
    #[must_use]
    pub fn with<S, D>(mut self, name: &str, array: ArrayBase<S, D>) -> Self
    where
        S: Data<Elem = T>,
        D: Dimension,
        T: Clone,
    {
        assert!(self.get(name).is_none(), "there is an array `{name}` already");
        self.0.push((name.into(), array.into_owned().into_dyn()));
        self
    }

    /// The array of that name.
    pub fn get(&self, name: &str) -> Option<&ArrayD<T>> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, array)| array)
    }

    /// Name and array, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ArrayD<T>)> {
        self.0.iter().map(|(name, array)| (&**name, array))
    }

    /// An array of as many axes as the type says, `a.view::<Ix4>("x")`; panics where it has another number.
    #[track_caller]
    pub fn view<D: Dimension>(&self, name: &str) -> ArrayView<'_, T, D> {
        let array = &self[name];
        let view = array.view().into_dimensionality::<D>();
        let axes = D::NDIM.unwrap_or_default();
        view.unwrap_or_else(|_| {
            panic!("`{name}` has shape {:?}, wanted are {axes} axes", array.shape())
        })
    }

    /// An array of one axis; panics where it has another number of axes.
    #[track_caller]
    pub fn vector(&self, name: &str) -> ArrayView1<'_, T> {
        self.view(name)
    }

    /// An array of two axes; panics where it has another number of axes.
    #[track_caller]
    pub fn matrix(&self, name: &str) -> ArrayView2<'_, T> {
        self.view(name)
    }

    /// An array of three axes; panics where it has another number of axes.
    #[track_caller]
    pub fn cube(&self, name: &str) -> ArrayView3<'_, T> {
        self.view(name)
    }

    /// The same names with other arrays.
    pub(crate) fn map<U>(self, mut change: impl FnMut(&str, ArrayD<T>) -> ArrayD<U>) -> Arrays<U> {
        let one = |(name, array): (String, ArrayD<T>)| {
            let changed = change(&name, array);
            (name, changed)
        };
        Arrays(self.0.into_iter().map(one).collect())
    }

    /// Element by element with arrays of the same names and shapes.
    pub(crate) fn zip_with<U: Copy, V>(
        &self,
        others: &Arrays<U>,
        make: impl Fn(T, U) -> V,
    ) -> Arrays<V>
    where
        T: Copy,
    {
        let pairs = self.0.iter().zip(&others.0);
        let all = pairs.map(|((name, a), (_, b))| {
            (name.clone(), Zip::from(a).and(b).map_collect(|a, b| make(*a, *b)))
        });
        Arrays(all.collect())
    }
}

impl<T> Index<&str> for Arrays<T> {
    type Output = ArrayD<T>;
    /// Panics where there is none of that name.
    #[track_caller]
    fn index(&self, name: &str) -> &ArrayD<T> {
        self.get(name).unwrap_or_else(|| {
            let names: Vec<&str> = self.0.iter().map(|(name, _)| &**name).collect();
            panic!("there is no array `{name}`, there are: {}", names.join(", "))
        })
    }
}

/// A forward for any scalar, and its backward.
///
/// Several outputs go into one array, flat and one after the other (`ndarray::concatenate`), and `upstream` has
/// the same form; by name, as [`Check::gradients`] takes them, they are not run on dual numbers.
///
/// Arrays of any [`Real`] have `dot`, `sum`, `mean`, `fold` and broadcasting, as those of f64 have. Attention of
/// several heads, softmax(q kᵀ/√D) v:
///
/// ```
/// use beit_check::{Arrays, Check, Function, Real};
/// use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis};
///
/// struct Attention;
///
/// fn probabilities<T: Real>(q: ArrayView2<T>, k: ArrayView2<T>) -> Array2<T> {
///     let scale = T::of(q.ncols() as f64).sqrt();
///     let mut scores = q.dot(&k.t()) / scale;
///     for mut row in scores.rows_mut() {
///         let largest = row.fold(row[0], |a, b| a.maximum(*b));
///         row.mapv_inplace(|x| (x - largest).exp());
///         let sum = row.sum();
///         row /= sum;
///     }
///     scores
/// }
///
/// impl Function for Attention {
///     fn forward<T: Real>(&self, a: &Arrays<T>) -> ArrayD<T> {
///         let (q, k, v) = (a.cube("q"), a.cube("k"), a.cube("v"));
///         let mut y = Array3::zeros(v.raw_dim());
///         for (h, mut y) in y.outer_iter_mut().enumerate() {
///             let [q, k, v] = [q, k, v].map(|x| x.index_axis_move(Axis(0), h));
///             y.assign(&probabilities(q, k).dot(&v));
///         }
///         y.into_dyn()
///     }
///
///     fn backward(&self, a: &Arrays, dy: &ArrayD<f64>) -> Arrays {
///         let (q, k, v) = (a.cube("q"), a.cube("k"), a.cube("v"));
///         let dy = dy.view().into_dimensionality::<ndarray::Ix3>().unwrap();
///         let [mut dq, mut dk, mut dv] = [q, k, v].map(|x| Array3::zeros(x.raw_dim()));
///         for h in 0..q.len_of(Axis(0)) {
///             let [q, k, v, dy] = [q, k, v, dy].map(|x| x.index_axis_move(Axis(0), h));
///             let p = probabilities(q, k);
///             let dp = dy.dot(&v.t());
///             let mean = (&dp * &p).sum_axis(Axis(1)).insert_axis(Axis(1));
///             let ds = p.clone() * (dp - mean) / (q.ncols() as f64).sqrt();
///             dq.index_axis_mut(Axis(0), h).assign(&ds.dot(&k));
///             dk.index_axis_mut(Axis(0), h).assign(&ds.t().dot(&q));
///             dv.index_axis_mut(Axis(0), h).assign(&p.t().dot(&dy));
///         }
///         Arrays::new().with("q", dq).with("k", dk).with("v", dv)
///     }
/// }
///
/// let wave = |k: f64| Array3::from_shape_fn((2, 4, 3), |(h, n, d)| ((h * 12 + n * 3 + d) as f64 * k).sin());
/// let at = Arrays::new().with("q", wave(0.7)).with("k", wave(1.3)).with("v", wave(2.1));
/// let report = Check::new("attention").at(at).function(&Attention);
/// assert!(report.passed(), "{report}");
/// ```
pub trait Function {
    /// The outputs.
    fn forward<T: Real>(&self, at: &Arrays<T>) -> ArrayD<T>;
    /// From the gradient of the outputs that of every array, by name.
    fn backward(&self, at: &Arrays, upstream: &ArrayD<f64>) -> Arrays;
}

/// Checks the vector-Jacobian product `backward` of a function over the arrays `at`, at this point, against
/// differences ([`mod@super::gradients`] says how). `backward` gets the arrays and the gradient of the
/// outputs, shaped like them, and returns a gradient for every array by its name; one that is
/// missing, has another shape or another name is a fault in the report. What has no gradient (ids, a
/// mask, targets) belongs into the closures, not among the arrays:
///
/// ```
/// use beit_check::Arrays;
/// use ndarray::{Array1, array};
///
/// let (ids, mask) = ([2usize, 0, 2], [1.0, 0.0, 1.0]);
/// let report = beit_check::gradients(
///     "masked_lookup",
///     &Arrays::new().with("table", array![0.1, -0.3, 0.7]),
///     |a| ids.iter().zip(mask).map(|(&id, m)| m * a.vector("table")[id]).collect::<Array1<f64>>(),
///     |_, dy| {
///         let mut table = Array1::zeros(3);
///         for ((&id, m), dy) in ids.iter().zip(mask).zip(dy) {
///             table[id] += m * dy;
///         }
///         Arrays::new().with("table", table)
///     },
/// );
/// assert!(report.passed(), "{report}");
/// ```
///
/// [`gradients_f32`] and [`Check::settings`] are for layers in f32; [`Check::gradients`] has examples with
/// several outputs, with state and with ids, [`Check::constrain`] with arguments that are positive, on a simplex
/// or symmetric.
pub fn gradients<D: Dimension>(
    name: &str,
    at: &Arrays,
    forward: impl Fn(&Arrays) -> Array<f64, D>,
    backward: impl Fn(&Arrays, &Array<f64, D>) -> Arrays,
) -> Report {
    gradients_with(&Settings::default(), name, at, forward, backward)
}

/// [`gradients`] with other settings: more or fewer elements, another first step, a coarser resolution
/// for a function that computes in f32.
pub fn gradients_with<D: Dimension>(
    settings: &Settings,
    name: &str,
    at: &Arrays,
    forward: impl Fn(&Arrays) -> Array<f64, D>,
    backward: impl Fn(&Arrays, &Array<f64, D>) -> Arrays,
) -> Report {
    Check::new(name).at(at.clone()).settings(*settings).gradients(forward, backward)
}

/// [`gradients`] of a forward and a backward that compute in f32. Points are moved to numbers that f32 has,
/// and round-off is measured, so a right one passes at the resolution that f32 leaves, which the report
/// states; at most 1e-3 of the largest gradient. Between kinks that are near it may be inconclusive.
///
/// ```
/// use beit_check::{Arrays, gradients_f32};
/// use ndarray::array;
///
/// let at: Arrays<f32> = Arrays::new().with("x", array![[-1.5, 0.2], [2.0, 7.0]]);
/// let report = gradients_f32(
///     "softplus",
///     &at,
///     |a| a["x"].mapv(|x| x.exp().ln_1p()),
///     |a, dy| Arrays::new().with("x", dy / a["x"].mapv(|x| 1.0 + (-x).exp())),
/// );
/// assert!(report.passed(), "{report}");
/// ```
pub fn gradients_f32<D: Dimension>(
    name: &str,
    at: &Arrays<f32>,
    forward: impl Fn(&Arrays<f32>) -> Array<f32, D>,
    backward: impl Fn(&Arrays<f32>, &Array<f32, D>) -> Arrays<f32>,
) -> Report {
    let wide =
        |a: Arrays<f32>| Arrays(a.0.into_iter().map(|(n, x)| (n, x.mapv(f64::from))).collect());
    let narrow =
        |a: &Arrays| Arrays(a.0.iter().map(|(n, x)| (n.clone(), x.mapv(|x| x as f32))).collect());
    let settings = Settings { precision: Precision::F32, coarsest: 1e-3, ..Settings::default() };
    gradients_with(
        &settings,
        name,
        &wide(at.clone()),
        |a| forward(&narrow(a)).mapv(f64::from),
        |a, dy: &Array<f64, D>| wide(backward(&narrow(a), &dy.mapv(|dy| dy as f32))),
    )
}

/// [`gradients`] of a function whose forward runs on any scalar: also against exact derivatives from dual
/// numbers ([`super::exact`]), and with a certificate from double-double ([`super::certificate`]). The limit
/// of 1e-13 supposes that the forward loses no digits to cancellation between its steps, as 1 − cos x
/// near 0 does: there the exact derivative has a round-off of its own, which is not measured.
pub fn gradients_of(name: &str, at: &Arrays, function: &impl Function) -> Report {
    Check::new(name).at(at.clone()).function(function)
}

pub(crate) fn variables(at: &Arrays) -> Vec<Variable> {
    at.iter().map(|(name, array)| Variable::new(name, array.shape(), flat(array))).collect()
}

/// Row-major.
pub(crate) fn flat(array: &ArrayD<f64>) -> Vec<f64> {
    array.iter().copied().collect()
}

/// The same names and shapes with other values.
pub(crate) fn like(at: &Arrays, values: &[Vec<f64>]) -> Arrays {
    moved(at, values, values, |x, _| x)
}

/// Arrays of another scalar, made of two numbers for each element.
pub(crate) fn moved<T>(
    at: &Arrays,
    values: &[Vec<f64>],
    second: &[Vec<f64>],
    make: impl Fn(f64, f64) -> T,
) -> Arrays<T> {
    let pairs = at.iter().zip(values.iter().zip(second));
    let all = pairs.map(|((name, array), (x, v))| {
        let numbers = x.iter().zip(v).map(|(&x, &v)| make(x, v)).collect();
        let array = ArrayD::from_shape_vec(IxDyn(array.shape()), numbers);
        (name.to_string(), array.expect("as many as before"))
    });
    Arrays(all.collect())
}

/// Gradients in the order of the arrays, none where one is missing.
pub(crate) fn in_order(at: &Arrays, gradients: &Arrays) -> Vec<Vec<f64>> {
    at.iter().map(|(name, _)| gradients.get(name).map(flat).unwrap_or_default()).collect()
}

/// Gradients of a name or a shape that no array has.
pub(crate) fn misnamed(at: &Arrays, gradients: &Arrays) -> Vec<String> {
    let fault = |(name, gradient): (&str, &ArrayD<f64>)| match at.get(name) {
        None => Some(format!("backward returned a gradient for `{name}`, which is no array")),
        // Another number of elements is found where values are compared.
        Some(array) if array.len() == gradient.len() && array.shape() != gradient.shape() => {
            let (got, want) = (gradient.shape(), array.shape());
            Some(format!("gradient of {name} has shape {got:?}, the array {want:?}"))
        }
        Some(_) => None,
    };
    gradients.iter().filter_map(fault).collect()
}
