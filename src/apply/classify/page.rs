//! The figures of a classifier on a page.

use super::Judgement;
use super::figures::ClassifierFigures;
use crate::data::{Dataset, Image, Labelled};
use crate::report::page::{Page, Table};
use crate::report::picture::Picture;
use beit_check::plot::{Axis, Plot};

/// Mistakes that are shown as pictures.
const MISTAKES: usize = 12;
/// Confusions that are listed.
const LISTED: usize = 20;
/// Classes whose confusion matrix is drawn.
const DRAWN: usize = 64;
/// Side of a picture of a mistake.
const SIDE: usize = 96;

fn share(x: f64) -> String {
    format!("{x:.3}")
}

fn between((low, high): (f64, f64)) -> String {
    format!("{low:.3} to {high:.3}")
}

/// Figures, calibration, classes and confusions.
pub fn add_figures(page: Page, f: &ClassifierFigures) -> Page {
    let row = |name: &str, value: String| [name.to_owned(), value];
    let figures = Table::new(&["figure", "value"], 1).rows([
        row("images", f.images.to_string()),
        row("top-1 accuracy", share(f.top1)),
        row("its 95 % interval", between(f.top1_interval)),
        row("top-5 accuracy", share(f.top5)),
        row("negative log-likelihood, nats", share(f.nll)),
        row("Brier score", share(f.brier)),
        row("expected calibration error (15 bins)", share(f.ece)),
    ]);
    let bins = f.calibration.iter().filter(|bin| bin.images > 0);
    let points: Vec<(f64, f64)> = bins.map(|bin| (bin.confidence, bin.accuracy)).collect();
    let chart =
        Plot::new("Calibration", Axis::from_zero("confidence"), Axis::from_zero("accuracy"))
            .line("measured", &points)
            .line("calibrated", &[(0.0, 0.0), (1.0, 1.0)]);
    let classes = Table::new(&["class", "images", "right", "95 % interval", "put there"], 1);
    let classes = classes.rows(f.per_class.iter().map(|c| {
        let right =
            if c.images == 0 { String::new() } else { share(c.right as f64 / c.images as f64) };
        let interval = c.interval.map(between).unwrap_or_default();
        [c.name.clone(), c.images.to_string(), right, interval, c.predicted.to_string()]
    }));
    let listed = f.confusions.iter().take(LISTED);
    let confusions = Table::new(&["class", "taken for", "images"], 2)
        .rows(listed.map(|c| [c.class.clone(), c.predicted.clone(), c.images.to_string()]));
    let page = page
        .table(figures)
        .chart(&chart.svg())
        .subsection("Classes")
        .text("Right: share of a class's images that are put there, with its Wilson interval.")
        .table(classes);
    let page = match matrix(f) {
        Some(picture) => page
            .subsection("Confusion matrix")
            .text("A row per class, a column per prediction, both in the order of the table; as shares of the row.")
            .picture("confusion matrix", &picture),
        None => page,
    };
    page.subsection("Most frequent confusions").table(confusions)
}

/// The most confident mistakes: their pictures and a line about each.
pub fn add_mistakes(page: Page, lines: &[String], pictures: Option<&Picture>) -> Page {
    let Some(pictures) = pictures else { return page };
    page.subsection("The most confident mistakes")
        .picture("the most confident mistakes, in rows of four", pictures)
        .list(lines)
}

/// The confusion matrix in colours.
fn matrix(f: &ClassifierFigures) -> Option<Picture> {
    let n = f.per_class.len();
    if n > DRAWN || f.images == 0 {
        return None;
    }
    let place = |name: &str| f.per_class.iter().position(|c| c.name == name);
    let mut counts = vec![0.0; n * n];
    for (i, class) in f.per_class.iter().enumerate() {
        counts[i * n + i] = class.right as f64;
    }
    for c in &f.confusions {
        counts[place(&c.class)? * n + place(&c.predicted)?] = c.images as f64;
    }
    for (row, class) in counts.chunks_exact_mut(n).zip(&f.per_class) {
        row.iter_mut().for_each(|x| *x /= class.images.max(1) as f64);
    }
    Some(Picture::from_map(&counts, n, n).enlarge((512 / n).max(4)))
}

/// The most confident mistakes: a line about each, where `name` says which image it is, and a picture of all that
/// can be read, in rows of four.
pub fn mistakes<D: Dataset<Item = Labelled>>(
    judgements: &[Judgement],
    classes: &[String],
    data: &D,
    name: impl Fn(&Labelled) -> String,
    show: impl Fn(&Image) -> Picture,
) -> (Vec<String>, Option<Picture>) {
    let mut wrong: Vec<&Judgement> = judgements.iter().filter(|j| !j.right()).collect();
    wrong.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then(a.image.cmp(&b.image)));
    let (mut lines, mut tiles) = (Vec::new(), Vec::new());
    for j in wrong.into_iter().take(MISTAKES) {
        let Ok(item) = data.item(j.image) else { continue };
        let class = |number: u32| &classes[number as usize];
        lines.push(format!(
            "{}: {}, taken for {} with probability {:.3}",
            name(&item),
            class(j.label),
            class(j.predicted),
            j.confidence
        ));
        tiles.push(show(&item.image).enlarge_to(SIDE, SIDE));
    }
    let picture = (!tiles.is_empty()).then(|| Picture::grid(&tiles, 4));
    (lines, picture)
}
