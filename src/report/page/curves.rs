//! Curves of a run: which are to be compared, and which are none.

use beit_check::plot::{Axis, Plot};

/// One logged quantity over the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Its name in `metrics.jsonl`.
    pub name: String,
    /// (step, value), in the order of the file.
    pub points: Vec<(f64, f64)>,
}

/// Curves whose chart has a name of its own.
const TOGETHER: &[(&str, &[&str])] = &[
    ("accuracy", &["masked_accuracy", "patch_accuracy", "majority_accuracy"]),
    ("loss", &["constant_loss"]),
];

impl Curve {
    /// The chart that it belongs to: what was measured on held-out images, under `val_`, beside the same
    /// of the images of training.
    fn chart(&self) -> &str {
        let measured = self.name.strip_prefix("val_").unwrap_or(&self.name);
        let together = TOGETHER.iter().find(|(_, names)| names.contains(&measured));
        together.map_or(measured, |(chart, _)| chart)
    }

    /// The value that it always had.
    fn constant(&self) -> Option<f64> {
        let (first, rest) = self.points.split_first()?;
        rest.iter().all(|point| point.1 == first.1).then_some(first.1)
    }
}

/// The charts, in the order in which their first curves were logged. One that no curve changes in is none.
pub(super) fn charts(curves: &[Curve]) -> Vec<String> {
    grouped(curves)
        .into_iter()
        .filter_map(|(name, curves)| {
            curves.iter().any(|c| c.constant().is_none()).then(|| {
                let plot = Plot::new(name, Axis::linear("step"), Axis::linear(name)).small();
                curves.iter().fold(plot, |plot, c| plot.line(&c.name, &c.points)).svg()
            })
        })
        .collect()
}

/// Names and values of curves that are in no chart.
pub(super) fn constants(curves: &[Curve]) -> Vec<[String; 2]> {
    let still = grouped(curves)
        .into_iter()
        .filter(|(_, curves)| curves.iter().all(|c| c.constant().is_some()));
    let figure = |c: &Curve| c.constant().map(|value| [c.name.clone(), format!("{value:.6}")]);
    still.flat_map(|(_, curves)| curves).filter_map(figure).collect()
}

/// Curves by chart; those that have no points are left out.
fn grouped(curves: &[Curve]) -> Vec<(&str, Vec<&Curve>)> {
    let mut groups: Vec<(&str, Vec<&Curve>)> = Vec::new();
    for curve in curves.iter().filter(|c| !c.points.is_empty()) {
        match groups.iter_mut().find(|(name, _)| *name == curve.chart()) {
            Some((_, group)) => group.push(curve),
            None => groups.push((curve.chart(), vec![curve])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(name: &str, values: &[f64]) -> Curve {
        let points = values.iter().enumerate().map(|(i, &y)| (i as f64, y)).collect();
        Curve { name: name.into(), points }
    }

    #[test]
    fn what_is_to_be_compared_shares_a_chart_and_constants_have_none() {
        let curves = [
            curve("loss", &[3.0, 2.0]),
            curve("masked_accuracy", &[0.1, 0.2]),
            curve("majority_accuracy", &[0.1, 0.1]),
            curve("chance", &[0.002, 0.002]),
            curve("psnr_db", &[20.0]),
            curve("val_loss", &[3.5, 2.5]),
            curve("val_masked_accuracy", &[0.05, 0.1]),
            curve("val_psnr_db", &[19.0, 21.0]),
        ];
        let names: Vec<Vec<&str>> = grouped(&curves)
            .iter()
            .map(|(_, g)| g.iter().map(|c| c.name.as_str()).collect())
            .collect();
        assert_eq!(
            names,
            [
                vec!["loss", "val_loss"],
                vec!["masked_accuracy", "majority_accuracy", "val_masked_accuracy"],
                vec!["chance"],
                vec!["psnr_db", "val_psnr_db"],
            ]
        );
        let charts = charts(&curves);
        assert_eq!(charts.len(), 3);
        assert!(charts[0].contains("val_loss") && charts[1].contains("majority_accuracy"));
        assert!(charts.iter().all(|svg| !svg.contains("chance")));
        assert_eq!(constants(&curves), [["chance".to_owned(), "0.002000".to_owned()]]);
    }
}
