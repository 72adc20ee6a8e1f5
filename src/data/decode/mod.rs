//! Compressed files to [`Image`]s: JPEG, PNG, WebP, BMP, TIFF, PNM, and a GIF's first frame.
//!
//! What Pillow's `convert("RGB")` does to a file is done here: transparency is dropped, not
//! blended; grey becomes three equal channels; inks become colours on white. An image is turned as its EXIF
//! orientation says unless the stored order is asked for. Pixels are Pillow's but for these: those of a JPEG differ
//! from libjpeg's by up to six levels, because the standard leaves open how chroma is enlarged and how the inverse
//! transform rounds; and 16-bit samples are scaled to 8 bits, where Pillow cuts grey off at 255.
//!
//! What a file may cost is decided before its pixels are decoded: the size that its header promises must be one
//! that its bytes can hold, and the memory that it takes is claimed from a budget that the whole process shares.
//! An image that all of the budget cannot hold is decoded smaller if it is a JPEG, and is an error if not.

mod budget;
mod jpeg;
mod jpeg_layout;
mod mask;
mod options;
mod other;
mod png;
mod tiff;
mod webp;

use super::file::special;
use super::image::Image;
use crate::error::{Error, Result};
use image::{DynamicImage, ImageFormat};
pub use mask::Mask;
pub use options::{DecodeOptions, Orientation};
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Bytes from which the kind of a file is known.
const MAGIC: u64 = 64;
const UNKNOWN: &str = "not a JPEG, PNG, WebP, BMP, TIFF, GIF or PNM image";

/// Reads and decodes a file. The content decides, not the name's ending.
pub fn decode(path: &Path, options: &DecodeOptions) -> Result<Image> {
    decode_bytes(&read(path, options)?, path, options)
}

/// The content of a file that begins like an image and that the budget can hold.
fn read(path: &Path, options: &DecodeOptions) -> Result<Vec<u8>> {
    let cannot = || Error::io("cannot read", path);
    // Asked of the name, because opening a pipe waits for its writer.
    let about = std::fs::metadata(path).map_err(cannot())?;
    if !about.is_file() {
        let kind = special(about.file_type());
        return Err(Error::format(path, format!("is {kind}, not a file")));
    }
    let mut file = File::open(path).map_err(cannot())?;
    let (length, limit) = (file.metadata().map_err(cannot())?.len(), budget::limit(options.memory));
    let mut bytes = Vec::new();
    file.by_ref().take(MAGIC).read_to_end(&mut bytes).map_err(cannot())?;
    if other::kind(&bytes).is_none() && !bytes.is_empty() {
        return Err(Error::format(path, UNKNOWN));
    }
    let room = usize::try_from(length).is_ok_and(|length| bytes.try_reserve_exact(length).is_ok());
    if length > limit || !room {
        let text = format!("{} MB are more than there is memory to decode", length >> 20);
        return Err(Error::format(path, text));
    }
    file.take(limit).read_to_end(&mut bytes).map_err(cannot())?;
    Ok(bytes)
}

/// Decodes the content of a file; `path` is for messages.
pub fn decode_bytes(bytes: &[u8], path: &Path, options: &DecodeOptions) -> Result<Image> {
    guarded(bytes, path, || decode_checked(bytes, options))
}

/// Reads a PNG and leaves its pixels the numbers that they are stored as.
pub fn decode_mask(path: &Path, options: &DecodeOptions) -> Result<Mask> {
    let bytes = read(path, options)?;
    guarded(&bytes, path, || match other::kind(&bytes) {
        Some(ImageFormat::Png) => mask::decode(&bytes, options),
        _ => Err("is no PNG, as a mask must be".to_owned()),
    })
}

/// What `decode` makes of the bytes of a file.
fn guarded<T>(bytes: &[u8], path: &Path, decode: impl FnOnce() -> Result<T, String>) -> Result<T> {
    if bytes.is_empty() {
        return Err(Error::format(path, "the file is empty"));
    }
    // A decoder that panics on a strange file must cost that image, not the run.
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err("the decoder failed on this file".into()))
        .map_err(|reason| Error::format(path, reason))
}

fn decode_checked(bytes: &[u8], options: &DecodeOptions) -> Result<Image, String> {
    let limit = budget::limit(options.memory);
    let (rgb, orientation, _claim) = match other::kind(bytes).ok_or(UNKNOWN)? {
        ImageFormat::Jpeg => jpeg::decode(bytes, limit)?,
        kind => other::decode(bytes, kind, limit)?,
    };
    let mut image = DynamicImage::ImageRgb8(rgb);
    if options.orientation == Orientation::Upright {
        image.apply_orientation(orientation);
    }
    let rgb = image.into_rgb8();
    Ok(Image::new(rgb.height() as usize, rgb.width() as usize, rgb.into_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ExtendedColorType, ImageEncoder, codecs};

    fn jpeg(image: &Image) -> Vec<u8> {
        let mut out = Vec::new();
        let (width, height) = (image.width as u16, image.height as u16);
        jpeg_encoder::Encoder::new(&mut out, 95)
            .encode(&image.pixels, width, height, jpeg_encoder::ColorType::Rgb)
            .unwrap();
        out
    }

    fn png(pixels: &[u8], width: u32, height: u32, kind: ExtendedColorType) -> Vec<u8> {
        let mut out = Vec::new();
        codecs::png::PngEncoder::new(&mut out).write_image(pixels, width, height, kind).unwrap();
        out
    }

    fn reason(bytes: &[u8]) -> String {
        decode_bytes(bytes, Path::new("x"), &DecodeOptions::default()).unwrap_err().to_string()
    }

    #[test]
    fn alpha_is_dropped_and_grey_repeated() {
        let rgba = png(&[1, 2, 3, 0, 4, 5, 6, 128], 2, 1, ExtendedColorType::Rgba8);
        assert_eq!(
            decode_bytes(&rgba, Path::new("x"), &DecodeOptions::default()).unwrap().pixels,
            [1, 2, 3, 4, 5, 6]
        );
        let grey = png(&[7, 9], 1, 2, ExtendedColorType::L8);
        assert_eq!(
            decode_bytes(&grey, Path::new("x"), &DecodeOptions::default()).unwrap(),
            Image::new(2, 1, vec![7, 7, 7, 9, 9, 9])
        );
    }

    #[test]
    fn every_cut_of_a_jpeg_is_noticed() {
        let image = Image::new(24, 40, (0..24 * 40 * 3).map(|i| (i * i % 256) as u8).collect());
        let bytes = jpeg(&image);
        let whole = decode_bytes(&bytes, Path::new("x"), &DecodeOptions::default()).unwrap();
        assert_eq!((whole.height, whole.width), (24, 40));
        for length in 0..bytes.len() {
            reason(&bytes[..length]);
        }
        let png = png(&image.pixels, 40, 24, ExtendedColorType::Rgb8);
        for length in 0..png.len() - 12 {
            reason(&png[..length]);
        }
    }

    #[test]
    fn absurd_headers_are_refused_before_decoding() {
        let mut bytes = png(&[0; 3], 1, 1, ExtendedColorType::Rgb8);
        for (width, height) in [(1u32 << 30, 1u32 << 30), (16_000, 16_000), (1, 20_000), (0, 1)] {
            bytes[16..20].copy_from_slice(&width.to_be_bytes());
            bytes[20..24].copy_from_slice(&height.to_be_bytes());
            let crc = crc32(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&crc.to_be_bytes());
            let reason = reason(&bytes);
            assert!(width == 0 || reason.contains("promises"), "{width}x{height}: {reason}");
        }
        let mut bytes = jpeg(&Image::new(8, 8, vec![0; 192]));
        let frame = bytes.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
        bytes[frame + 5..frame + 9].copy_from_slice(&[0xFF; 4]);
        assert!(reason(&bytes).contains("promises"), "{}", reason(&bytes));
    }

    /// PNG's checksum, bit by bit.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| {
                (c >> 1) ^ (0xEDB8_8320 & (c & 1).wrapping_neg())
            })
        })
    }
}
