//! One derivative over all steps, to be drawn.
//!
//! A V-curve shows the distance of the differences from the analytic derivative against their step. From
//! the right it falls with the power of the step that is the order of the difference, until round-off,
//! which rises with 1/h, takes over. A wrong gradient shows as a floor that no step gets below.
//!
//! Of a tensor that did not pass the worst element is drawn, and those beside it along the last axis for
//! contrast; of each the one with the largest gradient.

use super::climb::Climb;
use super::comparison::Comparison;
use super::ladder::{Estimate, Ladder};
use super::problem::Problem;
use super::verdict::{Location, Verdict};
use crate::plot::{Axis, Guide, Plot};
use serde::Serialize;

/// Steps of a curve, from twice the size of the tensor on.
const STEPS: i32 = 50;
/// Orders that are drawn, and the names of their guides.
const ORDERS: [(usize, &str); 3] = [(2, "h²"), (4, "h⁴"), (8, "h⁸")];
/// Letters of a title that have room over a chart.
const LETTERS: usize = 58;
/// A guide is drawn where the longest step of an order is so many times off as its round-off ...
const OVER_NOISE: f64 = 100.0;
/// ... and as its best value.
const OVER_LEAST: f64 = 8.0;

/// Why an element is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The worst of its tensor, which did not pass.
    Worst,
    /// It lies beside the worst.
    Beside,
    /// It has the largest gradient of its tensor.
    Largest,
}

/// The ladder of one element or direction over all steps.
#[derive(Clone, Debug, Serialize)]
pub struct VCurve {
    /// Input or parameter.
    pub tensor: String,
    /// Where in it.
    pub place: Location,
    /// Why it is drawn.
    pub why: Why,
    /// What its comparison came to.
    pub verdict: Verdict,
    /// What backward returned.
    pub analytic: f64,
    /// What it was compared with.
    pub numeric: f64,
    /// The largest distance of the two that passes.
    pub bound: f64,
    /// The smallest step in the value that was compared.
    pub step: f64,
    /// All differences.
    pub ladder: Ladder,
}

impl VCurve {
    /// What was looked at for one comparison.
    pub fn of(compared: &Comparison, why: Why) -> Self {
        Self {
            tensor: compared.tensor.clone(),
            place: compared.place.clone(),
            why,
            verdict: compared.verdict,
            analytic: compared.analytic,
            numeric: compared.numeric,
            bound: compared.bound(),
            step: compared.step,
            ladder: compared.ladder.clone(),
        }
    }

    /// Verdict and element.
    pub fn title(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Inconclusive => "inconclusive",
            other => other.word(),
        };
        let why = match self.why {
            Why::Worst => "",
            Why::Beside => " (beside it)",
            Why::Largest => " (largest)",
        };
        format!("{verdict}: {}{}{why}", self.tensor, self.place)
    }

    /// Values of this order, the one of the longest step first.
    fn values(&self, order: usize) -> Vec<Estimate> {
        let all = self.ladder.values().into_iter().flatten();
        all.filter(|e| e.order == order).collect()
    }

    fn off(&self, value: f64) -> f64 {
        (value - self.analytic).abs()
    }

    /// Where the power of the step starts by which an order falls; none where it has no truncation error.
    fn start(&self, order: &[Estimate]) -> Option<(f64, f64)> {
        let first = order.first()?;
        let (off, least) = (self.off(first.value), order.iter().map(|e| self.off(e.value)));
        let least = least.fold(f64::INFINITY, f64::min);
        let falls = off > OVER_NOISE * first.round_off && off > OVER_LEAST * least;
        falls.then_some((first.step, off))
    }

    /// The V-curve; empty where every difference is exact.
    pub fn svg(&self) -> String {
        let title = self.title();
        let axes = (Axis::log("step"), Axis::log("|difference − analytic|"));
        let mut plot = Plot::new(&shorten(&title), axes.0, axes.1).small().describe(&format!(
            "V-curve. {title}. Distance of differences of order 2, 4 and 8 from the analytic derivative {:e} \
             against their step; compared with {:e} ± {:.1e}.",
            self.analytic, self.numeric, self.bound
        ));
        let mut guides = Vec::new();
        for (order, power) in ORDERS {
            let values = self.values(order);
            let points: Vec<_> = values.iter().map(|e| (e.step, self.off(e.value))).collect();
            if points.iter().any(|p| p.1 > 0.0) {
                plot = plot.line(&format!("order {order}"), &points);
                let (through, slope) = (self.start(&values), order as f64);
                guides.extend(through.map(|through| (power, Guide::Slope { through, slope })));
            }
        }
        let off = self.off(self.numeric);
        if off > 0.0 && off.is_finite() && self.step > 0.0 {
            plot = plot.points("compared", &[(self.step, off)]);
        }
        if self.bound > 0.0 && self.bound.is_finite() {
            // A line in two pieces: its name stands at their joint, among short steps, where there is room.
            let rungs = &self.ladder.rungs;
            let joint = rungs.len().saturating_sub(1) * 3 / 4;
            let ends = [rungs.first(), rungs.get(joint), rungs.last()].into_iter().flatten();
            guides.push(("bound", Guide::Path(ends.map(|r| (r.step, self.bound)).collect())));
        }
        // The shortest step first: its name stands at the other end, inside the frame.
        let floor = self.ladder.rungs.iter().rev();
        let floor = floor.filter(|r| r.noise > 0.0 && r.noise.is_finite());
        guides.push(("round-off", Guide::Path(floor.map(|r| (r.step, r.noise)).collect())));
        guides.into_iter().fold(plot, |plot, (label, guide)| plot.guide(label, guide)).svg()
    }
}

/// The end of a name says more than its beginning.
fn shorten(title: &str) -> String {
    let (verdict, name) = title.split_once(": ").expect("a verdict and a name");
    let letters = name.chars().count();
    if letters <= LETTERS {
        return title.into();
    }
    let end: String = name.chars().skip(letters - LETTERS + 1).collect();
    format!("{verdict}: …{end}")
}

/// Of those that did not pass and can be drawn the worst: the failed before the open, single elements before
/// directions.
pub(crate) fn worst<'a>(compared: impl Iterator<Item = &'a Comparison>) -> Option<&'a Comparison> {
    let rank =
        |c: &Comparison| (c.verdict == Verdict::Fail, matches!(c.place, Location::Element(_)));
    compared
        .filter(|c| c.verdict != Verdict::Pass && !c.ladder.rungs.is_empty())
        .max_by(|a, b| rank(a).cmp(&rank(b)).then(a.error.total_cmp(&b.error)))
}

/// The elements beside one along the last axis that has several.
fn beside(shape: &[usize], flat: usize) -> Vec<usize> {
    let axis = shape.iter().rposition(|len| *len > 1);
    let Some(axis) = axis else { return Vec::new() };
    let stride: usize = shape[axis + 1..].iter().product();
    let place = flat / stride % shape[axis];
    let before = (place > 0).then(|| flat - stride);
    let after = (place + 1 < shape[axis]).then(|| flat + stride);
    before.into_iter().chain(after).collect()
}

impl Problem<'_> {
    /// What is drawn of tensor t, of which these comparisons were made.
    pub(super) fn curves(&self, t: usize, own: &[Comparison]) -> Vec<VCurve> {
        let (variable, gradient) = (&self.variables[t], &self.at.gradients[t]);
        let by = |a: &usize, b: &usize| gradient[*a].abs().total_cmp(&gradient[*b].abs());
        let mut drawn: Vec<(usize, Why)> = Vec::new();
        let mut curves = Vec::new();
        if let Some(worst) = worst(own.iter()) {
            if let Location::Element(index) = &worst.place {
                let flat = variable.flat(index);
                let others = beside(&variable.shape, flat).into_iter();
                drawn.push((flat, Why::Worst));
                drawn.extend(others.map(|i| (i, Why::Beside)));
            } else {
                curves.push(VCurve::of(worst, Why::Worst));
            }
        }
        let largest = (0..gradient.len()).max_by(by);
        let largest = largest.filter(|i| drawn.iter().all(|(j, _)| i != j));
        drawn.extend(largest.map(|i| (i, Why::Largest)));
        curves.extend(drawn.into_iter().map(|(i, why)| self.curve(t, i, why, own)));
        curves
    }

    /// One element over all steps. What was compared beside the point keeps the steps taken there.
    fn curve(&self, t: usize, i: usize, why: Why, own: &[Comparison]) -> VCurve {
        let (direction, place) = ([(t, i, 1.0)], Location::Element(self.variables[t].index(i)));
        let compared = own.iter().rev().find(|c| c.place == place);
        let mut curve = match compared {
            Some(compared) => VCurve::of(compared, why),
            None => VCurve::of(&self.compare_here(&direction, &place), why),
        };
        if compared.is_none_or(|c| c.redrawn == 0) {
            let mut climb = Climb::new(self, &direction);
            for rung in 0..STEPS {
                climb.add(2.0 * self.size_of(t, i) * 0.5f64.powi(rung));
            }
            curve.ladder = climb.ladder;
        }
        curve
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradients::{Settings, Variable, check_with};

    /// Curves of the sine of five numbers, of which backward gets number 2 wrong by a factor.
    fn curves(factor: f64) -> Vec<VCurve> {
        let x = Variable::new("x<1>", &[1, 5], vec![0.5, -0.25, 0.75, 1.0, 0.125]);
        let settings = Settings { curves: true, ..Settings::default() };
        let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.sin()).collect();
        let backward = |v: &[Vec<f64>], dy: &[f64]| {
            let mut dx: Vec<f64> = v[0].iter().zip(dy).map(|(x, dy)| dy * x.cos()).collect();
            dx[2] *= factor;
            vec![dx]
        };
        check_with(&settings, "sin/five", &[x], &forward, &backward).curves
    }

    fn offs(curve: &VCurve, order: usize) -> Vec<f64> {
        curve.values(order).iter().map(|e| curve.off(e.value)).collect()
    }

    fn least(offs: &[f64]) -> f64 {
        offs.iter().copied().fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn a_right_gradient_has_a_v() {
        let curves = curves(1.0);
        let [curve] = &curves[..] else { panic!("the largest alone") };
        for (order, _) in ORDERS {
            let offs = offs(curve, order);
            let ends = [offs[0], offs[offs.len() - 1]];
            assert!(ends.iter().all(|e| *e > 1e3 * least(&offs)), "order {order}: {offs:?}");
        }
        let svg = curve.svg();
        for part in
            ["order 2", "order 8", "h²", "h⁴", "h⁸", "bound", "round-off", "ok: x&lt;1&gt;[0,"]
        {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }

    #[test]
    fn the_floor_is_drawn_over_all_steps() {
        let curves = curves(1.001);
        for curve in &curves {
            let known = curve.ladder.rungs.iter().filter(|r| r.noise > 0.0 && r.noise.is_finite());
            let svg = curve.svg();
            let guides = svg.split("class=guide d=\"").skip(1);
            let pieces = guides.map(|g| g.split('"').next().unwrap().matches('M').count());
            assert_eq!(pieces.max(), Some(known.count() - 1), "{svg}");
        }
    }

    #[test]
    fn the_failing_element_is_drawn_with_those_beside_it() {
        let curves = curves(1.001);
        let titles: Vec<String> = curves.iter().map(VCurve::title).collect();
        let largest = &titles[3..];
        assert_eq!(
            titles[..3],
            ["FAIL: x<1>[0,2]", "ok: x<1>[0,1] (beside it)", "ok: x<1>[0,3] (beside it)"]
        );
        assert!(largest.iter().all(|t| t.ends_with("(largest)")), "{titles:?}");
        let floors: Vec<bool> =
            curves.iter().map(|c| least(&offs(c, 2)) > c.bound.max(1e-6)).collect();
        assert!(floors[0] && floors[1..].iter().all(|floor| !floor), "{floors:?}");
    }

    /// Height of the bound and of the value that was compared, on the canvas from above.
    fn heights(svg: &str) -> (f64, f64) {
        let number = |text: &str| -> f64 {
            let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap();
            text[..end].parse().unwrap()
        };
        let level = svg.split("class=guide d=\"").skip(1).find_map(|path| {
            let path = path.split('"').next().unwrap();
            let numbers: Vec<&str> =
                path.split(['M', 'L', ' ']).filter(|n| !n.is_empty()).collect();
            let level = numbers.chunks(2).all(|at| at[1] == numbers[1]);
            level.then(|| numbers[1].parse().unwrap())
        });
        let mark = svg.rfind("<title>compared: ").unwrap();
        let place = svg[..mark].rfind("translate(").unwrap();
        let compared = svg[place..mark].split_once(' ').unwrap().1;
        (level.expect("a level"), number(compared))
    }

    #[test]
    fn bound_and_value_stand_where_they_are() {
        let wrong = &curves(1.001)[0];
        let (bound, compared) = heights(&wrong.svg());
        assert!(compared < bound, "above it: {compared}, {bound}");
        let right = curves(1.001).into_iter().filter(|c| c.verdict == Verdict::Pass);
        let right: Vec<VCurve> = right.filter(|c| c.off(c.numeric) > 0.0).collect();
        assert!(!right.is_empty());
        for curve in right {
            let (bound, compared) = heights(&curve.svg());
            assert!(compared > bound, "below it: {compared}, {bound}");
        }
    }

    #[test]
    fn no_guide_starts_at_a_floor() {
        // Wrong by more than any truncation error: every order is flat.
        let svg = curves(100.0)[0].svg();
        assert!(!svg.contains("h⁸") && !svg.contains("h⁴"), "{svg}");
    }

    #[test]
    fn neighbours_lie_along_the_last_axis_that_has_several() {
        assert_eq!(beside(&[2, 3], 3), [4]);
        assert_eq!(beside(&[2, 3], 4), [3, 5]);
        assert_eq!(beside(&[3, 2, 1], 3), [2]);
        assert!(beside(&[1, 1], 0).is_empty() && beside(&[], 0).is_empty());
    }

    #[test]
    fn a_direction_keeps_the_steps_taken_for_it() {
        let x = Variable::new("x", &[200], (0..200).map(|i| 0.01 * i as f64 - 0.9).collect());
        let settings = Settings { curves: true, ..Settings::default() };
        let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.sin()).collect();
        let backward = |v: &[Vec<f64>], dy: &[f64]| {
            vec![v[0].iter().zip(dy).map(|(x, dy)| dy * x.cos() * 1.01).collect()]
        };
        let report = check_with(&settings, "sin", &[x], &forward, &backward);
        let directions = report.comparisons.iter();
        let directions = directions.filter(|c| matches!(c.place, Location::Direction(_)));
        let worst = VCurve::of(worst(directions).expect("wrong"), Why::Worst);
        assert!(worst.title().starts_with("FAIL: x along direction "), "{}", worst.title());
        assert!(worst.svg().contains("bound"));
    }
}
