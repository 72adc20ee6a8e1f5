//! A segmenter as files hold it, opened for use.

use super::figures::SegmentFigures;
use super::inference::{Weighted, Windows, confusion_over};
use super::page::{SegmentExample, add_examples, add_segment_figures, segment_examples};
use crate::apply::stream::Failures;
use crate::data::pairs::{Pair, Pairs};
use crate::data::pixels::Normalise;
use crate::data::segment_view::SegmentViewConfig;
use crate::data::{Dataset, SourceOptions, Split};
use crate::error::{Error, Result};
use crate::models::config::{SegmentClass, SegmenterConfig};
use crate::models::segmenter::Segmenter;
use crate::ops::Backend;
use crate::params::Params;
use crate::report::page::Page;
use crate::weights::{Model, load_weights};
use serde::Serialize;

/// A segmenter with its weights.
pub struct OpenedSegmenter<B: Backend> {
    /// The model.
    pub model: Segmenter<B>,
    /// Its weights.
    pub w: Params<B>,
    /// How pixels are normalised for it.
    pub views: SegmentViewConfig,
    /// How images are looked at.
    pub windows: Windows,
}

impl<B: Backend> OpenedSegmenter<B> {
    /// The segmenter of a file, with windows `stride` apart ([`Windows::new`]).
    pub fn of(bk: &B, file: &Model, stride: usize) -> Result<Self> {
        let sizes = file.sizes::<SegmenterConfig>()?;
        let model = Segmenter::new(bk, sizes);
        let w = load_weights(bk, file, &model.layout)?;
        let (mean, std) = file.normalise.unwrap_or(Normalise::Half).moments();
        let (height, width) = sizes.encoder.image;
        let views = SegmentViewConfig { mean, std, ..SegmentViewConfig::original(height, width) };
        let windows = Windows::new(sizes, stride)?;
        Ok(Self { model, w, views, windows })
    }

    /// Model and weights.
    pub fn weighted(&self) -> Weighted<'_, B> {
        (&self.model, &self.w)
    }
}

/// What is measured; goes to `summary.json`.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentEvaluation {
    /// The segmenter, as it was given.
    pub model: String,
    /// The images, as they were given.
    pub data: String,
    /// What the segmenter is worth on them.
    pub figures: SegmentFigures,
    /// Some images with labels and predictions.
    #[serde(skip)]
    pub examples: Vec<SegmentExample>,
    /// The classes with their colours.
    pub classes: Vec<SegmentClass>,
    /// Why images could not be read.
    pub unreadable: Vec<String>,
}

/// Counts over all images of `data`, whose classes must be the model's; more unreadable ones than the share `max_bad`
/// are an error.
pub fn evaluate_segmenter<B: Backend>(
    bk: &B,
    opened: &OpenedSegmenter<B>,
    model: &str,
    data: &str,
    max_bad: f64,
) -> Result<SegmentEvaluation> {
    let pairs = Pairs::open_aloud(data, &SourceOptions::new(Split::Test, 0))?.uncached();
    let sizes = &opened.model.config;
    expect_classes(data, pairs.classes(), &sizes.classes)?;
    let (of, windows, views) = (opened.weighted(), &opened.windows, &opened.views);
    let (found, bad) = confusion_over(bk, of, windows, views, &pairs, "evaluation")?;
    Failures::of(bad.values()).check(max_bad, pairs.len())?;
    let name = |pair: &Pair| pairs.name(pair.index);
    Ok(SegmentEvaluation {
        model: model.to_owned(),
        data: data.to_owned(),
        figures: SegmentFigures::of(&found, &sizes.class_names())?,
        examples: segment_examples(bk, of, windows, views, &pairs, name),
        classes: sizes.classes.clone(),
        unreadable: bad.into_values().collect(),
    })
}

/// Refuses images whose classes are not those that the model knows, in their order.
pub fn expect_classes(source: &str, found: &[SegmentClass], known: &[SegmentClass]) -> Result<()> {
    let name = |classes: &[SegmentClass], i: usize| {
        classes.get(i).map_or_else(|| "none".to_owned(), |class| class.name.clone())
    };
    let differs = |i: &usize| found.get(*i).map(|c| &c.name) != known.get(*i).map(|c| &c.name);
    match (0..found.len().max(known.len())).find(differs) {
        None => Ok(()),
        Some(i) => Err(Error::config(format!(
            "{source}: class {i} is {}, of the model it is {}; both need the same classes in the same order",
            name(found, i),
            name(known, i)
        ))),
    }
}

impl SegmentEvaluation {
    /// Title and figures of the report.
    pub fn page(&self) -> Page {
        let heading = format!("Figures on {} images", self.figures.images);
        let page = add_segment_figures(Page::new("Evaluation").section(&heading), &self.figures);
        add_examples(page, &self.examples, &self.classes)
    }
}
