//! Comparisons where the function has no derivative: what a kink or a jump leaves open is a choice, and the rest is
//! compared beside the point.

use super::comparison::{Choice, Comparison};
use super::directions::Direction;
use super::kink::{self, Interval};
use super::ladder::Ladder;
use super::problem::Problem;
use super::report::Report;
use super::verdict::{Cause, Location, Verdict};

/// How often a point at a kink is drawn anew.
const REDRAWS: usize = 3;
/// Random directions through the elements at kinks, besides that of all alike.
const TIED: usize = 7;

/// Where a claim lies at a kink.
enum Side {
    Inside,
    Outside,
    /// One look says this, another that.
    Unclear,
    /// Both sides cannot be told.
    Unknown,
}

impl Problem<'_> {
    /// Compares along one direction. At a kink it sees whether the claim lies between both sides, and
    /// compares at other points, too.
    pub(super) fn compare(&mut self, direction: &Direction, place: Location) -> Comparison {
        let mut found = self.compare_here(direction, &place);
        // The mean of both sides is one of what may be claimed.
        let meets_one = found.verdict == Verdict::Pass && found.ladder.has_kink();
        let side = match found.cause {
            Some(Cause::Jump) => self.at_jump(direction, &mut found),
            Some(Cause::Kink) => self.at_kink(direction, &mut found),
            _ if meets_one => self.at_kink(direction, &mut found),
            _ => return found,
        };
        match side {
            Side::Outside | Side::Unclear => return found,
            Side::Inside if self.settings.refuse_kinks => {
                let cause = found.cause.or(Some(Cause::Kink));
                return Comparison { verdict: Verdict::Inconclusive, cause, ..found };
            }
            Side::Inside | Side::Unknown => {}
        }
        let elements = direction.iter().map(|&(t, i, _)| (t, i)).collect();
        self.compare_beside(direction, elements, found)
    }

    /// [`Self::compare`], and before a claim is called wrong a look at points all around, in all variables.
    /// Where one of a tensor is wrong for `sure`, no more are looked at.
    pub(super) fn settled(
        &mut self,
        direction: &Direction,
        place: Location,
        sure: &mut bool,
    ) -> Comparison {
        let found = self.compare(direction, place);
        if found.verdict != Verdict::Fail || found.redrawn > 0 || *sure {
            return found;
        }
        let yours = found.analytic;
        let Some((interval, step)) = Interval::around(self, direction, yours) else {
            *sure = true;
            return found;
        };
        let choice =
            Choice { least: interval.least, most: interval.most, yours, step, jump: false };
        let found = chosen(found, choice, interval.bound);
        if self.settings.refuse_kinks {
            return Comparison {
                verdict: Verdict::Inconclusive,
                cause: Some(Cause::Kink),
                ..found
            };
        }
        let all = self.all_elements();
        let here = Comparison { cause: Some(Cause::Kink), ..found };
        self.compare_beside(direction, all, here)
    }

    /// Compares at points nearby, whose elements are drawn anew.
    fn compare_beside(
        &mut self,
        direction: &Direction,
        elements: Vec<(usize, usize)>,
        here: Comparison,
    ) -> Comparison {
        let start = self.at.clone();
        let choice = here.choice;
        let mut found = here.clone();
        for redrawn in 1..=REDRAWS {
            self.redraw(&start, elements.iter().copied());
            let mut again = self.compare_here(direction, &here.place);
            // Where nothing moves on one side, what moves on the other is the scale.
            let limit = self.settings.coarsest.max(self.settings.resolution) / 3.0 * here.scale;
            let open = again.verdict == Verdict::Inconclusive && !again.disagrees();
            if choice.is_some() && open && again.bound() <= limit {
                (again.verdict, again.cause) = (Verdict::Pass, None);
            }
            // What was visible there was so on that scale.
            let visible = match here.scale / again.scale {
                _ if choice.is_some() && again.scale < here.scale => {
                    again.visible.max(here.visible)
                }
                larger => again.visible * larger.max(1.0),
            };
            found = Comparison { redrawn, choice, visible, ..again };
            if !matches!(found.cause, Some(Cause::Kink | Cause::Jump)) {
                break;
            }
        }
        self.at = start;
        if choice.is_some() && matches!(found.cause, Some(Cause::Kink | Cause::Jump)) {
            // There is no place without one; what was claimed is one of what could be.
            found = Comparison { verdict: Verdict::Pass, cause: None, ..here };
        }
        found
    }

    /// Fails a comparison whose claim lies outside of the interval of both sides over two steps, notes the
    /// choice in it where it lies inside over both.
    fn at_kink(&self, direction: &Direction, found: &mut Comparison) -> Side {
        let steps = found.ladder.kink_steps();
        let claim = found.analytic;
        let sharpest = Interval::sharpest(self, direction, &kink::FROM_POINT, &steps);
        let [(interval, step), (other, _)] = sharpest[..] else { return Side::Unknown };
        match [interval, other].map(|interval| interval.outside(claim) > 0.0) {
            [true, true] => {
                *found = self.outside(direction, found.clone(), interval, step);
                Side::Outside
            }
            // What has no width leaves nothing to choose.
            [false, false] if interval.most - interval.least <= interval.bound => Side::Unknown,
            [false, false] => {
                let (least, most) = (interval.least, interval.most);
                let choice = Choice { least, most, yours: claim, step, jump: false };
                let seen = found.clone();
                *found = Comparison {
                    verdict: seen.verdict,
                    cause: seen.cause,
                    ..chosen(seen, choice, interval.bound)
                };
                Side::Inside
            }
            _ => {
                (found.verdict, found.cause) = (Verdict::Inconclusive, Some(Cause::Kink));
                Side::Unclear
            }
        }
    }

    /// Notes the choice where a claim lies between the slopes of the pieces beside a jump.
    fn at_jump(&self, direction: &Direction, found: &mut Comparison) -> Side {
        if !self.jumps_here(direction, found) {
            return Side::Unknown;
        }
        let steps = found.ladder.jump_steps();
        let yours = found.analytic;
        let sharpest = Interval::sharpest(self, direction, &kink::BESIDE, &steps);
        let [(interval, step), (other, _)] = sharpest[..] else { return Side::Unclear };
        if [interval, other].iter().any(|interval| interval.outside(yours) > 0.0) {
            return Side::Unclear;
        }
        let (least, most) = (interval.least, interval.most);
        // Its own size over that of the variable is what a derivative of it would be.
        let jump = found.ladder.jumps_by() / self.scale_of(direction);
        let choice = Choice { least, most, yours, step, jump: true };
        let scale = least.abs().max(most.abs()).max(jump);
        let cause = found.cause;
        *found = Comparison {
            scale,
            verdict: Verdict::Inconclusive,
            cause,
            ..chosen(found.clone(), choice, interval.bound)
        };
        Side::Inside
    }

    /// Whether over a few of the smallest steps that there are the outputs change by what is left of the jump if it
    /// falls no faster than a root: it is at the point, and not beside it.
    fn jumps_here(&self, direction: &Direction, found: &Comparison) -> bool {
        let unit = if self.coarse { f64::from(f32::EPSILON) } else { f64::EPSILON };
        let step = 64.0 * unit * self.scale_of(direction);
        let shortest = found.ladder.rungs.last().map_or(step, |r| r.step);
        let least = 0.5 * found.ladder.jumps_by() * (step / shortest).min(1.0).sqrt();
        let mut values = self.at.values.clone();
        let [up, down] = [step, -step].map(|h| self.beside(&mut values, direction, h).outputs);
        let moved = self.upstream.iter().zip(up.iter().zip(&down));
        moved.map(|(u, (up, down))| (u * (up - down)).abs()).sum::<f64>() >= least
    }

    /// A claim that lies outside of what a kink leaves open.
    fn outside(
        &self,
        direction: &Direction,
        found: Comparison,
        interval: Interval,
        step: f64,
    ) -> Comparison {
        let claim = self.claim(direction);
        let analytic = claim.analytic;
        let (least, most) = (interval.least, interval.most);
        let choice = Choice { least, most, yours: analytic, step, jump: false };
        let numeric = analytic.clamp(least, most);
        let scale = analytic.abs().max(numeric.abs()).max(claim.floor);
        let error = (analytic - numeric).abs() / scale;
        Comparison {
            verdict: Verdict::Fail,
            scale,
            error,
            order: 0,
            ..chosen(found, choice, interval.bound)
        }
    }

    /// Elements at kinks, together: along (1, 1, ...) and along random signs.
    pub(super) fn compare_ties(&mut self, report: &mut Report) {
        let at_kinks = report.comparisons.iter().filter_map(|c| match (&c.place, c.choice) {
            (Location::Element(index), Some(choice)) if !choice.jump => {
                Some((c, index, choice.step))
            }
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
            let analytic = self.claim(&direction).analytic;
            let steps = [step / 5.3, step];
            let found = Interval::sharpest(self, &direction, &kink::FROM_POINT, &steps);
            let [(interval, step), (other, _)] = found[..] else { continue };
            let wrong = [interval, other].iter().all(|i| i.outside(analytic) > 0.0);
            if wrong && Interval::around(self, &direction, analytic).is_none() {
                let (t, i) = elements[0];
                let place = Location::Tied(self.variables[t].index(i), elements.len() - 1);
                let blank = Comparison {
                    ladder: Ladder::default(),
                    ..self.compare_here(&direction, &place)
                };
                report.comparisons.push(self.outside(&direction, blank, interval, step));
                return;
            }
        }
    }
}

/// A comparison that a choice decided.
fn chosen(found: Comparison, choice: Choice, bound: f64) -> Comparison {
    let numeric = choice.yours.clamp(choice.least, choice.most);
    Comparison {
        numeric,
        truncation: 0.0,
        round_off: bound,
        visible: bound,
        error: 0.0,
        verdict: Verdict::Pass,
        cause: None,
        choice: Some(choice),
        step: choice.step,
        ..found
    }
}
