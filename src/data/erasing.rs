//! Random erasing: boxes of a normalised image filled with noise, as in timm's `random_erasing.py`.
//!
//! It comes after normalisation, so that noise of deviation 1 is as strong as the image. Per image: whether
//! anything is erased, how many boxes, and for each box up to ten tries of its area and aspect; one that
//! has the height or the width of the image is refused, and a box that finds no place is left out.

use super::geometry::{CropBox, Draws};
use crate::error::{Error, Result};
use crate::words::words;
use std::ops::RangeInclusive;

words! {
    /// What is put in place of erased pixels.
    EraseFill {
        /// Zeros: the mean.
        Const = "const",
        /// One random colour per box.
        Rand = "rand",
        /// A random colour per pixel.
        Pixel = "pixel",
    }
}

/// Law of the boxes erased from one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Erasing {
    /// Probability that anything is erased.
    pub probability: f64,
    /// What the boxes are filled with.
    pub fill: EraseFill,
    /// Number of boxes; they share the area of one.
    pub count: RangeInclusive<usize>,
}

/// Smallest and largest area of a box, in areas of the image.
const AREA: (f64, f64) = (0.02, 1.0 / 3.0);
/// Smallest height over width of a box; its inverse is the largest.
const ASPECT: f64 = 0.3;
/// Tries to place a box before it is left out.
const TRIES: usize = 10;

impl Erasing {
    /// One box of noise by chance: `0.25` in the recipes.
    pub fn pixels(probability: f64) -> Self {
        Self { probability, fill: EraseFill::Pixel, count: 1..=1 }
    }

    /// Refuses settings that no image could be erased with.
    pub fn validate(&self) -> Result<()> {
        let wrong = if !(0.0..=1.0).contains(&self.probability) {
            "the probability must lie in 0..1"
        } else if self.count.is_empty() || *self.count.start() == 0 {
            "the number of boxes must be at least 1, and its bounds in order"
        } else {
            return Ok(());
        };
        Err(Error::config(format!("random erasing: {wrong}")))
    }

    /// The boxes to erase from an image of this size; they may overlap.
    pub fn draw(&self, height: usize, width: usize, draws: &mut impl Draws) -> Vec<CropBox> {
        if draws.uniform(0.0, 1.0) > self.probability {
            return Vec::new();
        }
        let (least, most) = (*self.count.start(), *self.count.end());
        let count = if least == most { least } else { least + draws.integer(most - least) };
        let area = (height * width) as f64;
        let mut boxes = Vec::with_capacity(count);
        for _ in 0..count {
            for _ in 0..TRIES {
                let area = draws.uniform(AREA.0, AREA.1) * area / count as f64;
                let aspect = draws.uniform(ASPECT.ln(), (1.0 / ASPECT).ln()).exp();
                let h = (area * aspect).sqrt().round_ties_even() as usize;
                let w = (area / aspect).sqrt().round_ties_even() as usize;
                if w < width && h < height {
                    let (top, left) = (draws.integer(height - h), draws.integer(width - w));
                    boxes.push(CropBox { top, left, height: h, width: w });
                    break;
                }
            }
        }
        boxes
    }

    /// Fills the boxes of the normalised pixels `[H,W,3]`, row by row.
    #[track_caller]
    pub fn fill(
        &self,
        pixels: &mut [f32],
        width: usize,
        boxes: &[CropBox],
        draws: &mut impl Draws,
    ) {
        for b in boxes {
            let mut colour = || std::array::from_fn(|_| draws.normal(0.0, 1.0) as f32);
            let constant: [f32; 3] = match self.fill {
                EraseFill::Rand => colour(),
                EraseFill::Const | EraseFill::Pixel => [0.0; 3],
            };
            for y in b.top..b.top + b.height {
                let row = &mut pixels[(y * width + b.left) * 3..][..b.width * 3];
                for p in row.as_chunks_mut::<3>().0 {
                    *p = if self.fill == EraseFill::Pixel { colour() } else { constant };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Purpose};

    #[test]
    fn noise_is_standard_normal_and_nothing_else_changes() {
        let erasing = Erasing::pixels(1.0);
        let mut rng = Philox::new(2, Purpose::Check, 0, 0);
        let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
        for _ in 0..50 {
            let boxes = erasing.draw(40, 30, &mut rng);
            let mut pixels = vec![9f32; 40 * 30 * 3];
            erasing.fill(&mut pixels, 30, &boxes, &mut rng);
            let changed: Vec<f64> =
                pixels.into_iter().filter(|&x| x != 9.0).map(f64::from).collect();
            let area: usize = boxes.iter().map(|b| b.height * b.width).sum();
            assert_eq!(changed.len(), area * 3);
            sum += changed.iter().sum::<f64>();
            squares += changed.iter().map(|x| x * x).sum::<f64>();
            count += changed.len() as f64;
        }
        assert!((sum / count).abs() < 0.02 && (squares / count - 1.0).abs() < 0.03);
    }

    #[test]
    fn boxes_are_within_any_image() {
        let erasing = Erasing { probability: 1.0, fill: EraseFill::Rand, count: 1..=3 };
        for (h, w) in [(1, 1), (1, 70), (70, 1), (2, 2), (3, 4000)] {
            let mut rng = Philox::new(2, Purpose::Check, h as u32, w as u32);
            for _ in 0..30 {
                let boxes = erasing.draw(h, w, &mut rng);
                assert!(boxes.iter().all(|b| b.top + b.height <= h && b.left + b.width <= w));
                erasing.fill(&mut vec![0.0; h * w * 3], w, &boxes, &mut rng);
            }
        }
    }

    #[test]
    fn settings_are_refused() {
        let of = |probability, count| Erasing { probability, fill: EraseFill::Const, count };
        assert!(of(0.25, 1..=4).validate().is_ok());
        assert!(of(1.1, 1..=1).validate().is_err());
        assert!(of(f64::NAN, 1..=1).validate().is_err());
        assert!(of(0.25, 0..=1).validate().is_err());
        assert!(of(0.25, RangeInclusive::new(3, 2)).validate().is_err());
    }
}
