//! Round-off, measured.
//!
//! Over displacements so small that a function is a straight line but for its round-off, the fourth
//! divided differences of its values are round-off alone: Σ wₖ fₖ of independent errors of deviation σ has
//! the variance σ² Σ wₖ² (after Hamming's difference table; Moré and Wild, 2011). Distances are not equal,
//! because the roundings of equally spaced arguments are no independent errors but a line that wraps
//! around. The displacement is the shortest
//! of 2⁻⁴⁰, 2⁻³⁰, 2⁻²⁰ and 2⁻¹⁴ of the size of each element over which numbers that move at all do so from
//! value to value: a function that computes in f32 inside needs the longest, one that oscillates 10⁴ times over
//! its argument a shorter one. The middle one of five directions counts, which leaves out those that met a
//! kink.

use crate::random::Stream;

/// Displacements between two values, relative to the size of the element.
const SPACINGS: [f64; 4] = [
    1.0 / (1u64 << 40) as f64,
    1.0 / (1u64 << 30) as f64,
    1.0 / (1u64 << 20) as f64,
    1.0 / (1u64 << 14) as f64,
];
/// From this on they are long because the precision inside is not that of f64 ...
const COARSE: f64 = SPACINGS[2];
/// ... where the deviation relative to the number is above this.
const ROUGH: f64 = 1e-10;
/// Of the numbers that move over the longest displacements the part that may stay where it is from one
/// value to the next.
const STUCK: f64 = 0.1;
/// Values along a direction.
const POINTS: usize = 8;
/// Directions.
const DIRECTIONS: usize = 5;

/// What was measured.
pub(super) struct Measured {
    /// Standard deviation of the round-off of each number.
    pub deviations: Vec<f64>,
    /// Whether only long displacements moved the numbers: the precision inside is not that of f64.
    pub coarse: bool,
}

/// Measures the round-off of each number that `f` returns. `f` gets displacements of all variables, whose
/// elements have the given sizes, and must return equally many numbers each time. Those of the first
/// `probed` variables show over how long a displacement the numbers move. Where they are said to be `flat`,
/// what moves them may be a kink, and the direction in which they do so least counts.
pub(super) fn measure(
    scales: &[Vec<f64>],
    probed: usize,
    flat: bool,
    rng: &mut Stream,
    mut f: impl FnMut(&[Vec<f64>]) -> Vec<f64>,
) -> Measured {
    // Of no even number of units in the last place, which would round alike each time.
    let mut units = Vec::with_capacity(DIRECTIONS);
    for _ in 0..DIRECTIONS {
        let mut one = |size: &f64| size * rng.uniform(0.6, 1.6) * rng.sign();
        let unit: Vec<Vec<f64>> =
            scales.iter().map(|row| row.iter().map(&mut one).collect()).collect();
        units.push(unit);
    }
    // Not from the point itself, which may be at a kink.
    let places: Vec<f64> = (1..=POINTS).map(|k| k as f64 + rng.uniform(-0.3, 0.3)).collect();
    let weights = weights(&places);
    let mut along = |unit: &[Vec<f64>], spacing: f64| -> Vec<Vec<f64>> {
        places.iter().map(|place| f(&times(unit, place * spacing))).collect()
    };
    let longest = SPACINGS[SPACINGS.len() - 1];
    let mut probe = units[0].clone();
    probe[probed..].iter_mut().flatten().for_each(|d| *d = 0.0);
    let far = along(&probe, longest);
    let moves: Vec<bool> =
        (0..far[0].len()).map(|i| far.windows(2).any(|w| w[0][i] != w[1][i])).collect();
    let mut spacing = longest;
    for shorter in &SPACINGS[..SPACINGS.len() - 1] {
        if stuck(&along(&probe, *shorter), &moves) <= STUCK {
            spacing = *shorter;
            break;
        }
    }
    let found: Vec<Vec<f64>> =
        units.iter().map(|unit| deviation(&along(unit, spacing), &weights)).collect();
    let n = found[0].len();
    let middle = |i: usize| {
        // Displacements may lead out of the domain.
        let finite = found.iter().filter_map(|d| d.get(i).copied()).filter(|d| d.is_finite());
        let mut all: Vec<f64> = finite.collect();
        all.sort_by(f64::total_cmp);
        let which = if flat { 0 } else { all.len().saturating_sub(1) / 2 };
        all.get(which).copied().unwrap_or(0.0)
    };
    let deviations: Vec<f64> = (0..n).map(middle).collect();
    // Where a function is stationary, too, short displacements move nothing.
    let values =
        deviations.iter().zip(&far[0]).zip(&moves).filter(|((_, y), moves)| **moves && **y != 0.0);
    let mut relative: Vec<f64> = values.map(|((s, y), _)| s / y.abs()).collect();
    relative.sort_by(f64::total_cmp);
    let common = relative.get(relative.len().saturating_sub(1) / 2).copied().unwrap_or(0.0);
    Measured { deviations, coarse: spacing >= COARSE && common > ROUGH }
}

/// All displacements times a factor.
fn times(unit: &[Vec<f64>], factor: f64) -> Vec<Vec<f64>> {
    unit.iter().map(|v| v.iter().map(|v| factor * v).collect()).collect()
}

/// A sum that keeps what its additions round off (Neumaier): many terms add nothing to the round-off.
#[derive(Clone, Copy, Default)]
pub(super) struct Total {
    sum: f64,
    rest: f64,
}

impl Total {
    pub fn add(&mut self, x: f64) {
        let sum = self.sum + x;
        self.rest +=
            if self.sum.abs() >= x.abs() { (self.sum - sum) + x } else { (x - sum) + self.sum };
        self.sum = sum;
    }

    pub fn of(terms: impl Iterator<Item = f64>) -> f64 {
        let mut total = Self::default();
        terms.for_each(|x| total.add(x));
        total.value()
    }

    pub fn value(self) -> f64 {
        // Past infinity the rest is no number.
        if self.sum.is_finite() { self.sum + self.rest } else { self.sum }
    }
}

/// A sum of squares whose terms may lie anywhere in the range of f64.
#[derive(Clone, Copy, Default)]
pub(super) struct Squares {
    largest: f64,
    sum: f64,
}

impl Squares {
    pub fn add(&mut self, x: f64) {
        let x = x.abs();
        if x > self.largest {
            self.sum = 1.0 + self.sum * (self.largest / x).powi(2);
            self.largest = x;
        } else if x > 0.0 {
            self.sum += (x / self.largest).powi(2);
        } else if x.is_nan() {
            self.sum = f64::NAN;
        }
    }

    pub fn root(self) -> f64 {
        self.largest * self.sum.sqrt()
    }
}

/// The part of neighbouring values that are equal, of the numbers that move at all.
fn stuck(values: &[Vec<f64>], moves: &[bool]) -> f64 {
    let (mut same, mut all) = (0, 0);
    for (i, _) in moves.iter().enumerate().filter(|(_, moves)| **moves) {
        same += values.windows(2).filter(|w| w[0][i] == w[1][i]).count();
        all += values.len() - 1;
    }
    if all == 0 { 0.0 } else { same as f64 / all as f64 }
}

/// Weights of the fourth divided differences of five neighbouring places each, of unit length.
fn weights(places: &[f64]) -> Vec<[f64; 5]> {
    let of = |five: &[f64]| {
        let weight = |k: usize| -> f64 {
            let others = five.iter().enumerate().filter(|(j, _)| *j != k);
            1.0 / others.map(|(_, x)| five[k] - x).product::<f64>()
        };
        let all: [f64; 5] = std::array::from_fn(weight);
        let length = all.iter().map(|w| w * w).sum::<f64>().sqrt();
        all.map(|w| w / length)
    };
    places.windows(5).map(of).collect()
}

/// The deviation of each number over these values.
fn deviation(values: &[Vec<f64>], weights: &[[f64; 5]]) -> Vec<f64> {
    let one = |i: usize| {
        let sums = values
            .windows(5)
            .zip(weights)
            .map(|(five, weights)| five.iter().zip(weights).map(|(v, w)| w * v[i]).sum::<f64>());
        let mut squares = Squares::default();
        sums.for_each(|sum| squares.add(sum));
        squares.root() / (weights.len() as f64).sqrt()
    };
    let n = values.iter().map(Vec::len).min().unwrap_or(0);
    (0..n).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(f: impl Fn(f64) -> f64, at: f64) -> f64 {
        let mut rng = Stream::new(1, 0);
        measure(&[vec![1.0]], 1, false, &mut rng, |d| vec![f(at + d[0][0])]).deviations[0]
    }

    #[test]
    fn the_precision_inside_is_seen() {
        // A rounding is off by up to half a unit in the last place, by 0.29 in the mean square.
        let ulp = |epsilon: f64| 0.29 * epsilon * 0.5;
        let f64s = measured(|x| x.sin() / 3.0 + x.cos() / 7.0, 0.7);
        assert!((0.2..20.0).contains(&(f64s / ulp(f64::EPSILON))), "{f64s:e}");
        let f32s = measured(|x| f64::from((x as f32).sin() / 3.0 + (x as f32).cos() / 7.0), 0.7);
        assert!((0.2..20.0).contains(&(f32s / ulp(f64::from(f32::EPSILON)))), "{f32s:e}");
    }

    #[test]
    fn oscillations_are_no_round_off() {
        let wave = measured(|x| (2e4 * x).sin(), 0.7);
        // The argument of 1.4e4 is rounded to 1.8e-12.
        assert!(wave < 1e-11, "{wave:e}");
    }

    #[test]
    fn what_is_exact_has_that_of_its_argument() {
        let deviation = measured(|x| 2.0 * x, 0.5);
        assert!(deviation <= 2.0 * f64::EPSILON, "{deviation:e}");
    }
}
