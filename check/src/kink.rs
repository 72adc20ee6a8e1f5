//! At a kink: the slopes on both sides, output by output, and whether a claim lies between them.
//!
//! Where an output has a kink at the point, backward may return any number between its two one-sided slopes
//! (for a convex output the subgradients). For L = Σ u·y those numbers form the interval of Σ u·[l, r]. A
//! claim outside of it is wrong whatever was chosen, as is one along a direction in which the outputs are
//! smooth: where two inputs of a maximum are equal, moving both moves it by as much, and the claims for
//! both must add up to that.

use super::climb::DEVIATIONS;
use super::directions::Direction;
use super::noise::Squares;
use super::problem::Problem;

/// Round-off of an extrapolated one-sided slope in deviations of an output over the step: four values with
/// factors of 1, 4, 3 and one more.
const SIDE_NOISE: f64 = 6.0;

/// What one may claim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub least: f64,
    pub most: f64,
    /// How far both ends may be off.
    pub bound: f64,
}

impl Interval {
    /// Over one step and its half.
    pub fn along(problem: &Problem, direction: &Direction, step: f64) -> Self {
        let mut values = problem.at.values.clone();
        let mut at = |step: f64| problem.beside(&mut values, direction, step);
        let [right, left, far_right, far_left] =
            [at(step / 2.0), at(-step / 2.0), at(step), at(-step)];
        let (mut least, mut most, mut squares, mut curved, mut size) =
            (0.0, 0.0, Squares::default(), 0.0, 0.0);
        for (i, (u, y)) in problem.upstream.iter().zip(&problem.at.outputs).enumerate() {
            let slope = |near: f64, far: f64| (4.0 * near - far - 3.0 * y) / step;
            let r = slope(right.outputs[i], far_right.outputs[i]);
            let l = -slope(left.outputs[i], far_left.outputs[i]);
            let magnitude = far_right.outputs[i].abs().max(far_left.outputs[i].abs());
            let noise = SIDE_NOISE * problem.noise_of_output(i, magnitude) / step;
            squares.add(u * noise);
            // How far a one-sided slope is from that over half the step.
            let near = 2.0 * (right.outputs[i] - y) / step;
            curved += (u * (r - near)).abs();
            size += u.abs() * r.abs().max(l.abs());
            if (r - l).abs() > 2.0 * DEVIATIONS * noise {
                least += (u * r).min(u * l);
                most += (u * r).max(u * l);
            } else {
                least += u * (r + l) / 2.0;
                most += u * (r + l) / 2.0;
            }
        }
        let strays = [&right, &left, &far_right, &far_left].map(|b| b.stray.abs());
        let stray = 4.0 * strays.iter().sum::<f64>() / step;
        let bound = DEVIATIONS * squares.root() + f64::EPSILON * size + stray + 0.25 * curved;
        Self { least, most, bound }
    }

    /// Over the given steps, the shortest first: the two with the smallest bounds of those that agree with
    /// the first.
    pub fn sharpest(problem: &Problem, direction: &Direction, steps: &[f64]) -> Vec<(Self, f64)> {
        let along = |step: &f64| (Self::along(problem, direction, *step), *step);
        let mut all: Vec<(Self, f64)> =
            steps.iter().map(along).filter(|(interval, _)| interval.is_finite()).collect();
        let Some((first, _)) = all.first().copied() else { return all };
        all.retain(|(other, _)| first.agrees(other));
        all.sort_by(|a, b| a.0.bound.total_cmp(&b.0.bound));
        all.truncate(2);
        all
    }

    fn agrees(&self, other: &Self) -> bool {
        let bound = self.bound + other.bound;
        (self.least - other.least).abs() <= bound && (self.most - other.most).abs() <= bound
    }

    fn is_finite(&self) -> bool {
        self.least.is_finite() && self.most.is_finite() && self.bound.is_finite()
    }

    /// How far outside a claim is, beyond the bound; 0 inside.
    pub fn outside(&self, claim: f64) -> f64 {
        let beyond = (self.least - claim).max(claim - self.most) - self.bound;
        beyond.max(0.0)
    }
}
