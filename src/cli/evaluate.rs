//! `beit evaluate`: a classifier or a segmenter measured on labelled images.

use crate::apply::classify::{EvaluationSummary, evaluate as evaluate_classifier};
use crate::apply::opened::OpenedClassifier;
use crate::apply::segment::{SegmentEvaluation, evaluate_segmenter};
use crate::cli::args::EvaluateArgs;
use crate::cli::commands::{print_figures, print_report, print_segment_figures};
use crate::cli::device::{Chosen, on_device};
use crate::cli::on_threads;
use crate::cli::segment::opened_segmenter;
use crate::error::{Error, Result};
use crate::models::kind::ModelConfig;
use crate::report::about::About;
use crate::report::page::Page;
use crate::run::{claim, write_json};
use crate::shown;
use crate::weights::{Model, load_model};
use serde::Serialize;
use std::time::Instant;

/// What an evaluation leaves.
struct Measured<'a, S> {
    summary: &'a S,
    page: Page,
    images: usize,
    unreadable: &'a [String],
    /// Settings of its own, for the page.
    settings: String,
}

/// `beit evaluate`
pub fn evaluate(args: &EvaluateArgs) -> Result<()> {
    let started = Instant::now();
    let (chosen, file) = (args.common.open()?, load_model(&args.model)?);
    match &file.config {
        ModelConfig::Segmenter(_) => segmenter(args, &file, &chosen, started),
        _ => classifier(args, &file, &chosen, started),
    }
}

fn classifier(args: &EvaluateArgs, file: &Model, chosen: &Chosen, started: Instant) -> Result<()> {
    if !args.windows.is_default() {
        return Err(Error::config(
            "--stride, --ratios and --flip are for segmenters; a classifier sees the central crop of an image",
        ));
    }
    let model = args.model.to_string_lossy();
    let (summary, _lock) = on_threads(args.common.threads, || {
        on_device!(*chosen, bk => {
            let opened = OpenedClassifier::of(&bk, file)?.at(args.image_size)?;
            let lock = args.out.as_deref().map(claim).transpose()?;
            let max_bad = args.common.max_bad;
            Ok((evaluate_classifier(&bk, &opened, &model, &args.data, max_bad)?, lock))
        })
    })?;
    print_evaluation(&summary);
    let measured = Measured {
        summary: &summary,
        page: summary.page(),
        images: summary.figures.images,
        unreadable: &summary.unreadable,
        settings: String::new(),
    };
    finish(args, chosen, started, measured)
}

fn segmenter(args: &EvaluateArgs, file: &Model, chosen: &Chosen, started: Instant) -> Result<()> {
    if args.image_size.is_some() {
        return Err(Error::config(
            "--image-size is for classifiers: a segmenter looks at images of any size through windows of its own",
        ));
    }
    let model = args.model.to_string_lossy();
    let (summary, _lock) = on_threads(args.common.threads, || {
        on_device!(*chosen, bk => {
            let opened = opened_segmenter(&bk, file, &args.windows)?;
            let lock = args.out.as_deref().map(claim).transpose()?;
            let max_bad = args.common.max_bad;
            Ok((evaluate_segmenter(&bk, &opened, &model, &args.data, max_bad)?, lock))
        })
    })?;
    print_segmenter(&summary);
    let measured = Measured {
        summary: &summary,
        page: summary.page(),
        images: summary.figures.images,
        unreadable: &summary.unreadable,
        settings: args.windows.in_words(),
    };
    finish(args, chosen, started, measured)
}

/// The lines about an evaluated classifier.
pub fn print_evaluation(summary: &EvaluationSummary) {
    print_about(&summary.model, &summary.data, summary.figures.images);
    print_figures(&summary.figures);
}

fn print_segmenter(summary: &SegmentEvaluation) {
    print_about(&summary.model, &summary.data, summary.figures.images);
    print_segment_figures(&summary.figures);
}

fn print_about(model: &str, data: &str, images: usize) {
    let [of, on] = [model, data].map(shown::line);
    say!("evaluation of {of} on {images} images of {on}");
}

/// Writes what `--json` and `--out` ask for.
fn finish<S: Serialize>(
    args: &EvaluateArgs,
    chosen: &Chosen,
    started: Instant,
    measured: Measured<S>,
) -> Result<()> {
    if let Some(path) = &args.json {
        write_json(path, measured.summary)?;
    }
    if let Some(out) = &args.out {
        write_json(&out.join("summary.json"), measured.summary)?;
        let (model, max_bad) = (args.model.to_string_lossy(), args.common.max_bad);
        let about = About {
            device: chosen.describe(),
            data: args.data.clone(),
            images: format!("{} measured", measured.images),
            unreadable: measured.unreadable.to_vec(),
            seconds: started.elapsed().as_secs_f64(),
            settings: format!("model = {model:?}\n{}max_bad = {max_bad}\n", measured.settings),
            ..About::this_process()
        };
        measured.page.about(&about).write(&out.join("report.html"))?;
        print_report(out);
    }
    Ok(())
}
