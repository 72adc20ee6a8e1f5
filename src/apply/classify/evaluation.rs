//! `beit evaluate`: what a classifier is worth on labelled images, from its weights alone.

use super::figures::ClassifierFigures;
use super::page::{add_figures, add_mistakes, mistakes};
use super::{Judgement, judge};
use crate::apply::opened::OpenedClassifier;
use crate::apply::stream::Failures;
use crate::data::class_view::eval_view;
use crate::data::{Classified, Dataset, Image, Labelled, Source, SourceOptions, Split};
use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::report::page::Page;
use crate::report::picture::Picture;
use serde::Serialize;
use std::sync::Arc;

/// What is measured; goes to `summary.json`.
#[derive(Clone, Debug, Serialize)]
pub struct EvaluationSummary {
    /// The classifier, as it was given.
    pub model: String,
    /// The images, as they were given.
    pub data: String,
    /// What the classifier is worth on them.
    pub figures: ClassifierFigures,
    /// The most confident mistakes, a line about each.
    pub mistakes: Vec<String>,
    /// Their images, in rows of four.
    #[serde(skip)]
    pub pictures: Option<Picture>,
    /// Why images could not be read.
    pub unreadable: Vec<String>,
}

/// Judges all images of `data`, whose classes are matched by name; more unreadable ones than the share `max_bad` are
/// an error.
pub fn evaluate<B: Backend>(
    bk: &B,
    opened: &OpenedClassifier<B>,
    model: &str,
    data: &str,
    max_bad: f64,
) -> Result<EvaluationSummary> {
    let classes = &opened.model.config.classes;
    let source = Source::open_aloud(data, &SourceOptions::new(Split::Test, 0))?.uncached();
    let images = Classified::new(Arc::new(source), classes)
        .map_err(|e| Error::config(format!("{data}: {e}")))?;
    let view = |image: &Image| eval_view(&opened.views, image);
    let (found, bad) = judge(bk, (&opened.model, &opened.w), &images, view, "evaluation")?;
    Failures::of(bad.values()).check(max_bad, images.len())?;
    finite(&found, images.source())?;
    let name = |item: &Labelled| images.source().name(item.index);
    let show = |image: &Image| {
        let (h, w) = opened.model.config.encoder.image;
        Picture::from_unit(&opened.views.shown(&view(image)), h, w)
    };
    let (mistakes, pictures) = mistakes(&found, classes, &images, name, show);
    Ok(EvaluationSummary {
        model: model.to_owned(),
        data: data.to_owned(),
        figures: ClassifierFigures::new(&found, classes),
        mistakes,
        pictures,
        unreadable: bad.into_values().collect(),
    })
}

fn finite(found: &[Judgement], source: &Source) -> Result<()> {
    match found.iter().find(|j| !j.nll.is_finite()) {
        None => Ok(()),
        Some(j) => Err(Error::config(format!(
            "{}: the classifier overflows on it: its output is not finite",
            source.name(j.image)
        ))),
    }
}

impl EvaluationSummary {
    /// Title and figures of the report.
    pub fn page(&self) -> Page {
        let heading = format!("Figures on the central crops of {} images", self.figures.images);
        let page = add_figures(Page::new("Evaluation").section(&heading), &self.figures);
        add_mistakes(page, &self.mistakes, self.pictures.as_ref())
    }
}
