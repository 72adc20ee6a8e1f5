//! Random numbers that are the same on every machine and in every version.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

/// The seed of every check.
pub(crate) const SEED: u64 = 0x5eed;

/// A seeded stream.
#[derive(Clone, Debug)]
pub(crate) struct Stream(Xoshiro256PlusPlus);

impl Stream {
    /// The stream of this seed and number.
    pub fn new(seed: u64, number: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed ^ number.rotate_left(48)))
    }

    /// Uniform over [lo, hi).
    pub fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * self.0.random::<f64>()
    }

    /// Uniform over 0..=max.
    pub fn integer(&mut self, max: usize) -> usize {
        self.0.random_range(0..=max)
    }

    /// 1 or −1.
    pub fn sign(&mut self) -> f64 {
        if self.0.random::<bool>() { 1.0 } else { -1.0 }
    }

    /// Independent standard normal numbers.
    pub fn normal(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| StandardNormal.sample(&mut self.0)).collect()
    }
}
