//! The table that an ablation makes.

use super::rows::{AblationMeasure, AblationRow};
use crate::report::page::{Page, Table};
use beit_check::plot::{Bar, Bars};
use serde::{Deserialize, Serialize};

/// One row with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AblationCell {
    /// The seed.
    pub seed: u64,
    /// Accuracy on the test images.
    pub accuracy: f64,
    /// Test images.
    pub measured: usize,
    /// Wall-clock seconds of pretraining and measuring, in the process that finished it.
    pub seconds: f64,
    /// Checksum of the settings that it depends on.
    pub settings: u32,
}

/// One row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AblationLine {
    /// Its name.
    pub name: String,
    /// What differs from the first row.
    pub what: String,
    /// What the paper has, in percent of ImageNet-1k.
    pub paper: Option<f64>,
    /// Its seeds.
    pub cells: Vec<AblationCell>,
}

/// What an ablation found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AblationSummary {
    /// What rows are measured by.
    pub measure: String,
    /// Images that are pretrained on, labelled ones, and those that are measured on.
    pub sources: [String; 3],
    /// Its rows.
    pub lines: Vec<AblationLine>,
}

/// Quantile 0.975 of Student's distribution with so many degrees of freedom.
fn student(degrees: usize) -> f64 {
    const TABLE: [f64; 10] =
        [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    TABLE.get(degrees.wrapping_sub(1)).copied().unwrap_or(1.960)
}

impl AblationLine {
    /// Mean accuracy over the seeds; none where there are none.
    pub fn mean(&self) -> Option<f64> {
        let n = self.cells.len();
        (n > 0).then(|| self.cells.iter().map(|c| c.accuracy).sum::<f64>() / n as f64)
    }

    /// Half the width of the mean's 95 % interval over seeds (Student); none of fewer than two.
    pub fn half_width(&self) -> Option<f64> {
        let (n, mean) = (self.cells.len(), self.mean()?);
        if n < 2 {
            return None;
        }
        let squares: f64 = self.cells.iter().map(|c| (c.accuracy - mean).powi(2)).sum();
        Some(student(n - 1) * (squares / (n - 1) as f64 / n as f64).sqrt())
    }

    fn seconds(&self) -> f64 {
        self.cells.iter().map(|c| c.seconds).sum()
    }

    fn shown(&self) -> [String; 4] {
        let mean = self.mean().map_or("to come".to_owned(), |mean| format!("{mean:.3}"));
        let half = self.half_width().map_or(String::new(), |half| format!("{half:.3}"));
        let paper = self.paper.map_or(String::new(), |paper| format!("{paper:.2}"));
        [mean, half, format!("{:.0}", self.seconds()), paper]
    }
}

impl AblationSummary {
    /// The table of these rows before the first is run.
    pub(super) fn new(
        measure: AblationMeasure,
        sources: [String; 3],
        rows: &[&AblationRow],
    ) -> Self {
        let line = |row: &&AblationRow| AblationLine {
            name: row.name.to_owned(),
            what: row.what.to_owned(),
            paper: row.paper,
            cells: Vec::new(),
        };
        Self { measure: measure.word().to_owned(), sources, lines: rows.iter().map(line).collect() }
    }

    /// The table in lines of text.
    pub fn lines_of_text(&self) -> Vec<String> {
        let width = self.lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
        let head = format!("{:width$}  seeds  accuracy    ± 95 %  seconds  paper", "row");
        let rows = self.lines.iter().map(|line| {
            let [mean, half, seconds, paper] = line.shown();
            let seeds = line.cells.len();
            format!(
                "{:width$}  {seeds:>5}  {mean:>8}  {half:>8}  {seconds:>7}  {paper:>5}",
                line.name
            )
        });
        std::iter::once(head).chain(rows).collect()
    }

    /// The report.
    pub fn page(&self) -> Page {
        let names: Vec<&str> = self.lines.iter().map(|line| line.name.as_str()).collect();
        let bars = self.lines.iter().map(|line| {
            let half = line.half_width();
            line.mean().map(|mean| Bar {
                value: mean,
                interval: half.map(|half| [(mean - half).max(0.0), (mean + half).min(1.0)]),
            })
        });
        let chart = Bars::new("Accuracy by row", "accuracy", &names)
            .group("", bars.collect())
            .describe("Mean over seeds with its 95 % interval");
        let measure = match self.measure.parse() {
            Ok(AblationMeasure::Probe) => "the best block's linear probe",
            _ => "accuracy after fine-tuning",
        };
        let [data, train, test] = &self.sources;
        let text = format!(
            "Pretrained on {data}, {measure} fitted on {train} and measured on {test}. ± 95 % is half the interval \
             of the mean over seeds (Student's t), and says nothing about other test images. Paper: top-1 on \
             ImageNet-1k, base, 300 epochs (table 4)."
        );
        let table = Table::new(
            &["row", "what differs", "seeds", "accuracy", "± 95 %", "seconds", "paper, %"],
            2,
        );
        let table = table.rows(self.lines.iter().map(|line| {
            let [mean, half, seconds, paper] = line.shown();
            let seeds = line.cells.len().to_string();
            [line.name.clone(), line.what.clone(), seeds, mean, half, seconds, paper]
        }));
        Page::new("Ablation").section("Rows").text(&text).table(table).chart(&chart.svg())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_students() {
        let cell = |seed, accuracy| AblationCell {
            seed,
            accuracy,
            measured: 10,
            seconds: 1.0,
            settings: 0,
        };
        let line = |cells: Vec<AblationCell>| AblationLine {
            name: "beit".into(),
            what: String::new(),
            paper: None,
            cells,
        };
        assert_eq!((line(vec![]).mean(), line(vec![cell(0, 0.5)]).half_width()), (None, None));
        let three = line(vec![cell(0, 0.4), cell(1, 0.5), cell(2, 0.6)]);
        assert!((three.mean().unwrap() - 0.5).abs() < 1e-12);
        // s = 0.1, so 4.303 · 0.1 / √3.
        assert!((three.half_width().unwrap() - 0.248_434).abs() < 1e-5);
        assert!((student(30) - 1.96).abs() < 1e-9);
    }
}
