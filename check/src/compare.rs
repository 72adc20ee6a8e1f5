//! All comparisons of one function at one point: what is moved, and where a fault is.

use super::claim::Claim;
use super::climb::{Climb, DEVIATIONS};
use super::comparison::Comparison;
use super::directions::{self, Direction, sample, unit};
use super::noise::{Squares, Total};
use super::problem::Problem;
use super::report::Report;
use super::taylor::{self, Remainder, Step};
use super::verdict::{Location, Verdict};
use std::f64::consts::SQRT_2;

/// Elements moved by all blocks of a tensor together, at most.
const MOVED: usize = 2_000_000;
/// Gradients below this part of the largest are levelled with it ...
const LEVEL: f64 = 1e-3;
/// ... and below this one in a coarse precision: few small ones would take up the length of a direction, and
/// leave to the others less than what is rounded off.
const COARSE_LEVEL: f64 = 0.25;

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
        let kinked = |c: &Comparison| c.redrawn > 0 || c.choice.is_some() || c.ladder.has_kink();
        if report.comparisons.iter().any(kinked) {
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

    pub(super) fn all_elements(&self) -> Vec<(usize, usize)> {
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
        let mut sure = false;
        for i in elements {
            let compared = self.settled(&[(t, i, 1.0)], self.place_of(t, i), &mut sure);
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
            let compared = self.settled(&direction, Location::Direction(d), &mut sure);
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

    fn element(&mut self, t: usize, i: usize) -> Comparison {
        self.compare(&[(t, i, 1.0)], self.place_of(t, i))
    }

    pub(super) fn place_of(&self, t: usize, i: usize) -> Location {
        Location::Element(self.variables[t].index(i))
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

    pub(super) fn claim(&self, direction: &Direction) -> Claim {
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
