//! Resampling against stored hashes of Pillow's: `tests/fixtures/resize_pillow.py` made them and
//! explains the lines; the first names the versions.

use beit::data::Image;
use beit::data::geometry::CropBox;
use beit::data::resize::{Filter, resize, resize_window};
use sha2::{Digest, Sha256};

const LINES: &str = include_str!("../fixtures/resize_pillow.txt");
const FILTERS: [Filter; 3] = [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos];

/// Image `n`: the maker's `pattern`.
pub fn pattern(n: usize, height: usize, width: usize) -> Image {
    let byte = |i: u32| {
        let x = i.wrapping_add(n as u32 * 1_000_003).wrapping_mul(2_654_435_761);
        ((x ^ (x >> 15)).wrapping_mul(739_982_445) >> 24) as u8
    };
    Image::new(height, width, (0..(height * width * 3) as u32).map(byte).collect())
}

/// The first digits of the hash of its bytes.
pub fn digits(image: &Image) -> String {
    Sha256::digest(&image.pixels)[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every line: its image, the box, the size to resize to, and Pillow's three hashes.
fn lines() -> impl Iterator<Item = (Image, CropBox, (usize, usize), Vec<&'static str>)> {
    let lines = LINES.lines().filter(|line| !line.starts_with('#'));
    lines.enumerate().map(|(n, line)| {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |i: usize| words[i].parse::<usize>().unwrap();
        let crop = CropBox { top: number(2), left: number(3), height: number(4), width: number(5) };
        (pattern(n, number(0), number(1)), crop, (number(6), number(7)), words[8..].to_vec())
    })
}

#[test]
fn hashes_are_those_of_pillow() {
    assert!(LINES.starts_with("# Pillow 13.0.0,"), "the text of resize.rs names the version");
    let mut wrong = Vec::new();
    let (mut count, mut wider, mut higher) = (0, 0, 0);
    for (image, crop, (height, width), hashes) in lines() {
        wider += usize::from(height < crop.height && width > crop.width);
        higher += usize::from(height > crop.height && width < crop.width);
        for (filter, hash) in FILTERS.into_iter().zip(hashes) {
            count += 1;
            if digits(&resize(&image, crop, height, width, filter)) != hash {
                wrong
                    .push(format!("{filter:?} {}x{} to {height}x{width}", crop.height, crop.width));
            }
        }
    }
    assert_eq!(count, 1500);
    assert_eq!(
        (wider, higher),
        (63, 54),
        "boxes that shrink along one axis and grow along the other"
    );
    assert!(wrong.is_empty(), "{} of {count} differ: {:?} ...", wrong.len(), wrong.first());
}

#[test]
fn windows_are_parts_of_the_whole_in_either_order() {
    for (n, (image, crop, (height, width), _)) in lines().enumerate() {
        let filter = FILTERS[n % 3];
        let (top, left) = (n % height, n * 7 % width);
        let window =
            CropBox { top, left, height: (height - top).min(9), width: (width - left).min(5) };
        let whole = resize(&image, crop, height, width, filter);
        let part = resize_window(&image, crop, (height, width), window, filter);
        assert_eq!(part, whole.crop(window), "{crop:?} to {height}x{width}, {window:?}");
    }
}
