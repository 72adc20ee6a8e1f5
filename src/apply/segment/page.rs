//! Segmented images and the figures of a segmenter on a page, in the same colours everywhere.

use super::figures::SegmentFigures;
use super::inference::{Weighted, Windows, segment_image};
use crate::data::labels::Labels;
use crate::data::pairs::Pair;
use crate::data::segment_view::SegmentViewConfig;
use crate::data::{Dataset, Image};
use crate::models::config::SegmentClass;
use crate::ops::Backend;
use crate::report::page::{Page, Table};
use crate::report::picture::Picture;

/// Images that are shown.
const SHOWN: usize = 8;
/// Longer side of what is shown.
const SIDE: usize = 256;
/// Colour of pixels without a class.
const NONE: [u8; 3] = [0; 3];

/// The colours of labels.
pub fn coloured(labels: &Labels, classes: &[SegmentClass]) -> Picture {
    let colour = |&label: &u8| classes.get(usize::from(label)).map_or(NONE, |class| class.colour);
    let pixels: Vec<u8> = labels.values.iter().flat_map(colour).collect();
    Picture::from_bytes(&pixels, labels.height, labels.width)
}

/// The colours of labels over half of the image.
#[track_caller]
pub fn overlay(image: &Image, labels: &Labels, classes: &[SegmentClass]) -> Picture {
    assert_eq!((image.height, image.width), (labels.height, labels.width), "overlay: sizes");
    let pixels = image.pixels.as_chunks::<3>().0.iter().zip(&labels.values);
    let mixed = pixels.flat_map(|(pixel, &label)| match classes.get(usize::from(label)) {
        Some(class) => {
            [0, 1, 2].map(|c| ((u16::from(pixel[c]) + u16::from(class.colour[c])) / 2) as u8)
        }
        None => *pixel,
    });
    Picture::from_bytes(&mixed.collect::<Vec<u8>>(), image.height, image.width)
}

/// An image, its labels, and what it is taken for.
#[derive(Clone, Debug)]
pub struct SegmentExample {
    /// What the image is called, and how many of its labelled pixels are right.
    pub line: String,
    /// The three beside each other.
    pub picture: Picture,
}

/// The first pairs of `data` that can be read, as `name` calls them.
pub fn segment_examples<B: Backend, D: Dataset<Item = Pair>>(
    bk: &B,
    of: Weighted<B>,
    plan: &Windows,
    views: &SegmentViewConfig,
    data: &D,
    name: impl Fn(&Pair) -> String,
) -> Vec<SegmentExample> {
    let classes = &of.0.config.classes;
    let pairs = (0..data.len()).filter_map(|i| data.item(i).ok()).take(SHOWN);
    let example = |pair: Pair| {
        let found = segment_image(bk, of, plan, views, &pair.image);
        let both = found.values.iter().zip(&pair.labels.values);
        let labelled = both.filter(|(_, label)| **label != Labels::IGNORED);
        let (right, all) = labelled.fold((0, 0), |(right, all), (found, label)| {
            (right + usize::from(found == label), all + 1)
        });
        let image = Picture::from_bytes(&pair.image.pixels, pair.image.height, pair.image.width);
        let tiles = [image, coloured(&pair.labels, classes), coloured(&found, classes)];
        let zoom = SIDE as f64 / pair.image.height.max(pair.image.width) as f64;
        let side = |n: usize| ((n as f64 * zoom) as usize).max(1);
        let size = (side(pair.image.height), side(pair.image.width));
        let tiles = tiles.map(|tile| tile.enlarge_to(size.0, size.1));
        SegmentExample {
            line: format!("{}: {right} of {all} labelled pixels right", name(&pair)),
            picture: Picture::grid(&tiles, 3),
        }
    };
    pairs.map(example).collect()
}

/// Figures and classes.
pub fn add_segment_figures(page: Page, f: &SegmentFigures) -> Page {
    let share = |x: f64| format!("{x:.3}");
    let between = |interval: Option<(f64, f64)>| {
        interval.map(|(low, high)| format!("{low:.3} to {high:.3}")).unwrap_or_default()
    };
    let row = |name: &str, value: String| [name.to_owned(), value];
    let figures = Table::new(&["figure", "value"], 1).rows([
        row("images", f.images.to_string()),
        row("labelled pixels", f.pixels.to_string()),
        row("mean IoU", share(f.miou)),
        row("its 95 % interval over images", between(f.miou_interval)),
        row("mean accuracy", share(f.macc)),
        row("accuracy of all pixels", share(f.aacc)),
    ]);
    let classes = f.classes.iter().map(|class| {
        let or_none = |x: Option<f64>| x.map(share).unwrap_or_default();
        let (iou, acc) = (or_none(class.iou), or_none(class.acc));
        [class.name.clone(), class.pixels.to_string(), iou, between(class.interval), acc]
    });
    let classes =
        Table::new(&["class", "pixels", "IoU", "95 % interval", "accuracy"], 1).rows(classes);
    page.table(figures)
        .subsection("Classes")
        .text(
            "IoU: pixels found, over pixels of the class or taken for it, over all images together; its interval is \
             over images.",
        )
        .table(classes)
}

/// Images, their labels and what they are taken for, and what the colours mean.
pub fn add_examples(page: Page, examples: &[SegmentExample], classes: &[SegmentClass]) -> Page {
    if examples.is_empty() {
        return page;
    }
    let shown = examples.iter().map(|example| (example.line.clone(), &example.picture));
    add_colours(page.subsection("Image, labels, prediction").gallery(shown), classes)
}

/// What `beit segment` made of images: some of them under the colours of their classes.
pub fn segmented_page(
    shown: &[(String, Picture)],
    images: usize,
    classes: &[SegmentClass],
) -> Page {
    let page = Page::new("Segmentation").section(&format!("{} of {images} images", shown.len()));
    let page = page.gallery(shown.iter().map(|(name, picture)| (name.clone(), picture)));
    add_colours(page, classes)
}

/// What the colours mean.
fn add_colours(page: Page, classes: &[SegmentClass]) -> Page {
    let swatch = |class: &SegmentClass| (class.name.clone(), Picture::new(24, 48, class.colour));
    let swatches: Vec<(String, Picture)> = classes.iter().map(swatch).collect();
    let swatches = swatches.iter().map(|(name, picture)| (name.clone(), picture));
    page.subsection("Colours").gallery(swatches)
}
