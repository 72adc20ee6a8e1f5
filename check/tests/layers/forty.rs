//! Forty layers with their gradients, each right and with a mistake that somebody made.
//!
//! Where no source is named the mistake is of the kind that is made often. `benches/peers/gradcheck` has the
//! same layers, by the same names and at the same points, for other checkers.

pub mod activations;
pub mod attention;
pub mod grids;
pub mod kinks;
pub mod losses;
pub mod norms;
pub mod precision;
pub mod scales;

use beit_check::Arrays;
use beit_check::report::Report;
use ndarray::{Array1, Array2, ArrayD};

/// What a check must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Must {
    /// Pass.
    Pass,
    /// Fail.
    Fail,
    /// Anything but a failure: the point or the precision allows no more.
    NotFail,
    /// Anything but a pass.
    NotPass,
    /// What it says of the right one: at this point the two are the same function.
    Same,
}

/// A layer at a point.
pub struct Layer {
    /// Its name, and that of the mistake.
    pub name: &'static str,
    /// Checks it, with the mistake or without.
    pub check: fn(bool) -> Report,
    /// What must be said of the right one ...
    pub right: Must,
    /// ... and of the wrong one.
    pub wrong: Must,
}

impl Layer {
    /// A layer whose right gradient passes and whose wrong one fails.
    pub const fn new(name: &'static str, check: fn(bool) -> Report) -> Self {
        Self { name, check, right: Must::Pass, wrong: Must::Fail }
    }

    /// One of which something else is demanded.
    pub const fn but(mut self, right: Must, wrong: Must) -> Self {
        (self.right, self.wrong) = (right, wrong);
        self
    }
}

/// All of them.
pub fn forty() -> Vec<&'static Layer> {
    let all = [
        activations::LAYERS,
        attention::LAYERS,
        grids::LAYERS,
        kinks::LAYERS,
        losses::LAYERS,
        norms::LAYERS,
        precision::LAYERS,
        scales::LAYERS,
    ];
    all.into_iter().flatten().collect()
}

/// Numbers of this shape that look random: 0.1 + 1.3 sin(ki), i from 1.
pub fn wave(shape: &[usize], k: f64) -> ArrayD<f64> {
    let n: usize = shape.iter().product();
    let all = (1..=n).map(|i| (i as f64 * k).sin() * 1.3 + 0.1).collect();
    ArrayD::from_shape_vec(shape.to_vec(), all).expect("as many as the shape has")
}

/// The array of two axes with this name.
pub fn matrix(a: &Arrays, name: &str) -> Array2<f64> {
    a.matrix(name).to_owned()
}

/// The array of one axis with this name.
pub fn vector(a: &Arrays, name: &str) -> Array1<f64> {
    a.vector(name).to_owned()
}

/// Softmax of each row.
pub fn softmax(x: &Array2<f64>) -> Array2<f64> {
    let mut y = x.clone();
    for mut row in y.rows_mut() {
        let most = row.fold(f64::MIN, |a, &b| a.max(b));
        row.mapv_inplace(|x| (x - most).exp());
        let sum = row.sum();
        row /= sum;
    }
    y
}
