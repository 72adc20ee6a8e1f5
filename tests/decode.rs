//! Files of every kind to pixels, against Pillow's.

#[path = "fixtures/jpeg_layouts.rs"]
mod jpeg_layouts;

use crate::fixtures::{Kind, fixture, kinds};
use beit::config::{Layers, PretrainRun};
use beit::data::decode::{DecodeOptions, Orientation, decode, decode_bytes};
use beit::data::{Image, Source, Split};
use image::ImageEncoder;
use jpeg_layouts::layouts;
use std::path::Path;

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

/// A JPEG of noise, none of its channels subsampled.
fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let pixels: Vec<u8> = (0..u32::from(width) * u32::from(height) * 3)
        .map(|i| (i.wrapping_mul(i) % 251) as u8)
        .collect();
    let mut out = Vec::new();
    jpeg_encoder::Encoder::new(&mut out, 95)
        .encode(&pixels, width, height, jpeg_encoder::ColorType::Rgb)
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

#[test]
fn every_kind_of_image_decodes_like_pillow() {
    let mut wrong = Vec::new();
    for Kind { name, width, height, pixels, file } in kinds() {
        // The standard leaves the roundings of these open.
        let lossy = ["JPEG", "jpeg", "WebP"].iter().any(|kind| name.contains(kind));
        match load(&file) {
            Err(e) => wrong.push(format!("{name}: {e}")),
            Ok(image) if (image.width, image.height) != (width, height) => {
                wrong.push(format!("{name}: {}x{}", image.width, image.height));
            }
            Ok(image) => match levels(&image.pixels, &pixels) {
                far if far > if lossy { 6 } else { 0 } => {
                    wrong.push(format!("{name}: {far} levels"))
                }
                _ => {}
            },
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_stored_order_is_kept_if_asked_for() {
    let stored = DecodeOptions { orientation: Orientation::Stored, ..DecodeOptions::default() };
    let kinds = kinds();
    let turned: Vec<_> = kinds.iter().filter(|kind| kind.name.contains("turned")).collect();
    assert_eq!(turned.len(), 32);
    for kind in turned {
        let (first, _) = kind.name.split_at(kind.name.len() - 1);
        let upright = kinds.iter().find(|other| other.name == format!("{first}1")).unwrap();
        let image = decode_bytes(&kind.file, Path::new("x"), &stored).unwrap();
        assert_eq!((image.width, image.height), (upright.width, upright.height), "{}", kind.name);
        let most = if kind.name.starts_with("JPEG") { 6 } else { 0 };
        assert!(levels(&image.pixels, &upright.pixels) <= most, "{}", kind.name);
    }
}

#[test]
fn panoramas_decode() {
    let bytes = jpeg(20_000, 16);
    let image = load(&bytes).unwrap();
    assert_eq!((image.width, image.height), (20_000, 16));
    let (mut png, pixels) = (Vec::new(), vec![7; 70_000]);
    image::codecs::png::PngEncoder::new(&mut png)
        .write_image(&pixels, 70_000, 1, image::ExtendedColorType::L8)
        .unwrap();
    assert_eq!(load(&png).unwrap().width, 70_000);
}

#[test]
fn settings_reach_the_decoder() {
    let folder = tempfile::tempdir().unwrap();
    let turned = kinds().into_iter().find(|kind| kind.name == "JPEG turned 6").unwrap();
    std::fs::write(folder.path().join("a.jpg"), &turned.file).unwrap();
    std::fs::write(folder.path().join("b.jpg"), jpeg(800, 600)).unwrap();
    let load = |settings: &[&str]| {
        let set = settings.iter().map(|s| (*s).to_owned()).collect();
        let config: PretrainRun = Layers { set, ..Layers::default() }.resolve().unwrap();
        let options = config.common.source(Split::Train);
        let source = Source::open(folder.path().to_str().unwrap(), &options).unwrap();
        [0, 1].map(|i| source.load(i).map(|image| [image.width, image.height]).unwrap())
    };
    assert_eq!(load(&[]), [[9, 14], [800, 600]]);
    assert_eq!(load(&["orientation=stored"]), [[14, 9], [800, 600]]);
    assert_eq!(load(&["decode_memory=5"]), [[9, 14], [400, 300]]);
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let text = decode(folder.path(), &DecodeOptions::default()).unwrap_err().to_string();
    assert!(text.contains("not a file"), "{text}");
    // A file of holes, larger than any memory.
    let path = folder.path().join("holes.jpg");
    std::fs::File::create(&path).unwrap().set_len(1 << 43).unwrap();
    let text = decode(&path, &DecodeOptions::default()).unwrap_err().to_string();
    assert!(text.contains("not a JPEG, PNG"), "{text}");
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, &jpeg(8, 8)).unwrap();
    let text = decode(&path, &DecodeOptions::default()).unwrap_err().to_string();
    assert!(text.contains("8388608 MB are more"), "{text}");
}
