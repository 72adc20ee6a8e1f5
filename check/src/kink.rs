//! At a kink: the slopes on both sides, output by output, and whether a claim lies between them.
//!
//! Where an output has a kink at the point, backward may return any number between its two one-sided slopes
//! (for a convex output the subgradients). For L = Σ u·y those numbers form the interval of Σ u·[l, r]. A
//! claim outside of it is wrong whatever was chosen, as is one along a direction in which the outputs are
//! smooth: where two inputs of a maximum are equal, moving both moves it by as much, and the claims for
//! both must add up to that. Where several kinks meet, as behind a linear layer of zeros, what the rules of each give
//! together is a limit of gradients nearby that one direction does not show; the points all around do.

use super::climb::DEVIATIONS;
use super::directions::Direction;
use super::noise::{Squares, Total};
use super::problem::Problem;
use super::random::{SEED, Stream};

/// How a one-sided slope is made of outputs at multiples of the step: pairs of multiple and weight.
pub(super) struct Side {
    /// Of the second order ...
    fine: &'static [(f64, f64)],
    /// ... and of the first.
    rough: &'static [(f64, f64)],
}

/// From the point on.
pub(super) const FROM_POINT: Side =
    Side { fine: &[(0.0, -3.0), (0.5, 4.0), (1.0, -1.0)], rough: &[(0.0, -2.0), (0.5, 2.0)] };
/// Without the point, where the function may jump.
pub(super) const BESIDE: Side =
    Side { fine: &[(1.0, -2.5), (2.0, 4.0), (3.0, -1.5)], rough: &[(1.0, -1.0), (2.0, 1.0)] };

/// Round-off of such a slope in deviations of an output over the step: the root of the sum of the squares of its
/// weights, and some.
const SIDE_NOISE: f64 = 6.0;

/// Points around the given one at which slopes are looked at.
const AROUND: usize = 48;
/// Points that show whether there is a kink at all.
const FEW: usize = 8;
/// Their distances, by the size of each element: so near that what is seen is at the point.
const NEAR: [f64; 2] = [1.0 / (1u64 << 16) as f64, 1.0 / (1u64 << 33) as f64];
/// The same in a coarse precision.
const COARSE_NEAR: [f64; 2] = [1.0 / 8.0, 1.0 / 512.0];

/// What one may claim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub least: f64,
    pub most: f64,
    /// How far both ends may be off.
    pub bound: f64,
}

impl Interval {
    /// Over one step and its parts.
    pub fn along(problem: &Problem, direction: &Direction, side: &Side, step: f64) -> Self {
        let mut values = problem.at.values.clone();
        let mut outputs = |multiple: f64| problem.beside(&mut values, direction, multiple * step);
        let moved: Vec<_> =
            side.fine.iter().map(|(m, w)| (*m, *w, [outputs(*m), outputs(-m)])).collect();
        let (mut least, mut most, mut squares, mut curved, mut size) =
            (0.0, 0.0, Squares::default(), 0.0, 0.0);
        for (i, u) in problem.upstream.iter().enumerate() {
            let at = |m: f64, s: usize| {
                moved.iter().find(|(other, ..)| *other == m).map_or(f64::NAN, |b| b.2[s].outputs[i])
            };
            let slope = |weights: &[(f64, f64)], s: usize| {
                weights.iter().map(|(m, w)| w * at(*m, s)).sum::<f64>() / step
            };
            let (r, l) = (slope(side.fine, 0), -slope(side.fine, 1));
            let magnitude = moved.iter().flat_map(|b| &b.2).map(|b| b.outputs[i].abs());
            let noise = problem.noise_of_output(i, magnitude.fold(0.0, f64::max));
            let noise = SIDE_NOISE * noise / step;
            squares.add(u * noise);
            // How far a one-sided slope is from that of the first order.
            curved += (u * (r - slope(side.rough, 0))).abs();
            size += u.abs() * r.abs().max(l.abs());
            if (r - l).abs() > 2.0 * DEVIATIONS * noise {
                least += (u * r).min(u * l);
                most += (u * r).max(u * l);
            } else {
                least += u * (r + l) / 2.0;
                most += u * (r + l) / 2.0;
            }
        }
        let strays = moved.iter().flat_map(|(_, w, b)| b.iter().map(move |b| (w * b.stray).abs()));
        let stray = strays.sum::<f64>() / step;
        let bound = DEVIATIONS * squares.root() + f64::EPSILON * size + stray + 0.25 * curved;
        Self { least, most, bound }
    }

    /// Of the slopes at points all around the given one, in all variables, where they differ however near those
    /// are and a claim lies between them: where several kinks meet, limits of gradients that no single
    /// direction shows. With the distance of the points.
    pub fn around(problem: &Problem, direction: &Direction, claim: f64) -> Option<(Self, f64)> {
        let radii = if problem.coarse { COARSE_NEAR } else { NEAR };
        let holds = |found: &Self| {
            found.outside(claim) == 0.0 && found.most - found.least > 16.0 * found.bound
        };
        let far = Self::at_points(problem, direction, radii[0]).filter(holds)?;
        let near = Self::at_points(problem, direction, radii[1]).filter(holds)?;
        let stays = near.most - near.least > 0.5 * (far.most - far.least);
        stays.then_some((far, radii[1] * problem.scale_of(direction)))
    }

    /// Of the slopes at points so far away.
    fn at_points(problem: &Problem, direction: &Direction, radius: f64) -> Option<Self> {
        let mut rng = Stream::new(SEED, 9);
        let sizes = direction.iter().map(|&(t, i, v)| problem.size_of(t, i) / v.abs());
        // Short beside the distances, so that few kinks are stepped over.
        let step = radius * sizes.fold(f64::INFINITY, f64::min) / 8.0;
        let round = |x: f64| problem.settings.precision.round(x);
        let (mut least, mut most, mut bound) = (f64::INFINITY, f64::NEG_INFINITY, 0.0f64);
        for k in 0..AROUND {
            // A smooth function has one slope, and no need of more points.
            if k == FEW && most - least <= 4.0 * bound {
                return None;
            }
            let mut values = problem.at.values.clone();
            for (t, values) in values.iter_mut().enumerate() {
                for (i, x) in values.iter_mut().enumerate() {
                    *x = round(*x + radius * problem.size_of(t, i) * rng.uniform(-1.0, 1.0));
                }
            }
            let (slope, noise) = Self::slope_at(problem, direction, &mut values, step)?;
            least = least.min(slope);
            most = most.max(slope);
            bound = bound.max(noise);
        }
        let found = Self { least, most, bound };
        found.is_finite().then_some(found)
    }

    /// The slope at another point, and how far it may be off.
    fn slope_at(
        problem: &Problem,
        direction: &Direction,
        values: &mut [Vec<f64>],
        step: f64,
    ) -> Option<(f64, f64)> {
        let start: Vec<f64> = direction.iter().map(|&(t, i, _)| values[t][i]).collect();
        let mut moved = |step: f64| {
            let mut length = 0.0;
            for (&(t, i, v), x) in direction.iter().zip(&start) {
                values[t][i] = problem.settings.precision.round(x + step * v);
                length += (values[t][i] - x) / v / direction.len() as f64;
            }
            ((problem.forward)(values), length)
        };
        let ((up, ahead), (down, back)) = (moved(step), moved(-step));
        let length = ahead - back;
        let (mut change, mut squares) = (Total::default(), Squares::default());
        for (i, u) in problem.upstream.iter().enumerate() {
            change.add(u * (up[i] - down[i]));
            // Those that the step does not move are not of the slope.
            if up[i] != down[i] {
                squares.add(u * problem.noise_of_output(i, up[i].abs().max(down[i].abs())));
            }
        }
        let noise = DEVIATIONS * std::f64::consts::SQRT_2 * squares.root() / length;
        (length > 0.0).then_some((change.value() / length, noise))
    }

    /// Over the given steps, the shortest first: the two with the smallest bounds of those that agree with
    /// the first.
    pub fn sharpest(
        problem: &Problem,
        direction: &Direction,
        side: &Side,
        steps: &[f64],
    ) -> Vec<(Self, f64)> {
        let along = |step: &f64| (Self::along(problem, direction, side, *step), *step);
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
