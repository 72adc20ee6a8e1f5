//! Photometric distortion: brightness, contrast, saturation and hue by chance, each rounded to bytes (mmseg's
//! `PhotoMetricDistortion` with its defaults).

use super::geometry::Draws;
use super::hsv::{from_hsv, to_hsv};
use super::image::Image;

/// Most that brightness adds or takes.
const BRIGHTNESS: f64 = 32.0;
/// Factors of contrast and saturation.
const FACTORS: (f64, f64) = (0.5, 1.5);
/// Hues that the hue is turned back by at most; forward it is one less.
const TURN: usize = 18;
/// Hues of the circle.
const HUES: usize = 180;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distortion {
    /// Adds to every channel.
    Brightness(f32),
    /// Multiplies every channel.
    Contrast(f32),
    /// Multiplies the saturation.
    Saturation(f32),
    /// Adds to the hue, in steps of two degrees below 180.
    Hue(usize),
}

/// The steps of one image: each by the toss of a coin, contrast before or behind the two of colour by another.
pub fn draw_distortion(draws: &mut impl Draws) -> Vec<Distortion> {
    let mut steps = Vec::new();
    if coin(draws) {
        steps.push(Distortion::Brightness(draws.uniform(-BRIGHTNESS, BRIGHTNESS) as f32));
    }
    let contrast_first = coin(draws);
    if contrast_first {
        steps.extend(draw_factor(draws).map(Distortion::Contrast));
    }
    steps.extend(draw_factor(draws).map(Distortion::Saturation));
    if coin(draws) {
        let turn = draws.integer(2 * TURN - 1); // 0 stands for -18
        steps.push(Distortion::Hue((turn + HUES - TURN) % HUES));
    }
    if !contrast_first {
        steps.extend(draw_factor(draws).map(Distortion::Contrast));
    }
    steps
}

fn coin(draws: &mut impl Draws) -> bool {
    draws.integer(1) == 1
}

fn draw_factor(draws: &mut impl Draws) -> Option<f32> {
    coin(draws).then(|| draws.uniform(FACTORS.0, FACTORS.1) as f32)
}

/// `a x + b`, clipped and truncated.
fn line(x: u8, a: f32, b: f32) -> u8 {
    (f32::from(x) * a + b).clamp(0.0, 255.0) as u8
}

impl Distortion {
    /// Changes an image in place.
    pub fn apply(self, image: &mut Image) {
        match self {
            Self::Brightness(b) => image.pixels.iter_mut().for_each(|x| *x = line(*x, 1.0, b)),
            Self::Contrast(a) => image.pixels.iter_mut().for_each(|x| *x = line(*x, a, 0.0)),
            Self::Saturation(a) => in_hsv(image, |[h, s, v]| [h, line(s, a, 0.0), v]),
            Self::Hue(turn) => {
                in_hsv(image, |[h, s, v]| [((usize::from(h) + turn) % HUES) as u8, s, v])
            }
        }
    }
}

fn in_hsv(image: &mut Image, change: impl Fn([u8; 3]) -> [u8; 3]) {
    let (pixels, _) = image.pixels.as_chunks_mut::<3>();
    pixels.iter_mut().for_each(|pixel| *pixel = from_hsv(change(to_hsv(*pixel))));
}
