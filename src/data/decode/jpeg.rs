//! JPEGs to pixels.

use super::budget::{MemoryClaim, claim_first};
use super::jpeg_layout::JpegLayout;
use image::RgbImage;
use image::metadata::Orientation;
use jpeg_decoder::Decoder;

/// The pixels of a JPEG, its orientation, and the memory that it holds. Where `limit` bytes cannot hold the whole
/// image it is decoded at a half, a quarter or an eighth of its size.
pub(super) fn decode(
    bytes: &[u8],
    limit: u64,
) -> Result<(RgbImage, Orientation, MemoryClaim), String> {
    let layout = JpegLayout::read(bytes)?;
    let file = bytes.len() as u64;
    let costs = [8, 4, 2, 1].map(|eighths| (eighths, file + layout.cost(eighths)));
    let (eighths, claim) = claim_first(layout.size(8), &costs, limit)?;
    let mut decoder = Decoder::new(bytes);
    decoder.set_color_transform(layout.colours());
    let (width, height) = layout.size(eighths);
    let sides = decoder.scale(width as u16, height as u16).map_err(|e| e.to_string())?;
    let pixels = decoder.decode().map_err(|e| e.to_string())?;
    let rgb = match layout.components() {
        1 => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        3 => pixels,
        _ => pixels.as_chunks::<4>().0.iter().flat_map(|&inks| paint(inks)).collect(),
    };
    let image = RgbImage::from_raw(sides.0.into(), sides.1.into(), rgb);
    Ok((image.ok_or("the decoder left pixels out")?, layout.orientation, claim))
}

/// The colour of inks on white paper, as Pillow has it.
fn paint([cyan, magenta, yellow, key]: [u8; 4]) -> [u8; 3] {
    [cyan, magenta, yellow].map(|ink| {
        let product = u32::from(255 - ink) * u32::from(255 - key) + 128;
        ((product + (product >> 8)) >> 8) as u8
    })
}
