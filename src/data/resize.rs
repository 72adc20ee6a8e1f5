//! Resampling, bit-identical to that of Pillow 13.0.0 (`image.crop(box).resize(size, filter)`).
//!
//! Each axis is a weighted sum with integer weights, with bytes in between. The horizontal axis comes
//! first, unless more than twice as many rows are lost as columns: then the vertical one does. The
//! order shows where a byte in between is rounded or clipped.
//!
//! For an axis from `n` to `m` samples, with `scale = n/m`, `fs = max(scale, 1)` and the
//! filter `f` of support `S`: output `i` has its centre at `c = (i + 0.5) scale`, reads the samples
//! `k` from `trunc(c - S fs + 0.5)` to before `trunc(c + S fs + 0.5)`, clipped to the axis, with
//! weights `f((k - c + 0.5) / fs)` normalised to sum 1 and rounded to multiples of 2^-22; the sum
//! is rounded to a byte. When shrinking, the filter widens with the scale, which is what makes it
//! antialiased. An axis whose size does not change is not touched.
//!
//! Both axes run through one routine that mixes whole rows, because adding rows is a loop over
//! neighbouring bytes, which vectorises; for the horizontal axis the crop is transposed first.

use super::geometry::CropBox;
use super::image::Image;
use std::ops::Range;

/// Interpolation filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Triangle, support 1.
    Bilinear,
    /// Keys' cubic with a = -0.5, support 2.
    Bicubic,
    /// Lanczos windowed sinc, support 3.
    Lanczos,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        let x = x.abs();
        if x >= self.support() {
            return 0.0;
        }
        match self {
            Self::Bilinear => 1.0 - x,
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic => -0.5 * (((x - 5.0) * x + 8.0) * x - 4.0),
            Self::Lanczos => sinc(x) * sinc(x / 3.0),
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// Fractional bits of a weight: 32 less 8 of the sample and 2 for sign and overshoot.
const BITS: u32 = 22;

/// For every output sample of an axis that lies in the window: the first input sample and the weights from there on.
fn weights(
    from: usize,
    to: usize,
    window: Range<usize>,
    filter: Filter,
) -> impl Iterator<Item = (usize, Vec<i32>)> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    window.map(move |i| {
        let centre = (i as f64 + 0.5) * scale;
        // `as` truncates and takes negative numbers to 0, which is the lower clip.
        let first = (centre - support + 0.5) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        // Pillow multiplies by the reciprocal; dividing would differ in the last bit.
        let shrink = 1.0 / stretch;
        let real: Vec<f64> =
            (first..end).map(|k| filter.at((k as f64 - centre + 0.5) * shrink)).collect();
        let unit = 1.0 / real.iter().sum::<f64>();
        let whole = |w: f64| {
            let w = w * unit * f64::from(1u32 << BITS);
            (w + 0.5f64.copysign(w)) as i32
        };
        (first, real.into_iter().map(whole).collect())
    })
}

/// Those of the rows `[to, stride]` that lie in the window, from the rows `[from, stride]`; each is a
/// mix of neighbours.
fn mix_rows(
    rows: &[u8],
    stride: usize,
    (from, to): (usize, usize),
    window: Range<usize>,
    filter: Filter,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(window.len() * stride);
    let mut sum = vec![0i32; stride];
    for (first, weights) in weights(from, to, window, filter) {
        sum.fill(1 << (BITS - 1));
        let rows = rows[first * stride..].chunks_exact(stride);
        for (row, &weight) in rows.zip(&weights) {
            for (s, &x) in sum.iter_mut().zip(row) {
                *s += weight * i32::from(x);
            }
        }
        out.extend(sum.iter().map(|&s| (s >> BITS).clamp(0, 255) as u8));
    }
    out
}

/// Pixels `[height,width]` to `[width,height]`.
fn transpose(pixels: &[u8], height: usize, width: usize) -> Vec<u8> {
    let mut out = vec![0u8; pixels.len()];
    let (source, _) = pixels.as_chunks::<3>();
    let (target, _) = out.as_chunks_mut::<3>();
    // Bands of rows, so that the lines written to stay in the cache until they are full.
    for band in (0..height).step_by(16) {
        for x in 0..width {
            for y in band..(band + 16).min(height) {
                target[x * height + y] = source[y * width + x];
            }
        }
    }
    out
}

/// Those of the columns `[height, to]` that lie in the window, from the pixels `[height, from]`.
fn mix_columns(
    pixels: &[u8],
    height: usize,
    (from, to): (usize, usize),
    window: Range<usize>,
    filter: Filter,
) -> Vec<u8> {
    let width = window.len();
    let columns = transpose(pixels, height, from);
    let columns = mix_rows(&columns, height * 3, (from, to), window, filter);
    transpose(&columns, width, height)
}

/// Whether Pillow takes the vertical axis first. It looks at the rows and columns that are lost, of
/// which an axis that grows loses none, and not at the work, which would put the bound elsewhere.
fn vertical_first(crop: CropBox, height: usize, width: usize) -> bool {
    crop.height.saturating_sub(height) > 2 * crop.width.saturating_sub(width)
}

/// The box of `image`, resampled to `height x width`. Only the box is read: its edges are edges.
#[track_caller]
pub fn resize(image: &Image, crop: CropBox, height: usize, width: usize, filter: Filter) -> Image {
    resize_window(image, crop, (height, width), CropBox { top: 0, left: 0, height, width }, filter)
}

/// The `window` of the box of `image` after it was resampled to `height x width`; nothing outside the
/// window is computed.
#[track_caller]
pub fn resize_window(
    image: &Image,
    crop: CropBox,
    (height, width): (usize, usize),
    window: CropBox,
    filter: Filter,
) -> Image {
    assert!(
        crop.height > 0 && crop.width > 0 && height > 0 && width > 0,
        "resize: {crop:?} to {height}x{width} has an empty side"
    );
    let (bottom, right) = (window.top + window.height, window.left + window.width);
    assert!(bottom <= height && right <= width, "resize: {window:?} is outside {height}x{width}");
    // A side that keeps its length is copied.
    let mut read = crop;
    if crop.height == height {
        (read.top, read.height) = (crop.top + window.top, window.height);
    }
    if crop.width == width {
        (read.left, read.width) = (crop.left + window.left, window.width);
    }
    let pixels: Vec<u8> = image.rows(read).flatten().copied().collect();
    let (rows, columns) = ((read.height, height), (read.width, width));
    // `height` and `width` of what comes in.
    let vertical = |pixels: Vec<u8>, width: usize| match crop.height == height {
        true => pixels,
        false => mix_rows(&pixels, width * 3, rows, window.top..bottom, filter),
    };
    let horizontal = |pixels: Vec<u8>, height: usize| match crop.width == width {
        true => pixels,
        false => mix_columns(&pixels, height, columns, window.left..right, filter),
    };
    let pixels = if vertical_first(crop, height, width) {
        horizontal(vertical(pixels, read.width), window.height)
    } else {
        vertical(horizontal(pixels, read.height), window.width)
    };
    Image { height: window.height, width: window.width, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_that_part_of_the_whole() {
        let image = Image::new(9, 14, (0..9 * 14 * 3).map(|i| (i * 37 % 256) as u8).collect());
        let all = CropBox { top: 1, left: 2, height: 7, width: 11 };
        let window = CropBox { top: 2, left: 1, height: 4, width: 3 };
        // The last two take the vertical axis first: 7 rows lose 3, 11 columns lose 1 or none.
        for sides in [(6, 5), (7, 5), (6, 11), (7, 11), (13, 40), (4, 10), (4, 13)] {
            let window = CropBox { height: window.height.min(sides.0 - window.top), ..window };
            let whole = resize(&image, all, sides.0, sides.1, Filter::Bicubic);
            let part = resize_window(&image, all, sides, window, Filter::Bicubic);
            assert_eq!(part, whole.crop(window), "{sides:?}");
        }
    }

    #[test]
    fn constant_images_stay_constant() {
        let image = Image::new(7, 11, [9u8, 255, 0].repeat(77));
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            for (h, w) in [(1, 1), (3, 5), (7, 23), (30, 11)] {
                let out = resize(&image, image.whole(), h, w, filter);
                assert!(out.pixels.chunks(3).all(|p| p == [9, 255, 0]), "{filter:?} {h}x{w}");
            }
        }
    }

    #[test]
    fn only_the_box_matters() {
        let bytes = (0..9 * 8 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let image = Image::new(9, 8, bytes);
        let b = CropBox { top: 2, left: 1, height: 5, width: 6 };
        let cropped = image.crop(b);
        assert_eq!(
            resize(&image, b, 4, 9, Filter::Lanczos),
            resize(&cropped, cropped.whole(), 4, 9, Filter::Lanczos)
        );
    }
}
