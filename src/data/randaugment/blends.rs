//! Sharpness: a blend with the smoothed image (Pillow's `ImageEnhance.Sharpness`).

use crate::data::augment::blend;
use crate::data::image::Image;

/// Weights of the smoothing kernel, rounded after division: 13 in all, 5 of them in the middle.
const OUTER: f32 = 1.0 / 13.0;
const MIDDLE: f32 = 5.0 / 13.0;

/// The image blended with its smoothed form. The outermost pixels are not smoothed.
pub(super) fn sharpened(image: &Image, factor: f32) -> Image {
    let mut out = image.clone();
    let (height, width) = (image.height, image.width);
    if height < 3 || width < 3 {
        return out;
    }
    let stride = width * 3;
    for y in 1..height - 1 {
        let rows = [y + 1, y, y - 1].map(|y| &image.pixels[y * stride..][..stride]);
        let inner = &mut out.pixels[y * stride + 3..][..stride - 6];
        for (i, x) in inner.iter_mut().enumerate() {
            // In f32 from a half, the lowest row first, as Pillow adds them.
            let mut sum = 0.5f32;
            for (row, middle) in rows.iter().zip([OUTER, MIDDLE, OUTER]) {
                let [left, centre, right] = [row[i], row[i + 3], row[i + 6]].map(f32::from);
                sum += left * OUTER + centre * middle + right * OUTER;
            }
            *x = blend(f32::from(sum as u8), *x, factor);
        }
    }
    out
}
