//! Operations by table: each value of a channel becomes another one (Pillow's `ImageOps`).

use crate::data::image::Image;

/// The same table for all channels.
pub(super) fn each(image: &mut Image, f: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|v| f(v as u8));
    image.pixels.iter_mut().for_each(|x| *x = table[usize::from(*x)]);
}

/// A table per channel, made from how often each value occurs in it.
fn by_histogram(image: &mut Image, table: impl Fn(&[u64; 256]) -> [u8; 256]) {
    let mut histograms = [[0u64; 256]; 3];
    let (pixels, _) = image.pixels.as_chunks_mut::<3>();
    for p in pixels.iter() {
        for (histogram, &v) in histograms.iter_mut().zip(p) {
            histogram[usize::from(v)] += 1;
        }
    }
    let [r, g, b] = histograms.each_ref().map(table);
    for p in pixels {
        *p = [r[usize::from(p[0])], g[usize::from(p[1])], b[usize::from(p[2])]];
    }
}

fn identity() -> [u8; 256] {
    std::array::from_fn(|v| v as u8)
}

/// The least and the greatest value become 0 and 255.
pub(super) fn auto_contrast(image: &mut Image) {
    by_histogram(image, |histogram| {
        let least = histogram.iter().position(|&n| n > 0);
        let greatest = histogram.iter().rposition(|&n| n > 0);
        let (Some(least), Some(greatest)) = (least, greatest) else { return identity() };
        if greatest <= least {
            return identity();
        }
        let scale = 255.0 / (greatest - least) as f64;
        // A product and a sum: scaling the difference would round otherwise. `as` clips.
        let offset = -(least as f64) * scale;
        std::array::from_fn(|v| (v as f64 * scale + offset) as u8)
    });
}

/// Each value becomes the share of pixels below it. A step is what each of 255 levels should hold of the
/// pixels that do not have the greatest value; where that is less than a pixel, nothing changes.
pub(super) fn equalize(image: &mut Image) {
    by_histogram(image, |histogram| {
        let total: u64 = histogram.iter().sum();
        let last = histogram.iter().rfind(|&&n| n > 0).copied().unwrap_or(0);
        let step = (total - last) / 255;
        if step == 0 {
            return identity();
        }
        let mut below = step / 2;
        histogram.map(|n| {
            let level = (below / step).min(255) as u8;
            below += n;
            level
        })
    });
}
