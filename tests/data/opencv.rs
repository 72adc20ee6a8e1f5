//! Resizing and colours against stored hashes of OpenCV's: `tests/fixtures/opencv.py` made them and explains the lines.

use super::resize_pillow::{digits, pattern};
use beit::data::bilinear::resize_bilinear;
use beit::data::hsv::{from_hsv, to_hsv};
use beit::data::photometric::Distortion;
use beit::data::{Image, Labels};
use sha2::{Digest, Sha256};

const LINES: &str = include_str!("../fixtures/opencv.txt");

/// The words of the lines of a kind.
fn lines(kind: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = LINES.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.filter(move |words| words[0] == kind).map(|words| words[1..].to_vec())
}

#[test]
fn sizes_are_changed_as_by_opencv() {
    let mut count = 0;
    for (n, words) in lines("resize").enumerate() {
        let [from_height, from_width, height, width] =
            [0, 1, 2, 3].map(|i| words[i].parse::<usize>().unwrap());
        let image = pattern(n, from_height, from_width);
        let linear = digits(&resize_bilinear(&image, height, width));
        assert_eq!(linear, words[4], "bilinear {words:?}");
        let first = image.pixels.iter().step_by(3).copied().collect();
        let labels = Labels::new(from_height, from_width, first).resize(height, width);
        let hash = Sha256::digest(&labels.values);
        let nearest: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(nearest, words[5], "nearest {words:?}");
        count += 1;
    }
    assert_eq!(count, 200);
}

/// All triples of the first numbers with the second ones twice.
fn grid(first: usize, second: usize, map: impl Fn([u8; 3]) -> [u8; 3]) -> Image {
    let (firsts, seconds) = ((0..=255u8).step_by(first), || (0..=255u8).step_by(second));
    let firsts = if first == 1 { (0..180u8).collect() } else { firsts.collect::<Vec<_>>() };
    let mut pixels = Vec::new();
    for &a in &firsts {
        for b in seconds() {
            seconds().for_each(|c| pixels.extend(map([a, b, c])));
        }
    }
    Image::new(firsts.len(), seconds().count().pow(2), pixels)
}

#[test]
fn colours_are_those_of_opencv() {
    let words = lines("hsv").next().unwrap();
    assert_eq!(digits(&grid(3, 3, to_hsv)), words[0], "to HSV");
    assert_eq!(digits(&grid(1, 4, from_hsv)), words[1], "from HSV");
}

#[test]
fn distortions_are_those_of_mmseg() {
    for (n, words) in lines("distort").enumerate() {
        let mut image = pattern(n, 9, 32);
        for step in words[..words.len() - 1].chunks(2) {
            let value: f64 = step[1].parse().unwrap();
            let step = match step[0] {
                "brightness" => Distortion::Brightness(value as f32),
                "contrast" => Distortion::Contrast(value as f32),
                "saturation" => Distortion::Saturation(value as f32),
                _ => Distortion::Hue((value as i64).rem_euclid(180) as usize),
            };
            step.apply(&mut image);
        }
        assert_eq!(&digits(&image), words.last().unwrap(), "{words:?}");
    }
    assert_eq!(lines("distort").count(), 20);
}
