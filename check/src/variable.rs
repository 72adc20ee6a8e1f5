//! What is checked, and how thoroughly.

use super::promises::largest;
use serde::{Deserialize, Serialize};

/// Values of the variables to all outputs in one array.
pub type Forward<'a> = dyn Fn(&[Vec<f64>]) -> Vec<f64> + 'a;
/// Values of the variables and gradient of the outputs to one gradient per variable.
pub type Backward<'a> = dyn Fn(&[Vec<f64>], &[f64]) -> Vec<Vec<f64>> + 'a;

/// The numbers that a function takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// f64
    #[default]
    F64,
    /// f32: points are moved to numbers that it has.
    F32,
}

impl Precision {
    /// The nearest number that a function can be given.
    pub(super) fn round(self, x: f64) -> f64 {
        match self {
            Self::F64 => x,
            Self::F32 => f64::from(x as f32),
        }
    }
}

/// How thoroughly a function is checked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Tensors up to this size are checked element by element.
    pub dense: usize,
    /// Of a larger one this many elements ...
    pub samples: usize,
    /// ... and this many random projections of all.
    pub projections: usize,
    /// Largest step, relative to the size of the element, or of the tensor where many move.
    pub first_step: f64,
    /// Most steps, each half of the one before; at least 4, for all orders.
    pub steps: usize,
    /// Blocks into which a larger tensor is cut, twice and at random, each with a projection of its own; 0
    /// for none. They have [`Settings::dense`] elements each where this number allows it.
    pub blocks: usize,
    /// Bound to which a comparison is pressed where steps allow it, relative to its scale.
    pub resolution: f64,
    /// Largest bound with which one passes, relative to its scale; and the largest error of one element that
    /// a pass may overlook, relative to its tensor's largest gradient.
    pub coarsest: f64,
    /// A difference this large passes ...
    pub atol: f64,
    /// ... and one of this part of the numeric derivative is added to it; 0 and 0 leave the decision to what
    /// was measured. A comparison that they decided says so.
    pub rtol: f64,
    /// How far two runs may be apart, relative to the largest number of an array, before they are not the
    /// same.
    pub nondeterminism: f64,
    /// Of what numbers the arguments are.
    pub precision: Precision,
    /// Whether a subgradient at a kink is inconclusive; else it passes and is reported as a choice.
    pub refuse_kinks: bool,
    /// Whether the report gets a ladder over all steps for each tensor, to be drawn.
    pub curves: bool,
}

impl Default for Settings {
    /// 96 elements densely, 12 samples, 4 projections and at most 64 blocks of larger tensors, up to 40 steps
    /// from 1/8 on, a resolution of 1e-6 where it can be had, and of 1e-4 at least.
    fn default() -> Self {
        Self {
            dense: 96,
            samples: 12,
            projections: 4,
            first_step: 0.125,
            steps: 40,
            blocks: 64,
            resolution: 1e-6,
            coarsest: 1e-4,
            atol: 0.0,
            rtol: 0.0,
            nondeterminism: 0.0,
            precision: Precision::F64,
            refuse_kinks: false,
            curves: false,
        }
    }
}

impl Settings {
    /// Ops have few tensors and are checked thoroughly. Layers and models have many and are made of
    /// ops so checked; what is left to prove there is the wiring, which every element shows.
    pub fn for_tensors(tensors: usize) -> Self {
        match tensors {
            0..=8 => Self::default(),
            _ => Self { dense: 12, samples: 4, projections: 2, blocks: 0, ..Self::default() },
        }
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

    /// The place of an index in row-major order.
    pub(super) fn flat(&self, index: &[usize]) -> usize {
        index.iter().zip(&self.shape).fold(0, |flat, (i, len)| flat * len + i)
    }

    pub(super) fn index(&self, mut flat: usize) -> Vec<usize> {
        let mut index = vec![0; self.shape.len()];
        for (slot, &len) in index.iter_mut().zip(&self.shape).rev() {
            *slot = flat % len;
            flat /= len;
        }
        index
    }

    /// The power of two next to the median magnitude of what is not 0; 1 where all are 0.
    pub(super) fn size(&self) -> f64 {
        let moved = self.values.iter().map(|x| x.abs()).filter(|x| *x > 0.0 && x.is_finite());
        let mut all: Vec<f64> = moved.collect();
        let middle = all.len() / 2;
        match all.len() {
            0 => 1.0,
            _ => power_of_two(*all.select_nth_unstable_by(middle, f64::total_cmp).1),
        }
    }
}

/// The power of two next to a positive number.
pub(super) fn power_of_two(x: f64) -> f64 {
    x.log2().round().clamp(-1000.0, 1000.0).exp2()
}

/// A point, and what the function gives there.
#[derive(Clone)]
pub(super) struct Evaluated {
    pub(super) values: Vec<Vec<f64>>,
    pub(super) outputs: Vec<f64>,
    pub(super) gradients: Vec<Vec<f64>>,
    /// The largest magnitude of each gradient.
    pub(super) largest: Vec<f64>,
}

impl Evaluated {
    pub(super) fn new(values: Vec<Vec<f64>>, outputs: Vec<f64>, gradients: Vec<Vec<f64>>) -> Self {
        let largest = gradients.iter().map(|g| largest(g)).collect();
        Self { values, outputs, gradients, largest }
    }
}
