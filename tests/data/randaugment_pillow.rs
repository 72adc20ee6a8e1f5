//! The operations of RandAugment against stored hashes of Pillow's, from images of one pixel on:
//! `tests/fixtures/randaugment_pillow.py` made them and explains the lines; the first names the versions.

use super::resize_pillow::{digits, pattern};
use beit::data::randaugment::{RandOp, Retouch, Sampling};

const LINES: &str = include_str!("../fixtures/randaugment_pillow.txt");
const FILL: [u8; 3] = [124, 116, 104];

#[test]
fn hashes_are_those_of_pillow() {
    assert!(LINES.starts_with("# Pillow 13.0.0,"), "the text of randaugment.rs names the version");
    let (mut count, mut wrong) = (0, Vec::new());
    for (n, line) in LINES.lines().filter(|line| !line.starts_with('#')).enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |i: usize| words[i].parse::<usize>().unwrap();
        let op = RandOp::ALL[number(0)];
        let mut image = pattern(n, number(3), number(4));
        if matches!(op, RandOp::AutoContrast | RandOp::Equalize) {
            image.pixels.iter_mut().for_each(|x| *x = *x % (3 + n % 197) as u8 + (n % 53) as u8);
        }
        let sampling = [Sampling::Bilinear, Sampling::Bicubic][number(2)];
        Retouch { op, argument: words[1].parse().unwrap(), sampling }.apply(&mut image, FILL);
        if digits(&image) != words[5] {
            wrong.push(format!("{op:?}: {line}"));
        }
        count += 1;
    }
    assert_eq!(count, 1008);
    assert!(wrong.is_empty(), "{} of {count} differ: {wrong:?}", wrong.len());
}
