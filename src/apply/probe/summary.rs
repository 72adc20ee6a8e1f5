//! What a probe reports: figures, table and chart.

use crate::apply::knn::share_equal;
use crate::report::page::{Page, Table};
use beit_check::plot::{Axis, Plot};
use serde::{Deserialize, Serialize};

/// What a probe found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeSummary {
    /// The model probed, as it was given.
    pub model: String,
    /// Test accuracy of the linear classifier on each block's output, first block first.
    pub linear: Vec<f64>,
    /// Test accuracy of k-NN on each block's output.
    pub knn: Vec<f64>,
    /// Largest of `linear` and its block, counted from 1.
    pub best_linear: (f64, usize),
    /// Largest of `knn` and its block, counted from 1.
    pub best_knn: (f64, usize),
    /// Share of the most frequent class of the test images.
    pub majority: f64,
    /// That class.
    #[serde(default)]
    pub majority_class: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Images that were fitted on and measured on.
    pub images: (usize, usize),
    /// Each class by itself, in the order of `classes`.
    #[serde(default)]
    pub per_class: Vec<ClassFigures>,
    /// Why images could not be read.
    #[serde(default)]
    pub unreadable: Vec<String>,
}

/// What a probe found about one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    /// Its name.
    pub name: String,
    /// Images that were fitted on.
    pub fitted: usize,
    /// Images that were measured on.
    pub measured: usize,
    /// Share of the latter that the best block's linear classifier puts there; none where there are none.
    pub linear: Option<f64>,
    /// The same of the best block's k-NN.
    pub knn: Option<f64>,
}

/// Labels, and what classifiers made of the measured images, block by block.
pub(super) struct Found<'a> {
    pub(super) fitted: &'a [u32],
    pub(super) measured: &'a [u32],
    pub(super) linear: Vec<Vec<u32>>,
    pub(super) knn: Vec<Vec<u32>>,
}

impl ProbeSummary {
    /// The figures of what was found.
    pub(super) fn new(
        model: &str,
        classes: Vec<String>,
        found: &Found,
        unreadable: Vec<String>,
    ) -> Self {
        let accuracies = |blocks: &[Vec<u32>]| -> Vec<f64> {
            blocks.iter().map(|predicted| share_equal(predicted, found.measured)).collect()
        };
        let (linear, knn) = (accuracies(&found.linear), accuracies(&found.knn));
        let (best_linear, best_knn) = (best(&linear), best(&knn));
        let blocks = (&found.linear[best_linear.1 - 1], &found.knn[best_knn.1 - 1]);
        let figures = |(class, name): (u32, &String)| {
            let count = |labels: &[u32]| labels.iter().filter(|&&l| l == class).count();
            let measured = count(found.measured);
            let right = |predicted: &[u32]| {
                let both = predicted.iter().zip(found.measured);
                let right = both.filter(|(p, l)| p == l && **l == class).count();
                (measured > 0).then(|| right as f64 / measured as f64)
            };
            ClassFigures {
                name: name.clone(),
                fitted: count(found.fitted),
                measured,
                linear: right(blocks.0),
                knn: right(blocks.1),
            }
        };
        let per_class: Vec<_> = (0..).zip(&classes).map(figures).collect();
        // The first of equals.
        let most = per_class.iter().rev().max_by_key(|class| class.measured);
        let images = (found.fitted.len(), found.measured.len());
        Self {
            model: model.to_owned(),
            best_linear,
            best_knn,
            majority: most.map_or(0.0, |most| most.measured as f64 / images.1.max(1) as f64),
            majority_class: most.map(|most| most.name.clone()).unwrap_or_default(),
            images,
            linear,
            knn,
            per_class,
            classes,
            unreadable,
        }
    }
}

/// The largest and its place, counted from 1; the first of equals.
fn best(all: &[f64]) -> (f64, usize) {
    let larger = |b: (usize, f64), x: (usize, f64)| if x.1 > b.1 { x } else { b };
    let (i, x) = all.iter().copied().enumerate().fold((0, 0.0), larger);
    (x, i + 1)
}

/// Tables and chart of a probe.
pub fn add_to_report(page: Page, s: &ProbeSummary) -> Page {
    let line = |all: &[f64]| (1..).zip(all).map(|(l, &x)| (f64::from(l), x)).collect::<Vec<_>>();
    let chart = Plot::new("Accuracy by block", Axis::linear("block"), Axis::linear("accuracy"))
        .line("linear", &line(&s.linear))
        .line("k-NN", &line(&s.knn));
    let blocks = s.linear.iter().zip(&s.knn).enumerate();
    let rows = blocks.map(|(l, (a, b))| [(l + 1).to_string(), share(*a), share(*b)]);
    let (fitted, measured) = s.images;
    let text = format!(
        "{fitted} images fitted, {measured} measured, {} classes. Always the most frequent class of the \
         measured images, {}, would be right for {}.",
        s.classes.len(),
        s.majority_class,
        share(s.majority)
    );
    page.section(&format!("Probe of {}", s.model))
        .text(&text)
        .table(Table::new(&["block", "linear", "k-NN"], 0).rows(rows))
        .chart(&chart.svg())
        .subsection(&format!(
            "Classes, at the best blocks (linear: {}, k-NN: {})",
            s.best_linear.1, s.best_knn.1
        ))
        .table(classes(s))
}

fn classes(s: &ProbeSummary) -> Table {
    let table = Table::new(&["class", "fitted", "measured", "linear", "k-NN"], 1);
    let or_none = |x: Option<f64>| x.map_or("none measured".to_owned(), share);
    table.rows(s.per_class.iter().map(|c| {
        let (fitted, measured) = (c.fitted.to_string(), c.measured.to_string());
        [c.name.clone(), fitted, measured, or_none(c.linear), or_none(c.knn)]
    }))
}

fn share(x: f64) -> String {
    format!("{x:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> ProbeSummary {
        let found = Found {
            fitted: &[0, 0, 1, 2],
            measured: &[0, 1, 1, 1],
            linear: vec![vec![1, 0, 0, 1], vec![0, 1, 1, 0]],
            knn: vec![vec![0, 1, 0, 0], vec![0, 0, 0, 0]],
        };
        let classes = ["cat", "<dog>", "emu"].map(String::from).to_vec();
        ProbeSummary::new("runs/beit", classes, &found, vec!["x.png: cut".into()])
    }

    #[test]
    fn classes_have_counts_and_accuracies() {
        let s = summary();
        assert_eq!((s.best_linear, s.best_knn), ((0.75, 2), (0.5, 1)));
        assert_eq!((s.majority, s.majority_class.as_str()), (0.75, "<dog>"));
        let figures = |name: &str, counts: (usize, usize), linear, knn| ClassFigures {
            name: name.into(),
            fitted: counts.0,
            measured: counts.1,
            linear,
            knn,
        };
        assert_eq!(
            s.per_class,
            [
                figures("cat", (2, 1), Some(1.0), Some(1.0)),
                figures("<dog>", (1, 3), Some(2.0 / 3.0), Some(1.0 / 3.0)),
                figures("emu", (1, 0), None, None),
            ]
        );
    }

    #[test]
    fn the_page_has_them() {
        let html = add_to_report(Page::new("Probe"), &summary()).html();
        for want in [
            "the most frequent class of the measured images, &lt;dog&gt;, would be right for 0.750",
            "<td>&lt;dog&gt;</td><td class=n>1</td><td class=n>3</td><td class=n>0.667</td>\
             <td class=n>0.333</td>",
            "<td class=n>none measured</td>",
        ] {
            assert!(html.contains(want), "no {want} in {html}");
        }
    }

    #[test]
    fn a_summary_of_before_can_be_read() {
        let mut old = serde_json::to_value(summary()).expect("a summary");
        let fields = old.as_object_mut().expect("an object");
        for new in ["majority_class", "per_class", "unreadable"] {
            fields.remove(new).expect("there");
        }
        let read: ProbeSummary = serde_json::from_value(old).expect("an older summary");
        assert_eq!((read.images, read.per_class.len()), ((4, 4), 0));
    }
}
