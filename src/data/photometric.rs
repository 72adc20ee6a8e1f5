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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Purpose};

    #[test]
    fn steps_are_drawn_as_often_as_they_should_be() {
        const MANY: usize = 8000;
        let mut rng = Philox::new(2, Purpose::Check, 0, 0);
        let (mut brightness, mut saturation, mut first, mut last) = (0, 0, 0, 0);
        let mut hues = [0; HUES];
        for _ in 0..MANY {
            let steps = draw_distortion(&mut rng);
            let colour =
                |step: &Distortion| matches!(step, Distortion::Saturation(_) | Distortion::Hue(_));
            let coloured = steps.iter().position(colour);
            for (i, step) in steps.iter().enumerate() {
                match *step {
                    Distortion::Brightness(b) => {
                        assert!(i == 0 && b.abs() <= 32.0);
                        brightness += 1;
                    }
                    Distortion::Contrast(a) => {
                        assert!((0.5..=1.5).contains(&a));
                        first += usize::from(coloured.is_some_and(|c| i < c));
                        last += usize::from(coloured.is_some_and(|c| i > c));
                    }
                    Distortion::Saturation(a) => {
                        assert!((0.5..=1.5).contains(&a));
                        saturation += 1;
                    }
                    Distortion::Hue(turn) => hues[turn] += 1,
                }
            }
        }
        // Five deviations of a coin, and of one in 72.
        let near = |count: usize, share: f64| {
            let wanted = share * MANY as f64;
            (count as f64 - wanted).abs() < 5.0 * (wanted * (1.0 - share)).sqrt()
        };
        assert!(near(brightness, 0.5) && near(saturation, 0.5), "{brightness}, {saturation}");
        assert!(near(first, 3.0 / 16.0) && near(last, 3.0 / 16.0), "{first}, {last}");
        // -18 to 17.
        for (turn, &count) in hues.iter().enumerate() {
            let wanted = !(18..162).contains(&turn);
            assert!(if wanted { near(count, 1.0 / 72.0) } else { count == 0 }, "{turn}: {count}");
        }
    }
}
