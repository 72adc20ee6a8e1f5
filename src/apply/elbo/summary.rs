//! What is said about a bound: lines, tables, chart.

use super::figures::{
    BOUNDS, BoundFigure, BoundSizes, DIVERGENCES, Definition, FigureKind, RECONSTRUCTION,
};
use super::terms::BoundTerms;
use crate::report::page::{Page, Table};
use beit_check::plot::{Bar, Bars};
use serde::Serialize;
use std::collections::BTreeMap;

/// Rows of the shortest and the longest codes on the page.
const ENDS: usize = 5;

/// Bars of the chart.
const BINS: usize = 12;

/// The bound on some images.
#[derive(Clone, Debug, Serialize)]
pub struct BoundSummary {
    /// The tokenizer, as it was given.
    pub tokenizer: String,
    /// The encoder, as it was given.
    pub model: String,
    /// The images, as they were given.
    pub data: String,
    /// Images measured.
    pub images: usize,
    /// What the figures are relative to.
    pub sizes: BoundSizes,
    /// Seed of codes and masks.
    pub seed: u64,
    /// Codes drawn for each image.
    pub draws: u32,
    /// Masks of each image.
    pub masks: u32,
    /// Mean number of masked positions.
    pub masked_positions: f64,
    /// τ of the relaxed codes.
    pub temperature: f64,
    /// Means over images.
    pub figures: BTreeMap<&'static str, BoundFigure>,
    /// Each image by itself.
    pub per_image: Vec<ImageBound>,
    /// Why images could not be read.
    pub unreadable: Vec<String>,
}

/// The terms of one image.
#[derive(Clone, Debug, Serialize)]
pub struct ImageBound {
    /// What the source calls it.
    pub name: String,
    /// Its terms in nats.
    #[serde(flatten)]
    pub terms: BoundTerms,
}

impl BoundSummary {
    /// A table for a terminal.
    pub fn lines(&self) -> Vec<String> {
        let Self { images, sizes, draws, masks, .. } = self;
        let mut lines = vec![
            format!(
                "bound on {images} images of {} sub-pixels, {draws} codes and {masks} masks each",
                sizes.dimensions
            ),
            format!("  {:<32} {:>24} {:>20}", "", "nats per image", "bits per dimension"),
        ];
        for (group, definitions) in GROUPS {
            lines.push(format!("  {group}"));
            lines.extend(definitions.iter().map(|d| {
                let figure = self.figures[d.key];
                let nats = with_error(figure.nats, figure.nats_error, 2);
                let bits = with_error(figure.bits_per_dim, figure.bits_per_dim_error, 4);
                format!("    {:<30} {nats:>24} {bits:>20}", d.name)
            }));
        }
        if !self.unreadable.is_empty() {
            lines.push(format!("  {} unreadable images were left out", self.unreadable.len()));
        }
        lines
    }

    /// Tables, definitions and chart.
    pub fn page(&self) -> Page {
        let mut page = Page::new("Bound of the two stages")
            .section("Figures")
            .text(&self.what())
            .text(MEANING);
        for (group, definitions) in GROUPS {
            page = page.subsection(group).table(self.table(definitions));
        }
        page.section("Images").chart(&self.chart()).text(ENDS_TEXT).table(self.ends())
    }

    fn what(&self) -> String {
        let BoundSizes { dimensions, positions, vocab } = self.sizes;
        let Self { images, draws, masks, masked_positions, temperature, .. } = self;
        format!(
            "{images} images: x, the bytes of the tokenizer's view of the central crop, D = {dimensions} of \
             them; N = {positions} positions, K = {vocab} codes. Means over {draws} draws of codes and {masks} \
             masks for each image, which hide {masked_positions:.1} positions on average; relaxed codes at τ = \
             {temperature}. Behind ± stands the standard error over images."
        )
    }

    fn table(&self, definitions: &[Definition]) -> Table {
        let columns = ["figure", "what", "nats per image", "bits per dimension"];
        Table::new(&columns, 2).rows(definitions.iter().map(|d| {
            let figure = self.figures[d.key];
            [
                d.name.to_owned(),
                d.text.to_owned(),
                with_error(figure.nats, figure.nats_error, 2),
                with_error(figure.bits_per_dim, figure.bits_per_dim_error, 4),
            ]
        }))
    }

    /// Bits per dimension of an image under the uniform prior and under both stages.
    fn bits(&self, image: &ImageBound) -> [f64; 2] {
        [image.terms.uniform(), image.terms.all()]
            .map(|nats| self.sizes.bits(FigureKind::Likelihood, nats))
    }

    /// How many images need how many bits.
    fn chart(&self) -> String {
        let bits: Vec<_> = self.per_image.iter().map(|image| self.bits(image)).collect();
        let low = bits.iter().flatten().copied().fold(f64::INFINITY, f64::min);
        let high = bits.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
        let width = ((high - low) / BINS as f64).max(1e-9);
        let bin = |x: f64| (((x - low) / width) as usize).min(BINS - 1);
        let mut chart = Bars::new(
            "Images by bits per dimension",
            "images",
            &["uniform prior", "second stage everywhere"],
        );
        for i in 0..BINS {
            let count = |prior: usize| bits.iter().filter(|b| bin(b[prior]) == i).count() as f64;
            let start = low + width * i as f64;
            let name = format!("{start:.3} to {:.3}", start + width);
            chart = chart.group(&name, [0, 1].map(|p| Some(Bar::from(count(p)))).to_vec());
        }
        chart.svg()
    }

    fn ends(&self) -> Table {
        let mut order: Vec<_> = self.per_image.iter().map(|i| (self.bits(i), &i.name)).collect();
        order.sort_by(|a, b| a.0[1].total_cmp(&b.0[1]));
        let fewest = order.len().min(ENDS);
        let most = fewest.max(order.len().saturating_sub(ENDS));
        let ends = order[..fewest].iter().chain(&order[most..]);
        let columns = ["image", "second stage everywhere", "uniform prior"];
        Table::new(&columns, 1).rows(ends.map(|([uniform, all], name)| {
            [(*name).clone(), format!("{all:.4}"), format!("{uniform:.4}")]
        }))
    }
}

/// Headings of the figures.
const GROUPS: [(&str, &[Definition]); 3] = [
    ("Reconstruction", RECONSTRUCTION),
    ("Divergence of q from the prior", DIVERGENCES),
    ("Bound", BOUNDS),
];

/// What the figures together mean.
const MEANING: &str = "ln p(x|x̃) ≥ E_q[ln p(x|z)] − KL(q(z|x) ‖ p(z|x̃)): q(z|x), the softmax of the tokenizer's logits without \
     noise or temperature, position by position; p(x|z), its decoder; p(z|x̃), the prior: 1/K at each position, or \
     the encoder's prediction p_θ from the masked image x̃. β has no part in it. A bound on ln p(x) holds with the \
     uniform prior alone: x̃ shows the visible pixels of x itself, so the second stage's bounds say how well x is \
     known to one who has seen these, and are not to be compared with the likelihood of another model of whole \
     images. Bits per dimension are −nats / (D ln 2) for likelihoods, bounds and their differences, and nats / (D \
     ln 2) for divergences and gains. The probability of a byte is exact: the logit-Laplace's mass between the \
     middles to its neighbours, tails included, ln b clamped to [−7, 3] as in training.";

const ENDS_TEXT: &str = "Bits per dimension of the images that need fewest and most of them.";

fn with_error(value: f64, error: Option<f64>, digits: usize) -> String {
    match error {
        Some(error) => format!("{value:.digits$} ± {error:.digits$}"),
        None => format!("{value:.digits$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::figures;
    use super::*;

    fn summary(images: usize) -> BoundSummary {
        let sizes = BoundSizes { dimensions: 12, positions: 4, vocab: 3 };
        let terms: Vec<BoundTerms> = (0..images)
            .map(|i| BoundTerms { hard: -20.0 - i as f64, prior_all: 2.5, ..BoundTerms::default() })
            .collect();
        let name = |(i, &terms)| ImageBound { name: format!("<{i}>.png"), terms };
        BoundSummary {
            tokenizer: "t".into(),
            model: "m".into(),
            data: "d".into(),
            images,
            sizes,
            seed: 0,
            draws: 4,
            masks: 2,
            masked_positions: 1.0,
            temperature: 0.2,
            figures: figures(&terms, &sizes),
            per_image: terms.iter().enumerate().map(name).collect(),
            unreadable: vec!["x.png: cut".into()],
        }
    }

    #[test]
    fn the_page_defines_each_figure_and_names_the_ends() {
        let html = summary(12).page().html();
        for definition in [RECONSTRUCTION, DIVERGENCES, BOUNDS].into_iter().flatten() {
            assert!(
                html.contains(&crate::report::page::escape(definition.text)),
                "{}",
                definition.key
            );
        }
        for want in ["-25.50 ± 1.04", "&lt;0&gt;.png", "&lt;11&gt;.png", "Images by bits"] {
            assert!(html.contains(want), "no {want} in {html}");
        }
        assert!(!html.contains("&lt;5&gt;.png"), "the middle is not named");
    }

    #[test]
    fn one_image_has_no_error_and_is_named_once() {
        let (one, html) = (summary(1), summary(1).page().html());
        assert_eq!(html.matches("&lt;0&gt;.png").count(), 1);
        let lines = one.lines();
        assert!(lines.iter().all(|line| !line.contains('±')), "{lines:?}");
        assert!(lines.last().unwrap().contains("1 unreadable images were left out"));
    }
}
