//! A function with its right gradient at a point, and lots to draw both from.

use beit_check::gradients::Variable;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// Values of the variables to outputs.
pub type Map = Box<dyn Fn(&[Vec<f64>]) -> Vec<f64>>;
/// Values and gradient of the outputs to gradients.
pub type Pullback = Box<dyn Fn(&[Vec<f64>], &[f64]) -> Vec<Vec<f64>>>;

/// Functions of one form.
pub struct Family {
    /// In the table.
    pub name: &'static str,
    /// Whether a right one may be inconclusive only seldom: smooth, and no digits are lost in it.
    pub smooth: bool,
    /// Draws one.
    pub make: fn(&mut Draw) -> Case,
}

impl Family {
    /// Smooth, and well conditioned.
    pub fn smooth(name: &'static str, make: fn(&mut Draw) -> Case) -> Self {
        Self { name, smooth: true, make }
    }

    /// Not so.
    pub fn hard(name: &'static str, make: fn(&mut Draw) -> Case) -> Self {
        Self { name, smooth: false, make }
    }
}

/// How the wrong twin of a function is made.
pub enum Fault {
    /// One element of the gradient is off.
    Element,
    /// Half of the time that, else this.
    Also(Pullback),
    /// This; at a kink an element that is a little off can still be right.
    Only(Pullback),
}

/// A function at a point, with its right gradient.
pub struct Case {
    pub variables: Vec<Variable>,
    pub forward: Map,
    pub backward: Pullback,
    pub fault: Fault,
}

impl Case {
    pub fn new(
        variables: Vec<Variable>,
        forward: impl Fn(&[Vec<f64>]) -> Vec<f64> + 'static,
        backward: impl Fn(&[Vec<f64>], &[f64]) -> Vec<Vec<f64>> + 'static,
    ) -> Self {
        let (forward, backward) = (Box::new(forward), Box::new(backward));
        Self { variables, forward, backward, fault: Fault::Element }
    }

    /// One function of each element by itself, which may depend on the element's number.
    pub fn each(
        x: Vec<f64>,
        f: impl Fn(usize, f64) -> f64 + 'static,
        slope: impl Fn(usize, f64) -> f64 + 'static,
    ) -> Self {
        Self::new(
            vec![vector("x", x)],
            move |v| v[0].iter().enumerate().map(|(i, x)| f(i, *x)).collect(),
            move |v, dy| vec![sloped(&v[0], dy, &slope)],
        )
    }

    /// A function of one number.
    pub fn scalar(
        x: f64,
        f: impl Fn(f64) -> f64 + 'static,
        slope: impl Fn(f64) -> f64 + 'static,
    ) -> Self {
        Self::each(vec![x], move |_, x| f(x), move |_, x| slope(x))
    }

    /// A mistake of its own, beside elements that are off.
    pub fn or_wrong(
        mut self,
        wrong: impl Fn(&[Vec<f64>], &[f64]) -> Vec<Vec<f64>> + 'static,
    ) -> Self {
        self.fault = Fault::Also(Box::new(wrong));
        self
    }

    /// The mistake of its own, and no other.
    pub fn only_own(mut self) -> Self {
        self.fault = match self.fault {
            Fault::Also(wrong) => Fault::Only(wrong),
            other => other,
        };
        self
    }

    /// A wrong slope of each element by itself, and no other mistake.
    pub fn only_wrong(mut self, slope: impl Fn(usize, f64) -> f64 + 'static) -> Self {
        self.fault = Fault::Only(Box::new(move |v, dy| vec![sloped(&v[0], dy, &slope)]));
        self
    }
}

fn sloped(x: &[f64], dy: &[f64], slope: impl Fn(usize, f64) -> f64) -> Vec<f64> {
    x.iter().zip(dy).enumerate().map(|(i, (x, d))| d * slope(i, *x)).collect()
}

/// A variable of one axis.
pub fn vector(name: &str, values: Vec<f64>) -> Variable {
    Variable::new(name, &[values.len()], values)
}

/// A seeded lot.
pub struct Draw(Xoshiro256PlusPlus);

impl Draw {
    /// That of one trial of one family.
    pub fn new(seed: usize, family: &str, trial: usize) -> Self {
        // FNV-1a, so that a new family leaves the others as they are.
        let mix = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        let hash = family.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
        let seed = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash;
        Self(Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_add(trial as u64)))
    }

    /// Uniform over [lo, hi).
    pub fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * self.0.random::<f64>()
    }

    /// Log-uniform over [lo, hi).
    pub fn log(&mut self, lo: f64, hi: f64) -> f64 {
        self.uniform(lo.ln(), hi.ln()).exp()
    }

    /// 1 or −1.
    pub fn sign(&mut self) -> f64 {
        if self.0.random::<bool>() { 1.0 } else { -1.0 }
    }

    /// Uniform over lo..=hi.
    pub fn integer(&mut self, lo: usize, hi: usize) -> usize {
        self.0.random_range(lo..=hi)
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, p: f64) -> bool {
        self.0.random::<f64>() < p
    }

    /// Uniform over ±size.
    pub fn vector(&mut self, n: usize, size: f64) -> Vec<f64> {
        (0..n).map(|_| self.uniform(-size, size)).collect()
    }
}
