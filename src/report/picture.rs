//! Pictures: RGB canvases, tiles with headings, maps of numbers, PNG.

use crate::atomic::write_atomic;
use crate::error::{Error, Result};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use std::borrow::Cow;
use std::path::Path;

/// `[H,W,4]` bytes: red, green, blue, and 0 where nothing is, so that a page shows its own ground there.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    height: usize,
    width: usize,
    pixels: Vec<u8>,
}

/// Between tiles.
const GAP: usize = 6;
const CHANNELS: usize = 4;
const NOTHING: [u8; CHANNELS] = [0; CHANNELS];

impl Picture {
    /// A canvas of one colour.
    pub fn new(height: usize, width: usize, colour: [u8; 3]) -> Self {
        Self::filled(height, width, opaque(colour))
    }

    fn filled(height: usize, width: usize, pixel: [u8; CHANNELS]) -> Self {
        Self { height, width, pixels: pixel.repeat(height * width) }
    }

    /// Pixels `[H,W,3]` in 0..1; what lies outside is clipped.
    pub fn from_unit(pixels: &[f32], height: usize, width: usize) -> Self {
        assert_eq!(pixels.len(), height * width * 3, "picture: wrong number of pixels");
        let byte = |x: &f32| (x * 255.0).round().clamp(0.0, 255.0) as u8;
        let opaque = |p: &[f32]| opaque([byte(&p[0]), byte(&p[1]), byte(&p[2])]);
        Self { height, width, pixels: pixels.chunks_exact(3).flat_map(opaque).collect() }
    }

    /// Bytes `[H,W,3]`.
    pub fn from_bytes(pixels: &[u8], height: usize, width: usize) -> Self {
        assert_eq!(pixels.len(), height * width * 3, "picture: wrong number of pixels");
        let pixels = pixels.as_chunks::<3>().0.iter().flat_map(|&p| opaque(p)).collect();
        Self { height, width, pixels }
    }

    /// Numbers `[H,W]` as colours, from dark blue at the least to yellow at the greatest.
    pub fn from_map(values: &[f64], height: usize, width: usize) -> Self {
        assert_eq!(values.len(), height * width, "picture: wrong number of values");
        let lo = values.iter().copied().fold(f64::INFINITY, f64::min);
        let hi = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let scale = if hi > lo { 1.0 / (hi - lo) } else { 0.0 };
        let pixels = values.iter().flat_map(|v| opaque(colour((v - lo) * scale))).collect();
        Self { height, width, pixels }
    }

    /// Height and width.
    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// Each pixel as a square of `zoom` pixels.
    pub fn enlarge(&self, zoom: usize) -> Self {
        self.enlarge_to(self.height * zoom, self.width * zoom)
    }

    /// Nearest neighbour to another size.
    pub fn enlarge_to(&self, height: usize, width: usize) -> Self {
        let mut out = Self::filled(height, width, NOTHING);
        for (i, row) in out.pixels.chunks_exact_mut(width * CHANNELS).enumerate() {
            for (j, pixel) in row.chunks_exact_mut(CHANNELS).enumerate() {
                let at = i * self.height / height * self.width + j * self.width / width;
                pixel.copy_from_slice(&self.pixels[at * CHANNELS..(at + 1) * CHANNELS]);
            }
        }
        out
    }

    /// Fills a rectangle; what lies outside is left out.
    pub fn fill(&mut self, top: usize, left: usize, height: usize, width: usize, colour: [u8; 3]) {
        for i in top..(top + height).min(self.height) {
            for j in left..(left + width).min(self.width) {
                let at = (i * self.width + j) * CHANNELS;
                self.pixels[at..at + CHANNELS].copy_from_slice(&opaque(colour));
            }
        }
    }

    /// Draws the outline of a rectangle, two pixels wide.
    pub fn frame(&mut self, top: usize, left: usize, height: usize, width: usize, colour: [u8; 3]) {
        let thick = 2.min(height).min(width);
        self.fill(top, left, thick, width, colour);
        self.fill(top + height - thick, left, thick, width, colour);
        self.fill(top, left, height, thick, colour);
        self.fill(top, left + width - thick, height, thick, colour);
    }

    /// Tiles of one size in rows of `columns`, with nothing between them.
    pub fn grid(tiles: &[Self], columns: usize) -> Self {
        Self::tiled(tiles, columns.min(tiles.len()), GAP)
    }

    /// Tiles of one size in rows of `columns`, each right beside the next, for a page to show one of them; the sheet
    /// is as wide as a full row.
    pub fn sheet(tiles: &[Self], columns: usize) -> Self {
        Self::tiled(tiles, columns, 0)
    }

    fn tiled(tiles: &[Self], columns: usize, gap: usize) -> Self {
        let Some(first) = tiles.first() else { return Self::filled(1, 1, NOTHING) };
        let (h, w) = first.size();
        let rows = tiles.len().div_ceil(columns);
        let mut out = Self::filled(rows * (h + gap) - gap, columns * (w + gap) - gap, NOTHING);
        for (n, tile) in tiles.iter().enumerate() {
            assert_eq!(tile.size(), (h, w), "picture: tiles of one size");
            let (top, left) = (n / columns * (h + gap), n % columns * (w + gap));
            for (i, row) in tile.pixels.chunks_exact(w * CHANNELS).enumerate() {
                let at = ((top + i) * out.width + left) * CHANNELS;
                out.pixels[at..at + w * CHANNELS].copy_from_slice(row);
            }
        }
        out
    }

    /// The picture as a PNG file; its alpha channel is only there where it says something.
    pub fn png(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (w, h) = (self.width as u32, self.height as u32);
        let full = self.pixels.chunks_exact(CHANNELS).all(|p| p[3] == u8::MAX);
        let colours = || self.pixels.chunks_exact(CHANNELS).flat_map(|p| [p[0], p[1], p[2]]);
        let (pixels, kind) = match full {
            true => (Cow::Owned(colours().collect()), ExtendedColorType::Rgb8),
            false => (Cow::Borrowed(self.pixels.as_slice()), ExtendedColorType::Rgba8),
        };
        PngEncoder::new(&mut bytes)
            .write_image(&pixels, w, h, kind)
            .expect("a canvas of this size");
        bytes
    }

    /// Writes a PNG file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let png = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
        if !png {
            return Err(Error::config(format!(
                "{}: give a name that ends in .png",
                path.display()
            )));
        }
        write_atomic(path, &self.png())
    }
}

/// A pixel that hides what is behind it.
fn opaque([r, g, b]: [u8; 3]) -> [u8; CHANNELS] {
    [r, g, b, u8::MAX]
}

/// A colour scale of rising lightness: dark blue, purple, red, orange, yellow.
fn colour(t: f64) -> [u8; 3] {
    const STOPS: [[f64; 3]; 5] = [
        [13.0, 20.0, 80.0],
        [95.0, 25.0, 130.0],
        [190.0, 50.0, 90.0],
        [245.0, 130.0, 40.0],
        [250.0, 240.0, 110.0],
    ];
    let at = t.clamp(0.0, 1.0) * 4.0;
    let (i, part) = ((at as usize).min(3), at - (at as usize).min(3) as f64);
    [0, 1, 2].map(|c| (STOPS[i][c] + (STOPS[i + 1][c] - STOPS[i][c]) * part).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn png_comes_back() {
        let mut picture = Picture::new(3, 5, [10, 20, 30]);
        picture.fill(1, 2, 9, 9, [200, 0, 1]);
        let back = image::load_from_memory(&picture.png()).unwrap();
        assert_eq!(back.color(), image::ColorType::Rgb8);
        let back = back.to_rgba8();
        assert_eq!((back.height(), back.width()), (3, 5));
        assert_eq!(back.into_raw(), picture.pixels);
    }

    #[test]
    fn maps_run_from_dark_to_light() {
        let map = Picture::from_map(&[0.0, 0.5, 1.0], 1, 3);
        let sum =
            |i: usize| map.pixels[4 * i..4 * i + 3].iter().map(|&b| u32::from(b)).sum::<u32>();
        assert!(sum(0) < sum(1) && sum(1) < sum(2));
        assert_eq!(Picture::from_map(&[2.0; 4], 2, 2).enlarge(3).size(), (6, 6));
    }

    #[test]
    fn tiles_stand_apart() {
        let tile = Picture::new(2, 2, [0, 0, 0]);
        let grid = Picture::grid(&[tile.clone(), tile.clone(), tile], 2);
        assert_eq!(grid.size(), (2 + GAP + 2, 2 + GAP + 2));
        // Whatever the ground of the page is, it shows between the tiles and where there is none.
        let back = image::load_from_memory(&grid.png()).unwrap().to_rgba8();
        let (near, far) = (1, 2 + GAP as u32);
        assert_eq!(back.get_pixel(near, near).0, [0, 0, 0, 255]);
        assert_eq!(back.get_pixel(far, near).0, [0, 0, 0, 255]);
        assert_eq!(back.get_pixel(near + 2, near).0[3], 0);
        assert_eq!(back.get_pixel(far, far).0[3], 0);
    }

    #[test]
    fn a_sheet_is_as_wide_as_a_full_row() {
        let tiles = [1, 2, 3].map(|red| Picture::new(2, 3, [red, 0, 0]));
        let sheet = Picture::sheet(&tiles, 2);
        assert_eq!((sheet.size(), Picture::sheet(&tiles, 8).size()), ((4, 6), (2, 24)));
        assert_eq!([0, 3].map(|x| sheet.pixels[x * CHANNELS]), [1, 2]);
        assert_eq!(sheet.pixels[2 * 6 * CHANNELS], 3);
    }
}
