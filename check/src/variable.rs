//! What is checked, and how thoroughly.

/// Values of the variables to all outputs in one array.
pub type Forward<'a> = dyn Fn(&[Vec<f64>]) -> Vec<f64> + 'a;
/// Values of the variables and gradient of the outputs to one gradient per variable.
pub type Backward<'a> = dyn Fn(&[Vec<f64>], &[f64]) -> Vec<Vec<f64>> + 'a;

/// How thoroughly a function is checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Tensors up to this size are checked element by element.
    pub dense: usize,
    /// Of a larger one this many elements ...
    pub samples: usize,
    /// ... and this many random projections of all.
    pub projections: usize,
    /// Largest step, relative to the size of the tensor.
    pub first_step: f64,
    /// Most steps, each half of the one before; at least 4, for all orders.
    pub steps: usize,
    /// Largest bound, relative to the scale of the comparison, with which it passes.
    pub resolution: f64,
    /// Whether the report gets a ladder over all steps for each tensor, to be drawn.
    pub curves: bool,
}

impl Default for Settings {
    /// 96 elements densely, 12 samples and 4 projections of larger tensors, up to 40 steps from 1/8 on,
    /// a resolution of 1e-6.
    fn default() -> Self {
        Self {
            dense: 96,
            samples: 12,
            projections: 4,
            first_step: 0.125,
            steps: 40,
            resolution: 1e-6,
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
            _ => Self { dense: 12, samples: 4, projections: 2, ..Self::default() },
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

    pub(super) fn index(&self, mut flat: usize) -> Vec<usize> {
        let mut index = vec![0; self.shape.len()];
        for (slot, &len) in index.iter_mut().zip(&self.shape).rev() {
            *slot = flat % len;
            flat /= len;
        }
        index
    }

    /// The power of two next to the root mean square of the values; 1 where all are 0.
    pub(super) fn size(&self) -> f64 {
        let squares: f64 = self.values.iter().map(|x| x * x).sum();
        let size = (squares / self.values.len().max(1) as f64).sqrt();
        if size > 0.0 && size.is_finite() { size.log2().round().exp2() } else { 1.0 }
    }
}

/// A point, and what the function gives there.
#[derive(Clone)]
pub(super) struct Evaluated {
    pub(super) values: Vec<Vec<f64>>,
    pub(super) outputs: Vec<f64>,
    pub(super) gradients: Vec<Vec<f64>>,
}
