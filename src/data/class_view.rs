//! The views of classification: what a classifier reads of an image in training and in evaluation.
//!
//! The order of training is that of the original (`datasets.py`, timm's `transforms_factory.py`): crop,
//! mirror, RandAugment or colour jitter, normalisation, random erasing. Images as small as CIFAR's are not
//! resized: zeros are put around them and a window of their own size is taken.

use super::augment::{draw_jitter, eval_crop, jitter_and_crop};
use super::erasing::Erasing;
use super::geometry::{CropBox, Draws, RandomCrop};
use super::image::Image;
use super::pixels::{HALF, PixelMap};
use super::randaugment::{Interpolation, RandAugment, fill_colour};
use super::resize::{Filter, resize};
use crate::error::{Error, Result};

/// How colours are varied. With a policy of operations there is no jitter, as in timm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Recolour {
    /// Brightness, contrast and saturation within this strength of 1, in random order; 0 for none.
    Jitter(f64),
    /// Random operations, some of which move pixels.
    RandAugment(RandAugment),
}

/// How the images of a classifier are varied in training and cropped in evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassViewConfig {
    /// Height of the view in pixels.
    pub height: usize,
    /// Width of the view in pixels.
    pub width: usize,
    /// Law of the resized crops.
    pub crop: RandomCrop,
    /// Zeros on every side of a training image that has the view's size already, of which a window is taken in
    /// place of a resized crop. Without it, all are resized.
    pub pad: Option<usize>,
    /// Whether evaluation takes an image of the view's size as it is, without resizing and cropping.
    pub as_is: bool,
    /// Interpolation of resized crops and of operations that move pixels.
    pub interpolation: Interpolation,
    /// Probability of mirroring.
    pub flip: f64,
    /// How colours are varied.
    pub recolour: Recolour,
    /// Boxes erased at random.
    pub erasing: Option<Erasing>,
    /// Mean of the view, per channel.
    pub mean: [f32; 3],
    /// Deviation of the view, per channel.
    pub std: [f32; 3],
}

/// The largest side of a view that the original does not resize to.
const SMALL: usize = 32;

impl ClassViewConfig {
    /// The original's settings for a view of this size: `rand-m9-mstd0.5-inc1`, erasing 0.25, bicubic; of 32
    /// pixels or less, padded by 4 and not resized.
    pub fn original(height: usize, width: usize) -> Self {
        Self {
            height,
            width,
            crop: RandomCrop::default(),
            pad: (height.max(width) <= SMALL).then_some(4),
            as_is: height.max(width) <= SMALL,
            interpolation: Interpolation::Bicubic,
            flip: 0.5,
            recolour: Recolour::RandAugment(RandAugment::default()),
            erasing: Some(Erasing::pixels(0.25)),
            mean: HALF.0,
            std: HALF.1,
        }
    }

    /// Refuses settings that no image could be varied with.
    pub fn validate(&self) -> Result<()> {
        let ordered = |(lo, hi): (f64, f64), top: f64| 0.0 < lo && lo <= hi && hi <= top;
        let jitter = match self.recolour {
            Recolour::Jitter(strength) => strength,
            Recolour::RandAugment(_) => 0.0,
        };
        let wrong = if self.height == 0 || self.width == 0 {
            "the view has no pixels"
        } else if !(0.0..=1.0).contains(&jitter) || !(0.0..=1.0).contains(&self.flip) {
            "jitter and flip must lie in 0..1"
        } else if !ordered(self.crop.scale, 1.0) || !ordered(self.crop.ratio, f64::MAX) {
            "scale and ratio of a crop must be positive, in order, and the scale at most 1"
        } else if !self.std.iter().all(|s| *s > 0.0) || !self.mean.iter().all(|m| m.is_finite()) {
            "the deviation of every channel must be above 0 and its mean finite"
        } else {
            return self.erasing.as_ref().map_or(Ok(()), Erasing::validate);
        };
        Err(Error::config(format!("views of images: {wrong}")))
    }

    /// The pixels of a view in 0..1, as they were before they were normalised.
    pub fn shown(&self, view: &[f32]) -> Vec<f32> {
        let channels = self.std.iter().zip(&self.mean).cycle();
        view.iter().zip(channels).map(|(x, (std, mean))| x * std + mean).collect()
    }

    fn normalise(&self) -> PixelMap {
        PixelMap::normalise(self.mean, self.std)
    }

    /// The zeros around this image, if it is one that is padded.
    fn padding(&self, image: &Image) -> Option<usize> {
        self.pad.filter(|_| (image.height, image.width) == (self.height, self.width))
    }

    fn draw_crop(&self, image: &Image, draws: &mut impl Draws) -> Image {
        if let Some(pad) = self.padding(image) {
            let (top, left) = (draws.integer(2 * pad), draws.integer(2 * pad));
            return padded_window(image, pad, top, left);
        }
        let crop = self.crop.draw(image.height, image.width, draws);
        let filter = self.interpolation.draw(draws).filter();
        resize(image, crop, self.height, self.width, filter)
    }
}

/// The window of the image's own size at (`top`, `left`) of the image with `pad` zeros on every side.
fn padded_window(image: &Image, pad: usize, top: usize, left: usize) -> Image {
    // Along one axis: where the window shows pixels, where these lie in the image, and how many they are.
    let overlap = |start: usize, side: usize| {
        let (to, from) = (pad.saturating_sub(start), start.saturating_sub(pad));
        (to.min(side), from.min(side), side.saturating_sub(to + from))
    };
    let (y, from_y, height) = overlap(top, image.height);
    let (x, from_x, width) = overlap(left, image.width);
    let mut out = Image { pixels: vec![0; image.pixels.len()], ..*image };
    let shown = image.rows(CropBox { top: from_y, left: from_x, height, width });
    for (i, row) in shown.enumerate() {
        out.pixels[((y + i) * image.width + x) * 3..][..width * 3].copy_from_slice(row);
    }
    out
}

/// A training view `[Ih,Iw,3]`, normalised.
pub fn train_view(cfg: &ClassViewConfig, image: &Image, draws: &mut impl Draws) -> Vec<f32> {
    let mut view = cfg.draw_crop(image, draws);
    if draws.uniform(0.0, 1.0) < cfg.flip {
        view.flip();
    }
    match &cfg.recolour {
        Recolour::Jitter(strength) => {
            let steps = draw_jitter(*strength, draws);
            view = jitter_and_crop(&view, &steps, view.whole());
        }
        Recolour::RandAugment(law) => {
            let fill = fill_colour(cfg.mean);
            law.draw(cfg.interpolation, draws).iter().for_each(|r| r.apply(&mut view, fill));
        }
    }
    let mut pixels = cfg.normalise().apply(&view);
    if let Some(erasing) = &cfg.erasing {
        let boxes = erasing.draw(cfg.height, cfg.width, draws);
        erasing.fill(&mut pixels, cfg.width, &boxes, draws);
    }
    pixels
}

/// The evaluation view `[Ih,Iw,3]`, normalised: resized as a whole, bicubic, and cropped at the centre
/// ([`eval_crop`]), unless it is [taken as it is](ClassViewConfig::as_is).
pub fn eval_view(cfg: &ClassViewConfig, image: &Image) -> Vec<f32> {
    if cfg.as_is && (image.height, image.width) == (cfg.height, cfg.width) {
        return cfg.normalise().apply(image);
    }
    let view = eval_crop(image, cfg.height, cfg.width, Filter::Bicubic);
    cfg.normalise().apply(&view)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::randaugment::{RandOp, Retouch, Sampling};
    use crate::rng::{Philox, Purpose};

    fn noise(height: usize, width: usize) -> Image {
        let mut rng = Philox::new(3, Purpose::Check, 0, 0);
        let pixels = (0..height * width * 3).map(|_| rng.integer(255) as u8).collect();
        Image::new(height, width, pixels)
    }

    const EXTREME: [(usize, usize); 8] =
        [(1, 1), (1, 2), (1, 300), (300, 1), (2, 2), (2, 5000), (5000, 3), (3, 3)];

    #[test]
    fn any_image_goes_through_every_operation() {
        for (height, width) in EXTREME {
            let image = noise(height, width);
            let all = RandOp::ALL.into_iter().flat_map(|op| [(op, true), (op, false)]);
            for (op, increasing) in all {
                for (magnitude, negated) in [(0.0, false), (9.3, true), (10.0, false)] {
                    for sampling in [Sampling::Bilinear, Sampling::Bicubic] {
                        let argument = op.argument(magnitude, negated, increasing);
                        let mut out = image.clone();
                        Retouch { op, argument, sampling }.apply(&mut out, [1, 2, 3]);
                        assert_eq!((out.height, out.width), (height, width), "{op:?}");
                        assert_eq!(out.pixels.len(), image.pixels.len(), "{op:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn any_image_becomes_a_view() {
        let original = ClassViewConfig::original(24, 40);
        let jittered = ClassViewConfig { recolour: Recolour::Jitter(0.4), ..original.clone() };
        let small = ClassViewConfig::original(3, 3);
        let always = RandAugment { probability: 1.0, ..RandAugment::default() };
        let all = ClassViewConfig {
            recolour: Recolour::RandAugment(always),
            interpolation: Interpolation::Random,
            erasing: Some(Erasing::pixels(1.0)),
            ..ClassViewConfig::original(1, 7)
        };
        for cfg in [original, jittered, small, all] {
            cfg.validate().unwrap();
            for (height, width) in EXTREME {
                let image = noise(height, width);
                let mut rng = Philox::new(1, Purpose::Check, height as u32, width as u32);
                for _ in 0..10 {
                    let view = train_view(&cfg, &image, &mut rng);
                    assert_eq!(view.len(), cfg.height * cfg.width * 3);
                    assert!(view.iter().all(|x| x.is_finite()));
                }
                assert_eq!(eval_view(&cfg, &image).len(), cfg.height * cfg.width * 3);
            }
        }
    }

    #[test]
    fn small_images_are_padded_and_not_resized() {
        let cfg = ClassViewConfig::original(32, 32);
        assert_eq!((cfg.pad, ClassViewConfig::original(32, 33).pad), (Some(4), None));
        let image = noise(32, 32);
        assert_eq!(eval_view(&cfg, &image), cfg.normalise().apply(&image));
        // Whether zeros are put around it in training has no part in that.
        let never = ClassViewConfig { pad: None, ..cfg.clone() };
        assert_eq!(eval_view(&never, &image), eval_view(&cfg, &image));
        let cropped = ClassViewConfig { as_is: false, ..cfg.clone() };
        let crop = eval_crop(&image, 32, 32, Filter::Bicubic);
        assert_eq!(eval_view(&cropped, &image), cfg.normalise().apply(&crop));
        assert_eq!(padded_window(&image, 4, 4, 4), image);
        let corner = padded_window(&image, 4, 0, 8);
        for y in 0..32 {
            for x in 0..32 {
                let at = |y: usize, x: usize| (y * 32 + x) * 3;
                let want = match (y >= 4, x < 28) {
                    (true, true) => &image.pixels[at(y - 4, x + 4)..][..3],
                    _ => &[0; 3],
                };
                assert_eq!(&corner.pixels[at(y, x)..][..3], want, "({y}, {x})");
            }
        }
        // Padding wider than the image leaves nothing of it at the far end.
        assert!(padded_window(&noise(2, 2), 9, 0, 18).pixels.iter().all(|&x| x == 0));
    }

    #[test]
    fn settings_are_refused() {
        let cfg = ClassViewConfig::original(8, 8);
        let wrong = [
            ClassViewConfig { width: 0, ..cfg.clone() },
            ClassViewConfig { flip: f64::NAN, ..cfg.clone() },
            ClassViewConfig { recolour: Recolour::Jitter(2.0), ..cfg.clone() },
            ClassViewConfig { erasing: Some(Erasing::pixels(2.0)), ..cfg.clone() },
            ClassViewConfig { std: [1.0, 0.0, 1.0], ..cfg.clone() },
        ];
        assert!(cfg.validate().is_ok());
        assert!(wrong.iter().all(|cfg| cfg.validate().is_err()));
    }
}
