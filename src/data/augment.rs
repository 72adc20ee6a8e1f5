//! Colour jitter, flip and crops: from a decoded image to the views the models read.
//!
//! The original jitters and mirrors the full image and crops last (`datasets.py`, `transforms.py`). Here the
//! box is drawn first and only it is processed, with the same bytes as a result. The one step that
//! looks beyond the box is contrast, which blends with the mean grey level of the *full* image as
//! the steps before it left it; that mean is found in one pass that stores nothing.

use super::geometry::{CropBox, Draws, RandomCrop, eval_geometry};
use super::image::Image;
use super::pixels::{HALF, PixelMap};
use super::resize::{Filter, resize, resize_window};
use crate::error::{Error, Result};
use crate::rng::Philox;

/// One step of the colour jitter with its factor; 1 changes nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// Blend with black.
    Brightness(f32),
    /// Blend with the mean grey level of the image.
    Contrast(f32),
    /// Blend with the grey image.
    Saturation(f32),
}

/// A jitter step that no longer depends on other pixels.
enum Blend {
    Bytes(Box<[u8; 256]>),
    Grey(f32),
}

/// `d + f (x - d)` in f32, clipped and truncated, as Pillow's `Image.blend` does it.
#[inline]
pub(super) fn blend(d: f32, x: u8, f: f32) -> u8 {
    (d + f * (f32::from(x) - d)).clamp(0.0, 255.0) as u8
}

/// ITU-R 601 luma in 16 fractional bits, rounded.
#[inline]
pub(super) fn grey_of(p: &[u8; 3]) -> u8 {
    let [r, g, b] = p.map(u32::from);
    ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16) as u8
}

impl Blend {
    fn table(d: u8, f: f32) -> Self {
        Self::Bytes(Box::new(std::array::from_fn(|x| blend(f32::from(d), x as u8, f))))
    }

    fn apply(&self, row: &mut [u8]) {
        match self {
            Self::Bytes(table) => row.iter_mut().for_each(|x| *x = table[usize::from(*x)]),
            Self::Grey(f) => {
                for p in row.as_chunks_mut::<3>().0 {
                    let d = f32::from(grey_of(p));
                    *p = p.map(|x| blend(d, x, *f));
                }
            }
        }
    }
}

/// Mean grey level, rounded half up, of the image after `steps`.
fn mean_grey(image: &Image, steps: &[Blend]) -> u8 {
    let mut total = 0u64;
    let mut row = vec![0u8; image.width * 3];
    for source in image.rows(image.whole()) {
        row.copy_from_slice(source);
        steps.iter().for_each(|step| step.apply(&mut row));
        total += row.as_chunks::<3>().0.iter().map(|p| u64::from(grey_of(p))).sum::<u64>();
    }
    (total as f64 / (image.height * image.width) as f64 + 0.5) as u8
}

/// The box of the jittered image. The steps apply in order.
#[track_caller]
pub fn jitter_and_crop(image: &Image, steps: &[Jitter], crop: CropBox) -> Image {
    let mut blends = Vec::with_capacity(steps.len());
    for step in steps {
        let next = match *step {
            Jitter::Brightness(f) => Blend::table(0, f),
            Jitter::Contrast(f) => Blend::table(mean_grey(image, &blends), f),
            Jitter::Saturation(f) => Blend::Grey(f),
        };
        blends.push(next);
    }
    let mut out = image.crop(crop);
    blends.iter().for_each(|blend| blend.apply(&mut out.pixels));
    out
}

/// Brightness, contrast and saturation factors within `strength` of 1, in random order.
pub fn draw_jitter(strength: f64, draws: &mut impl Draws) -> Vec<Jitter> {
    if strength == 0.0 {
        return Vec::new();
    }
    let mut factor = || draws.uniform((1.0 - strength).max(0.0), 1.0 + strength) as f32;
    let mut steps = vec![
        Jitter::Brightness(factor()),
        Jitter::Contrast(factor()),
        Jitter::Saturation(factor()),
    ];
    for i in (1..steps.len()).rev() {
        steps.swap(i, draws.integer(i));
    }
    steps
}

/// How training images are varied, and the sizes of the two views.
#[derive(Clone, Debug, PartialEq)]
pub struct AugmentConfig {
    /// Height of the encoder's view in pixels.
    pub height: usize,
    /// Width of the encoder's view in pixels.
    pub width: usize,
    /// Height of the tokenizer's view in pixels; with both sides 0 there is none.
    pub token_height: usize,
    /// Width of the tokenizer's view in pixels.
    pub token_width: usize,
    /// Strength of brightness, contrast and saturation jitter.
    pub jitter: f64,
    /// Probability of mirroring.
    pub flip: f64,
    /// Share of the image's area that a crop covers.
    pub crop_scale: (f64, f64),
    /// Width over height of a crop.
    pub crop_ratio: (f64, f64),
    /// Mean of the encoder's view, per channel.
    pub mean: [f32; 3],
    /// Deviation of the encoder's view, per channel.
    pub std: [f32; 3],
}

impl AugmentConfig {
    /// The original's settings for these sizes (`datasets.py`, `transforms.py`).
    pub fn original(height: usize, width: usize, token_height: usize, token_width: usize) -> Self {
        let crop = RandomCrop::default();
        Self {
            height,
            width,
            token_height,
            token_width,
            jitter: 0.4,
            flip: 0.5,
            crop_scale: crop.scale,
            crop_ratio: crop.ratio,
            mean: HALF.0,
            std: HALF.1,
        }
    }

    /// Refuses settings that no image could be varied with.
    pub fn validate(&self) -> Result<()> {
        let tokens = [self.token_height, self.token_width];
        let empty = |sides: [usize; 2]| sides.contains(&0);
        let ordered = |(lo, hi): (f64, f64), top: f64| 0.0 < lo && lo <= hi && hi <= top;
        let wrong = if empty([self.height, self.width]) || empty(tokens) && tokens != [0; 2] {
            "a view has no pixels"
        } else if !(0.0..=1.0).contains(&self.jitter) || !(0.0..=1.0).contains(&self.flip) {
            "jitter and flip must lie in 0..1"
        } else if !ordered(self.crop_scale, 1.0) || !ordered(self.crop_ratio, f64::MAX) {
            "crop_scale and crop_ratio must be positive, in order, and the scale at most 1"
        } else if !self.std.iter().all(|s| *s > 0.0) || !self.mean.iter().all(|m| m.is_finite()) {
            "the deviation of every channel must be above 0 and its mean finite"
        } else {
            return Ok(());
        };
        Err(Error::config(format!("augmentation: {wrong}")))
    }

    /// What the encoder's views go through last.
    pub fn normalise(&self) -> PixelMap {
        PixelMap::normalise(self.mean, self.std)
    }

    /// A random crop of the image, jittered if `jitter` is set, mirrored by chance.
    pub fn draw_crop(&self, image: &Image, jitter: bool, draws: &mut impl Draws) -> Image {
        let steps = if jitter { draw_jitter(self.jitter, draws) } else { Vec::new() };
        let flip = draws.uniform(0.0, 1.0) < self.flip;
        let law = RandomCrop { scale: self.crop_scale, ratio: self.crop_ratio };
        let crop = law.draw(image.height, image.width, draws);
        // The original crops the mirrored image; the same pixels lie elsewhere in this one.
        let crop = if flip { crop.mirrored(image.width) } else { crop };
        let mut out = jitter_and_crop(image, &steps, crop);
        if flip {
            out.flip();
        }
        out
    }
}

/// One crop seen by the encoder and by the tokenizer, as bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Views {
    /// `[Ih,Iw,3]`, still to be normalised ([`AugmentConfig::normalise`]).
    pub patch: Image,
    /// `[Th,Tw,3]`, still to be mapped by `φ` ([`PixelMap::map_pixels`]); without a pixel where there is no
    /// tokenizer.
    pub tokens: Image,
}

/// The two views of pretraining: one crop, resized twice from its original pixels, bicubic for the
/// encoder and Lanczos for the tokenizer.
pub fn two_views(cfg: &AugmentConfig, image: &Image, rng: &mut Philox) -> Views {
    let crop = cfg.draw_crop(image, true, rng);
    views_of(cfg, &crop, crop.whole())
}

fn views_of(cfg: &AugmentConfig, image: &Image, crop: CropBox) -> Views {
    let patch = resize(image, crop, cfg.height, cfg.width, Filter::Bicubic);
    let tokens = match (cfg.token_height, cfg.token_width) {
        (0, 0) => Image::default(),
        (height, width) => resize(image, crop, height, width, Filter::Lanczos),
    };
    Views { patch, tokens }
}

/// The tokenizer's own training view `[Th,Tw,3]`: random crop and flip, no jitter, Lanczos; still to be
/// mapped by `φ`.
///
/// Deviation: the dVAE's authors take a square of the short side (arXiv 2102.12092, listing 1). A random
/// resized crop shows the tokenizer the scales that pretraining will ask it about.
pub fn token_view(cfg: &AugmentConfig, image: &Image, rng: &mut Philox) -> Image {
    let crop = cfg.draw_crop(image, false, rng);
    resize(&crop, crop.whole(), cfg.token_height, cfg.token_width, Filter::Lanczos)
}

/// Evaluation crop: the image resized as a whole, then cropped at the centre.
pub fn eval_crop(image: &Image, height: usize, width: usize, filter: Filter) -> Image {
    let g = eval_geometry(image.height, image.width, height, width);
    let sides = (g.resized_height, g.resized_width);
    resize_window(image, image.whole(), sides, g.crop, filter)
}

/// The encoder's evaluation view `[Ih,Iw,3]`, bicubic, normalised.
pub fn eval_view(cfg: &AugmentConfig, image: &Image) -> Vec<f32> {
    cfg.normalise().apply(&eval_crop(image, cfg.height, cfg.width, Filter::Bicubic))
}

/// The central box of the views' aspect, seen by encoder and tokenizer without any chance: what
/// pictures and metrics of an untouched image use.
pub fn eval_views(cfg: &AugmentConfig, image: &Image) -> Views {
    views_of(cfg, image, centre_box(image, cfg.height, cfg.width))
}

/// The largest central box with the aspect of `height x width`.
pub fn centre_box(image: &Image, height: usize, width: usize) -> CropBox {
    let (h, w) = if image.width * height >= image.height * width {
        (image.height, (image.height * width / height).max(1))
    } else {
        ((image.width * height / width).max(1), image.width)
    };
    CropBox { top: (image.height - h) / 2, left: (image.width - w) / 2, height: h, width: w }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    fn noise(height: usize, width: usize) -> Image {
        let mut rng = Philox::new(3, Purpose::Check, 0, 0);
        let pixels = (0..height * width * 3).map(|_| rng.integer(255) as u8).collect();
        Image::new(height, width, pixels)
    }

    #[test]
    fn jittering_the_box_is_cropping_the_jittered_image() {
        let image = noise(13, 17);
        let crop = CropBox { top: 2, left: 5, height: 7, width: 6 };
        let mut rng = Philox::new(5, Purpose::Check, 0, 0);
        for _ in 0..20 {
            let steps = draw_jitter(0.4, &mut rng);
            let full = steps.iter().fold(image.clone(), |image, step| {
                jitter_and_crop(&image, &[*step], image.whole())
            });
            assert_eq!(jitter_and_crop(&image, &steps, crop), full.crop(crop), "{steps:?}");
        }
    }

    #[test]
    fn flipping_first_or_last_is_the_same() {
        let image = noise(40, 30);
        let mirrored = {
            let mut m = image.clone();
            m.flip();
            m
        };
        let always = AugmentConfig { flip: 1.0, ..AugmentConfig::original(16, 16, 8, 8) };
        let never = AugmentConfig { flip: 0.0, ..always.clone() };
        let rng = || Philox::new(5, Purpose::Augment, 1, 2);
        assert_eq!(
            two_views(&always, &image, &mut rng()),
            two_views(&never, &mirrored, &mut rng())
        );
    }

    #[test]
    fn views_have_their_sizes() {
        let cfg = AugmentConfig::original(20, 28, 10, 14);
        cfg.validate().unwrap();
        let image = noise(33, 21);
        let mut rng = Philox::new(5, Purpose::Augment, 1, 3);
        let two = two_views(&cfg, &image, &mut rng);
        let size = |image: &Image| (image.height, image.width);
        assert_eq!((size(&two.patch), size(&two.tokens)), ((20, 28), (10, 14)));
        assert_eq!(size(&token_view(&cfg, &image, &mut rng)), (10, 14));
        assert_eq!(eval_view(&cfg, &image).len(), 20 * 28 * 3);
        assert_eq!(size(&eval_views(&cfg, &image).tokens), (10, 14));
        let alone = AugmentConfig { token_height: 0, token_width: 0, ..cfg.clone() };
        alone.validate().unwrap();
        let seen = two_views(&alone, &image, &mut Philox::new(5, Purpose::Augment, 1, 3));
        assert_eq!(seen, Views { tokens: Image::default(), ..two });
        assert!(AugmentConfig { token_height: 0, ..cfg.clone() }.validate().is_err());
        assert!(AugmentConfig { crop_scale: (0.5, 0.2), ..cfg }.validate().is_err());
    }
}
