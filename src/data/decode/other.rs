//! Every kind of image but JPEG to pixels, by the `image` crate.

use super::budget::{MemoryClaim, claim_first};
use super::png::PngHeader;
use super::tiff::memory_of_tags;
use super::webp::check_chunks;
use crate::data::file::FORMATS;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use std::io::Cursor;

/// Bytes that a colour profile or the like may unpack to, besides twice what the file has.
const METADATA: u64 = 1 << 20;
/// Pixels that any number of bytes may stand for: one colour compresses to almost nothing.
const FREE_PIXELS: u64 = 1 << 24;
/// Beyond them, the most pixels that a byte may stand for.
const PIXELS_PER_BYTE: u64 = 4096;

/// The kind of image that `bytes` begin, if it is one of those that are read.
pub(super) fn kind(bytes: &[u8]) -> Option<ImageFormat> {
    image::guess_format(bytes).ok().filter(|kind| FORMATS.contains(kind))
}

/// The pixels of the first picture of a file, its orientation, and the memory that it holds.
pub(super) fn decode(
    bytes: &[u8],
    kind: ImageFormat,
    limit: u64,
) -> Result<(RgbImage, Orientation, MemoryClaim), String> {
    let file = bytes.len() as u64;
    let tags = match kind {
        ImageFormat::Png => PngHeader::read(bytes)?.check_packed().map(|()| 0)?,
        ImageFormat::WebP => check_chunks(bytes).map(|()| 0)?,
        ImageFormat::Tiff => memory_of_tags(bytes)?,
        _ => 0,
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), kind);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some((METADATA + 2 * file).min(limit));
    reader.limits(limits.clone());
    // Only that of a PNG looks at the limits here.
    let mut decoder = reader.into_decoder().map_err(one_line)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(format!("the header promises an empty image, {width}x{height}"));
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > FREE_PIXELS && pixels / PIXELS_PER_BYTE > file {
        return Err(format!(
            "the header promises {width}x{height} pixels, more than {file} bytes are likely to hold"
        ));
    }
    let cost = cost(kind, decoder.color_type(), pixels, file) + tags;
    let (_, claim) = claim_first((width, height), &[(0, cost)], limit)?;
    if kind != ImageFormat::Png {
        limits.max_alloc = Some(cost);
        decoder.set_limits(limits).map_err(one_line)?;
    }
    let orientation = decoder.orientation().map_err(one_line)?;
    let image = DynamicImage::from_decoder(decoder).map_err(one_line)?;
    Ok((image.into_rgb8(), orientation, claim))
}

/// Bytes that decoding takes: the file, the pixels as they come, as much again inside decoders other than PNG's,
/// which works row by row, and RGB bytes of them, converted or turned.
fn cost(kind: ImageFormat, colours: ColorType, pixels: u64, file: u64) -> u64 {
    let own = pixels * u64::from(colours.bytes_per_pixel());
    let inside = if kind == ImageFormat::Png { 0 } else { own };
    METADATA + 3 * file + own + inside + 3 * pixels
}

fn one_line(error: image::ImageError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
