//! The text form, draws and levels. The pixels are compared with Pillow's in `tests/reference` and
//! `tests/data/randaugment_pillow.rs`.

use super::*;
use crate::rng::{Philox, Purpose};

#[test]
fn texts_are_read_and_written() {
    let read = |text: &str| text.parse::<RandAugment>().unwrap();
    assert_eq!(read("rand-m9-mstd0.5-inc1"), RandAugment::default());
    assert_eq!(RandAugment::default().to_string(), "rand-m9-mstd0.5-inc1");
    let plain = read("rand");
    assert_eq!((plain.magnitude, plain.deviation, plain.increasing), (10, 0.0, false));
    assert_eq!(read("rand-inc1-n3-p0.75-m7-mstd101").deviation, f64::INFINITY);
    for text in ["rand-m7-mstd101-n3-p0.75-inc1", "rand-m10", "rand-m0-mstd1.25-p1"] {
        assert_eq!(read(text).to_string(), text);
    }
}

#[test]
fn texts_are_refused_by_name() {
    for (text, part) in [
        ("", "want a text such as"),
        ("augmix-m3", "want a text such as"),
        ("rand-m9.5", "m wants a whole number"),
        ("rand-m", "m wants a whole number"),
        ("rand-mstd", "mstd wants a number"),
        ("rand-mstd1e999", "mstd wants a number"),
        ("rand-n0", "n is a number of operations"),
        ("rand-p0", "p is a probability"),
        ("rand-inc0", "want inc1"),
        ("rand-m9-mmax30", "mmax is not supported"),
        ("rand-w0", "w is not supported"),
        ("rand-tweights", "sets of operations (t) are not supported"),
        ("rand-q3", "\"q3\": unknown; the keys are m, mstd, n, p and inc"),
        ("rand-m9-", "unknown"),
        ("rand-m9-m8", "m is given twice"),
    ] {
        let error = text.parse::<RandAugment>().unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn operations_are_drawn_as_often_as_they_should() {
    let law = RandAugment::default();
    let mut rng = Philox::new(1, Purpose::Check, 0, 0);
    let mut count = [0usize; 15];
    for _ in 0..6000 {
        for retouch in law.draw(Interpolation::Random, &mut rng) {
            count[RandOp::ALL.iter().position(|&op| op == retouch.op).unwrap()] += 1;
        }
    }
    // 12,000 chances, half of them taken, in 15 parts of 400.
    assert!(count.iter().all(|n| (320..480).contains(n)), "{count:?}");
}

/// Levels of the operations that do not all grow stronger, by hand from `LEVEL_TO_ARG`.
#[test]
fn plain_levels() {
    let at = |op: RandOp, magnitude: f64| op.argument(magnitude, false, false);
    assert_eq!([0.0, 5.0, 10.0].map(|m| at(RandOp::Posterize, m)), [0.0, 2.0, 4.0]);
    assert_eq!([0.0, 5.0, 10.0].map(|m| at(RandOp::Solarize, m)), [0.0, 128.0, 256.0]);
    assert_eq!([0.0, 5.0].map(|m| at(RandOp::Color, m)), [0.1, 1.0]);
    assert!(!RandOp::Color.is_signed(false) && RandOp::Rotate.is_signed(false));
}

#[test]
fn the_mean_fills() {
    use crate::data::pixels::{HALF, IMAGENET};
    assert_eq!(fill_colour(HALF.0), [128; 3]);
    assert_eq!(fill_colour(IMAGENET.0), [124, 116, 104]);
}
