//! `beit atlas`: the codebook of a tokenizer on a page: every code decoded, sorted by use, with patches of the data
//! that have it and the codes nearest to it.

use crate::apply::frozen::{Tokenizer, load_all, spread, views};
use crate::apply::hard_codes::{HardCodes, mapped};
use crate::data::augment::eval_views;
use crate::data::geometry::CropBox;
use crate::data::pixels::Normalise;
use crate::data::{Image, Source, SourceOptions, Split};
use crate::error::{Error, Result};
use crate::models::config::DvaeConfig;
use crate::models::dvae::pixels;
use crate::ops::Backend;
use crate::params::Ctx;
use crate::report::page::{LivePart, Page};
use crate::report::picture::Picture;
use crate::run::{Progress, not_interrupted};
use crate::tensor::Ids;
use rayon::prelude::*;
use std::path::Path;

/// Cells of the grid that is decoded for a code, and of its middle that is shown, along a side.
const DECODED: usize = 7;
const SHOWN: usize = 3;
/// Patches of the data that are shown for a code, at most, and for all codes together.
const EXAMPLES: usize = 8;
const ALL_EXAMPLES: usize = 16_384;
/// Neighbours that are named.
const NEIGHBOURS: usize = 8;
/// Images or grids that go through the tokenizer together.
const TOGETHER: usize = 32;
/// Tiles in a row of a sheet.
const COLUMNS: usize = 64;

/// What is drawn.
pub struct AtlasTask<'a> {
    /// Run folder or file of the tokenizer.
    pub tokenizer: &'a Path,
    /// Images, as on the command line.
    pub data: &'a str,
    /// Images whose codes are counted, at most, spread over the source.
    pub images: usize,
}

/// A code somewhere in the data, with what is around it.
struct Example {
    code: u32,
    around: Picture,
}

/// How often codes occur, and where.
struct Use {
    counted: HardCodes,
    examples: Vec<Example>,
}

/// The page.
pub fn atlas_page<B: Backend>(bk: &B, task: &AtlasTask) -> Result<Page> {
    let tokenizer = Tokenizer::load(bk, task.tokenizer)?;
    let source = Source::open_aloud(task.data, &SourceOptions::new(Split::Test, 0))?;
    let sizes = &tokenizer.dvae.config;
    let used = used(bk, &tokenizer, &source, task.images)?;
    if used.counted.images == 0 {
        return Err(Error::config(format!("{}: no readable image", task.data)));
    }
    let tiles = decoded(bk, &tokenizer)?;
    let table = embeddings(bk, &tokenizer)?;
    let order = by_use(&used.counted.counts);
    let about = serde_json::json!({
        "side": SHOWN * factor(sizes),
        "columns": COLUMNS,
        "images": used.counted.images,
        "order": order,
        "counts": used.counted.counts,
        "neighbours": neighbours(&table, sizes.vocab, NEIGHBOURS),
        "examples": used.examples.iter().map(|e| e.code).collect::<Vec<_>>(),
    });
    let examples: Vec<_> = used.examples.into_iter().map(|e| e.around).collect();
    let part = LivePart::new(
        include_str!("atlas.css"),
        include_str!("atlas.html"),
        include_str!("atlas.js"),
    );
    let part = part
        .json("about", &about)
        .picture("tiles", &Picture::sheet(&tiles, COLUMNS))
        .picture("found", &Picture::sheet(&examples, COLUMNS));
    Ok(Page::new("Codebook")
        .text(&summary(&used.counted))
        .text(
            "Each tile is one code decoded, the most frequent first. Choose one to see patches of the data that have \
             it and the codes nearest to it.",
        )
        .live(part)
        .section("What is shown")
        .list(&[
            format!(
                "A tile is the middle {SHOWN}x{SHOWN} cells of what the decoder makes of a {DECODED}x{DECODED} grid \
                 of that code alone."
            ),
            format!(
                "Codes are those of the central crops of {} images of {}, counted at every cell, without noise.",
                used.counted.images, task.data
            ),
            "Perplexity is exp of the entropy of the codes' shares: as many codes, used equally often, would have it."
                .into(),
            format!(
                "A patch of the data is framed, with half a patch to each side; of an image one at most, of a code \
                 at most {}.",
                examples_of(sizes.vocab)
            ),
            "Distance of two codes is Euclidean, between the vectors that the decoder's first layer puts in their \
             place."
                .into(),
        ]))
}

fn summary(counted: &HardCodes) -> String {
    format!(
        "{} of {} codes occur at {} places of {} images; perplexity {:.1}.",
        counted.counts.iter().filter(|n| **n > 0).count(),
        counted.counts.len(),
        counted.positions(),
        counted.images,
        counted.perplexity()
    )
}

/// Pixels of a cell along a side.
fn factor(sizes: &DvaeConfig) -> usize {
    sizes.image.0 / sizes.grid().0
}

/// Examples of each code that there is room for.
fn examples_of(vocab: usize) -> usize {
    (ALL_EXAMPLES / vocab).clamp(1, EXAMPLES)
}

/// Codes by how often they occur, lower numbers first among equals.
fn by_use(counts: &[u64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by(|&a, &b| counts[b].cmp(&counts[a]).then(a.cmp(&b)));
    order
}

/// Counts codes of the data, and cuts out the first patches that have each, from different images.
fn used<B: Backend>(bk: &B, tokenizer: &Tokenizer<B>, source: &Source, most: usize) -> Result<Use> {
    let sizes = &tokenizer.dvae.config;
    let (grid, room) = (sizes.grid(), examples_of(sizes.vocab));
    let augment = views(sizes.image, sizes.image, Normalise::Half);
    let mut counted = HardCodes { counts: vec![0; sizes.vocab], ..HardCodes::default() };
    let (mut examples, mut had) = (Vec::new(), vec![0; sizes.vocab]);
    let indices = spread(source, most);
    let mut progress = Progress::new("codes of images", indices.len() as u64, 0, "images");
    for chunk in indices.chunks(TOGETHER) {
        not_interrupted()?;
        let images = load_all(source, chunk, |item| eval_views(&augment, &item.image).tokens);
        progress.advance(chunk.len() as u64, "");
        if images.is_empty() {
            continue;
        }
        counted.images += images.len();
        let codes = tokenizer.tokens(bk, &bk.to_elem(&mapped(bk, &images), 1.0)).to_vec(bk);
        for (image, codes) in images.iter().zip(codes.chunks_exact(grid.0 * grid.1)) {
            let mut here = Vec::new();
            for (place, &code) in codes.iter().enumerate() {
                counted.counts[code as usize] += 1;
                if had[code as usize] < room && !here.contains(&code) {
                    here.push(code);
                    had[code as usize] += 1;
                    let place = (place / grid.1, place % grid.1);
                    examples.push(Example { code, around: around(image, place, factor(sizes)) });
                }
            }
        }
    }
    progress.finish();
    Ok(Use { counted, examples })
}

/// A cell of an image with half a cell to each side, or as much as there is of the image; grey beyond.
fn around(image: &Image, (row, column): (usize, usize), side: usize) -> Picture {
    let (whole, half) = (2 * side, side / 2);
    let mut out = Picture::new(whole, whole, [128; 3]);
    let span = |at: usize, all: usize| {
        let first = (at * side).saturating_sub(half);
        (first, ((at + 1) * side + (whole - side - half)).min(all), half.saturating_sub(at * side))
    };
    let ((top, bottom, down), (left, right, along)) =
        (span(row, image.height), span(column, image.width));
    let crop = CropBox { top, left, height: bottom - top, width: right - left };
    for (i, line) in image.rows(crop).enumerate() {
        for (j, pixel) in line.as_chunks::<3>().0.iter().enumerate() {
            out.fill(down + i, along + j, 1, 1, *pixel);
        }
    }
    out
}

/// Every code decoded.
fn decoded<B: Backend>(bk: &B, tokenizer: &Tokenizer<B>) -> Result<Vec<Picture>> {
    let sizes = &tokenizer.dvae.config;
    let (side, cells) = (DECODED * factor(sizes), DECODED * DECODED);
    let (first, shown) = ((DECODED - SHOWN) / 2 * factor(sizes), SHOWN * factor(sizes));
    let middle = CropBox { top: first, left: first, height: shown, width: shown };
    let codes: Vec<u32> = (0..sizes.vocab as u32).collect();
    let mut tiles = Vec::with_capacity(codes.len());
    let mut progress = Progress::new("codes decoded", codes.len() as u64, 0, "codes");
    for chunk in codes.chunks(TOGETHER) {
        not_interrupted()?;
        let grids = chunk.iter().flat_map(|code| vec![*code; cells]).collect();
        let z =
            tokenizer.dvae.one_hot(bk, &Ids::from_vec(bk, grids, &[chunk.len(), DECODED, DECODED]));
        let out = tokenizer.dvae.decode(Ctx::new(bk, &tokenizer.w), &z).0.to_f64(bk);
        let bytes: Vec<u8> = pixels(&out).iter().map(|p| (p * 255.0).round() as u8).collect();
        tiles.extend(bytes.chunks_exact(side * side * 3).map(|image| {
            let tile = Image::new(side, side, image.to_vec()).crop(middle);
            Picture::from_bytes(&tile.pixels, shown, shown)
        }));
        progress.advance(chunk.len() as u64, "");
    }
    progress.finish();
    Ok(tiles)
}

/// `[K,init_width]`: what the decoder's first layer, a convolution of one pixel, makes of each code, without bias.
fn embeddings<B: Backend>(bk: &B, tokenizer: &Tokenizer<B>) -> Result<Vec<f64>> {
    const NAME: &str = "decoder.blocks.input.w";
    let weight = tokenizer.w.layout.iter().find(|p| &*p.name == NAME);
    let weight = weight.ok_or_else(|| Error::config(format!("the tokenizer has no {NAME}")))?;
    let (vocab, host) = (tokenizer.dvae.config.vocab, tokenizer.w.to_host(bk));
    let rows = &host[weight.range.clone()]; // [init_width,1,1,K]
    let number = crate::real::Float::to_f64;
    Ok((0..vocab).flat_map(|k| rows.iter().skip(k).step_by(vocab).map(|x| number(*x))).collect())
}

/// Of each row of `table` those of the `most` nearest others, with the distances, the nearest first and lower
/// numbers first among equals.
fn neighbours(table: &[f64], rows: usize, most: usize) -> Vec<Vec<(usize, f64)>> {
    let width = table.len() / rows;
    let row = |i: usize| &table[i * width..(i + 1) * width];
    let nearest = |i: usize| {
        let square = |j| row(i).iter().zip(row(j)).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let others = (0..rows).filter(|&j| j != i);
        let mut all: Vec<(usize, f64)> = others.map(|j| (j, square(j))).collect();
        all.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        all.truncate(most);
        // Three digits are what is shown.
        all.into_iter().map(|(j, d)| (j, (d.sqrt() * 1e3).round() / 1e3)).collect()
    };
    (0..rows).into_par_iter().map(nearest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_by_use_and_then_by_number() {
        assert_eq!(by_use(&[0, 7, 2, 7, 0]), [1, 3, 2, 0, 4]);
        let counted = HardCodes { counts: vec![0, 6, 2, 0], images: 2, ..HardCodes::default() };
        // exp(−(¾ ln ¾ + ¼ ln ¼)) = 1.7548.
        assert_eq!(
            summary(&counted),
            "2 of 4 codes occur at 8 places of 2 images; perplexity 1.8."
        );
        assert_eq!([11, 512, 8192, 100_000].map(examples_of), [8, 8, 2, 1]);
    }

    #[test]
    fn neighbours_are_the_nearest_by_euclid() {
        let table = [0.0, 0.0, 3.0, 4.0, 0.0, 1.0, -1.0, 0.0];
        let found = neighbours(&table, 4, 2);
        assert_eq!(found[0], [(2, 1.0), (3, 1.0)]);
        assert_eq!(found[1], [(2, 4.243), (0, 5.0)]);
        assert_eq!(neighbours(&table, 4, 9)[2].len(), 3);
    }

    #[test]
    fn a_patch_stands_in_the_middle_of_what_is_around_it() {
        let pixels: Vec<u8> = (0..8u8 * 8).flat_map(|i| [i, i, i]).collect();
        let image = Image::new(8, 8, pixels);
        let bytes =
            |place| image::load_from_memory(&around(&image, place, 4).png()).unwrap().to_rgb8();
        let (first, last) = (bytes((0, 0)), bytes((1, 1)));
        // Grey outside, the cell's first pixel at (2, 2).
        assert_eq!((first.get_pixel(1, 5)[0], first.get_pixel(2, 2)[0]), (128, 0));
        assert_eq!((first.get_pixel(7, 7)[0], last.get_pixel(0, 0)[0]), (5 * 8 + 5, 2 * 8 + 2));
        assert_eq!((last.get_pixel(5, 5)[0], last.get_pixel(6, 5)[0]), (63, 128));
    }
}
