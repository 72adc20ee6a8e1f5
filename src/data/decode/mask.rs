//! PNGs whose pixels are numbers: as they are stored, without their palette.

use super::budget::{claim_first, limit};
use super::options::{DecodeOptions, Orientation};
use super::png::PngHeader;
use crate::data::image::Image;
use crate::data::labels::Labels;
use image::metadata::Orientation as Turn;
use image::{DynamicImage, GrayImage, RgbImage};
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};
use std::io::Cursor;

/// Bytes that chunks other than pixels may unpack to, besides twice what the file has.
const METADATA: u64 = 1 << 20;

/// A decoded mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Grey levels or indices of a palette.
    Indices(Labels),
    /// Red, green and blue.
    Colours(Image),
}

/// The pixels of a PNG with at most 8 bits a channel; transparency is dropped.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Mask, String> {
    PngHeader::read(bytes)?.check_packed()?;
    let (limit, file) = (limit(options.memory), bytes.len() as u64);
    let most = usize::try_from((METADATA + 2 * file).min(limit)).unwrap_or(usize::MAX);
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: most });
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let (width, height) = reader.info().size();
    if reader.info().bit_depth == BitDepth::Sixteen {
        return Err("has 16 bits a channel; a mask has at most 8".to_owned());
    }
    let size = reader.output_buffer_size().ok_or("has more pixels than there is memory")?;
    let cost = METADATA + 3 * file + size as u64 + 6 * u64::from(width) * u64::from(height);
    let (_, _claim) = claim_first((width, height), &[(0, cost)], limit)?;
    let mut stored = vec![0; size];
    let frame = reader.next_frame(&mut stored).map_err(|error| error.to_string())?;
    let rows = stored.chunks_exact(frame.line_size.max(1));
    let (height, width, bits) = (height as usize, width as usize, frame.bit_depth as usize);
    let numbers = |values: Vec<u8>| Mask::Indices(Labels::new(height, width, values));
    let mask = match frame.color_type {
        ColorType::Grayscale | ColorType::Indexed => {
            numbers(rows.flat_map(|row| samples(row, width, bits)).collect())
        }
        ColorType::GrayscaleAlpha => numbers(stored.iter().step_by(2).copied().collect()),
        ColorType::Rgb => Mask::Colours(Image::new(height, width, stored)),
        ColorType::Rgba => {
            let (pixels, _) = stored.as_chunks::<4>();
            let pixels = pixels.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect();
            Mask::Colours(Image::new(height, width, pixels))
        }
    };
    let exif = reader.info().exif_metadata.as_deref();
    let turn = exif.and_then(Turn::from_exif_chunk);
    match turn.filter(|_| options.orientation == Orientation::Upright) {
        Some(turn) => turned(mask, turn),
        None => Ok(mask),
    }
}

/// The samples of `bits` bits in a row of `width` of them.
fn samples(row: &[u8], width: usize, bits: usize) -> impl Iterator<Item = u8> {
    let most = u8::MAX >> (8 - bits);
    (0..width).map(move |i| row[i * bits / 8] >> (8 - bits - i * bits % 8) & most)
}

/// A mask the other way up, as its image would be.
fn turned(mask: Mask, turn: Turn) -> Result<Mask, String> {
    let sizes =
        |width: usize, height: usize| Some((width.try_into().ok()?, height.try_into().ok()?));
    let stored = match mask {
        Mask::Indices(Labels { height, width, values }) => sizes(width, height)
            .and_then(|(w, h)| GrayImage::from_raw(w, h, values))
            .map(DynamicImage::ImageLuma8),
        Mask::Colours(Image { height, width, pixels }) => sizes(width, height)
            .and_then(|(w, h)| RgbImage::from_raw(w, h, pixels))
            .map(DynamicImage::ImageRgb8),
    };
    let mut image = stored.ok_or("has too many pixels to be turned")?;
    image.apply_orientation(turn);
    let (height, width) = (image.height() as usize, image.width() as usize);
    Ok(match image {
        DynamicImage::ImageLuma8(grey) => {
            Mask::Indices(Labels::new(height, width, grey.into_raw()))
        }
        other => Mask::Colours(Image::new(height, width, other.into_rgb8().into_raw())),
    })
}
