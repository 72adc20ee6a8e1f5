//! What a forward may return.

use crate::arrays::{Arrays, flat};
use ndarray::{Array, Dimension};

/// Numbers that a backward gets the gradient of in the same form: an array of any number of axes, several
/// arrays by name, or one number, as losses are.
pub trait Outputs {
    /// All numbers, row-major; of several arrays one after the other.
    fn numbers(&self) -> Vec<f64>;
    /// The same form with other numbers.
    fn with_numbers(&self, numbers: &[f64]) -> Self;
}

impl Outputs for f64 {
    fn numbers(&self) -> Vec<f64> {
        vec![*self]
    }
    fn with_numbers(&self, numbers: &[f64]) -> Self {
        numbers[0]
    }
}

impl<D: Dimension> Outputs for Array<f64, D> {
    fn numbers(&self) -> Vec<f64> {
        self.iter().copied().collect()
    }
    fn with_numbers(&self, numbers: &[f64]) -> Self {
        let array = Self::from_shape_vec(self.raw_dim(), numbers.to_vec());
        array.expect("as many as outputs")
    }
}

impl Outputs for Arrays {
    fn numbers(&self) -> Vec<f64> {
        self.iter().flat_map(|(_, array)| flat(array)).collect()
    }
    fn with_numbers(&self, numbers: &[f64]) -> Self {
        let mut rest = numbers;
        let mut all = Self::new();
        for (name, array) in self.iter() {
            let (own, others) = rest.split_at(array.len());
            rest = others;
            all = all.with(name, array.with_numbers(own));
        }
        all
    }
}
