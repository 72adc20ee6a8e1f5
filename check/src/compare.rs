//! All comparisons of one function at one point: what is moved, and where a fault is.

use super::claim::Claim;
use super::climb::{Climb, DEVIATIONS};
use super::comparison::{Choice, Comparison};
use super::directions::{self, Direction, sample, unit};
use super::kink::Interval;
use super::ladder::Ladder;
use super::noise::{Squares, Total};
use super::problem::Problem;
use super::report::Report;
use super::taylor::{self, Remainder, Step};

use super::verdict::{Cause, Location, Verdict};
use std::f64::consts::SQRT_2;

/// Elements moved by all blocks of a tensor together, at most.
const MOVED: usize = 2_000_000;
/// How often a point at a kink is drawn anew.
const REDRAWS: usize = 3;
/// Gradients below this part of the largest are levelled with it ...
const LEVEL: f64 = 1e-3;
/// ... and below this one in a coarse precision: few small ones would take up the length of a direction, and
/// leave to the others less than what is rounded off.
const COARSE_LEVEL: f64 = 0.25;
/// Random directions through the elements at kinks, besides that of all alike.
const TIED: usize = 7;

/// The smallest error of each element that was seen, in units of the gradient.
type Seen = Vec<f64>;

impl Problem<'_> {
    pub fn compare_all(&mut self, report: &mut Report) {
        for t in 0..self.variables.len() {
            let first = report.comparisons.len();
            let seen = self.compare_variable(t, report);
            report.seen.push(seen);
            if self.settings.curves && !self.variables[t].values.is_empty() {
                report.curves.extend(self.curves(t, &report.comparisons[first..]));
            }
            let own = &report.comparisons[first..];
            if !own.is_empty() && own.iter().all(|c| c.is_zero()) {
                report.all_zero.push(self.variables[t].name.clone());
            }
        }
        self.compare_ties(report);
        if report.comparisons.iter().any(|c| c.redrawn > 0 || c.ladder.has_kink()) {
            let all = self.all_elements();
            self.redraw(&self.at.clone(), all.into_iter());
        }
        let direction = self.through_all();
        let mut remainder = self.remainder(&direction);
        if remainder.verdict == Verdict::Fail {
            // Its steps are long: what it says is said only where shorter ones say it, too.
            let compared = self.compare_here(&direction, &Location::All);
            if compared.verdict == Verdict::Fail {
                report.comparisons.push(compared);
            } else {
                remainder.verdict = Verdict::Inconclusive;
            }
        }
        report.taylor = Some(remainder);
    }

    fn all_elements(&self) -> Vec<(usize, usize)> {
        let lengths = self.variables.iter().map(|v| v.values.len()).enumerate();
        lengths.flat_map(|(t, n)| (0..n).map(move |i| (t, i))).collect()
    }

    fn compare_variable(&mut self, t: usize, report: &mut Report) -> Seen {
        let gradient = self.at.gradients[t].clone();
        let (n, dense) = (gradient.len(), self.settings.dense);
        let mut seen = vec![f64::INFINITY; n];
        let elements: Vec<usize> = if n <= dense {
            (0..n).collect()
        } else {
            sample(&gradient, self.settings.samples, &mut self.rng)
        };
        for i in elements {
            let compared = self.element(t, i);
            note(&mut seen, &compared, &[(t, i, 1.0)]);
            report.comparisons.push(compared);
        }
        if n <= dense {
            return seen;
        }
        let mut parts: Vec<Vec<usize>> =
            (0..self.settings.projections).map(|_| (0..n).collect()).collect();
        let count = n.div_ceil(dense.max(1)).min(self.settings.blocks).min(MOVED / n);
        if count > 1 {
            for _ in 0..2 {
                parts.extend(directions::blocks(n, count, &mut self.rng));
            }
        }
        let level = if self.coarse { COARSE_LEVEL } else { LEVEL };
        let mut located = false;
        for (d, elements) in parts.iter().enumerate() {
            let direction = unit(t, elements, &gradient, level, &mut self.rng);
            let compared = self.compare(&direction, Location::Direction(d));
            let failed = compared.verdict == Verdict::Fail;
            // What could be a kink along many may be none along one.
            let suspect = compared.verdict == Verdict::Inconclusive && compared.disagrees();
            note(&mut seen, &compared, &direction);
            report.comparisons.push(compared);
            if (failed || suspect) && !located {
                let element = self.locate(&direction);
                located = failed || element.verdict == Verdict::Fail;
                if located {
                    report.comparisons.push(element);
                }
            }
        }
        seen
    }

    /// Elements at kinks, together: along (1, 1, ...) and along random signs.
    fn compare_ties(&mut self, report: &mut Report) {
        let at_kinks = report.comparisons.iter().filter_map(|c| match (&c.place, c.choice) {
            (Location::Element(index), Some(choice)) => Some((c, index, choice.step)),
            _ => None,
        });
        let (mut elements, mut step) = (Vec::new(), 0.0f64);
        for (c, index, own) in at_kinks {
            let t = self.variables.iter().position(|v| v.name == c.tensor).expect("compared");
            elements.push((t, self.variables[t].flat(index)));
            step = step.max(own);
        }
        if elements.len() < 2 {
            return;
        }
        for d in 0..=TIED {
            let mut sign = || if d == 0 { 1.0 } else { self.rng.sign() };
            let direction: Vec<_> = elements.iter().map(|&(t, i)| (t, i, sign())).collect();
            let claim = self.claim(&direction);
            let found = Interval::sharpest(self, &direction, &[step / 5.3, step]);
            let [(interval, step), (other, _)] = found[..] else { continue };
            if [interval, other].iter().all(|i| i.outside(claim.analytic) > 0.0) {
                let (t, i) = elements[0];
                report.comparisons.push(self.outside(
                    &claim,
                    interval,
                    step,
                    &Place {
                        tensor: self.variables[t].name.clone(),
                        place: Location::Tied(self.variables[t].index(i), elements.len() - 1),
                    },
                ));
                return;
            }
        }
    }

    /// A claim that lies outside of what a kink leaves open.
    fn outside(&self, claim: &Claim, interval: Interval, step: f64, place: &Place) -> Comparison {
        let analytic = claim.analytic;
        let numeric = analytic.clamp(interval.least, interval.most);
        let scale = analytic.abs().max(numeric.abs()).max(claim.floor);
        Comparison {
            tensor: place.tensor.clone(),
            place: place.place.clone(),
            analytic,
            numeric,
            truncation: 0.0,
            round_off: interval.bound,
            visible: interval.bound,
            scale,
            error: (analytic - numeric).abs() / scale,
            verdict: Verdict::Fail,
            cause: None,
            choice: Some(Choice {
                least: interval.least,
                most: interval.most,
                yours: analytic,
                step,
            }),
            tolerated: false,
            redrawn: 0,
            order: 0,
            step,
            ladder: Ladder::default(),
        }
    }

    fn element(&mut self, t: usize, i: usize) -> Comparison {
        self.compare(&[(t, i, 1.0)], Location::Element(self.variables[t].index(i)))
    }

    /// Halves a direction that failed, following the half with the larger disagreement.
    fn locate(&mut self, direction: &Direction) -> Comparison {
        let mut part = direction;
        while part.len() > 1 {
            let (first, second) = part.split_at(part.len() / 2);
            let [a, b] = [first, second].map(|half| {
                let found = self.compare(half, Location::Direction(0));
                // What is not a number is followed.
                let off = (found.analytic - found.numeric).abs();
                if off.is_nan() { f64::INFINITY } else { off }
            });
            part = if a >= b { first } else { second };
        }
        self.element(part[0].0, part[0].1)
    }

    /// Compares along one direction. At a kink it sees whether the claim lies between both sides, and
    /// compares at other points, too.
    fn compare(&mut self, direction: &Direction, place: Location) -> Comparison {
        let mut found = self.compare_here(direction, &place);
        // The mean of both sides is one of what may be claimed.
        let meets_one = found.verdict == Verdict::Pass && found.ladder.has_kink();
        if found.cause != Some(Cause::Kink) && !meets_one {
            return found;
        }
        match self.at_kink(direction, &mut found) {
            Side::Outside | Side::Unclear => return found,
            Side::Inside if self.settings.refuse_kinks => return found,
            Side::Inside | Side::Unknown => {}
        }
        let start = self.at.clone();
        let choice = found.choice;
        let here = found.clone();
        for redrawn in 1..=REDRAWS {
            let elements = direction.iter().map(|&(t, i, _)| (t, i));
            self.redraw(&start, elements);
            let again = self.compare_here(direction, &place);
            // What was visible there was so on that scale.
            let visible = again.visible * (here.scale / again.scale).max(1.0);
            found = Comparison { redrawn, choice, visible, ..again };
            if found.cause != Some(Cause::Kink) {
                break;
            }
        }
        self.at = start;
        if choice.is_some() && found.cause == Some(Cause::Kink) {
            // There is no place without one; what was claimed is one of what could be.
            found = Comparison { verdict: Verdict::Pass, cause: None, ..here };
        }
        found
    }

    /// Fails a comparison whose claim lies outside of the interval of both sides over two steps, notes the
    /// choice in it where it lies inside over both.
    fn at_kink(&self, direction: &Direction, found: &mut Comparison) -> Side {
        if found.ladder.has_jump() {
            return Side::Unknown;
        }
        let steps = found.ladder.kink_steps();
        let claim = self.claim(direction);
        let [(interval, step), (other, _)] = Interval::sharpest(self, direction, &steps)[..] else {
            return Side::Unknown;
        };
        let beyond = [interval, other].map(|interval| interval.outside(claim.analytic) > 0.0);
        match beyond {
            [true, true] => {
                let place = Place { tensor: found.tensor.clone(), place: found.place.clone() };
                let ladder = std::mem::take(&mut found.ladder);
                *found = Comparison { ladder, ..self.outside(&claim, interval, step, &place) };
                Side::Outside
            }
            [false, false] => {
                let (least, most, yours) = (interval.least, interval.most, claim.analytic);
                found.choice = Some(Choice { least, most, yours, step });
                found.numeric = yours.clamp(least, most);
                (found.truncation, found.round_off) = (0.0, interval.bound);
                found.visible = interval.bound;
                Side::Inside
            }
            _ => {
                (found.verdict, found.cause) = (Verdict::Inconclusive, Some(Cause::Kink));
                Side::Unclear
            }
        }
    }

    fn claim(&self, direction: &Direction) -> Claim {
        let terms = direction.iter().map(|&(t, i, v)| self.at.gradients[t][i] * v);
        let analytic = Total::of(terms.clone());
        let magnitude: f64 = terms.map(f64::abs).sum();
        let mut squares = Squares::default();
        direction.iter().for_each(|&(t, i, v)| squares.add(self.gradient_noise[t][i] * v));
        let noise = DEVIATIONS * squares.root() + f64::EPSILON * magnitude;
        let largest = &self.at.largest;
        let own = direction.iter().map(|d| largest[d.0]).fold(0.0, f64::max);
        let given = direction.iter().map(|d| self.given[d.0]).fold(0.0, f64::max);
        let outputs = self.upstream.iter().zip(&self.at.outputs).map(|(u, y)| (u * y).abs());
        let natural = (outputs.sum::<f64>() / self.scale_of(direction)).max(given);
        let floor = 1e-3 * own;
        // Along many elements at once the largest is no measure.
        let largest = if direction.len() == 1 { own } else { 0.0 };
        Claim { analytic, magnitude, noise, floor, largest, natural }
    }

    pub(super) fn compare_here(&self, direction: &Direction, place: &Location) -> Comparison {
        let claim = self.claim(direction);
        let mut climb = Climb::new(self, direction);
        let judged = climb.judge(&claim);
        Comparison {
            tensor: self.variables[direction[0].0].name.clone(),
            place: place.clone(),
            analytic: claim.analytic,
            numeric: judged.numeric,
            truncation: judged.truncation,
            round_off: judged.round_off,
            visible: judged.visible,
            scale: judged.scale,
            error: judged.error,
            verdict: judged.verdict,
            cause: judged.cause,
            choice: None,
            tolerated: judged.tolerated,
            redrawn: 0,
            order: judged.order,
            step: judged.step,
            ladder: climb.ladder,
        }
    }

    /// A random direction through all variables, whose length is their sizes.
    fn through_all(&mut self) -> Vec<(usize, usize, f64)> {
        let total: usize = self.variables.iter().map(|v| v.values.len()).sum();
        let length = 1.0 / (total.max(1) as f64).sqrt();
        let mut direction = Vec::with_capacity(total);
        for t in 0..self.variables.len() {
            let drawn = self.rng.normal(self.variables[t].values.len());
            let moved = drawn.iter().enumerate();
            direction.extend(moved.map(|(i, x)| (t, i, x * self.sizes[t] * length)));
        }
        direction
    }

    /// How the first-order expansion along one direction is off.
    fn remainder(&self, direction: &Direction) -> Remainder {
        let slope = self.claim(direction);
        let mut values = self.at.values.clone();
        let measured = (0..taylor::STEPS).map(|j| {
            let h = taylor::FIRST * 0.5f64.powi(j as i32);
            let outputs = self.beside(&mut values, direction, h).outputs;
            let back = self.beside(&mut values, direction, -h).outputs;
            let (mut change, mut bend, mut size, mut squares) = (0.0, 0.0, 0.0, Squares::default());
            for (i, u) in self.upstream.iter().enumerate() {
                let term = u * (outputs[i] - self.at.outputs[i]);
                change += term;
                bend += term + u * (back[i] - self.at.outputs[i]);
                size += term.abs();
                squares.add(SQRT_2 * u * self.noise_of_output(i, outputs[i].abs()));
            }
            let own = h * slope.noise / DEVIATIONS;
            squares.add(own);
            let noise = DEVIATIONS * squares.root();
            let noise = noise + f64::EPSILON * (size + h * slope.magnitude);
            let remainder = (change - h * slope.analytic).abs();
            Step { h, remainder, bend: bend.abs(), noise }
        });
        let measured: Vec<_> = measured.collect();
        Remainder::new(&measured)
    }
}

/// Where a claim lies at a kink.
enum Side {
    Inside,
    Outside,
    /// One look says this, another that.
    Unclear,
    /// Both sides cannot be told.
    Unknown,
}

struct Place {
    tensor: String,
    place: Location,
}

/// Notes the error of each element that this comparison would have seen.
fn note(seen: &mut [f64], compared: &Comparison, direction: &Direction) {
    if compared.verdict != Verdict::Pass {
        return;
    }
    let alone = direction.len() == 1;
    let visible = if alone { compared.visible } else { compared.bound() };
    for &(_, i, v) in direction {
        seen[i] = seen[i].min(visible / v.abs());
    }
}
