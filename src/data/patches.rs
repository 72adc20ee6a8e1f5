//! The patches of an image: their numbers in one row, and one patch in the place of another.

use super::geometry::Draws;
use super::image::Image;

/// Added to the variance of a patch before its root, as MAE does (`models_mae.py`).
const EPS: f64 = 1e-6;

/// How an image is cut into patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchGrid {
    /// Rows of patches.
    pub height: usize,
    /// Columns of patches.
    pub width: usize,
    /// Side of a patch in pixels.
    pub side: usize,
}

impl PatchGrid {
    /// The patches of this side in an image of this size.
    pub fn of((height, width): (usize, usize), side: usize) -> Self {
        Self { height: height / side, width: width / side, side }
    }

    /// Patches of an image.
    pub fn patches(&self) -> usize {
        self.height * self.width
    }

    /// Where in `[H,W,3]` the numbers of a patch lie, in the order of a convolution's kernel: channel, row,
    /// column.
    pub fn places(self, patch: usize) -> impl Iterator<Item = usize> {
        let (side, row) = (self.side, 3 * self.width * self.side);
        let (top, left) = (patch / self.width * side, patch % self.width * side);
        let pixels = move |c| {
            (0..side * side).map(move |i| (top + i / side) * row + 3 * (left + i % side) + c)
        };
        (0..3).flat_map(pixels)
    }

    /// The images with other patches in the hidden places of their masks. Each is drawn from all patches of all
    /// images but the one it stands for, image by image, patch by patch.
    #[track_caller]
    pub fn replaced(
        &self,
        images: &[&Image],
        masks: &[&[bool]],
        draws: &mut impl Draws,
    ) -> Vec<Image> {
        let each = self.patches();
        let others = (images.len() * each).saturating_sub(1);
        let mut out: Vec<Image> = images.iter().map(|&image| image.clone()).collect();
        for (i, (image, mask)) in out.iter_mut().zip(masks).enumerate() {
            for patch in (0..each).filter(|&patch| mask[patch]) {
                assert!(others > 0, "replaced: one patch has no other");
                let drawn = draws.integer(others - 1);
                let from = drawn + usize::from(drawn >= i * each + patch);
                let source = &images[from / each].pixels;
                for (to, from) in self.places(patch).zip(self.places(from % each)) {
                    image.pixels[to] = source[from];
                }
            }
        }
        out
    }
}

/// Mean and deviation of a patch's numbers, the variance unbiased and 1e-6 above itself.
pub fn patch_moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
    (mean, (squares / (n - 1.0) + EPS).sqrt())
}

/// `(x − mean) / sqrt(var + 1e-6)` over one patch.
pub fn normalise_patch(values: &mut [f64]) {
    let (mean, deviation) = patch_moments(values);
    values.iter_mut().for_each(|x| *x = (*x - mean) / deviation);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Purpose};

    /// Row, column and channel as digits.
    fn counted(height: usize, width: usize, base: u8) -> Image {
        let pixel =
            |i: usize| (0..3).map(move |c| base + (10 * (i / width) + i % width) as u8 + 100 * c);
        Image::new(height, width, (0..height * width).flat_map(pixel).collect())
    }

    #[test]
    fn a_patch_is_read_as_a_kernel_lies() {
        let (image, grid) = (counted(4, 6, 0), PatchGrid::of((4, 6), 2));
        assert_eq!(grid, PatchGrid { height: 2, width: 3, side: 2 });
        let patch = |patch| grid.places(patch).map(|i| image.pixels[i]).collect::<Vec<_>>();
        assert_eq!(patch(0), [0, 1, 10, 11, 100, 101, 110, 111, 200, 201, 210, 211]);
        assert_eq!(patch(5)[..5], [24, 25, 34, 35, 124]);
        let mut all: Vec<usize> = (0..6).flat_map(|patch| grid.places(patch)).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..4 * 6 * 3));
    }

    #[test]
    fn a_replaced_patch_is_another_of_the_batch_and_each_is_as_likely() {
        let grid = PatchGrid { height: 1, width: 3, side: 1 };
        let row = |from: u8| Image::new(1, 3, (0..3).flat_map(|x| [from + x; 3]).collect());
        let images = [row(0), row(3)];
        let masks: [&[bool]; 2] = [&[false, true, false], &[true, false, false]];
        let mut counts = [[0; 6]; 2];
        let mut rng = Philox::new(1, Purpose::Check, 0, 0);
        for _ in 0..5000 {
            let out = grid.replaced(&[&images[0], &images[1]], &masks, &mut rng);
            let first = |image: &Image, x: usize| image.pixels[3 * x];
            assert_eq!((first(&out[0], 0), first(&out[0], 2)), (0, 2));
            assert_eq!((first(&out[1], 1), first(&out[1], 2)), (4, 5));
            counts[0][usize::from(first(&out[0], 1))] += 1;
            counts[1][usize::from(first(&out[1], 0))] += 1;
        }
        for (own, counts) in [1, 3].into_iter().zip(counts) {
            assert_eq!(counts[own], 0, "itself");
            // 1000 each, standard error 28, five of them.
            let near = |&count: &i32| count == 0 || (860..1140).contains(&count);
            assert!(counts.iter().all(near), "{counts:?}");
        }
    }
}
