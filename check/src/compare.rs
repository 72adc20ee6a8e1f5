//! All comparisons of one function at one point: what is moved, how far, and where a fault is.

use super::claim::Claim;
use super::curve::VCurve;
use super::directions::{levelled, sample};
use super::ladder::{self, Ladder, Rung};
use super::noise::deviations;
use super::promises::{self, largest};
use super::report::{Comparison, Report};
use super::taylor::{self, Remainder, Step};
use super::variable::{Backward, Evaluated, Forward, Settings, Variable};
use super::verdict::{Cause, Location, Verdict};
use crate::random::{SEED, Stream};

/// Deviations of round-off that a bound allows.
const DEVIATIONS: f64 = 8.0;
/// A factor of the steps that is in no simple ratio to a period, whose multiples would all show the same.
const ODD: f64 = 3299.0 / 4096.0;
/// Steps of a curve, from twice the size of the tensor on.
const CURVE_STEPS: i32 = 50;
/// How often a point at a kink is drawn anew.
const REDRAWS: usize = 3;

/// The median, the smaller one of two; 0 of nothing.
fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// Elements of one variable and how fast each moves.
type Direction = Vec<(usize, f64)>;

/// A function, a point, and what is known there.
pub(super) struct Problem<'a> {
    settings: &'a Settings,
    variables: &'a [Variable],
    forward: &'a Forward<'a>,
    backward: &'a Backward<'a>,
    rng: Stream,
    upstream: Vec<f64>,
    at: Evaluated,
    /// Size of each variable, a power of two.
    sizes: Vec<f64>,
    /// Deviation of the round-off of each output at the point ...
    output_noise: Vec<f64>,
    /// ... and in the middle relative to the output, for points at which outputs are larger.
    precision: f64,
    /// The same of each gradient.
    pub gradient_noise: Vec<Vec<f64>>,
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
        let upstream = rng.normal(outputs.len());
        let gradients = backward(&values, &upstream);
        let at = Evaluated { values, outputs, gradients };
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
            sizes,
            output_noise,
            precision: f64::EPSILON,
            gradient_noise,
        }
    }

    /// Deviation of the round-off of output i where it has this magnitude.
    fn noise_of_output(&self, i: usize, magnitude: f64) -> f64 {
        self.output_noise[i].max(self.precision * magnitude)
    }

    /// What is wrong before anything is compared; measures round-off on the way.
    pub fn faults(&mut self) -> Vec<String> {
        let (variables, at) = (self.variables, &self.at);
        let mut faults = promises::of_results(variables, &at.outputs, &at.gradients);
        if faults.is_empty() && !variables.is_empty() {
            self.measure_noise();
            faults = promises::of_function(
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
        let lengths = self.variables.iter().map(|v| v.values.len());
        let mut shapes: Vec<(usize, f64)> = lengths.clone().zip(self.sizes.clone()).collect();
        // Backward rounds the upstream gradient, too.
        shapes.push((self.upstream.len(), 1.0));
        let Self { at, forward, backward, upstream, rng, .. } = self;
        let n = at.outputs.len();
        // Both at once: the same displacements serve for outputs and gradients.
        let all = deviations(&shapes, rng, |d| {
            let sum =
                |(x, d): (&Vec<f64>, &Vec<f64>)| x.iter().zip(d).map(|(x, d)| x + d).collect();
            let values: Vec<_> = at.values.iter().zip(d).map(sum).collect();
            let upstream: Vec<f64> = sum((&*upstream, &d[d.len() - 1]));
            let mut all = forward(&values);
            all.extend(backward(&values, &upstream).concat());
            all
        });
        let rounding = |x: &f64| 0.5 * f64::EPSILON * x.abs();
        self.output_noise = all.iter().zip(&at.outputs).map(|(s, y)| s.max(rounding(y))).collect();
        let relative = self.output_noise.iter().zip(&at.outputs).filter(|(_, y)| **y != 0.0);
        self.precision = middle(relative.map(|(s, y)| s / y.abs()).collect());
        let mut rest = all.get(n..).unwrap_or_default();
        self.gradient_noise = (lengths.zip(&at.gradients))
            .map(|(n, g)| {
                let (own, others) = rest.split_at(n.min(rest.len()));
                rest = others;
                // Few values give a rough deviation; what is common in the tensor is known better.
                let common = middle(own.to_vec());
                // A hundredth of the gradient is no round-off but a branch that was left.
                let branch = 1e-2 * largest(g);
                let one = |(s, g): (&f64, &f64)| {
                    let own = if *s > branch { common } else { *s };
                    own.max(common).max(rounding(g))
                };
                own.iter().zip(g).map(one).collect()
            })
            .collect();
    }

    pub fn compare_all(&mut self, report: &mut Report) {
        for t in 0..self.variables.len() {
            let first = report.comparisons.len();
            self.compare_variable(t, report);
            if self.settings.curves && !self.variables[t].values.is_empty() {
                report.curves.push(self.curve(t));
            }
            if report.comparisons[first..].iter().all(|c| c.analytic == 0.0) {
                report.all_zero.push(self.variables[t].name.clone());
            }
        }
        if report.comparisons.iter().any(|c| c.redrawn > 0 || c.ladder.has_kink()) {
            let all: Vec<_> =
                self.variables.iter().map(|v| (0..v.values.len()).collect()).collect();
            self.redraw(&self.at.clone(), &all.into_iter().enumerate().collect::<Vec<_>>());
        }
        report.taylor = Some(self.remainder());
    }

    fn compare_variable(&mut self, t: usize, report: &mut Report) {
        let gradient = self.at.gradients[t].clone();
        let n = gradient.len();
        let elements: Vec<usize> = if n <= self.settings.dense {
            (0..n).collect()
        } else {
            sample(&gradient, self.settings.samples, &mut self.rng)
        };
        for i in elements {
            let compared = self.element(t, i);
            report.comparisons.push(compared);
        }
        if n <= self.settings.dense {
            return;
        }
        let most = largest(&gradient);
        let least = if most > 0.0 { 1e-3 * most } else { 1.0 };
        let mut located = false;
        for d in 0..self.settings.projections {
            let direction = levelled(&gradient, least, &mut self.rng);
            let length = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
            let direction: Direction =
                direction.into_iter().map(|v| v / length).enumerate().collect();
            let compared = self.compare(t, &direction, Location::Direction(d));
            let failed = compared.verdict == Verdict::Fail;
            report.comparisons.push(compared);
            if failed && !located {
                located = true;
                let element = self.locate(t, &direction);
                report.comparisons.push(element);
            }
        }
    }

    /// All steps at the element with the largest gradient.
    fn curve(&self, t: usize) -> VCurve {
        let gradient = &self.at.gradients[t];
        let by = |a: &usize, b: &usize| gradient[*a].abs().total_cmp(&gradient[*b].abs());
        let i = (0..gradient.len()).max_by(by).expect("not empty");
        let direction = [(i, 1.0)];
        let mut climb = Climb::new(self, t, &direction);
        for rung in 0..CURVE_STEPS {
            climb.add(2.0 * self.sizes[t] * 0.5f64.powi(rung));
        }
        VCurve {
            tensor: self.variables[t].name.clone(),
            place: Location::Element(self.variables[t].index(i)),
            analytic: gradient[i],
            ladder: climb.ladder,
        }
    }

    fn element(&mut self, t: usize, i: usize) -> Comparison {
        self.compare(t, &[(i, 1.0)], Location::Element(self.variables[t].index(i)))
    }

    /// Halves a direction that failed, following the half with the larger disagreement.
    fn locate(&mut self, t: usize, direction: &[(usize, f64)]) -> Comparison {
        let mut part = direction;
        while part.len() > 1 {
            let (first, second) = part.split_at(part.len() / 2);
            let [a, b] = [first, second].map(|half| {
                let found = self.compare(t, half, Location::Direction(0));
                // What is not a number is followed.
                let off = (found.analytic - found.numeric).abs();
                if off.is_nan() { f64::INFINITY } else { off }
            });
            part = if a >= b { first } else { second };
        }
        self.element(t, part[0].0)
    }

    /// Compares along one direction, at other points where there is a kink at this one.
    fn compare(&mut self, t: usize, direction: &[(usize, f64)], place: Location) -> Comparison {
        let mut found = self.compare_here(t, direction, &place);
        let start = self.at.clone();
        for redrawn in 1..=REDRAWS {
            if found.cause != Some(Cause::Kink) {
                break;
            }
            let elements: Vec<usize> = direction.iter().map(|&(i, _)| i).collect();
            self.redraw(&start, &[(t, elements)]);
            let again = self.compare_here(t, direction, &place);
            found = Comparison { redrawn, ..again };
        }
        self.at = start;
        found
    }

    /// Moves to a point nearby: up to an eighth of the size of each value, or of the tensor where it is 0.
    fn redraw(&mut self, start: &Evaluated, elements: &[(usize, Vec<usize>)]) {
        let mut values = start.values.clone();
        for (t, elements) in elements {
            for &i in elements {
                let x = &mut values[*t][i];
                let size = if *x == 0.0 { self.sizes[*t] } else { x.abs() };
                *x += 0.125 * size * self.rng.uniform(-1.0, 1.0);
            }
        }
        let outputs = (self.forward)(&values);
        let gradients = (self.backward)(&values, &self.upstream);
        self.at = Evaluated { values, outputs, gradients };
    }

    fn compare_here(
        &mut self,
        t: usize,
        direction: &[(usize, f64)],
        place: &Location,
    ) -> Comparison {
        let gradient = &self.at.gradients[t];
        let terms = direction.iter().map(|&(i, v)| gradient[i] * v);
        let analytic: f64 = terms.clone().sum();
        let magnitude: f64 = terms.map(f64::abs).sum();
        let squares: f64 =
            direction.iter().map(|&(i, v)| (self.gradient_noise[t][i] * v).powi(2)).sum();
        let own_noise = DEVIATIONS * squares.sqrt() + f64::EPSILON * magnitude;
        let overall = self.at.gradients.iter().map(|g| largest(g)).fold(0.0, f64::max);
        let floor = (1e-3 * largest(gradient)).max(1e-6 * overall);

        let claim = Claim { analytic, magnitude, noise: own_noise, floor };
        let mut climb = Climb::new(self, t, direction);
        while climb.ladder.rungs.len() < ladder::FIRST && climb.step() {}
        // Smaller steps are asked where the answer is not clear yet.
        let mut judged = claim.judge(&climb.ladder, self.settings.resolution);
        while !judged.clear && climb.step() {
            judged = claim.judge(&climb.ladder, self.settings.resolution);
        }
        Comparison {
            tensor: self.variables[t].name.clone(),
            place: place.clone(),
            analytic,
            numeric: judged.numeric,
            truncation: judged.truncation,
            round_off: judged.round_off,
            scale: judged.scale,
            error: judged.error,
            verdict: judged.verdict,
            cause: judged.cause,
            redrawn: 0,
            order: judged.order,
            step: judged.step,
            ladder: climb.ladder,
        }
    }

    /// How the first-order expansion along one direction through all variables is off.
    fn remainder(&mut self) -> Remainder {
        let total: usize = self.variables.iter().map(|v| v.values.len()).sum();
        let length = 1.0 / (total.max(1) as f64).sqrt();
        let directions: Vec<Vec<f64>> = (self.variables.iter().zip(&self.sizes))
            .map(|(v, size)| {
                self.rng.normal(v.values.len()).iter().map(|x| x * size * length).collect()
            })
            .collect();
        let pairs = self.at.gradients.iter().zip(&directions);
        let terms = pairs.flat_map(|(g, v)| g.iter().zip(v)).map(|(g, v)| g * v);
        let (slope, magnitude): (f64, f64) = (terms.clone().sum(), terms.map(f64::abs).sum());
        let pairs = self.gradient_noise.iter().zip(&directions);
        let own = pairs.flat_map(|(s, v)| s.iter().zip(v)).map(|(s, v)| (s * v).powi(2));
        let own: f64 = own.sum();
        let measured = (0..taylor::STEPS).map(|j| {
            let h = taylor::FIRST * 0.5f64.powi(j as i32);
            let outputs = |h: f64| {
                let pairs = self.at.values.iter().zip(&directions);
                let moved: Vec<Vec<f64>> =
                    pairs.map(|(x, v)| x.iter().zip(v).map(|(x, v)| x + h * v).collect()).collect();
                (self.forward)(&moved)
            };
            let (outputs, back) = (outputs(h), outputs(-h));
            let (mut change, mut bend, mut size, mut squares) = (0.0, 0.0, 0.0, 0.0);
            for (i, u) in self.upstream.iter().enumerate() {
                let term = u * (outputs[i] - self.at.outputs[i]);
                change += term;
                bend += term + u * (back[i] - self.at.outputs[i]);
                size += term.abs();
                squares += 2.0 * (u * self.noise_of_output(i, outputs[i].abs())).powi(2);
            }
            let noise = DEVIATIONS * (squares + h * h * own).sqrt();
            let noise = noise + f64::EPSILON * (size + h * magnitude);
            Step { h, remainder: (change - h * slope).abs(), bend: bend.abs(), noise }
        });
        let measured: Vec<_> = measured.collect();
        Remainder::new(&measured)
    }
}

/// One ladder on its way down.
struct Climb<'a, 'b> {
    problem: &'b Problem<'a>,
    values: Vec<Vec<f64>>,
    t: usize,
    direction: &'b [(usize, f64)],
    ladder: Ladder,
    /// Which outputs have moved at any step; all, where the first step is so short that an output
    /// could depend on the direction without moving.
    moved: Vec<bool>,
}

impl<'a, 'b> Climb<'a, 'b> {
    fn new(problem: &'b Problem<'a>, t: usize, direction: &'b [(usize, f64)]) -> Self {
        let short = problem.settings.first_step < 1e-3;
        Self {
            problem,
            values: problem.at.values.clone(),
            t,
            direction,
            ladder: Ladder::default(),
            moved: vec![short; problem.at.outputs.len()],
        }
    }

    fn outputs(&mut self, step: f64) -> Vec<f64> {
        let (problem, t) = (self.problem, self.t);
        for &(i, v) in self.direction {
            self.values[t][i] = problem.at.values[t][i] + step * v;
        }
        let outputs = (problem.forward)(&self.values);
        for &(i, _) in self.direction {
            self.values[t][i] = problem.at.values[t][i];
        }
        outputs
    }

    /// Adds a rung; whether there was one to add.
    fn step(&mut self) -> bool {
        let (settings, rungs) = (self.problem.settings, self.ladder.rungs.len());
        if rungs >= settings.steps || self.ladder.is_drowned() {
            return false;
        }
        let first = ODD * settings.first_step * self.problem.sizes[self.t];
        self.add(first * 0.5f64.powi(rungs as i32));
        true
    }

    /// Adds a rung at this step.
    fn add(&mut self, step: f64) {
        let first = self.ladder.rungs.first().map_or(step, |r| r.step);
        let (up, down) = (self.outputs(step), self.outputs(-step));
        let (mut change, mut bend, mut size, mut squares) = (0.0, 0.0, 0.0, 0.0);
        for (i, (u, y)) in self.problem.upstream.iter().zip(&self.problem.at.outputs).enumerate() {
            let (rise, fall) = (up[i] - y, y - down[i]);
            change += u * (up[i] - down[i]);
            bend += u * (rise - fall);
            size += (u * (up[i] - down[i])).abs();
            self.moved[i] |= rise != 0.0 || fall != 0.0;
            let noise = self.problem.noise_of_output(i, up[i].abs().max(down[i].abs()));
            // What the longest step did not move beyond its round-off a shorter one moves less.
            let share = if self.moved[i] { 1.0 } else { step / first };
            squares += 2.0 * (u * noise * share).powi(2);
        }
        let noise = DEVIATIONS * squares.sqrt() + f64::EPSILON * size;
        self.ladder.rungs.push(Rung {
            step,
            difference: change / (2.0 * step),
            jump: bend / step,
            size: size / (2.0 * step),
            noise: noise / (2.0 * step),
        });
    }
}
