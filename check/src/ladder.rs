//! A derivative from differences, with what is known of its error.
//!
//! Central differences D(h) = (L(x + hd) − L(x − hd)) / 2h at steps that shrink. Each pair of rungs gives a
//! value of order 4, three give order 6, four order 8, by Richardson's extrapolation: D has an error in
//! even powers of h alone, and with q = (H/h)², where H is the longest of the k + 1 steps in it,
//! (q T(h) − T(H)) / (q − 1) removes one after the other. Of all values so made the one with the smallest
//! error estimate is taken (Ridders, 1982) that no shorter step contradicts: whatever happens over long
//! steps, waves that all of them hit at the same phase or a kink nearer than the shortest of them, it is
//! not what short ones show. The estimate has two parts:
//!
//! * truncation: how far the value is from the two of the next lower order that it was made of. Their
//!   error is larger than its own as long as the function is smooth over the step;
//! * round-off: what is known of the noise of L, divided by the step and carried through the extrapolation.
//!
//! At a kink the one-sided slopes (L(x + hd) − L(x)) / h and (L(x) − L(x − hd)) / h do not meet when h
//! shrinks; where the function is smooth their distance halves with h. A derivative is called wrong only
//! beyond what a kink that was not seen could account for.

use serde::Serialize;

/// Highest power of h² that is removed: order 8.
const COLUMNS: usize = 4;

/// Of all values the one with the smallest estimate is taken, which favours those that are too small.
const SAFETY: f64 = 2.0;

/// Where differences wander, the end may be farther away than the last distances.
const ROUGH: f64 = 4.0;

/// How far a bound may be above the smallest to be preferred for its shorter steps.
const NEXT: f64 = 16.0;

/// Growth of round-off towards the point by which long steps pass something over.
const GROWN: f64 = 16.0;

/// Changes of quantised outputs over the longest step by which they are a matter of round-off.
const QUANTA: f64 = 100.0;

/// Part of the fall of a smooth function's distances that differences must keep up with.
const FALLS: f64 = 0.625;

/// Round-off of the distance of the one-sided slopes in units of that of the difference: (1, −2, 1)/h beside
/// (1, −1)/2h.
const JUMP_NOISE: f64 = 3.5;

/// Beyond the growth of what is no jump, which is that of a root.
const GROWS: f64 = 1.05;

/// Most steps over which a kink is looked at.
const KINK_STEPS: i32 = 10;

/// Rungs before anything is said: all orders.
pub const FIRST: usize = COLUMNS;

/// The differences at one step.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rung {
    /// h, along the direction.
    pub step: f64,
    /// (L(x + hd) − L(x − hd)) / 2h, not finite where L is not.
    pub difference: f64,
    /// Forward minus backward one-sided slope.
    pub jump: f64,
    /// Sum of the magnitudes that add up to the difference.
    pub size: f64,
    /// Bound on the round-off of the difference.
    pub noise: f64,
}

/// The best value of a ladder.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Estimate {
    /// The derivative.
    pub value: f64,
    /// Estimate of what is left of the step in it.
    pub truncation: f64,
    /// Bound on its round-off.
    pub round_off: f64,
    /// 2, 4, 6 or 8.
    pub order: usize,
    /// The smallest step in it.
    pub step: f64,
}

impl Estimate {
    /// Bound on the error.
    pub fn bound(&self) -> f64 {
        self.truncation + self.round_off
    }
}

/// Differences at steps that shrink, the longest first.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Ladder {
    /// One entry per step.
    pub rungs: Vec<Rung>,
}

impl Ladder {
    /// Rungs from the last one on that was outside of the domain.
    fn usable(&self) -> &[Rung] {
        let outside = self.rungs.iter().rposition(|r| !r.difference.is_finite());
        &self.rungs[outside.map_or(0, |i| i + 1)..]
    }

    /// Whether a step led to where the function is not finite.
    pub fn met_an_edge(&self) -> bool {
        self.usable().len() < self.rungs.len()
    }

    /// Puts a rung in its place.
    pub(super) fn add(&mut self, rung: Rung) {
        let place = self.rungs.partition_point(|r| r.step > rung.step);
        self.rungs.insert(place, rung);
    }

    /// Where nothing moves over short steps, but over longer ones by a slope that does not fade, outputs come in
    /// quanta: next to nothing, and then they are round-off that no displacement showed, or a large part of what
    /// they ever change by, and then they are steps of the function.
    pub(super) fn quantise(&mut self) {
        let Some(stuck) = self.rungs.iter().position(|r| r.size == 0.0) else { return };
        let [.., far, near] = &self.rungs[..stuck] else { return };
        let quantum = 2.0 * near.step * near.size;
        let longest = self.rungs[0].step * self.rungs[0].size;
        let fades = near.size < 0.8 * far.size;
        if !fades && 2.0 * longest > QUANTA * quantum {
            self.rungs.iter_mut().for_each(|r| r.noise = r.noise.max(quantum / r.step));
        }
    }

    /// The value with the smallest error estimate of those that no shorter step contradicts; none before
    /// there are two usable rungs.
    pub fn best(&self) -> Option<Estimate> {
        self.standing().into_iter().min_by(|a, b| a.bound().total_cmp(&b.bound()))
    }

    /// A value over shorter steps than those of `best`, and with a bound not far above its own, that a claim
    /// agrees with which is next to `best`: of a function that is not smooth in its higher derivatives, an
    /// estimate of what is left of long steps is too small.
    pub(super) fn shorter(&self, best: &Estimate, claim: f64, noise: f64) -> Option<Estimate> {
        let most = NEXT * (best.bound() + noise);
        let agrees = |e: &Estimate| {
            e.step < best.step
                && e.bound() + noise <= most
                && (e.value - claim).abs() <= e.bound() + noise
        };
        let all = self.standing().into_iter().filter(agrees);
        all.min_by(|a, b| a.bound().total_cmp(&b.bound()))
    }

    /// All values that no shorter step contradicts.
    fn standing(&self) -> Vec<Estimate> {
        let (rungs, values) = (self.usable(), self.values());
        let all = values.iter().enumerate().flat_map(|(j, row)| row.iter().map(move |e| (j, e)));
        all.filter(|(j, e)| !Self::contradicted(e, &rungs[*j..])).map(|(_, e)| *e).collect()
    }

    /// Whether the value, whose shortest step is that of the first of these rungs, lies outside of what a
    /// shorter one leaves open. The distance of a difference from the limit falls with h² at least.
    fn contradicted(value: &Estimate, rungs: &[Rung]) -> bool {
        let apart = |r: &Rung| (r.difference - value.value).abs();
        let (first, shorter) = (&rungs[0], &rungs[1..]);
        shorter.iter().any(|r| {
            let curved = SAFETY * apart(first) * (r.step / first.step).powi(2);
            // Outputs that are larger near the point than far from it are passed over by long steps.
            let passed_over = r.noise * r.step > GROWN * first.noise * first.step;
            passed_over || apart(r) > r.noise + value.bound() + curved
        })
    }

    /// For each usable rung the values of order 2, 4, 6, 8 that end with it, as far as there are any.
    /// The first rung has none: its truncation error cannot be told.
    pub fn values(&self) -> Vec<Vec<Estimate>> {
        let rungs = self.usable();
        let mut before: Vec<(f64, f64)> = Vec::new();
        let mut all = Vec::new();
        for (j, rung) in rungs.iter().enumerate() {
            let mut row = vec![(rung.difference, rung.noise)];
            let mut estimates = Vec::new();
            let rough = Self::roughness(rungs, j);
            let mut estimate = |k: usize, value, apart: f64, round_off| {
                let (order, step) = (2 * k + 2, rung.step);
                let truncation = (SAFETY * apart).max(ROUGH * rough);
                estimates.push(Estimate { value, truncation, round_off, order, step });
            };
            if j > 0 {
                estimate(0, row[0].0, (row[0].0 - before[0].0).abs(), row[0].1);
            }
            for k in 1..COLUMNS.min(before.len() + 1) {
                let power = (rungs[j - k].step / rung.step).powi(2);
                let ((fine, noise), (coarse, more)) = (row[k - 1], before[k - 1]);
                let value = fine + (fine - coarse) / (power - 1.0);
                let round_off = noise + (noise + more) / (power - 1.0);
                row.push((value, round_off));
                estimate(k, value, (value - fine).abs().max((value - coarse).abs()), round_off);
            }
            before = row;
            all.push(estimates);
        }
        all
    }

    /// 0 where the differences around rung j converge as those of a smooth function do, whose distances
    /// fall to a quarter when steps halve. Else, as beside kinks, two can be near each other by
    /// chance, and the largest distance from three rungs before to one behind is what is known.
    fn roughness(rungs: &[Rung], j: usize) -> f64 {
        let around = &rungs[j.saturating_sub(3)..rungs.len().min(j + 2)];
        let apart: Vec<f64> =
            around.windows(2).map(|w| (w[1].difference - w[0].difference).abs()).collect();
        // Two deviations of round-off, of the eight in the bound, are seldom chance.
        let noise = around.iter().map(|r| 0.25 * r.noise).skip(2);
        let squares = around.windows(3).map(|w| {
            let [a, b, c] = [w[0].step, w[1].step, w[2].step].map(|h| h * h);
            (a - b) / (b - c)
        });
        let mut pairs = apart.windows(2).zip(noise).zip(squares);
        let rough = pairs.any(|((d, noise), falls)| d[1] > noise && d[0] < FALLS * falls * d[1]);
        if rough { apart.into_iter().fold(0.0, f64::max) } else { 0.0 }
    }

    /// Sum of magnitudes at the smallest usable step.
    pub fn size(&self) -> f64 {
        self.usable().last().map_or(0.0, |r| r.size)
    }

    /// Whether smaller steps can tell nothing more: their round-off is near the size of what is looked for.
    pub fn is_drowned(&self) -> bool {
        let usable = self.usable();
        let size = usable.iter().map(|r| r.size).fold(0.0, f64::max);
        usable.len() >= FIRST && usable.last().is_some_and(|r| r.noise > 1e-3 * size)
    }

    /// Whether the distance of the one-sided slopes stays where it is over the smallest steps at which it
    /// stands out from round-off: the function has a kink at the point, or a jump.
    pub fn has_kink(&self) -> bool {
        let seen = self.usable().iter().filter(|r| r.jump.abs() > JUMP_NOISE * r.noise);
        let jumps: Vec<f64> =
            seen.filter(|r| r.jump.abs() > 1e-9 * r.size).map(|r| r.jump).collect();
        let stays = |pair: &[f64]| (pair[0] / pair[1]).abs() < 1.5;
        jumps.len() > 2 && jumps.windows(2).rev().take(2).all(stays)
    }

    /// How large a kink nearer than `step` could be without having been seen. The distance of the
    /// one-sided slopes is c + hb + ... beside a kink c, and (H J(h) − h J(H)) / (H − h) leaves c of it.
    pub fn hidden_kink(&self, step: f64) -> f64 {
        let usable = self.usable();
        let from = usable.iter().position(|r| r.step <= 2.0 * step).unwrap_or(0);
        let rungs = &usable[from.min(usable.len().saturating_sub(3))..];
        let left: Vec<f64> = rungs
            .windows(2)
            .map(|w| {
                let (far, near) = (w[0].step, w[1].step);
                let left = (far * w[1].jump - near * w[0].jump) / (far - near);
                let noise = (far * w[1].noise + near * w[0].noise) / (far - near);
                left.abs() + JUMP_NOISE * noise
            })
            .collect();
        // Two pairs, because one can be small by chance.
        let both = left.windows(2).map(|pair| pair[0].max(pair[1]));
        both.min_by(f64::total_cmp).unwrap_or(f64::INFINITY)
    }

    /// Whether the distance of the one-sided slopes, or what the outputs change by over the step, grows nearly
    /// like 1/h: the function jumps.
    pub(super) fn has_jump(&self) -> bool {
        self.grows(|r| r.jump.abs() / JUMP_NOISE) || self.grows(|r| r.size)
    }

    /// Whether what stands out from round-off grows towards the point faster than h to the power −1/2.
    fn grows(&self, of: impl Fn(&Rung) -> f64) -> bool {
        let clear = |r: &&Rung| of(r) > 8.0 * r.noise;
        let last: Vec<&Rung> = self.usable().iter().rev().filter(clear).take(2).collect();
        match last[..] {
            [near, far] => of(near) > GROWS * of(far) * (far.step / near.step).sqrt(),
            _ => false,
        }
    }

    /// Steps over which to look beside a jump, the shortest first.
    pub(super) fn jump_steps(&self) -> Vec<f64> {
        self.usable().iter().rev().map(|r| r.step / 4.0).collect()
    }

    /// How much the outputs change by over the shortest step.
    pub(super) fn jumps_by(&self) -> f64 {
        self.usable().last().map_or(0.0, |r| 2.0 * r.size * r.step)
    }

    /// Steps over which to look at a kink, the shortest first: from where the distance of the one-sided slopes
    /// stands far out from round-off on.
    pub(super) fn kink_steps(&self) -> Vec<f64> {
        let usable = self.usable();
        let clear = |r: &&Rung| r.jump.abs() > JUMP_NOISE * r.noise;
        let Some(seen) = usable.iter().rev().find(clear) else { return Vec::new() };
        let shortest = seen.step * (32.0 * JUMP_NOISE * seen.noise / seen.jump.abs());
        let longest = usable.first().map_or(0.0, |r| r.step);
        let shortest = shortest.max(1e-12 * longest);
        let ratio = (longest / shortest).powf(1.0 / f64::from(KINK_STEPS)).max(4.0);
        let steps = (0..KINK_STEPS).map(|k| shortest * ratio.powi(k));
        steps.take_while(|step| *step < longest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ladder of a function at x, with round-off ε |f|.
    fn ladder(f: impl Fn(f64) -> f64, x: f64, first: f64, rungs: usize) -> Ladder {
        let at = f(x);
        let rung = |j: usize| {
            let h = first * 0.5f64.powi(j as i32);
            let (up, down) = (f(x + h), f(x - h));
            Rung {
                step: h,
                difference: (up - down) / (2.0 * h),
                jump: (up - 2.0 * at + down) / h,
                size: (up - down).abs() / (2.0 * h),
                noise: 2.0 * f64::EPSILON * at.abs().max(up.abs()) / h,
            }
        };
        Ladder { rungs: (0..rungs).map(rung).collect() }
    }

    #[test]
    fn four_rungs_reach_order_eight_and_the_bound_holds() {
        for x in [-1.3, 0.2, 0.9, 2.5] {
            let best = ladder(f64::sin, x, 0.125, FIRST).best().unwrap();
            let off = (best.value - x.cos()).abs();
            assert!(off <= best.bound(), "{x}: {best:?}, off {off:e}");
            assert!(best.bound() < 1e-8, "{best:?}");
            assert!(off < 1e-12, "{off:e}");
        }
        let values = ladder(f64::exp, 0.0, 0.25, FIRST).values();
        assert_eq!(values.iter().map(Vec::len).collect::<Vec<_>>(), [0, 2, 3, 4]);
        // Each order is better than the one before.
        let last: Vec<f64> = values[3].iter().map(|e| (e.value - 1.0).abs()).collect();
        assert!(last.windows(2).all(|e| e[1] < 0.1 * e[0]), "{last:?}");
    }

    #[test]
    fn the_bound_holds_at_every_first_step() {
        for power in 0..45 {
            let first = 0.5f64.powi(power);
            let best = ladder(|x| (3.0 * x).tanh(), 0.4, first, FIRST).best().unwrap();
            let exact = 3.0 / (1.2f64).cosh().powi(2);
            let off = (best.value - exact).abs();
            assert!(off <= best.bound(), "2^-{power}: {best:?}, off {off:e}");
        }
    }

    #[test]
    fn a_kink_is_seen_at_the_point_and_passed_beside_it() {
        let relu = |x: f64| x.max(0.0);
        assert!(ladder(relu, 0.0, 0.125, 4).has_kink());
        assert!(ladder(|x| x + 1e-3 * x.abs(), 0.0, 0.125, 4).has_kink());
        // A jump is a kink, too.
        assert!(ladder(|x| f64::from(x > 0.0), 0.0, 0.125, 4).has_kink());
        assert!(!ladder(f64::sin, 0.7, 0.125, 4).has_kink());
        assert!(!ladder(|x| 3.0 * x, 0.7, 0.125, 4).has_kink());
        // Smaller steps get past one at a distance of 1e-3.
        let near = ladder(relu, 1e-3, 0.125, 16);
        assert_eq!(near.best().unwrap().value, 1.0);
    }

    #[test]
    fn a_small_kink_cannot_hide_behind_curvature() {
        let f = |x: f64| x.exp() + 1e-4 * x.abs();
        assert!((0.9e-4..3e-4).contains(&(0.5 * ladder(f, 0.0, 0.125, 12).hidden_kink(0.01))));
        assert!(ladder(f64::exp, 0.0, 0.125, 12).hidden_kink(0.01) < 1e-8);
    }

    #[test]
    fn steps_out_of_the_domain_are_left_out() {
        let near = ladder(f64::ln, 0.01, 0.125, 10);
        assert!(near.met_an_edge());
        let best = near.best().unwrap();
        assert!((best.value - 100.0).abs() <= best.bound(), "{best:?}");
        assert!(ladder(f64::sqrt, 0.0, 0.125, 10).best().is_none());
    }
}
