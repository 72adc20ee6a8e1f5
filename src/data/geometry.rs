//! Which part of an image is used: random resized crops and the evaluation crop.
//!
//! Formulas are those of torchvision as the original programs call them, with Python's rounding
//! (half to even). What is random is asked of a [`Draws`], so that a recorded list of draws can be
//! replayed.

use crate::rng::Philox;
use rand_distr::{Beta, Distribution, StandardNormal};

/// Where random numbers come from: a generator, or a recording of one.
pub trait Draws {
    /// A real between `lo` and `hi`, in either order.
    fn uniform(&mut self, lo: f64, hi: f64) -> f64;
    /// An integer in `0..=max`.
    fn integer(&mut self, max: usize) -> usize;
    /// A real of the normal distribution.
    fn normal(&mut self, mean: f64, deviation: f64) -> f64;
    /// A real of the symmetric distribution Beta(`alpha`, `alpha`), `alpha` above 0.
    fn beta(&mut self, alpha: f64) -> f64;
}

impl Draws for Philox {
    fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        Philox::uniform(self, lo, hi)
    }
    fn integer(&mut self, max: usize) -> usize {
        Philox::integer(self, max)
    }
    fn normal(&mut self, mean: f64, deviation: f64) -> f64 {
        let standard: f64 = StandardNormal.sample(self);
        mean + deviation * standard
    }
    fn beta(&mut self, alpha: f64) -> f64 {
        let law = Beta::new(alpha, alpha).expect("settings with such an alpha are refused");
        law.sample(self)
    }
}

/// A box of pixels, or of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropBox {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl CropBox {
    /// The box that shows the same pixels once the image of this width is mirrored.
    pub fn mirrored(self, width: usize) -> Self {
        Self { left: width - self.left - self.width, ..self }
    }
}

/// Law of a random resized crop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomCrop {
    /// Share of the image's area, drawn uniformly.
    pub scale: (f64, f64),
    /// Width over height, drawn uniformly in its logarithm.
    pub ratio: (f64, f64),
}

impl Default for RandomCrop {
    /// Area 0.08 to 1, aspect 3/4 to 4/3 (`transforms.py`).
    fn default() -> Self {
        Self { scale: (0.08, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0) }
    }
}

impl RandomCrop {
    /// A box of an image of this size: ten tries, then the central box of the nearest legal aspect.
    pub fn draw(&self, height: usize, width: usize, draws: &mut impl Draws) -> CropBox {
        let area = (height * width) as f64;
        for _ in 0..10 {
            let a = area * draws.uniform(self.scale.0, self.scale.1);
            let r = draws.uniform(self.ratio.0.ln(), self.ratio.1.ln()).exp();
            let w = (a * r).sqrt().round_ties_even() as usize;
            let h = (a / r).sqrt().round_ties_even() as usize;
            if (1..=height).contains(&h) && (1..=width).contains(&w) {
                let top = draws.integer(height - h);
                let left = draws.integer(width - w);
                return CropBox { top, left, height: h, width: w };
            }
        }
        let (h, w) = (height as f64, width as f64);
        let clipped = |x: f64, side: usize| (x.round_ties_even() as usize).clamp(1, side);
        let (h, w) = if w / h < self.ratio.0 {
            (clipped(w / self.ratio.0, height), width)
        } else if w / h > self.ratio.1 {
            (height, clipped(h * self.ratio.1, width))
        } else {
            (height, width)
        };
        CropBox { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
    }
}

/// How an image is evaluated: resized as a whole, then cropped at the centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvalGeometry {
    /// Rows of the whole image after resizing.
    pub resized_height: usize,
    /// Columns of the whole image after resizing.
    pub resized_width: usize,
    /// The box of the resized image that is used.
    pub crop: CropBox,
}

/// Length that a side of the crop is cut from: `side / 0.875`, or `side` itself from 384 pixels
/// on (`datasets.py`).
pub fn eval_resize_side(side: usize) -> usize {
    if side < 384 { (side as f64 / 0.875) as usize } else { side }
}

/// Evaluation geometry of a `height x width` image for a `crop_height x crop_width` view.
///
/// The image is scaled until it just covers [`eval_resize_side`] of both sides of the view. For a
/// square view that is the originals' rule for the short side; they have no rectangular views.
pub fn eval_geometry(
    height: usize,
    width: usize,
    crop_height: usize,
    crop_width: usize,
) -> EvalGeometry {
    let (h, w) = (eval_resize_side(crop_height), eval_resize_side(crop_width));
    let (resized_height, resized_width) =
        if width * h >= height * w { (h, h * width / height) } else { (w * height / width, w) };
    let offset = |all: usize, part: usize| ((all - part) as f64 / 2.0).round_ties_even() as usize;
    EvalGeometry {
        resized_height,
        resized_width,
        crop: CropBox {
            top: offset(resized_height, crop_height),
            left: offset(resized_width, crop_width),
            height: crop_height,
            width: crop_width,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn extreme_images_give_legal_boxes() {
        let law = RandomCrop::default();
        for (h, w) in [(1, 1), (1, 500), (500, 1), (2, 3), (4000, 3)] {
            let mut rng = Philox::new(1, Purpose::Check, h as u32, w as u32);
            for _ in 0..50 {
                let b = law.draw(h, w, &mut rng);
                assert!(b.height >= 1 && b.width >= 1, "{b:?}");
                assert!(b.top + b.height <= h && b.left + b.width <= w, "{b:?} in {h}x{w}");
            }
            let e = eval_geometry(h, w, 16, 24);
            assert!(e.crop.top + 16 <= e.resized_height && e.crop.left + 24 <= e.resized_width);
        }
    }

    #[test]
    fn mirroring_twice_is_nothing() {
        let b = CropBox { top: 1, left: 2, height: 3, width: 4 };
        assert_eq!(b.mirrored(10), CropBox { left: 4, ..b });
        assert_eq!(b.mirrored(10).mirrored(10), b);
    }
}
