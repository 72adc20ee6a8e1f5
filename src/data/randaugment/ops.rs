//! The 15 operations and what a magnitude means to each.

use super::affine::{rotation, transform};
use super::sampling::Sampling;
use super::{blends, lookups};
use crate::data::augment::{Jitter, jitter_and_crop};
use crate::data::image::Image;

/// The largest magnitude (`_LEVEL_DENOM`).
pub const LEVELS: f64 = 10.0;

/// What is done to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RandOp {
    /// Stretch of each channel to 0..255.
    AutoContrast,
    /// Equal histogram of each channel.
    Equalize,
    /// The negative.
    Invert,
    /// Rotation about the centre; degrees counter-clockwise.
    Rotate,
    /// Fewer bits; the number of bits kept.
    Posterize,
    /// The negative of bright values; the first value that is bright.
    Solarize,
    /// Brighter dark values; what is added to them.
    SolarizeAdd,
    /// Blend with the grey image; the image's weight.
    Color,
    /// Blend with the mean grey level; the image's weight.
    Contrast,
    /// Blend with black; the image's weight.
    Brightness,
    /// Blend with the smoothed image; the image's weight.
    Sharpness,
    /// Rows moved in proportion to their number; columns per row, to the left.
    ShearX,
    /// Columns moved in proportion to their number; rows per column, upwards.
    ShearY,
    /// All moved to the left; a share of the width.
    TranslateX,
    /// All moved upwards; a share of the height.
    TranslateY,
}

impl RandOp {
    /// In the order of the numbers by which they are drawn.
    pub const ALL: [Self; 15] = [
        Self::AutoContrast,
        Self::Equalize,
        Self::Invert,
        Self::Rotate,
        Self::Posterize,
        Self::Solarize,
        Self::SolarizeAdd,
        Self::Color,
        Self::Contrast,
        Self::Brightness,
        Self::Sharpness,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
    ];

    /// Whether it goes both ways, so that its direction is drawn.
    pub fn is_signed(self, increasing: bool) -> bool {
        increasing && self.is_blend() || self.moves_pixels()
    }

    /// Whether it moves pixels, so that it has an interpolation.
    pub fn moves_pixels(self) -> bool {
        use RandOp::{Rotate, ShearX, ShearY, TranslateX, TranslateY};
        matches!(self, Rotate | ShearX | ShearY | TranslateX | TranslateY)
    }

    fn is_blend(self) -> bool {
        matches!(self, Self::Color | Self::Contrast | Self::Brightness | Self::Sharpness)
    }

    /// The argument at a magnitude of 0 to 10 (`LEVEL_TO_ARG`); 0 for those without one.
    pub fn argument(self, magnitude: f64, negated: bool, increasing: bool) -> f64 {
        let level = magnitude / LEVELS;
        let signed = |x: f64| if negated { -x } else { x };
        match self {
            Self::AutoContrast | Self::Equalize | Self::Invert => 0.0,
            Self::Rotate => signed(level * 30.0),
            Self::Posterize if increasing => 4.0 - (level * 4.0).trunc(),
            Self::Posterize => (level * 4.0).trunc(),
            Self::Solarize if increasing => 256.0 - (level * 256.0).trunc().min(256.0),
            Self::Solarize => (level * 256.0).trunc().min(256.0),
            Self::SolarizeAdd => (level * 110.0).trunc().min(128.0),
            _ if self.is_blend() && increasing => (1.0 + signed(level * 0.9)).max(0.1),
            Self::Color | Self::Contrast | Self::Brightness | Self::Sharpness => level * 1.8 + 0.1,
            Self::ShearX | Self::ShearY => signed(level * 0.3),
            Self::TranslateX | Self::TranslateY => signed(level * 0.45),
        }
    }
}

/// An operation with its argument ([`RandOp::argument`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retouch {
    /// What is done.
    pub op: RandOp,
    /// By how much, in the operation's unit.
    pub argument: f64,
    /// How pixels between pixels are made, where it moves them.
    pub sampling: Sampling,
}

impl Retouch {
    /// Does it to an image, whose size stays. Pixels that nothing was moved to take the colour `fill`.
    pub fn apply(&self, image: &mut Image, fill: [u8; 3]) {
        let k = self.argument;
        let jitter = |step: Jitter| jitter_and_crop(image, &[step], image.whole());
        let moved = |matrix: [f64; 6]| transform(image, matrix, fill, self.sampling);
        *image = match self.op {
            RandOp::Color => jitter(Jitter::Saturation(k as f32)),
            RandOp::Contrast => jitter(Jitter::Contrast(k as f32)),
            RandOp::Brightness => jitter(Jitter::Brightness(k as f32)),
            RandOp::Sharpness => blends::sharpened(image, k as f32),
            RandOp::Rotate => match rotation(image.height, image.width, k) {
                Some(matrix) => moved(matrix),
                None => return,
            },
            RandOp::ShearX => moved([1.0, k, 0.0, 0.0, 1.0, 0.0]),
            RandOp::ShearY => moved([1.0, 0.0, 0.0, k, 1.0, 0.0]),
            RandOp::TranslateX => moved([1.0, 0.0, k * image.width as f64, 0.0, 1.0, 0.0]),
            RandOp::TranslateY => moved([1.0, 0.0, 0.0, 0.0, 1.0, k * image.height as f64]),
            _ => return self.look_up(image),
        };
    }

    /// Does what gives each value of a channel another one.
    fn look_up(&self, image: &mut Image) {
        let k = self.argument;
        match self.op {
            RandOp::AutoContrast => lookups::auto_contrast(image),
            RandOp::Equalize => lookups::equalize(image),
            RandOp::Posterize => {
                // Pillow 13 refuses to keep no bits; earlier ones make the image black, as here.
                let dropped = 8 - (k as u32).min(8);
                lookups::each(image, |v| (u32::from(v) >> dropped << dropped) as u8);
            }
            RandOp::Solarize => {
                lookups::each(image, |v| if f64::from(v) < k { v } else { 255 - v });
            }
            RandOp::SolarizeAdd => {
                lookups::each(image, |v| if v < 128 { v.saturating_add(k as u8) } else { v });
            }
            _ => lookups::each(image, |v| 255 - v),
        }
    }
}
