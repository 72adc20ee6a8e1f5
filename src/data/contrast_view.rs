//! Views of one image that a model is to recognise as the same: those of DINO and of MoCo v3.
//!
//! In the order of the originals (`DataAugmentationDINO` of `main_dino.py`, `main_moco.py`): a random resized crop,
//! mirrored by chance, colour jitter by chance, grey by chance, blur by chance, solarised by chance.
//!
//! `Deviation:` hues and blur are not Pillow's to the last bit: hue turns in steps of two degrees, the blur is Gaussian
//! and not three boxes.

use super::augment::{Jitter, grey_of, jitter_and_crop};
use super::geometry::{Draws, RandomCrop};
use super::hsv::{from_hsv, to_hsv};
use super::image::Image;
use super::resize::{Filter, resize};
use ::image::{RgbImage, imageops};

/// Probability that colours are jittered.
const JITTERED: f64 = 0.8;
/// Strengths of brightness and contrast, of saturation, and of the hue in circles.
const STRENGTHS: (f64, f64, f64) = (0.4, 0.2, 0.1);
/// Hues of a circle.
const HUES: f64 = 180.0;
/// Probability that an image loses its colours.
const GREY: f64 = 0.2;
/// Deviations of the blur in pixels.
const BLURRED: (f64, f64) = (0.1, 2.0);
/// What is inverted: bytes from here on.
const SOLARISED: u8 = 128;

/// How a view is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViewLaw {
    /// Height and width in pixels.
    pub size: (usize, usize),
    /// Law of the crops.
    pub crop: RandomCrop,
    /// Their interpolation.
    pub filter: Filter,
    /// Probability of mirroring.
    pub flip: f64,
    /// Probability of blur.
    pub blur: f64,
    /// Probability of solarisation.
    pub solarise: f64,
}

/// A step of the colour jitter.
#[derive(Clone, Copy)]
enum ColourStep {
    Blend(Jitter),
    /// Steps of two degrees.
    Hue(i32),
}

impl ViewLaw {
    /// A view of an image.
    pub fn draw(&self, image: &Image, draws: &mut impl Draws) -> Image {
        let crop = self.crop.draw(image.height, image.width, draws);
        let mut view = resize(image, crop, self.size.0, self.size.1, self.filter);
        let mut by_chance = |p: f64| draws.uniform(0.0, 1.0) < p;
        if by_chance(self.flip) {
            view.flip();
        }
        if by_chance(JITTERED) {
            draw_colours(draws).into_iter().for_each(|step| recolour(&mut view, step));
        }
        let mut by_chance = |p: f64| draws.uniform(0.0, 1.0) < p;
        if by_chance(GREY) {
            for pixel in view.pixels.as_chunks_mut::<3>().0 {
                *pixel = [grey_of(pixel); 3];
            }
        }
        let (blur, solarise) = (by_chance(self.blur), by_chance(self.solarise));
        if blur {
            view = blurred(view, draws.uniform(BLURRED.0, BLURRED.1) as f32);
        }
        if solarise {
            view.pixels.iter_mut().filter(|x| **x >= SOLARISED).for_each(|x| *x = 255 - *x);
        }
        view
    }
}

/// All four steps in random order.
fn draw_colours(draws: &mut impl Draws) -> Vec<ColourStep> {
    let (strong, saturation, hue) = STRENGTHS;
    let mut factor = |strength: f64| draws.uniform(1.0 - strength, 1.0 + strength) as f32;
    let mut steps = vec![
        ColourStep::Blend(Jitter::Brightness(factor(strong))),
        ColourStep::Blend(Jitter::Contrast(factor(strong))),
        ColourStep::Blend(Jitter::Saturation(factor(saturation))),
        ColourStep::Hue((draws.uniform(-hue, hue) * HUES) as i32),
    ];
    for i in (1..steps.len()).rev() {
        steps.swap(i, draws.integer(i));
    }
    steps
}

fn recolour(view: &mut Image, step: ColourStep) {
    match step {
        ColourStep::Blend(step) => *view = jitter_and_crop(view, &[step], view.whole()),
        ColourStep::Hue(turn) => {
            for pixel in view.pixels.as_chunks_mut::<3>().0 {
                let [h, s, v] = to_hsv(*pixel);
                *pixel = from_hsv([(i32::from(h) + turn).rem_euclid(HUES as i32) as u8, s, v]);
            }
        }
    }
}

fn blurred(view: Image, deviation: f32) -> Image {
    let Image { height, width, pixels } = view;
    let buffer = RgbImage::from_raw(width as u32, height as u32, pixels);
    let buffer = buffer.expect("three bytes for each pixel");
    Image::new(height, width, imageops::blur(&buffer, deviation).into_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Purpose};

    const LAW: ViewLaw = ViewLaw {
        size: (12, 10),
        crop: RandomCrop { scale: (0.2, 1.0), ratio: (0.75, 4.0 / 3.0) },
        filter: Filter::Bicubic,
        flip: 0.5,
        blur: 0.5,
        solarise: 0.2,
    };

    fn noise(height: usize, width: usize) -> Image {
        let mut rng = Philox::new(3, Purpose::Check, 0, 0);
        let pixels = (0..height * width * 3).map(|_| rng.integer(255) as u8).collect();
        Image::new(height, width, pixels)
    }

    fn draw(law: &ViewLaw, image: &Image, number: u32) -> Image {
        law.draw(image, &mut Philox::new(5, Purpose::Augment, 1, number))
    }

    #[test]
    fn views_follow_from_their_stream_and_differ() {
        let image = noise(20, 31);
        let all: Vec<Image> = (0..40).map(|i| draw(&LAW, &image, i)).collect();
        assert!(all.iter().all(|view| (view.height, view.width) == LAW.size));
        assert_eq!(all, (0..40).map(|i| draw(&LAW, &image, i)).collect::<Vec<_>>());
        assert!((1..40).all(|i| all[i] != all[0]));
    }

    #[test]
    fn steps_are_taken_as_often_as_they_should_be() {
        // A white image is all of one grey whatever its colours and crop, so that what solarises it shows; noise
        // with its three channels equal is a grey one.
        let (white, colours) = (Image::new(8, 8, vec![255; 192]), noise(8, 8));
        let law = ViewLaw {
            crop: RandomCrop { scale: (1.0, 1.0), ratio: (1.0, 1.0) },
            size: (8, 8),
            ..LAW
        };
        let share = |found: &dyn Fn(Image) -> bool, image: &Image, law: &ViewLaw| {
            let hits = (0..2000).filter(|&i| found(draw(law, image, i))).count();
            hits as f64 / 2000.0
        };
        let near = |got: f64, want: f64| assert!((got - want).abs() < 0.03, "{got}, not {want}");
        near(share(&|view| view.pixels[0] < 128, &white, &law), law.solarise);
        let is_grey = |view: Image| {
            view.pixels.as_chunks::<3>().0.iter().all(|p| p[0] == p[1] && p[1] == p[2])
        };
        near(share(&is_grey, &colours, &law), GREY);
        // What is neither mirrored nor blurred nor recoloured is the image.
        let still = ViewLaw { flip: 0.0, blur: 0.0, solarise: 0.0, ..law };
        near(share(&|view| view == colours, &colours, &still), (1.0 - JITTERED) * (1.0 - GREY));
        let mirrored = ViewLaw { flip: 0.25, ..still };
        near(
            share(&|view| view == colours, &colours, &mirrored),
            0.75 * (1.0 - JITTERED) * (1.0 - GREY),
        );
        let soft = ViewLaw { blur: 0.25, ..still };
        near(
            share(&|view| view == colours, &colours, &soft),
            0.75 * (1.0 - JITTERED) * (1.0 - GREY),
        );
    }

    #[test]
    fn the_hue_turns_and_comes_back() {
        let mut view = Image::new(1, 1, vec![200, 40, 40]);
        recolour(&mut view, ColourStep::Hue(60));
        assert!(view.pixels[1] > 190 && view.pixels[0] < 50, "{:?}", view.pixels);
        recolour(&mut view, ColourStep::Hue(-60));
        assert!(view.pixels[0] > 190 && view.pixels[1] < 50, "{:?}", view.pixels);
    }

    #[test]
    fn a_blur_keeps_the_mean() {
        let image = noise(16, 16);
        let mean = |image: &Image| image.pixels.iter().map(|x| f64::from(*x)).sum::<f64>() / 768.0;
        let spread = |image: &Image| {
            let m = mean(image);
            image.pixels.iter().map(|x| (f64::from(*x) - m).powi(2)).sum::<f64>()
        };
        let soft = blurred(image.clone(), 2.0);
        assert!((mean(&soft) - mean(&image)).abs() < 6.0 && spread(&soft) < 0.2 * spread(&image));
    }
}
