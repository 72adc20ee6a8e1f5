//! RandAugment: a few random operations on the bytes of an image, as in timm's `auto_augment.py`.
//!
//! The law is written as timm writes it, `rand-m9-mstd0.5-inc1`: sections between dashes, each a key and
//! a number.
//!
//! | key | meaning | without it |
//! | --- | --- | --- |
//! | `m` | magnitude, a whole number; 10 is the strongest, more means 10 | 10 |
//! | `mstd` | deviation of the magnitude; above 100, it is uniform between 0 and `m` | 0 |
//! | `n` | operations per image, 1 to 15 | 2 |
//! | `p` | probability of each of them | 0.5 |
//! | `inc1` | every operation grows stronger with the magnitude | some grow weaker |
//!
//! Per image, `n` operations are drawn from the 15 of [`RandOp`], the same one possibly twice; then, for
//! each, whether it takes place, its magnitude and its sign, in this order ([`RandAugment::draw`]). What
//! it does to the pixels is [`Retouch::apply`], byte for byte as Pillow 13.0.0 does it.

mod affine;
mod blends;
mod lookups;
mod ops;
mod sampling;

pub use ops::{LEVELS, RandOp, Retouch};
pub use sampling::{Interpolation, Sampling};

use super::geometry::Draws;
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Law of the operations on one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandAugment {
    /// Mean strength; 0 to 10.
    pub magnitude: u32,
    /// Deviation of the strength; infinite if it is uniform from 0 to `magnitude`.
    pub deviation: f64,
    /// Operations per image.
    pub layers: usize,
    /// Probability that one of them takes place.
    pub probability: f64,
    /// Whether all operations grow stronger with the magnitude.
    pub increasing: bool,
}

/// Above it, timm reads a deviation as infinite.
const UNIFORM_ABOVE: f64 = 100.0;

impl RandAugment {
    /// The operations on one image, in order, with their arguments.
    pub fn draw(&self, interpolation: Interpolation, draws: &mut impl Draws) -> Vec<Retouch> {
        let ops: Vec<_> =
            (0..self.layers).map(|_| RandOp::ALL[draws.integer(RandOp::ALL.len() - 1)]).collect();
        let mut retouches = Vec::with_capacity(ops.len());
        for op in ops {
            if self.probability < 1.0 && draws.uniform(0.0, 1.0) > self.probability {
                continue;
            }
            // Operations without an argument draw a magnitude, too.
            let magnitude = self.draw_magnitude(draws);
            let negated = op.is_signed(self.increasing) && draws.uniform(0.0, 1.0) > 0.5;
            let argument = op.argument(magnitude, negated, self.increasing);
            let sampling = match op.moves_pixels() {
                true => interpolation.draw(draws),
                false => Sampling::Bilinear,
            };
            retouches.push(Retouch { op, argument, sampling });
        }
        retouches
    }

    fn draw_magnitude(&self, draws: &mut impl Draws) -> f64 {
        let mean = f64::from(self.magnitude);
        let drawn = if self.deviation == f64::INFINITY {
            draws.uniform(0.0, mean)
        } else if self.deviation > 0.0 {
            draws.normal(mean, self.deviation)
        } else {
            mean
        };
        drawn.clamp(0.0, LEVELS)
    }
}

impl Default for RandAugment {
    /// The recipes' `rand-m9-mstd0.5-inc1`.
    fn default() -> Self {
        Self { magnitude: 9, deviation: 0.5, layers: 2, probability: 0.5, increasing: true }
    }
}

impl fmt::Display for RandAugment {
    /// The form that [`FromStr`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rand-m{}", self.magnitude)?;
        if self.deviation == f64::INFINITY {
            write!(f, "-mstd101")?;
        } else if self.deviation > 0.0 {
            write!(f, "-mstd{}", self.deviation)?;
        }
        if self.layers != 2 {
            write!(f, "-n{}", self.layers)?;
        }
        if self.probability != 0.5 {
            write!(f, "-p{}", self.probability)?;
        }
        if self.increasing { write!(f, "-inc1") } else { Ok(()) }
    }
}

impl FromStr for RandAugment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: String| Error::config(format!("RandAugment {text:?}: {what}"));
        let mut sections = text.split('-');
        if sections.next() != Some("rand") {
            return Err(wrong("want a text such as rand-m9-mstd0.5-inc1".into()));
        }
        let mut law =
            Self { magnitude: 10, deviation: 0.0, layers: 2, probability: 0.5, increasing: false };
        let mut seen = Vec::new();
        for section in sections {
            let at = section.find(|c: char| c.is_ascii_digit()).unwrap_or(section.len());
            let (key, value) = section.split_at(at);
            if seen.contains(&key) {
                return Err(wrong(format!("{key} is given twice")));
            }
            seen.push(key);
            law.set(key, value).map_err(|what| wrong(format!("{section:?}: {what}")))?;
        }
        Ok(law)
    }
}

impl RandAugment {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let whole = || value.parse::<u32>().map_err(|_| format!("{key} wants a whole number"));
        let real = || match value.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(format!("{key} wants a number")),
        };
        match key {
            "m" => self.magnitude = whole()?,
            "n" => self.layers = at_least_one(whole()?)?,
            "mstd" => {
                let deviation = real()?;
                self.deviation = if deviation > UNIFORM_ABOVE { f64::INFINITY } else { deviation };
            }
            "p" => {
                self.probability = real()?;
                if !(self.probability > 0.0 && self.probability <= 1.0) {
                    return Err("p is a probability above 0".into());
                }
            }
            // timm reads inc0 as inc1.
            "inc" if value == "1" => self.increasing = true,
            "inc" => return Err("want inc1, or no inc".into()),
            "mmax" => return Err("mmax is not supported: levels end at 10".into()),
            "w" => return Err("w is not supported: all operations are equally likely".into()),
            key if key.starts_with('t') => {
                return Err("sets of operations (t) are not supported".into());
            }
            _ => return Err("unknown; the keys are m, mstd, n, p and inc".into()),
        }
        Ok(())
    }
}

/// Operations per image.
fn at_least_one(layers: u32) -> Result<usize, String> {
    match layers {
        1..=15 => Ok(layers as usize),
        _ => Err("n is a number of operations, 1 to 15".into()),
    }
}

/// Colour of the pixels that nothing was moved to: the mean, `round(255 mean)` per channel
/// (`transforms_factory.py`).
pub fn fill_colour(mean: [f32; 3]) -> [u8; 3] {
    mean.map(|m| (255.0 * f64::from(m)).round_ties_even() as u8)
}

#[cfg(test)]
mod tests;
