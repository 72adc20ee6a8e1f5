//! Labels of pixels in memory: what segmentation is taught and measured by.

use super::geometry::CropBox;

/// The class of each pixel, `[H,W]`, row-major.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Rows.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// `height * width` classes, or [`IGNORED`](Self::IGNORED).
    pub values: Vec<u8>,
}

impl Labels {
    /// The label of a pixel that is neither learnt nor counted.
    pub const IGNORED: u8 = 255;

    /// The most classes that there can be.
    pub const MOST_CLASSES: usize = Self::IGNORED as usize;

    /// Labels of the given values.
    #[track_caller]
    pub fn new(height: usize, width: usize, values: Vec<u8>) -> Self {
        assert_eq!(values.len(), height * width, "labels: {height}x{width} has other values");
        Self { height, width, values }
    }

    /// The values of the box, row by row.
    #[track_caller]
    pub fn rows(&self, crop: CropBox) -> impl Iterator<Item = &[u8]> {
        assert!(
            crop.top + crop.height <= self.height && crop.left + crop.width <= self.width,
            "labels: {crop:?} does not fit {}x{}",
            self.height,
            self.width
        );
        (crop.top..crop.top + crop.height)
            .map(move |y| &self.values[y * self.width + crop.left..][..crop.width])
    }

    /// A copy of the box.
    #[track_caller]
    pub fn crop(&self, crop: CropBox) -> Self {
        let values = self.rows(crop).flatten().copied().collect();
        Self { height: crop.height, width: crop.width, values }
    }

    /// Mirrors left and right in place.
    pub fn flip(&mut self) {
        self.values.chunks_exact_mut(self.width.max(1)).for_each(<[u8]>::reverse);
    }

    /// Takes label 0 to [`IGNORED`](Self::IGNORED) and each other one down by one; what was ignored stays so (ADE20K's
    /// files, in which 0 is everything else).
    pub fn reduce_zero(&mut self) {
        let less = |v: u8| if v == Self::IGNORED { v } else { v.wrapping_sub(1) };
        self.values.iter_mut().for_each(|v| *v = less(*v));
    }

    /// The labels at another size: along an axis from `n` to `m`, output `i` is input `floor(i n/m)`, as OpenCV's
    /// nearest neighbour has it (`cv2.INTER_NEAREST`).
    pub fn resize(&self, height: usize, width: usize) -> Self {
        let (rows, columns) = (nearest(self.height, height), nearest(self.width, width));
        let mut values = Vec::with_capacity(height * width);
        for y in rows {
            let row = &self.values[y * self.width..][..self.width];
            values.extend(columns.iter().map(|&x| row[x]));
        }
        Self { height, width, values }
    }
}

/// For every output of an axis from `n` to `m` samples its input.
fn nearest(n: usize, m: usize) -> Vec<usize> {
    // OpenCV inverts the quotient of the sizes, which may differ from n/m in the last bit.
    let step = 1.0 / (m as f64 / n as f64);
    (0..m).map(|i| ((i as f64 * step) as usize).min(n - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(height: usize, width: usize) -> Labels {
        Labels::new(height, width, (0..height * width).map(|i| i as u8).collect())
    }

    #[test]
    fn boxes_and_mirrors_by_hand() {
        let mut labels = numbered(2, 3);
        let right = CropBox { top: 0, left: 1, height: 2, width: 2 };
        assert_eq!(labels.crop(right), Labels::new(2, 2, vec![1, 2, 4, 5]));
        labels.flip();
        assert_eq!(labels.values, [2, 1, 0, 5, 4, 3]);
        assert_eq!(numbered(2, 3).resize(3, 2).values, [0, 1, 0, 1, 3, 4]);
    }

    #[test]
    fn sizes_are_changed_within_bounds() {
        for n in 1..=15 {
            for m in 1..=40 {
                let (labels, want) = (numbered(n, n).resize(m, m), |i: usize| i * n / m);
                for i in 0..m {
                    // The quotient may be rounded to below a whole number.
                    let got = usize::from(labels.values[i * m]) / n;
                    let whole = i * n % m == 0 && got + 1 == want(i);
                    assert!(got == want(i) || whole, "{n} to {m}: {i} is {got}");
                }
            }
        }
        assert_eq!(numbered(4, 5).resize(4, 5), numbered(4, 5));
    }
}
