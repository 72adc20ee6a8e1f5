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
///
/// Defaults are those of `Settings::default()`; [`check`](crate::gradients::check) with more than eight
/// variables takes those of [`Settings::for_tensors`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Largest tensor that is checked element by element. In elements; default `96`.
    pub dense: usize,
    /// Of a larger one so many elements are checked by themselves. In elements; default `12`.
    pub samples: usize,
    /// Of a larger one so many random projections of all its elements. In directions; default `4`.
    pub projections: usize,
    /// Largest step. A multiple of the size of the element, or of the tensor where many move; default `0.125`.
    pub first_step: f64,
    /// Most steps, each half of the one before; at least 4, for all orders. In steps; default `40`.
    pub steps: usize,
    /// Most blocks into which a larger tensor is cut, twice and at random, each with a projection of its own;
    /// they have [`Settings::dense`] elements each where this number allows it. In blocks, 0 for none;
    /// default `64`.
    pub blocks: usize,
    /// Bound to which a comparison is pressed where steps allow it. A part of its
    /// [scale](crate::report::Comparison::scale); default `1e-6`.
    pub resolution: f64,
    /// Largest bound with which a comparison passes, a part of its scale; and the largest error of one element
    /// that a pass may overlook, a part of its tensor's largest gradient. Default `1e-4`.
    pub coarsest: f64,
    /// A difference this large passes. In units of the gradient, 0 for what was measured; default `0.0`.
    /// A comparison that it decided says so.
    pub atol: f64,
    /// This part of the numeric derivative is added to [`Settings::atol`]. Without a unit; default `0.0`.
    pub rtol: f64,
    /// How far two runs may be apart before they are not the same. A part of the largest number of an array,
    /// 0 for the same bits; default `0.0`.
    pub nondeterminism: f64,
    /// Of what numbers the arguments are. Default `f64`.
    pub precision: Precision,
    /// Whether a subgradient at a kink is inconclusive; else it passes and is reported as a choice.
    /// Default `false`.
    pub refuse_kinks: bool,
    /// Whether the report gets a ladder over all steps for each tensor, to be drawn. Default `false`.
    pub curves: bool,
}

impl Default for Settings {
    /// What each field says.
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
    /// ops so checked; what is left to prove there is the wiring, which every element shows: more than eight
    /// tensors have 12 [dense](Settings::dense) elements, 4 samples, 2 projections and no blocks.
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// The default that the doc of each field states.
    #[test]
    fn documented_defaults() {
        let (_, rest) = include_str!("variable.rs").split_once("pub struct Settings {").unwrap();
        let (fields, _) = rest.split_once("\n}\n").unwrap();
        let defaults = serde_json::to_value(Settings::default()).unwrap();
        let (mut doc, mut named) = (String::new(), 0);
        for line in fields.lines().map(str::trim) {
            if let Some(text) = line.strip_prefix("/// ") {
                doc += &format!("{text} ");
                continue;
            }
            let Some((name, _)) = line.strip_prefix("pub ").and_then(|l| l.split_once(':')) else {
                continue;
            };
            let low = doc.to_lowercase();
            let stated: Vec<&str> = low.split("default `").skip(1).collect();
            assert_eq!(stated.len(), 1, "{name}: {doc}");
            let (stated, _) = stated[0].split_once('`').unwrap();
            let stated = serde_json::from_str(stated).unwrap_or(Value::from(stated));
            assert_eq!(stated, defaults[name], "{name}");
            (doc, named) = (String::new(), named + 1);
        }
        assert_eq!(named, defaults.as_object().unwrap().len());
    }
}
