//! Round-off, measured.
//!
//! Over displacements so small that a function is a straight line but for its round-off, the fourth
//! differences of its values are round-off alone: of independent errors of deviation σ they have the
//! variance C(8, 4) σ² (Hamming's difference table; Moré and Wild, 2011). The displacement is 2⁻²⁰ of
//! the size of each tensor, which is still some units in the last place of f32, so that the round-off of
//! a function that computes in f32 inside is seen as well as that of f64. Of five
//! directions the second smallest deviation counts, which leaves out those that met a kink.

use crate::random::Stream;

/// Displacement between two values, relative to the size of the tensor.
const SPACING: f64 = 1.0 / (1 << 20) as f64;
/// Values along a direction.
const POINTS: usize = 8;
/// Directions.
const DIRECTIONS: usize = 5;
/// C(8, 4)
const VARIANCE: f64 = 70.0;

/// Standard deviation of the round-off of each number that `f` returns. `f` gets displacements of all
/// variables, which have the given lengths and sizes, and must return equally many numbers each time.
pub(super) fn deviations(
    shapes: &[(usize, f64)],
    rng: &mut Stream,
    mut f: impl FnMut(&[Vec<f64>]) -> Vec<f64>,
) -> Vec<f64> {
    let mut found = Vec::new();
    for _ in 0..DIRECTIONS {
        // Of no even number of units in the last place, which would round alike each time.
        let mut length = || SPACING * rng.uniform(0.6, 1.6) * rng.sign();
        let unit: Vec<Vec<f64>> =
            (shapes.iter()).map(|&(n, size)| (0..n).map(|_| size * length()).collect()).collect();
        let values: Vec<Vec<f64>> = (0..POINTS)
            .map(|k| {
                let times = |v: &Vec<f64>| v.iter().map(|v| k as f64 * v).collect();
                f(&unit.iter().map(times).collect::<Vec<_>>())
            })
            .collect();
        found.push(along(&values));
    }
    let n = found[0].len();
    let second = |i: usize| {
        // Displacements may lead out of the domain.
        let finite = found.iter().map(|d| d[i]).filter(|d| d.is_finite());
        let mut all: Vec<f64> = finite.collect();
        all.sort_by(f64::total_cmp);
        all.get(1).or(all.first()).copied().unwrap_or(0.0)
    };
    (0..n).map(second).collect()
}

/// The deviation of each number over equally spaced values.
fn along(values: &[Vec<f64>]) -> Vec<f64> {
    let one = |i: usize| {
        let mut table: Vec<f64> = values.iter().map(|v| v[i]).collect();
        for _ in 0..4 {
            table = table.windows(2).map(|pair| pair[1] - pair[0]).collect();
        }
        let squares = table.iter().map(|d| d * d).sum::<f64>();
        (squares / table.len() as f64 / VARIANCE).sqrt()
    };
    let n = values.iter().map(Vec::len).min().unwrap_or(0);
    (0..n).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(f: impl Fn(f64) -> f64, at: f64) -> f64 {
        let mut rng = Stream::new(1, 0);
        deviations(&[(1, 1.0)], &mut rng, |d| vec![f(at + d[0][0])])[0]
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
    fn what_is_exact_has_that_of_its_argument() {
        let deviation = measured(|x| 2.0 * x, 0.5);
        assert!(deviation <= 2.0 * f64::EPSILON, "{deviation:e}");
    }
}
