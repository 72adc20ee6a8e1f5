//! Files of every kind to pixels, against Pillow's.

use beit::data::Image;
use beit::data::decode::{DecodeOptions, decode, decode_bytes};
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The bytes of a picture that our own decoder has no part in.
fn png(name: &str) -> image::RgbImage {
    image::open(fixture(name)).unwrap().into_rgb8()
}

fn load(bytes: &[u8]) -> beit::Result<Image> {
    decode_bytes(bytes, Path::new("x"), &DecodeOptions::default())
}

fn levels(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// Name, number of the picture, and JPEG of each file of `tests/fixtures/jpeg_layouts.py`.
fn layouts(bytes: &[u8]) -> Vec<(String, usize, &[u8])> {
    let (mut files, mut at) = (Vec::new(), 0);
    let number = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    while bytes[at] > 0 {
        let end = at + 1 + usize::from(bytes[at]);
        let name = String::from_utf8(bytes[at + 1..end].to_vec()).unwrap();
        let (picture, length) = (number(end), number(end + 2));
        at = end + 4 + length;
        files.push((name, picture, &bytes[end + 4..at]));
    }
    files
}

/// Layouts that are refused: the decoder would count the blocks of a colour that is sampled neither like the
/// finest nor by one where that is sampled by four.
const REFUSED: [&str; 13] = [
    "ycc 4x1,2x1,2x1 each",
    "ycc 4x1,2x1,2x1 prog",
    "ycc 4x1,2x1,2x1 prog-each",
    "ycc 2x4,2x2,2x2 each",
    "ycc 2x4,2x2,2x2 prog-each",
    "ycc 4x2,2x1,2x1 each",
    "ycc 4x2,2x1,2x1 prog-each",
    "ycc 4x4,2x2,1x1 each",
    "ycc 4x4,2x2,1x1 prog-each",
    "ycc 2x1,4x1,4x1 each",
    "ycc 2x1,4x1,4x1 some",
    "ycc 2x1,4x1,4x1 prog",
    "ycc 2x1,4x1,4x1 prog-each",
];

/// Every file within six levels of libjpeg, or refused by name.
#[test]
fn every_layout_of_a_jpeg_decodes_like_libjpeg() {
    let packed = image::open(fixture("jpeg_layouts.png")).unwrap().into_luma8().into_raw();
    let files = layouts(&packed);
    assert_eq!(files.len(), 519);
    let stack = png("jpeg_layouts_pixels.png").into_raw();
    let (first, _) = stack.split_at(43 * 35 * 3);
    let picture = |number: usize| -> Vec<u8> {
        let pixels = stack.chunks(first.len()).nth(number).unwrap();
        if number == 0 {
            return pixels.to_vec();
        }
        pixels.iter().zip(first).map(|(d, p)| d.wrapping_add(*p)).collect()
    };
    let (mut refused, mut wrong) = (Vec::new(), Vec::new());
    for (name, number, bytes) in &files {
        match load(bytes) {
            Err(e) if e.to_string().contains("a scan of its own for a colour sampled") => {
                refused.push(name.as_str());
            }
            Err(e) => wrong.push(format!("{name}: {e}")),
            Ok(image) => {
                let far = levels(&image.pixels, &picture(*number));
                if far > 6 {
                    wrong.push(format!("{name}: {far} levels"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), files.len());
    let mut kinds: Vec<_> =
        refused.iter().map(|name| name.split(" restart").next().unwrap()).collect();
    kinds.dedup();
    assert_eq!(kinds, REFUSED);
}

#[test]
fn stray_bytes_between_segments_are_passed_over() {
    let stray = decode(&fixture("images/zeros_between_segments.jpg"), &DecodeOptions::default());
    let plain = decode(&fixture("images/plain_2x2.jpg"), &DecodeOptions::default());
    assert_eq!(stray.unwrap(), plain.unwrap());
}

/// A JPEG of noise, written by the `image` crate.
fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let pixels: Vec<u8> = (0..width * height * 3).map(|i| (i * i % 251) as u8).collect();
    let mut out = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut out)
        .encode(&pixels, width, height, image::ExtendedColorType::Rgb8)
        .unwrap();
    out
}

fn reason(bytes: &[u8]) -> String {
    let text = load(bytes).map(drop).unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn what_is_not_read_of_jpeg_is_refused_by_name() {
    let bytes = jpeg(24, 16);
    let frame = bytes.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    let refused = |changes: &[(usize, u8)], want: &str| {
        let mut changed = bytes.clone();
        changes.iter().for_each(|&(at, value)| changed[frame + at] = value);
        let text = reason(&changed);
        assert!(text.contains(want) && text.contains("not read"), "{text}");
    };
    let check = |at, value, want| refused(&[(at, value)], want);
    check(1, 0xC9, "arithmetic coding");
    check(1, 0xCA, "arithmetic coding");
    check(1, 0xC3, "lossless coding");
    check(1, 0xF7, "lossless coding");
    check(1, 0xC5, "several frames");
    check(4, 12, "12 bits a sample");
    check(9, 2, "2 colours");
    refused(&[(11, 0x31), (14, 0x21)], "no multiple of another");
    let mut again = bytes.clone();
    again.splice(frame..frame, bytes[frame..frame + 19].iter().copied());
    assert!(reason(&again).contains("several frames"));
}
