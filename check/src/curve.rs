//! One derivative over all steps, to be drawn.
//!
//! A V-curve shows the distance of the differences from the analytic derivative against their step. From
//! the right it falls with the power of the step that is the order of the difference, until round-off,
//! which rises with 1/h, takes over. A wrong gradient shows as a floor that no step gets below.

use super::ladder::Ladder;
use super::verdict::Location;
use crate::plot::{Axis, Guide, Plot};
use serde::Serialize;

/// The ladder of one tensor over all steps.
#[derive(Clone, Debug, Serialize)]
pub struct VCurve {
    /// Input or parameter.
    pub tensor: String,
    /// The element with its largest gradient.
    pub place: Location,
    /// What backward returned.
    pub analytic: f64,
    /// All differences.
    pub ladder: Ladder,
}

impl VCurve {
    /// Distances from the analytic derivative, by order of the difference.
    fn orders(&self) -> Vec<(usize, Vec<(f64, f64)>)> {
        let values: Vec<_> = self.ladder.values().into_iter().flatten().collect();
        let of = |order: usize| {
            let own = values.iter().filter(|e| e.order == order);
            (order, own.map(|e| (e.step, (e.value - self.analytic).abs())).collect())
        };
        [2, 4, 8].map(of).into()
    }

    /// The V-curve; empty where every difference is exact.
    pub fn svg(&self) -> String {
        let title = format!("{}{}", self.tensor, self.place);
        let axes = (Axis::log("step"), Axis::log("|difference − analytic|"));
        let mut plot = Plot::new(&title, axes.0, axes.1).small().describe(&format!(
            "V-curve of {title}: distance of differences of order 2, 4 and 8 from the analytic \
             derivative {:e} against their step.",
            self.analytic
        ));
        for (order, points) in self.orders() {
            if points.iter().any(|p| p.1 > 0.0) {
                // A guide through the longest step, where that has a truncation error.
                let noise = |step: f64| self.ladder.rungs.iter().find(|r| r.step == step);
                let stands_out =
                    |p: &&(f64, f64)| noise(p.0).is_some_and(|r| p.1 > 100.0 * r.noise);
                let through = points.first().filter(stands_out).copied();
                plot = plot.line(&format!("order {order}"), &points);
                if let (Some(through), 2 | 8) = (through, order) {
                    let (label, slope) = (if order == 2 { "h²" } else { "h⁸" }, order as f64);
                    plot = plot.guide(label, Guide::Slope { through, slope });
                }
            }
        }
        // Its name stands to the left of its end: not at the frame.
        let least = self.ladder.rungs.first().map_or(0.0, |r| 1e-10 * r.step);
        let floor: Vec<(f64, f64)> = (self.ladder.rungs.iter())
            .filter(|r| r.noise > 0.0 && r.noise.is_finite() && r.step > least)
            .map(|r| (r.step, r.noise))
            .collect();
        plot.guide("round-off", Guide::Path(floor)).svg()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradients::{Settings, Variable, check_with};

    fn curve(factor: f64) -> VCurve {
        let x = Variable::new("x<1>", &[2], vec![0.5, -0.25]);
        let settings = Settings { curves: true, ..Settings::default() };
        let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.sin()).collect();
        let backward = |v: &[Vec<f64>], dy: &[f64]| {
            vec![v[0].iter().zip(dy).map(|(x, dy)| factor * dy * x.cos()).collect()]
        };
        check_with(&settings, "sin/two", &[x], &forward, &backward).curves.remove(0)
    }

    #[test]
    fn a_right_gradient_has_a_v() {
        let curve = curve(1.0);
        for (order, points) in curve.orders() {
            let least = points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
            let ends = [points[0].1, points[points.len() - 1].1];
            assert!(ends.iter().all(|e| *e > 1e3 * least), "order {order}: {points:?}");
        }
        let svg = curve.svg();
        for part in ["order 2", "order 8", "h²", "round-off", "x&lt;1&gt;"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }

    #[test]
    fn a_wrong_one_has_a_floor() {
        let points = &curve(1.001).orders()[0].1;
        let least = points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
        assert!(least > 1e-6, "{least:e}");
    }
}
