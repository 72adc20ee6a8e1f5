//! `beit map`: the images of a data set as an encoder arranges them: the two principal axes of their embeddings.

use super::pca::{PrincipalAxes, principal_axes};
use crate::apply::embed::{FeatureKind, block_of, features_of};
use crate::apply::frozen::spread;
use crate::apply::opened::OpenedEncoder;
use crate::data::augment::centre_box;
use crate::data::class_view::eval_view;
use crate::data::loader::{BadImages, map_items};
use crate::data::pixels::Normalise;
use crate::data::resize::{Filter, resize};
use crate::data::{ClassViewConfig, Image, Source, SourceOptions, Split};
use crate::error::{Error, Result};
use crate::models::encoder::EncoderInput;
use crate::ops::Backend;
use crate::params::Ctx;
use crate::report::page::{LivePart, Page};
use crate::report::picture::Picture;
use crate::run::{Progress, is_news, not_interrupted, note};
use crate::tensor::Tensor;
use std::path::Path;

/// Images that go through the encoder together.
const TOGETHER: usize = 64;
/// Longest side of a picture, and pictures in a row of their sheet.
const SIDE: usize = 48;
const COLUMNS: usize = 64;

/// What is drawn.
pub struct MapTask<'a> {
    /// Run folder or file of the encoder.
    pub model: &'a Path,
    /// Images, as on the command line.
    pub data: &'a str,
    /// Images, at most, spread over the source.
    pub images: usize,
    /// Block, counted from 1; the last where `None`.
    pub block: Option<usize>,
    /// What stands for an image.
    pub what: FeatureKind,
    /// Mean and deviation of the views; where `None`, those that the model was trained with.
    pub normalise: Option<Normalise>,
}

/// An image with its place in the source.
struct MappedImage {
    index: usize,
    view: Vec<f32>,
    picture: Picture,
}

/// Images and their embeddings `[n,C]`.
#[derive(Default)]
struct Embedded {
    index: Vec<usize>,
    pictures: Vec<Picture>,
    points: Vec<f64>,
    unread: BadImages,
}

/// The page.
pub fn map_page<B: Backend>(bk: &B, task: &MapTask) -> Result<Page> {
    let opened = OpenedEncoder::open(bk, task.model)?;
    let block = block_of(&opened, task.block)?;
    if task.what == FeatureKind::Patches {
        return Err(Error::config("a map has one point for an image: its class token or mean"));
    }
    let source = Source::open_aloud(task.data, &SourceOptions::new(Split::Test, 0))?;
    let mut shown = opened.views();
    (shown.mean, shown.std) = task.normalise.unwrap_or(opened.normalise).moments();
    let tap = Tap { block, what: task.what };
    let found = embedded(bk, &opened, &source, &shown, &tap, task.images)?;
    let axes = principal_axes(&found.points, opened.sizes().width, 2);
    Ok(page(task, block, &source, &found, &axes))
}

/// Where an encoder is read.
struct Tap {
    block: usize,
    what: FeatureKind,
}

fn embedded<B: Backend>(
    bk: &B,
    opened: &OpenedEncoder<B>,
    source: &Source,
    shown: &ClassViewConfig,
    tap: &Tap,
    most: usize,
) -> Result<Embedded> {
    let (indices, mut found) = (spread(source, most), Embedded::default());
    let size = thumbnail(shown.height, shown.width);
    let mut progress = Progress::new("embeddings", indices.len() as u64, 0, "images");
    for chunk in indices.chunks(TOGETHER) {
        not_interrupted()?;
        let (seen, unread) = map_items(source, chunk, |item| MappedImage {
            index: item.index,
            view: eval_view(shown, &item.image),
            picture: pictured(&item.image, size),
        });
        let lines = unread.values().map(|reason| format!("skipped: {reason}"));
        lines.filter(|line| is_news(line)).for_each(|line| note(&line));
        found.unread.extend(unread);
        progress.advance(chunk.len() as u64, "");
        if seen.is_empty() {
            continue;
        }
        let shape = [seen.len(), shown.height, shown.width, 3];
        let mut pixels = Vec::with_capacity(shape.iter().product());
        for (_, image) in seen {
            found.index.push(image.index);
            found.pictures.push(image.picture);
            pixels.extend(image.view);
        }
        let images = Tensor::from_f32(bk, pixels, &shape);
        found.points.extend(features(bk, opened, &images, tap));
    }
    progress.finish();
    if found.index.is_empty() {
        return Err(Error::config(format!("none of {} images can be read", indices.len())));
    }
    Ok(found)
}

/// Rows `[B,C]`.
fn features<B: Backend>(
    bk: &B,
    opened: &OpenedEncoder<B>,
    images: &Tensor<B>,
    tap: &Tap,
) -> Vec<f64> {
    let (ctx, input) = (Ctx::new(bk, &opened.w), EncoderInput::of(images));
    let stream = opened.encoder().features(ctx, &input, &[tap.block]).taps.remove(0); // [B,N,C]
    features_of(bk, &stream, tap.what).into_iter().map(f64::from).collect()
}

/// Height and width of a picture of a view: as large, but for the longest side.
fn thumbnail(height: usize, width: usize) -> (usize, usize) {
    let longest = height.max(width);
    let side = |side: usize| (side * SIDE.min(longest) / longest).max(1);
    (side(height), side(width))
}

fn pictured(image: &Image, (height, width): (usize, usize)) -> Picture {
    let middle = centre_box(image, height, width);
    let small = resize(image, middle, height, width, Filter::Bicubic);
    Picture::from_bytes(&small.pixels, height, width)
}

fn page(
    task: &MapTask,
    block: usize,
    source: &Source,
    found: &Embedded,
    axes: &PrincipalAxes,
) -> Page {
    let width = found.points.len() / found.index.len();
    // Four digits are what is drawn.
    let digits = |x: f64| format!("{x:.4e}").parse::<f64>().expect("a number");
    let points = found.points.chunks_exact(width).map(|point| {
        let at = axes.coordinates(point);
        [digits(at[0]), at.get(1).copied().map_or(0.0, digits)]
    });
    let labels = found.index.iter().map(|&i| source.label(i));
    let names = found.index.iter().map(|&i| source.name(i));
    let (height, side) = found.pictures[0].size();
    let about = serde_json::json!({
        "points": points.collect::<Vec<_>>(),
        "labels": labels.collect::<Vec<_>>(),
        "names": names.collect::<Vec<_>>(),
        "classes": source.classes(),
        "shares": axes.shares(),
        "picture": (height, side),
        "columns": COLUMNS,
    });
    let part =
        LivePart::new(include_str!("map.css"), include_str!("map.html"), include_str!("map.js"));
    let part =
        part.json("about", &about).picture("pictures", &Picture::sheet(&found.pictures, COLUMNS));
    let shares = axes.shares();
    let percent = |i: usize| 100.0 * shares.get(i).copied().unwrap_or(0.0);
    let what = match task.what {
        FeatureKind::Class => "class token",
        _ => "mean of the patch tokens",
    };
    let page = Page::new("Map of a data set")
        .text(&format!(
            "{} images of {}. The two axes hold {:.1} % and {:.1} % of the variance of their embeddings.",
            found.index.len(),
            task.data,
            percent(0),
            percent(1)
        ))
        .text("Point at a mark, or tap it, to see its image; a class of the legend stands out when chosen.")
        .live(part)
        .section("What is shown")
        .list(&[
            format!("An embedding is the {what} that block {block} puts out, without norm: {width} numbers."),
            "The axes are the two principal axes of the embeddings, in one scale; each points to where its greatest \
             coordinate is above 0."
                .into(),
            "Images lie near each other where they differ little along these two axes; they may differ along others."
                .into(),
        ]);
    if found.unread.is_empty() {
        return page;
    }
    let reasons: Vec<_> = found.unread.values().cloned().collect();
    page.folded(&format!("{} images could not be read", reasons.len()), &reasons.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_the_aspect_of_the_view() {
        assert_eq!(thumbnail(32, 32), (32, 32));
        assert_eq!(thumbnail(224, 224), (48, 48));
        assert_eq!(thumbnail(224, 448), (24, 48));
        assert_eq!(thumbnail(4000, 16), (48, 1));
    }
}
