//! Bilinear resizing without antialiasing, bit-identical to OpenCV's of bytes (`cv2.resize` with
//! `INTER_LINEAR`, versions 4.11 and 5.0).
//!
//! For an axis from `n` to `m` samples, output `i` lies at `s = (i + 0.5) n/m − 0.5`, rounded to single precision, and
//! mixes the samples `floor(s)` and `floor(s) + 1` with weights `1 − t` and `t`, `t = s − floor(s)`, rounded to
//! multiples of 2^-11; outside the axis stands its nearest sample. The horizontal axis comes first and keeps
//! all bits; the vertical one drops 4 of them before and 16 after each product, and rounds what is left.
//! Where an image shrinks, samples in between are not looked at.

use super::image::Image;

/// Fractional bits of a weight.
const BITS: u32 = 11;

/// What an output sample mixes.
struct Taps {
    places: [usize; 2],
    weights: [i32; 2],
}

/// The taps of an axis from `n` to `m` samples. With `whole`, one sample at the border has all the weight.
fn taps(n: usize, m: usize, whole: bool) -> Vec<Taps> {
    // OpenCV inverts the quotient of the sizes, which may differ from n/m in the last bit.
    let step = 1.0 / (m as f64 / n as f64);
    let last = n as i64 - 1;
    let one = |i: usize| {
        let at = ((i as f64 + 0.5) * step - 0.5) as f32;
        let (first, mut t) = (at.floor() as i64, at - at.floor());
        if whole && !(0..last).contains(&first) {
            t = 0.0;
        }
        let weight = |t: f32| (t * (1 << BITS) as f32).round_ties_even() as i32;
        let place = |k: i64| k.clamp(0, last) as usize;
        Taps { places: [place(first), place(first + 1)], weights: [weight(1.0 - t), weight(t)] }
    };
    (0..m).map(one).collect()
}

/// The image at another size.
#[track_caller]
pub fn resize_bilinear(image: &Image, height: usize, width: usize) -> Image {
    assert!(image.height * image.width > 0, "bilinear: an image without pixels");
    if (image.height, image.width) == (height, width) {
        return image.clone();
    }
    let columns = taps(image.width, width, true);
    let wide: Vec<Vec<i32>> = image.rows(image.whole()).map(|row| mix_row(row, &columns)).collect();
    let mut pixels = Vec::with_capacity(height * width * 3);
    for Taps { places, weights } in taps(image.height, height, false) {
        let [upper, lower] = places.map(|y| &wide[y]);
        let mixed = upper.iter().zip(lower).map(|(&a, &b)| {
            let [a, b] = [(a, weights[0]), (b, weights[1])].map(|(x, w)| (w * (x >> 4)) >> 16);
            ((a + b + 2) >> 2).clamp(0, 255) as u8
        });
        pixels.extend(mixed);
    }
    Image::new(height, width, pixels)
}

fn mix_row(row: &[u8], columns: &[Taps]) -> Vec<i32> {
    let (pixels, _) = row.as_chunks::<3>();
    let mixed = |taps: &Taps| {
        let [a, b] = taps.places.map(|x| pixels[x]);
        std::array::from_fn::<i32, 3, _>(|c| {
            taps.weights[0] * i32::from(a[c]) + taps.weights[1] * i32::from(b[c])
        })
    };
    columns.iter().flat_map(mixed).collect()
}
