//! The views of segmentation: what a model reads of an image in training and in evaluation, with the labels.
//!
//! The order of training is that of the original (mmseg, `configs/_base_/datasets/ade20k.py`): scale, crop,
//! mirror, photometric distortion, normalisation, padding.

use super::bilinear::resize_bilinear;
use super::geometry::{CropBox, Draws};
use super::image::Image;
use super::labels::Labels;
use super::photometric::draw_distortion;
use super::pixels::{IMAGENET, PixelMap};
use crate::error::{Error, Result};

/// Crops that are drawn anew where too much of one is of one class.
const REDRAWS: usize = 10;

/// How the images and labels of a segmentation are varied in training.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentViewConfig {
    /// Height of the crop in pixels.
    pub height: usize,
    /// Width of the crop in pixels.
    pub width: usize,
    /// What the longer side of an image is scaled to at most, before the random factor.
    pub long: usize,
    /// What its shorter side is scaled to at most.
    pub short: usize,
    /// Ends of that factor.
    pub ratio: (f64, f64),
    /// Share of a crop's labelled pixels that one class must stay below; 1 for any crop.
    pub category_cap: f64,
    /// Probability of mirroring.
    pub flip: f64,
    /// Whether brightness, contrast, saturation and hue are varied.
    pub photometric: bool,
    /// Mean of the view, per channel.
    pub mean: [f32; 3],
    /// Deviation of the view, per channel.
    pub std: [f32; 3],
}

impl SegmentViewConfig {
    /// The original's settings for a crop of this size: images of 2048 x 512 for one of 512 x 512, times 0.5 to 2.
    pub fn original(height: usize, width: usize) -> Self {
        let short = height.min(width);
        Self {
            height,
            width,
            long: 4 * short,
            short,
            ratio: (0.5, 2.0),
            category_cap: 0.75,
            flip: 0.5,
            photometric: true,
            mean: IMAGENET.0,
            std: IMAGENET.1,
        }
    }

    /// Refuses settings that no image could be varied with.
    pub fn validate(&self) -> Result<()> {
        let (lo, hi) = self.ratio;
        let wrong = if self.height == 0 || self.width == 0 {
            "the crop has no pixels"
        } else if self.short == 0 || self.long < self.short {
            "the shorter side that images are scaled to must be above 0 and at most the longer"
        } else if !(0.0 < lo && lo <= hi && hi <= 1e3) {
            "the random scale must be above 0, in order, and at most 1000"
        } else if !(0.0..=1.0).contains(&self.flip) || !(0.0..=1.0).contains(&self.category_cap) {
            "flip and category_cap must lie in 0..1"
        } else if !self.std.iter().all(|s| *s > 0.0) || !self.mean.iter().all(|m| m.is_finite()) {
            "the deviation of every channel must be above 0 and its mean finite"
        } else {
            return Ok(());
        };
        Err(Error::config(format!("views of images and labels: {wrong}")))
    }

    /// The pixels of a view in 0..1, as they were before they were normalised.
    pub fn shown(&self, view: &[f32]) -> Vec<f32> {
        let channels = self.std.iter().zip(&self.mean).cycle();
        view.iter().zip(channels).map(|(x, (std, mean))| x * std + mean).collect()
    }

    fn normalise(&self) -> PixelMap {
        PixelMap::normalise(self.mean, self.std)
    }

    /// Height and width of a scaled image.
    fn draw_size(&self, image: &Image, draws: &mut impl Draws) -> (usize, usize) {
        let factor = draws.uniform(self.ratio.0, self.ratio.1);
        let [long, short] = [self.long, self.short].map(|side| (side as f64 * factor) as usize);
        rescaled((image.height, image.width), long, short)
    }

    /// A box of labels of this size that is the crop, or as much of it as there is.
    fn draw_box(&self, labels: &Labels, draws: &mut impl Draws) -> CropBox {
        let (height, width) = (self.height.min(labels.height), self.width.min(labels.width));
        let top = draws.integer(labels.height - height);
        let left = draws.integer(labels.width - width);
        CropBox { top, left, height, width }
    }

    /// Such a box of varied labels: of at least two classes, none of which has the capped share. The last redraw is
    /// taken as it comes.
    fn draw_crop(&self, labels: &Labels, draws: &mut impl Draws) -> CropBox {
        let mut crop = self.draw_box(labels, draws);
        if self.category_cap < 1.0 {
            for _ in 0..REDRAWS {
                if is_varied(labels, crop, self.category_cap) {
                    break;
                }
                crop = self.draw_box(labels, draws);
            }
        }
        crop
    }
}

/// The largest size of the same aspect whose sides are at most `long` and `short`, rounded; no side is 0.
pub fn rescaled(size: (usize, usize), long: usize, short: usize) -> (usize, usize) {
    let (larger, smaller) = (size.0.max(size.1) as f64, size.0.min(size.1) as f64);
    let factor = (long as f64 / larger).min(short as f64 / smaller);
    let side = |side: usize| ((side as f64 * factor + 0.5) as usize).max(1);
    (side(size.0), side(size.1))
}

fn is_varied(labels: &Labels, crop: CropBox, cap: f64) -> bool {
    let mut counts = [0usize; Labels::MOST_CLASSES + 1];
    labels.rows(crop).flatten().for_each(|&label| counts[usize::from(label)] += 1);
    let counts = &counts[..Labels::MOST_CLASSES];
    let (most, all) = (counts.iter().max().copied().unwrap_or(0), counts.iter().sum::<usize>());
    most < all && (most as f64 / all as f64) < cap
}

/// A training view: pixels `[Ih,Iw,3]`, normalised, and labels `[Ih,Iw]`. To the right and below of what is
/// smaller than the crop stand 0 and [`Labels::IGNORED`].
#[track_caller]
pub fn train_view(
    cfg: &SegmentViewConfig,
    image: &Image,
    labels: &Labels,
    draws: &mut impl Draws,
) -> (Vec<f32>, Vec<u8>) {
    assert_eq!(
        (image.height, image.width),
        (labels.height, labels.width),
        "view: image and labels of two sizes"
    );
    let (height, width) = cfg.draw_size(image, draws);
    let labels = labels.resize(height, width);
    let crop = cfg.draw_crop(&labels, draws);
    let mut view = resize_bilinear(image, height, width).crop(crop);
    let mut labels = labels.crop(crop);
    if draws.uniform(0.0, 1.0) < cfg.flip {
        view.flip();
        labels.flip();
    }
    if cfg.photometric {
        draw_distortion(draws).into_iter().for_each(|step| step.apply(&mut view));
    }
    let pixels = cfg.normalise().apply(&view);
    let size = (crop.height, crop.width);
    (padded(&pixels, 3, size, cfg, 0.0), padded(&labels.values, 1, size, cfg, Labels::IGNORED))
}

/// Rows of `channels` numbers a pixel, with `fill` to the right and below up to the size of the crop.
fn padded<T: Copy>(
    values: &[T],
    channels: usize,
    (height, width): (usize, usize),
    cfg: &SegmentViewConfig,
    fill: T,
) -> Vec<T> {
    let mut out = Vec::with_capacity(cfg.height * cfg.width * channels);
    for y in 0..height {
        out.extend_from_slice(&values[y * width * channels..][..width * channels]);
        out.resize((y + 1) * cfg.width * channels, fill);
    }
    out.resize(cfg.height * cfg.width * channels, fill);
    out
}

/// The whole image at its size `[H,W,3]`, normalised.
pub fn eval_image(cfg: &SegmentViewConfig, image: &Image) -> Vec<f32> {
    cfg.normalise().apply(image)
}

#[cfg(test)]
mod tests;
