//! The differences along one direction, at longer and shorter steps.

use super::claim::{Claim, Judged};
use super::directions::Direction;
use super::ladder::{self, Ladder, Rung};
use super::noise::{Squares, Total};
use super::problem::{Problem, SMALLEST};
use super::verdict::Verdict;
use std::f64::consts::SQRT_2;

/// Deviations of round-off that a bound allows.
pub(super) const DEVIATIONS: f64 = 8.0;
/// A factor of the steps that is in no simple ratio to a period, whose multiples would all show the same.
const ODD: f64 = 3299.0 / 4096.0;
/// The ratio of the steps of the second look, in no simple ratio to the halves of the first.
const UP: f64 = 2.7;
/// The far step over which it shows what moves at all, by the sizes of what moves.
const FAR: f64 = 2.0;
/// Rungs put between others where a coarse precision leaves too little.
const BETWEEN: i32 = 4;
/// Rungs of the second look.
const LOOKS: usize = 24;

/// One ladder on its way.
pub(super) struct Climb<'a, 'b> {
    problem: &'b Problem<'a>,
    values: Vec<Vec<f64>>,
    direction: &'b Direction,
    pub ladder: Ladder,
    /// The step of the first rung ...
    first: f64,
    /// ... and the longest of all.
    longest: f64,
    /// Rungs on the way down.
    halved: usize,
    /// Which outputs have moved at any step; all, where the first step is so short that an output
    /// could depend on the direction without moving.
    moved: Vec<bool>,
}

impl<'a, 'b> Climb<'a, 'b> {
    pub fn new(problem: &'b Problem<'a>, direction: &'b Direction) -> Self {
        let short = problem.settings.first_step < 1e-3;
        let first = ODD * problem.settings.first_step * problem.scale_of(direction);
        let mut climb = Self {
            problem,
            values: problem.at.values.clone(),
            direction,
            ladder: Ladder::default(),
            first,
            longest: first,
            halved: 0,
            moved: vec![short; problem.at.outputs.len()],
        };
        if problem.coarse {
            climb.probe();
        }
        climb
    }

    /// Notes which outputs a far step moves. In a coarse precision those that depend on the direction alone
    /// next to nothing are many, and each of them has more round-off than what the others change by.
    fn probe(&mut self) {
        let far = FAR * self.problem.reach(self.direction).max(self.first);
        for step in [far, -far] {
            let beside = self.problem.beside(&mut self.values, self.direction, step);
            for ((moved, now), y) in
                self.moved.iter_mut().zip(&beside.outputs).zip(&self.problem.at.outputs)
            {
                *moved |= now != y;
            }
        }
        self.longest = far;
    }

    /// What the differences say of a claim. Steps are halved until it is clear. Then it is looked at from
    /// below: over a step so short that round-off leaves just enough to see whether the verdict is right. If
    /// that contradicts, longer steps are taken from there.
    pub fn judge(&mut self, claim: &Claim) -> Judged {
        let settings = self.problem.settings;
        while self.ladder.rungs.len() < ladder::FIRST && self.halve() {}
        let mut judged = claim.judge(&self.ladder, settings);
        while !judged.clear && self.halve() {
            judged = claim.judge(&self.ladder, settings);
        }
        // Another verdict may be seen over another step.
        for _ in 0..3 {
            if !self.look(judged.sight) {
                break;
            }
            judged = claim.judge(&self.ladder, settings);
        }
        let Some(mut step) = self.ladder.rungs.last().map(|r| r.step) else { return judged };
        let longest = self.problem.longest(self.direction);
        for _ in 0..LOOKS {
            if judged.clear {
                break;
            }
            step *= UP;
            // What is there already is climbed past.
            let near = |r: &Rung| r.step < 1.5 * step && r.step * UP > 1.5 * step;
            if self.ladder.rungs.iter().any(near) {
                step = self.first;
                continue;
            }
            if step > longest {
                break;
            }
            self.add(step);
            judged = claim.judge(&self.ladder, settings);
        }
        if self.problem.coarse
            && judged.verdict == Verdict::Inconclusive
            && self.thicken(judged.step)
        {
            judged = claim.judge(&self.ladder, settings);
        }
        judged
    }

    /// Adds rungs between those over a step: beside kinks a few that follow each other closely tell more of a
    /// long step than as many that reach past the kinks.
    fn thicken(&mut self, step: f64) -> bool {
        if step <= 0.0 {
            return false;
        }
        for between in 0..BETWEEN {
            self.add(step * f64::powi(2.0, between) * std::f64::consts::SQRT_2);
        }
        true
    }

    /// Adds the rung whose round-off is this large, where it is far below all others; whether it did.
    fn look(&mut self, sight: f64) -> bool {
        let Some(last) = self.ladder.rungs.last() else { return false };
        let step = last.step * last.noise / sight;
        // Steps that do not move the numbers show nothing.
        let least = 64.0 * f64::EPSILON * self.first;
        let step = step.max(least);
        let worth = step.is_finite() && step < 0.25 * last.step;
        if worth {
            self.add(step);
        }
        worth
    }

    /// Adds a rung of half the step; whether there was one to add.
    fn halve(&mut self) -> bool {
        if self.halved >= self.problem.settings.steps || self.ladder.is_drowned() {
            return false;
        }
        self.add(self.first * 0.5f64.powi(self.halved as i32));
        self.halved += 1;
        true
    }

    /// Adds a rung at this step.
    pub fn add(&mut self, step: f64) {
        self.longest = self.longest.max(step);
        let up = self.problem.beside(&mut self.values, self.direction, step);
        let down = self.problem.beside(&mut self.values, self.direction, -step);
        let strays = (up.stray - down.stray, up.stray + down.stray);
        let (ahead, back) = (up.step, -down.step);
        if ahead <= 0.0 || back <= 0.0 {
            // The step is lost in the number; it shows nothing.
            return;
        }
        let length = ahead + back;
        let (up, down) = (up.outputs, down.outputs);
        let (mut change, mut bend) = (Total::default(), Total::default());
        let (mut size, mut squares) = (0.0, Squares::default());
        let mut least = 0.0;
        for (i, (u, y)) in self.problem.upstream.iter().zip(&self.problem.at.outputs).enumerate() {
            let (rise, fall) = (up[i] - y, y - down[i]);
            change.add(u * (up[i] - down[i]));
            bend.add(u * (rise * (step / ahead) - fall * (step / back)));
            size += (u * (up[i] - down[i])).abs();
            self.moved[i] |= rise != 0.0 || fall != 0.0;
            let noise = self.problem.noise_of_output(i, up[i].abs().max(down[i].abs()));
            // What the longest step did not move beyond its round-off a shorter one moves less.
            let share = if self.moved[i] { 1.0 } else { step / self.longest };
            squares.add(u * noise * share);
            least += u.abs() * SMALLEST;
        }
        let noise = DEVIATIONS * (SQRT_2 * squares.root() + least) + f64::EPSILON * size;
        self.ladder.add(Rung {
            step,
            difference: (change.value() - strays.0) / length,
            jump: (bend.value() - strays.1) / step,
            size: size / length,
            noise: noise / length,
        });
        self.ladder.quantise();
    }
}
