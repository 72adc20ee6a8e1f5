//! A function, a point, and what is known there: its results, their round-off, the sizes of its numbers.

use super::directions::Direction;
use super::noise::{self, Total};
use super::promises;
use super::random::{SEED, Stream};
use super::variable::{Backward, Evaluated, Forward, Settings, Variable, power_of_two};

/// What rounding does to numbers next to 0, with room for what they are multiplied by.
pub(super) const SMALLEST: f64 = 1024.0 * f64::MIN_POSITIVE * f64::EPSILON;

/// The median, the smaller one of two; 0 of nothing.
fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// What rounding does to a number that is rounded once.
fn rounding(x: f64, coarse: bool) -> f64 {
    // A third of a unit of f32 where the precision inside is not that of f64.
    let part = if coarse { f64::from(f32::EPSILON) / 3.0 } else { 0.5 * f64::EPSILON };
    (part * x.abs()).max(SMALLEST)
}

/// A value this far below the common size has none of its own.
const NOTHING: f64 = 1e-14;

/// Whether all are numbers that f32 has, and not all are ones that a few bits hold.
fn in_f32(numbers: &[f64]) -> bool {
    let held = |x: &f64| f64::from(*x as f32) == *x;
    let short = |x: &f64| x.to_bits() << 28 == 0;
    numbers.iter().all(held) && !numbers.iter().all(short)
}

pub(super) struct Problem<'a> {
    pub settings: &'a Settings,
    pub variables: &'a [Variable],
    pub forward: &'a Forward<'a>,
    pub backward: &'a Backward<'a>,
    pub rng: Stream,
    pub upstream: Vec<f64>,
    pub at: Evaluated,
    /// The largest gradient of each variable at the point that was given.
    pub given: Vec<f64>,
    /// Size of each variable, a power of two.
    pub sizes: Vec<f64>,
    /// Deviation of the round-off of each output at the point ...
    output_noise: Vec<f64>,
    /// ... and relative to the output, for points at which outputs are larger.
    precision: f64,
    /// Whether the forward computes in less than f64.
    pub coarse: bool,
    /// The same of each gradient.
    pub gradient_noise: Vec<Vec<f64>>,
}

/// Outputs beside the point.
pub(super) struct Beside {
    pub outputs: Vec<f64>,
    /// The step that a single element took; where many move, the one that they should have.
    pub step: f64,
    /// What the values of many that were rounded to the next number add to the change, by the gradients.
    pub stray: f64,
}

impl<'a> Problem<'a> {
    pub fn new(
        settings: &'a Settings,
        variables: &'a [Variable],
        forward: &'a Forward<'a>,
        backward: &'a Backward<'a>,
    ) -> Self {
        let mut rng = Stream::new(SEED, 1);
        let values: Vec<_> = variables.iter().map(|v| v.values.clone()).collect();
        let outputs = forward(&values);
        let normal = rng.normal(outputs.len()).into_iter();
        let upstream: Vec<f64> = normal.map(|u| settings.precision.round(u)).collect();
        let gradients = backward(&values, &upstream);
        let at = Evaluated::new(values, outputs, gradients);
        let given = at.largest.clone();
        let sizes = variables.iter().map(Variable::size).collect();
        let (output_noise, gradient_noise) = (Vec::new(), Vec::new());
        Self {
            settings,
            variables,
            forward,
            backward,
            rng,
            upstream,
            at,
            given,
            sizes,
            output_noise,
            precision: f64::EPSILON,
            coarse: false,
            gradient_noise,
        }
    }

    /// Size of one element: its own, or a common one where that is next to nothing.
    pub fn size_of(&self, t: usize, i: usize) -> f64 {
        let own = self.at.values[t][i].abs();
        let common = self.sizes[t] / 8.0;
        if own > NOTHING * common && own.is_finite() { power_of_two(own) } else { common }
    }

    /// The longest step that may be of use.
    pub fn longest(&self, direction: &Direction) -> f64 {
        // A coarse precision needs room.
        let room = if self.coarse { 16.0 } else { 1.0 };
        let first = room * self.settings.first_step;
        match direction[..] {
            [(t, i, v)] => first * self.size_of(t, i).max(self.sizes[t] / 8.0) / v.abs(),
            // One of many moves by a part of the step.
            _ if self.coarse => {
                let fastest = direction.iter().fold(0.0, |m: f64, d| m.max(d.2.abs()));
                first * self.scale_of(direction) / fastest.min(1.0)
            }
            _ => first * self.scale_of(direction),
        }
    }

    /// The step along a direction over which the fastest element moves by the largest of its tensor.
    pub fn reach(&self, direction: &Direction) -> f64 {
        let one = |&(t, _, v): &(usize, usize, f64)| {
            let largest = promises::largest(&self.at.values[t]).max(self.sizes[t]);
            largest / v.abs()
        };
        let all = direction.iter().map(one).filter(|step| step.is_finite());
        all.fold(f64::INFINITY, f64::min)
    }

    /// The step along a direction that is as long as what moves.
    pub fn scale_of(&self, direction: &Direction) -> f64 {
        match direction[..] {
            [(t, i, v)] => self.size_of(t, i) / v.abs(),
            _ => direction.iter().map(|d| self.sizes[d.0]).fold(0.0, f64::max),
        }
    }

    /// Deviation of the round-off of output i where it has this magnitude.
    pub fn noise_of_output(&self, i: usize, magnitude: f64) -> f64 {
        self.output_noise[i].max(self.precision * magnitude)
    }

    /// The outputs a step away along a direction.
    pub fn beside(&self, values: &mut [Vec<f64>], direction: &Direction, step: f64) -> Beside {
        let (mut stray, mut taken) = (Total::default(), step);
        for &(t, i, v) in direction {
            let x = self.at.values[t][i];
            let moved = self.settings.precision.round(x + step * v);
            values[t][i] = moved;
            if direction.len() == 1 {
                taken = (moved - x) / v;
            } else {
                stray.add(self.at.gradients[t][i] * ((moved - x) - step * v));
            }
        }
        let outputs = (self.forward)(values);
        for &(t, i, _) in direction {
            values[t][i] = self.at.values[t][i];
        }
        Beside { outputs, step: taken, stray: stray.value() }
    }

    /// Moves to a point nearby: up to an eighth of the size of each value, or of the tensor where it is 0.
    pub fn redraw(&mut self, start: &Evaluated, elements: impl Iterator<Item = (usize, usize)>) {
        let mut values = start.values.clone();
        for (t, i) in elements {
            let x = &mut values[t][i];
            let size = if *x == 0.0 { self.sizes[t] } else { x.abs() };
            *x = self.settings.precision.round(*x + 0.125 * size * self.rng.uniform(-1.0, 1.0));
        }
        let outputs = (self.forward)(&values);
        let gradients = (self.backward)(&values, &self.upstream);
        self.at = Evaluated::new(values, outputs, gradients);
    }

    /// What is wrong before anything is compared; measures round-off on the way.
    pub fn faults(&mut self) -> Vec<String> {
        let (variables, at) = (self.variables, &self.at);
        let mut faults = promises::of_results(variables, &at.outputs, &at.gradients);
        if faults.is_empty() && !variables.is_empty() {
            self.measure_noise();
            faults = promises::of_function(
                self.settings,
                variables,
                &self.at,
                &self.upstream,
                &self.gradient_noise,
                self.forward,
                self.backward,
            );
        }
        faults
    }

    fn measure_noise(&mut self) {
        let of = |t: usize| (0..self.variables[t].values.len()).map(move |i| (t, i));
        let mut scales: Vec<Vec<f64>> = (0..self.variables.len())
            .map(|t| of(t).map(|(t, i)| self.size_of(t, i)).collect())
            .collect();
        let Self { settings, at, forward, backward, upstream, rng, .. } = self;
        let sum = |(x, d): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
            x.iter().zip(d).map(|(x, d)| settings.precision.round(x + d)).collect()
        };
        let values = |d: &[Vec<f64>]| -> Vec<_> { at.values.iter().zip(d).map(sum).collect() };
        let count = scales.len();
        let flat = at.gradients.iter().flatten().all(|g| *g == 0.0);
        let outputs = noise::measure(&scales, count, flat, rng, |d| forward(&values(d)));
        // Backward rounds the upstream gradient, too.
        scales.push(vec![1.0; upstream.len()]);
        let gradients = noise::measure(&scales, count, false, rng, |d| {
            let upstream: Vec<f64> = sum((&*upstream, &d[d.len() - 1]));
            backward(&values(d), &upstream).concat()
        });
        let coarse = outputs.coarse || in_f32(&at.outputs);
        let pairs = outputs.deviations.iter().zip(&at.outputs);
        self.output_noise = pairs.map(|(s, y)| s.max(rounding(*y, coarse))).collect();
        self.coarse = coarse;
        if coarse {
            let pairs = self.output_noise.iter().zip(&at.outputs).filter(|(_, y)| **y != 0.0);
            self.precision = middle(pairs.map(|(s, y)| s / y.abs()).collect());
        }
        // The gradient of one output is not a sum of several.
        let one = rng.integer(upstream.len().max(1) - 1);
        let alone: Vec<f64> = (0..upstream.len()).map(|i| f64::from(u8::from(i == one))).collect();
        let coarse = gradients.coarse || in_f32(&backward(&at.values, &alone).concat());
        let mut rest = &gradients.deviations[..];
        let lengths = self.variables.iter().map(|v| v.values.len());
        self.gradient_noise = (lengths.zip(&at.gradients).zip(&at.largest))
            .map(|((n, g), most)| {
                let (own, others) = rest.split_at(n.min(rest.len()));
                rest = others;
                // Few values give a rough deviation; what is common in the tensor is known better.
                let common = middle(own.to_vec());
                // What stands far out from the others is no round-off but a branch that was left.
                let branch = (1e-5 * most).max(100.0 * common);
                let one = |(s, g): (&f64, &f64)| {
                    let own = if *s > branch { common } else { *s };
                    own.max(common).max(rounding(*g, coarse))
                };
                own.iter().zip(g).map(one).collect()
            })
            .collect();
    }
}
