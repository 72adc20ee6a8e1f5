//! Compressed files to [`Image`]s.
//!
//! What Pillow's `convert("RGB")` does to a file is done here: transparency is dropped, not
//! blended; grey becomes three equal channels; 16-bit samples become 8-bit ones. As in the
//! originals the EXIF orientation is ignored. JPEG pixels may differ from libjpeg's by a level or
//! two, because the standard leaves the inverse transform's rounding open.

use super::image::Image;
use crate::error::{Error, Result};
use image::{ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Longest side that is decoded. JPEG and WebP could promise 65,535 and 16,383, PNG 2^31.
pub const MAX_SIDE: u32 = 16_384;
/// Most pixels that are decoded: 100 million, 300 MB of RGB.
pub const MAX_PIXELS: u64 = 100_000_000;

/// Reads and decodes a JPEG, PNG or WebP file. The content decides, not the name's ending.
pub fn decode(path: &Path) -> Result<Image> {
    let bytes = super::file::read_bounded(path)?;
    decode_bytes(&bytes, path)
}

/// Decodes the content of a file; `path` is for messages.
pub fn decode_bytes(bytes: &[u8], path: &Path) -> Result<Image> {
    if bytes.is_empty() {
        return Err(Error::format(path, "the file is empty"));
    }
    // A decoder that panics on a strange file must cost that image, not the run.
    catch_unwind(AssertUnwindSafe(|| decode_checked(bytes)))
        .unwrap_or_else(|_| Err("the decoder failed on this file".into()))
        .map_err(|reason| Error::format(path, reason))
}

fn decode_checked(bytes: &[u8]) -> Result<Image, String> {
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    // 16-bit RGBA at most; decoders allocate as much again while they work.
    limits.max_alloc = Some(2 * 8 * MAX_PIXELS);
    reader.limits(limits);
    let format = reader.format();
    if !matches!(format, Some(ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP)) {
        return Err("not a JPEG, PNG or WebP image".into());
    }
    let decoder = reader.into_decoder().map_err(one_line)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if width == 0 || height == 0 {
        return Err(format!("the header promises an empty image, {width}x{height}"));
    }
    if width > MAX_SIDE || height > MAX_SIDE || pixels > MAX_PIXELS {
        return Err(format!(
            "the header promises {width}x{height} pixels; at most {MAX_SIDE} a side and \
             {MAX_PIXELS} in all are decoded"
        ));
    }
    if format == Some(ImageFormat::Jpeg) && !jpeg_is_complete(bytes) {
        return Err("the JPEG data is truncated".into());
    }
    let rgb = image::DynamicImage::from_decoder(decoder).map_err(one_line)?.into_rgb8();
    Ok(Image::new(height as usize, width as usize, rgb.into_raw()))
}

fn one_line(error: image::ImageError) -> String {
    if let image::ImageError::Limits(_) = error {
        return format!("the header promises more than {MAX_SIDE} pixels a side or more memory");
    }
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a JPEG reaches its end marker. The decoder fills what is missing with grey and reports
/// success; a model should not be taught that.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    const END: u8 = 0xD9;
    const SCAN: u8 = 0xDA;
    let mut at = 2; // behind the start marker
    while let Some(&[_, marker]) = bytes.get(at..at + 2) {
        match marker {
            END => return true,
            0xFF => at += 1, // a fill byte before the marker
            _ => {
                let Some(&[hi, lo]) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([hi, lo]));
                if marker == SCAN {
                    // Entropy-coded data: 0xFF is followed by 0 or a restart mark inside it.
                    let data = bytes.get(at..).unwrap_or_default();
                    let next =
                        |w: &[u8]| w[0] == 0xFF && w[1] != 0 && !(0xD0..0xD8).contains(&w[1]);
                    let Some(length) = data.windows(2).position(next) else { return false };
                    at += length;
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ExtendedColorType, ImageEncoder, codecs};

    fn jpeg(image: &Image) -> Vec<u8> {
        let mut out = Vec::new();
        codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 95)
            .write_image(
                &image.pixels,
                image.width as u32,
                image.height as u32,
                ExtendedColorType::Rgb8,
            )
            .unwrap();
        out
    }

    fn png(pixels: &[u8], width: u32, height: u32, kind: ExtendedColorType) -> Vec<u8> {
        let mut out = Vec::new();
        codecs::png::PngEncoder::new(&mut out).write_image(pixels, width, height, kind).unwrap();
        out
    }

    fn reason(bytes: &[u8]) -> String {
        decode_bytes(bytes, Path::new("x")).unwrap_err().to_string()
    }

    #[test]
    fn alpha_is_dropped_and_grey_repeated() {
        let rgba = png(&[1, 2, 3, 0, 4, 5, 6, 128], 2, 1, ExtendedColorType::Rgba8);
        assert_eq!(decode_bytes(&rgba, Path::new("x")).unwrap().pixels, [1, 2, 3, 4, 5, 6]);
        let grey = png(&[7, 9], 1, 2, ExtendedColorType::L8);
        assert_eq!(
            decode_bytes(&grey, Path::new("x")).unwrap(),
            Image::new(2, 1, vec![7, 7, 7, 9, 9, 9])
        );
    }

    #[test]
    fn every_cut_of_a_jpeg_is_noticed() {
        let image = Image::new(24, 40, (0..24 * 40 * 3).map(|i| (i * i % 256) as u8).collect());
        let bytes = jpeg(&image);
        let whole = decode_bytes(&bytes, Path::new("x")).unwrap();
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
