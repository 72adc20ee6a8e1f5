//! A segmenter shown images of any size: scaled to its own, looked at through windows.
//!
//! At each scale the logits of the windows are resized to the windows, added where they overlap and divided by their
//! number, and resized to the image. Over several scales and with mirrored images, the softmax of those is averaged
//! (`semantic_segmentation`, mmseg's `EncoderDecoder.slide_inference` and `aug_test`).

use super::{PixelConfusion, windows};
use crate::data::bilinear::resize_bilinear;
use crate::data::geometry::CropBox;
use crate::data::labels::Labels;
use crate::data::loader::{BadImages, map_items};
use crate::data::pairs::Pair;
use crate::data::segment_view::{SegmentViewConfig, eval_image, rescaled};
use crate::data::{Dataset, Image};
use crate::error::{Error, Result};
use crate::models::config::SegmenterConfig;
use crate::models::segmenter::Segmenter;
use crate::ops::Backend;
use crate::ops::resize::PlaneMap;
use crate::params::{Ctx, Params};
use crate::real::Float;
use crate::run::{Progress, is_news, not_interrupted, note};
use crate::tensor::Tensor;

/// Windows that are shown to a model together.
const TOGETHER: usize = 8;
/// Images that are decoded together.
const CHUNK: usize = 16;

/// How images are looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    /// Height and width of a window, which are those of the model.
    pub crop: (usize, usize),
    /// Pixels from a window to the next, down and to the right.
    pub stride: (usize, usize),
    /// Shorter side that images are scaled to at most, times a ratio.
    pub short: usize,
    /// The longer one.
    pub long: usize,
    /// Scales.
    pub ratios: Vec<f64>,
    /// Whether each is looked at mirrored, too.
    pub flip: bool,
}

impl Windows {
    /// Windows as large as the model's images, `stride` apart (0: two thirds of a window), on images scaled as it
    /// says. Refuses a stride that leaves gaps.
    pub fn new(sizes: &SegmenterConfig, stride: usize) -> Result<Self> {
        let (crop, (short, long)) = (sizes.encoder.image, sizes.scale);
        if stride > crop.0.min(crop.1) {
            return Err(Error::config(format!(
                "stride {stride} leaves gaps between windows of {}x{}; give at most {}",
                crop.0,
                crop.1,
                crop.0.min(crop.1)
            )));
        }
        let step = |side: usize| if stride == 0 { (2 * side / 3).max(1) } else { stride };
        let stride = (step(crop.0), step(crop.1));
        Ok(Self { crop, stride, short, long, ratios: vec![1.0], flip: false })
    }

    /// Size at which an image is looked at: a shorter side never below the window's where there are several scales.
    fn size(&self, image: (usize, usize), ratio: f64) -> (usize, usize) {
        let [short, long] = [self.short, self.long].map(|side| (side as f64 * ratio) as usize);
        let size = rescaled(image, long, short);
        let (shorter, least) = (size.0.min(size.1), self.crop.0.min(self.crop.1));
        if self.ratios.len() == 1 || shorter >= least {
            return size;
        }
        rescaled(image, usize::MAX, least)
    }
}

/// A segmenter and its weights.
pub type Weighted<'a, B> = (&'a Segmenter<B>, &'a Params<B>);

/// The class of each pixel of `image`, at its own size; of equals the lowest.
pub fn segment_image<B: Backend>(
    bk: &B,
    of: Weighted<B>,
    plan: &Windows,
    views: &SegmentViewConfig,
    image: &Image,
) -> Labels {
    let (size, classes) = ((image.height, image.width), of.0.config.classes.len());
    let several = plan.ratios.len() > 1 || plan.flip;
    let mut total = vec![0.0f32; size.0 * size.1 * classes];
    for &ratio in &plan.ratios {
        for flipped in [false, true] {
            if flipped && !plan.flip {
                continue;
            }
            let mut seen = image.clone();
            if flipped {
                seen.flip();
            }
            let (h, w) = plan.size(size, ratio);
            let pixels = eval_image(views, &resize_bilinear(&seen, h, w));
            let logits = window_logits(bk, of, plan, &pixels, (h, w));
            let mut logits = resized(bk, logits, (h, w), size, classes);
            if several {
                logits.chunks_exact_mut(classes).for_each(softmax);
            }
            if flipped {
                mirror(&mut logits, size.1, classes);
            }
            total.iter_mut().zip(&logits).for_each(|(sum, x)| *sum += x);
        }
    }
    let classes = total.chunks_exact(classes).map(best).collect();
    Labels::new(size.0, size.1, classes)
}

/// Mean logits `[h,w,K]` of the windows over pixels `[h,w,3]`. An image smaller than a window is filled up with
/// zeros below and to the right.
pub fn window_logits<B: Backend>(
    bk: &B,
    (model, w): Weighted<B>,
    plan: &Windows,
    pixels: &[f32],
    (height, width): (usize, usize),
) -> Vec<f32> {
    let (crop, classes) = (plan.crop, model.config.classes.len());
    let full = (height.max(crop.0), width.max(crop.1));
    let boxes = windows(full, crop, plan.stride);
    let mut sums = vec![0.0f32; full.0 * full.1 * classes];
    let mut visits = vec![0.0f32; full.0 * full.1];
    for some in boxes.chunks(TOGETHER) {
        let views = some.iter().flat_map(|&window| cut(pixels, (height, width), window)).collect();
        let images = Tensor::from_f32(bk, views, &[some.len(), crop.0, crop.1, 3]);
        let logits = model.logits(Ctx::new(bk, w), &images);
        let own = (logits.shape()[1], logits.shape()[2]);
        let logits = PlaneMap::bilinear(bk, own, crop).forward(bk, &logits);
        let logits = B::Elem::into_f32s(logits.to_vec(bk));
        for (window, logits) in some.iter().zip(logits.chunks_exact(crop.0 * crop.1 * classes)) {
            for (y, row) in logits.chunks_exact(crop.1 * classes).enumerate() {
                let at = (window.top + y) * full.1 + window.left;
                let sums = &mut sums[at * classes..(at + crop.1) * classes];
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                visits[at..at + crop.1].iter_mut().for_each(|n| *n += 1.0);
            }
        }
    }
    let pixels = sums.chunks_exact_mut(classes).zip(&visits);
    pixels.for_each(|(sums, n)| sums.iter_mut().for_each(|x| *x /= n));
    let rows = sums.chunks_exact(full.1 * classes).take(height);
    rows.flat_map(|row| &row[..width * classes]).copied().collect()
}

/// The pixels of a window, zeros where there is no image.
fn cut(pixels: &[f32], (height, width): (usize, usize), window: CropBox) -> Vec<f32> {
    let mut view = vec![0.0; window.height * window.width * 3];
    let there = window.width.min(width.saturating_sub(window.left));
    let rows = view.chunks_exact_mut(window.width * 3).zip(window.top..height);
    for (row, y) in rows {
        let at = (y * width + window.left) * 3;
        row[..there * 3].copy_from_slice(&pixels[at..at + there * 3]);
    }
    view
}

/// `[h,w,K]` at another size.
fn resized<B: Backend>(
    bk: &B,
    logits: Vec<f32>,
    from: (usize, usize),
    to: (usize, usize),
    classes: usize,
) -> Vec<f32> {
    if from == to {
        return logits;
    }
    let x = Tensor::from_f32(bk, logits, &[1, from.0, from.1, classes]);
    B::Elem::into_f32s(PlaneMap::bilinear(bk, from, to).forward(bk, &x).to_vec(bk))
}

fn softmax(x: &mut [f32]) {
    let largest = x.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
    x.iter_mut().for_each(|x| *x = (*x - largest).exp());
    let sum: f32 = x.iter().sum();
    x.iter_mut().for_each(|x| *x /= sum);
}

/// Left and right of `[h,w,K]` exchanged.
fn mirror(x: &mut [f32], width: usize, classes: usize) {
    for row in x.chunks_exact_mut(width * classes) {
        for y in 0..width / 2 {
            let (left, right) = row.split_at_mut((width - 1 - y) * classes);
            left[y * classes..(y + 1) * classes].swap_with_slice(&mut right[..classes]);
        }
    }
}

fn best(x: &[f32]) -> u8 {
    let mut best = 0;
    for (class, value) in x.iter().enumerate() {
        if *value > x[best] {
            best = class;
        }
    }
    best as u8
}

/// Counts over all pairs of `data`, and those that cannot be read. An interruption is an error, and so is it where none
/// can be read.
pub fn confusion_over<B: Backend, D: Dataset<Item = Pair>>(
    bk: &B,
    of: Weighted<B>,
    plan: &Windows,
    views: &SegmentViewConfig,
    data: &D,
    what: &str,
) -> Result<(PixelConfusion, BadImages)> {
    let mut counts = PixelConfusion::new(of.0.config.classes.len());
    let (mut bad, mut seen) = (BadImages::new(), 0);
    let all: Vec<usize> = (0..data.len()).collect();
    let mut progress = Progress::new(what, data.len() as u64, 0, "images");
    for chunk in all.chunks(CHUNK) {
        let (pairs, unread) = map_items(data, chunk, |pair: Pair| pair);
        let lines = unread.values().map(|reason| format!("skipped: {reason}"));
        lines.filter(|line| is_news(line)).for_each(|line| note(&line));
        bad.extend(unread);
        for (_, pair) in pairs {
            not_interrupted()?;
            let found = segment_image(bk, of, plan, views, &pair.image);
            counts.add(&found.values, &pair.labels.values);
            seen += 1;
        }
        progress.advance(chunk.len() as u64, "");
    }
    progress.finish();
    if seen == 0 {
        return Err(Error::config("none of the images to measure on can be read"));
    }
    Ok((counts, bad))
}
