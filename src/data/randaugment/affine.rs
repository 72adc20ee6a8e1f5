//! Rotation, shear and translation (Pillow's `Image.transform` with `AFFINE`).
//!
//! The output pixel (x, y) shows the source at X = a(x+½) + b(y+½) + c, Y = d(x+½) + e(y+½) + f, where the
//! centres of the pixels lie at halves. Nothing is widened when shrinking, results are truncated and not
//! rounded, and the cubic is the one with a = -1: another cubic than that of [`crate::data::resize`].

use super::sampling::Sampling;
use crate::data::image::Image;

/// Through `v[1]` at t = 0 and `v[2]` at t = 1.
#[inline]
fn cubic(v: [f64; 4], t: f64) -> f64 {
    let [p, q, r, s] = v;
    let third = 2.0 * (p - q) + r - s;
    let fourth = -p + q - r + s;
    q + t * ((-p + r) + t * (third + t * fourth))
}

/// The two or four neighbours of a place, those outside moved to the edge.
#[inline]
fn neighbours<const N: usize>(place: f64, side: usize) -> [usize; N] {
    let first = place as isize - (N as isize / 2 - 1);
    std::array::from_fn(|i| (first + i as isize).clamp(0, side as isize - 1) as usize)
}

#[inline]
fn bicubic(pixels: &[[u8; 3]], (height, width): (usize, usize), x: f64, y: f64) -> [u8; 3] {
    let (left, top) = (x.floor(), y.floor());
    let rows = neighbours::<4>(top, height).map(|y| &pixels[y * width..][..width]);
    let columns = neighbours::<4>(left, width);
    std::array::from_fn(|c| {
        let along = |row: &[[u8; 3]]| cubic(columns.map(|k| f64::from(row[k][c])), x - left);
        // `as` clips to a byte and truncates.
        cubic(rows.map(along), y - top) as u8
    })
}

#[inline]
fn bilinear(pixels: &[[u8; 3]], (height, width): (usize, usize), x: f64, y: f64) -> [u8; 3] {
    let (left, top) = (x.floor(), y.floor());
    let rows = neighbours::<2>(top, height).map(|y| &pixels[y * width..][..width]);
    let [first, second] = neighbours::<2>(left, width);
    std::array::from_fn(|c| {
        let between = |[p, q]: [f64; 2], t: f64| p + (q - p) * t;
        let along = |row: &[[u8; 3]]| between([first, second].map(|k| row[k][c].into()), x - left);
        between(rows.map(along), y - top) as u8
    })
}

/// The image seen through the matrix (a, b, c, d, e, f), `fill` where there is nothing to see.
pub(super) fn transform(
    image: &Image,
    [a, b, c, d, e, f]: [f64; 6],
    fill: [u8; 3],
    sampling: Sampling,
) -> Image {
    let sides = (image.height, image.width);
    let (pixels, _) = image.pixels.as_chunks::<3>();
    let mut out = vec![0u8; image.pixels.len()];
    let rows = out.as_chunks_mut::<3>().0.chunks_exact_mut(image.width.max(1));
    let (bottom, right) = (image.height as f64, image.width as f64);
    for (y, row) in rows.enumerate() {
        let y = y as f64 + 0.5;
        for (x, p) in row.iter_mut().enumerate() {
            let x = x as f64 + 0.5;
            let (x, y) = (a * x + b * y + c, d * x + e * y + f);
            let inside = x >= 0.0 && x < right && y >= 0.0 && y < bottom;
            *p = match sampling {
                _ if !inside => fill,
                Sampling::Bilinear => bilinear(pixels, sides, x - 0.5, y - 0.5),
                Sampling::Bicubic => bicubic(pixels, sides, x - 0.5, y - 0.5),
            };
        }
    }
    Image { pixels: out, ..*image }
}

/// The matrix of a rotation about the centre by `degrees`, counter-clockwise; none for whole turns.
/// Pillow rounds sine and cosine to 15 decimals.
pub(super) fn rotation(height: usize, width: usize, degrees: f64) -> Option<[f64; 6]> {
    let degrees = degrees.rem_euclid(360.0);
    if degrees == 0.0 {
        return None;
    }
    let rounded = |x: f64| format!("{x:.15}").parse::<f64>().expect("digits of a number");
    let angle = -degrees.to_radians();
    let (cos, sin) = (rounded(angle.cos()), rounded(angle.sin()));
    let (x, y) = (width as f64 / 2.0, height as f64 / 2.0);
    Some([cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y])
}
