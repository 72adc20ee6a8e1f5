//! The check for layers of one's own: forward and backward over named ndarrays.

use super::double::Double;
use super::dual::Dual;
use super::gradients::{Precise, Settings, Variable, check_exactly, check_with};
use super::report::Report;
use crate::real::Real;
use ndarray::{Array, ArrayD, ArrayView1, ArrayView2, Dimension, Ix1, Ix2, IxDyn};
use std::ops::Index;

/// Named arrays in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct Arrays<T = f64>(Vec<(String, ArrayD<T>)>);

impl<T> Arrays<T> {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// One more, of any number of axes; panics where there is one of that name.
    #[track_caller]
    #[must_use]
    pub fn with<D: Dimension>(mut self, name: &str, array: Array<T, D>) -> Self {
        assert!(self.get(name).is_none(), "there is an array `{name}` already");
        self.0.push((name.into(), array.into_dyn()));
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

    /// An array of one axis; panics where it has another number of axes.
    #[track_caller]
    pub fn vector(&self, name: &str) -> ArrayView1<'_, T> {
        let array = &self[name];
        let view = array.view().into_dimensionality::<Ix1>();
        view.unwrap_or_else(|_| panic!("`{name}` has shape {:?}, not one axis", array.shape()))
    }

    /// An array of two axes; panics where it has another number of axes.
    #[track_caller]
    pub fn matrix(&self, name: &str) -> ArrayView2<'_, T> {
        let array = &self[name];
        let view = array.view().into_dimensionality::<Ix2>();
        view.unwrap_or_else(|_| panic!("`{name}` has shape {:?}, not two axes", array.shape()))
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
pub trait Function {
    /// The outputs.
    fn forward<T: Real>(&self, at: &Arrays<T>) -> ArrayD<T>;
    /// From the gradient of the outputs that of every array, by name.
    fn backward(&self, at: &Arrays, upstream: &ArrayD<f64>) -> Arrays;
}

/// Checks the vector-Jacobian product `backward` of a function over the arrays `at`, at this point, against
/// differences ([`mod@super::gradients`] says how). `backward` gets the arrays and the gradient of the
/// outputs, shaped like them, and returns a gradient for every array by its name; one that is
/// missing, has another shape or another name is a fault in the report. What has no gradient (indices, a
/// mask, targets) belongs into the closures, not among the arrays.
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
    let (variables, shape) = (variables(at), forward(at).raw_dim());
    let flat_forward = |values: &[Vec<f64>]| flat(&forward(&like(at, values)).into_dyn());
    let flat_backward = |values: &[Vec<f64>], upstream: &[f64]| -> Vec<Vec<f64>> {
        let upstream = Array::from_shape_vec(shape.clone(), upstream.to_vec());
        let upstream = upstream.expect("as many as outputs");
        in_order(at, &backward(&like(at, values), &upstream))
    };
    let mut report = check_with(settings, name, &variables, &flat_forward, &flat_backward);
    let upstream: Array<f64, D> = Array::zeros(shape);
    if upstream.is_empty() {
        report.faults.push("forward returns no outputs".into());
    }
    report.faults.splice(0..0, misnamed(at, &backward(at, &upstream)));
    report
}

/// [`gradients`] of a function whose forward runs on any scalar: also against exact derivatives from dual
/// numbers ([`super::exact`]), and with a certificate from double-double ([`super::certificate`]). The limit
/// of 1e-13 supposes that the forward loses no digits to cancellation between its steps, as 1 − cos x
/// near 0 does: there the exact derivative has a round-off of its own, which is not measured.
pub fn gradients_of(name: &str, at: &Arrays, function: &impl Function) -> Report {
    let mut report = gradients(
        name,
        at,
        |at| function.forward(at),
        |at, upstream: &ArrayD<f64>| function.backward(at, upstream),
    );
    if !report.faults.is_empty() {
        return report;
    }
    let variables = variables(at);
    let values: Vec<Vec<f64>> = variables.iter().map(|v| v.values.clone()).collect();
    let outputs = function.forward(at);
    let backward = |upstream: &[f64]| {
        let upstream = ArrayD::from_shape_vec(outputs.raw_dim(), upstream.to_vec());
        in_order(at, &function.backward(at, &upstream.expect("as many as outputs")))
    };
    let slopes = |velocities: &[Vec<f64>]| {
        let moving = moved(at, &values, velocities, Dual::new);
        function.forward(&moving).iter().map(|y| y.slope).collect()
    };
    let precise = |displacements: &[Vec<f64>]| -> Vec<Double> {
        let moved = moved(at, &values, displacements, Double::new);
        function.forward(&moved).iter().copied().collect()
    };
    let precise = Precise { slopes: &slopes, double: Some(&precise) };
    check_exactly(&mut report, &variables, outputs.len(), &backward, precise);
    report
}

fn variables(at: &Arrays) -> Vec<Variable> {
    at.iter().map(|(name, array)| Variable::new(name, array.shape(), flat(array))).collect()
}

/// Row-major.
fn flat(array: &ArrayD<f64>) -> Vec<f64> {
    array.iter().copied().collect()
}

/// The same names and shapes with other values.
fn like(at: &Arrays, values: &[Vec<f64>]) -> Arrays {
    moved(at, values, values, |x, _| x)
}

/// Arrays of another scalar, made of two numbers for each element.
fn moved<T>(
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
fn in_order(at: &Arrays, gradients: &Arrays) -> Vec<Vec<f64>> {
    at.iter().map(|(name, _)| gradients.get(name).map(flat).unwrap_or_default()).collect()
}

/// Gradients of a name or a shape that no array has.
fn misnamed(at: &Arrays, gradients: &Arrays) -> Vec<String> {
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
