//! Principal axes of points, in f64, the same to the bit on any number of threads.

use rayon::prelude::*;

/// Vectors that are iterated beside those asked for: what lies close to the last of these slows nothing down.
const BESIDE: usize = 6;
const ITERATIONS: usize = 1000;
/// Length of C v − λ v, as a share of the largest λ, at which an axis is good enough.
const GOOD: f64 = 1e-10;

/// Axes of the greatest variance.
#[derive(Clone, Debug)]
pub struct PrincipalAxes {
    /// Unit vectors, the greatest variance first; of each, the coordinate that is greatest in size is above 0.
    pub axes: Vec<Vec<f64>>,
    /// Variance along each.
    pub variances: Vec<f64>,
    /// Variance along all directions together.
    pub total: f64,
    mean: Vec<f64>,
}

impl PrincipalAxes {
    /// Coordinates of a point along the axes, from the mean.
    pub fn coordinates(&self, point: &[f64]) -> Vec<f64> {
        let along = |axis: &Vec<f64>| {
            axis.iter().zip(point).zip(&self.mean).map(|((a, x), m)| a * (x - m)).sum()
        };
        self.axes.iter().map(along).collect()
    }

    /// Share of the variance that lies along each axis; 0 where there is none at all.
    pub fn shares(&self) -> Vec<f64> {
        let share = |v: &f64| if self.total > 0.0 { v / self.total } else { 0.0 };
        self.variances.iter().map(share).collect()
    }
}

/// The first `count` axes of `points` `[n,width]`, by iterating a subspace of their covariance and solving for its
/// axes (Rayleigh and Ritz).
pub fn principal_axes(points: &[f64], width: usize, count: usize) -> PrincipalAxes {
    let n = points.len() / width;
    let column = |i: usize| points.iter().skip(i).step_by(width);
    let mean: Vec<f64> = (0..width).map(|i| column(i).sum::<f64>() / n as f64).collect();
    let centred: Vec<Vec<f64>> =
        (0..width).into_par_iter().map(|i| column(i).map(|x| x - mean[i]).collect()).collect();
    let covariance: Vec<Vec<f64>> = (0..width)
        .into_par_iter()
        .map(|i| centred.iter().map(|other| dot(&centred[i], other) / n as f64).collect())
        .collect();
    let total = (0..width).map(|i| covariance[i][i]).sum();
    let times = |v: &Vec<f64>| covariance.par_iter().map(|row| dot(row, v)).collect::<Vec<f64>>();
    let (count, most) = (count.min(width), (count + BESIDE).min(width));
    // Some directions, none of which is likely to lie across an axis that is looked for.
    let start = |j: usize| (0..width).map(|i| (0.7 * ((i + 1) * (j + 1)) as f64).cos()).collect();
    let mut basis: Vec<Vec<f64>> = (0..most).map(start).collect();
    let mut variances = vec![0.0; most];
    for _ in 0..ITERATIONS {
        orthonormalise(&mut basis);
        let images: Vec<Vec<f64>> = basis.iter().map(times).collect();
        let small = basis.iter().map(|b| images.iter().map(|i| dot(b, i)).collect()).collect();
        let (values, turns) = eigen(small);
        let turned = |vectors: &[Vec<f64>]| -> Vec<Vec<f64>> {
            turns.iter().map(|turn| combined(vectors, turn)).collect()
        };
        (basis, variances) = (turned(&basis), values);
        let images = turned(&images);
        let rest = |j: usize| {
            let off = images[j].iter().zip(&basis[j]).map(|(x, b)| x - variances[j] * b);
            off.map(|x| x * x).sum::<f64>().sqrt()
        };
        if (0..count).all(|j| rest(j) <= GOOD * variances[0].abs()) {
            break;
        }
        basis = images;
    }
    orthonormalise(&mut basis);
    basis.truncate(count);
    basis.iter_mut().for_each(|axis| point_up(axis));
    variances.truncate(count);
    PrincipalAxes { axes: basis, variances, total, mean }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn combined(vectors: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; vectors[0].len()];
    for (vector, weight) in vectors.iter().zip(weights) {
        sum.iter_mut().zip(vector).for_each(|(s, v)| *s += weight * v);
    }
    sum
}

/// Gram and Schmidt, twice for the digits; what depends on those before becomes 0.
fn orthonormalise(vectors: &mut [Vec<f64>]) {
    for j in 0..vectors.len() {
        let (before, rest) = vectors.split_at_mut(j);
        let own = &mut rest[0];
        let length = dot(own, own).sqrt();
        for other in before.iter().chain(before.iter()) {
            let along = dot(own, other);
            own.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
        }
        let left = dot(own, own).sqrt();
        let scale = if left > 1e-13 * length { 1.0 / left } else { 0.0 };
        own.iter_mut().for_each(|x| *x *= scale);
    }
}

/// Eigenvalues of a small symmetric matrix, the greatest first, and the eigenvector of each, by Jacobi's rotations.
fn eigen(mut a: Vec<Vec<f64>>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = a.len();
    let mut vectors: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for _ in 0..30 {
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q] == 0.0 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let (c, s) = (1.0 / (t * t + 1.0).sqrt(), t / (t * t + 1.0).sqrt());
                let turn = |x: f64, y: f64| (c * x - s * y, s * x + c * y);
                for row in &mut a {
                    (row[p], row[q]) = turn(row[p], row[q]);
                }
                for k in 0..n {
                    (a[p][k], a[q][k]) = turn(a[p][k], a[q][k]);
                    (vectors[p][k], vectors[q][k]) = turn(vectors[p][k], vectors[q][k]);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j][j].total_cmp(&a[i][i]));
    order.into_iter().map(|i| (a[i][i], std::mem::take(&mut vectors[i]))).unzip()
}

/// Turns an axis so that its coordinate of the greatest size, the first of equals, is above 0.
fn point_up(axis: &mut [f64]) {
    let most = axis.iter().fold(0.0f64, |most, x| if x.abs() > most.abs() { *x } else { most });
    if most < 0.0 {
        axis.iter_mut().for_each(|x| *x = -*x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four points a along one unit vector and four b along another, both ways, around a middle.
    fn cross(u: [f64; 3], a: f64, v: [f64; 3], b: f64) -> Vec<f64> {
        let at = |s: f64, w: [f64; 3]| [5.0 + s * w[0], -1.0 + s * w[1], 2.0 + s * w[2]];
        [at(a, u), at(-a, u), at(b, v), at(-b, v)].concat()
    }

    #[test]
    fn a_cross_has_its_arms_as_axes() {
        let (u, v) = ([0.6, 0.0, -0.8], [0.0, 1.0, 0.0]);
        let found = principal_axes(&cross(u, 2.0, v, 1.0), 3, 2);
        // Of four points two lie ±2 along u: a variance of 2; and ±1 along v: ½. u turned so that −0.8 is above 0.
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(near(&found.variances, &[2.0, 0.5]), "{found:?}");
        assert!(near(&found.axes[0], &[-0.6, 0.0, 0.8]) && near(&found.axes[1], &v), "{found:?}");
        assert!((found.total - 2.5).abs() < 1e-12 && near(&found.shares(), &[0.8, 0.2]));
        assert!(near(&found.coordinates(&[5.0 - 0.6, -1.0, 2.8]), &[1.0, 0.0]));
    }

    #[test]
    fn axes_of_many_directions_are_eigenvectors() {
        // 200 points in 40 directions whose deviations fall, mixed by a sum of neighbours.
        let noise = |i: usize| ((i * 7919 % 1009) as f64 / 1009.0 - 0.5) * 3.0;
        let mut points = Vec::new();
        for n in 0..200 {
            let raw: Vec<f64> = (0..40).map(|i| noise(n * 41 + i * i) / (i + 1) as f64).collect();
            points.extend((0..40).map(|i| raw[i] + 0.5 * raw[(i + 1) % 40]));
        }
        let found = principal_axes(&points, 40, 2);
        let all = principal_axes(&points, 40, 40);
        assert!((all.variances.iter().sum::<f64>() - all.total).abs() < 1e-9 * all.total);
        assert!(all.variances.is_sorted_by(|a, b| a >= b));
        for j in 0..2 {
            assert!((found.variances[j] - all.variances[j]).abs() < 1e-9 * all.total);
            let along: Vec<f64> = points.chunks(40).map(|p| found.coordinates(p)[j]).collect();
            let variance = dot(&along, &along) / 200.0;
            assert!((variance - found.variances[j]).abs() < 1e-9 * all.total, "{j}");
            assert!((dot(&found.axes[j], &all.axes[j]) - 1.0).abs() < 1e-8, "{j}");
        }
        assert!(dot(&found.axes[0], &found.axes[1]).abs() < 1e-12);
    }

    #[test]
    fn equal_points_have_no_variance() {
        let found = principal_axes(&[1.0, 2.0, 3.0].repeat(4), 3, 2);
        assert_eq!((found.total, found.shares()), (0.0, vec![0.0, 0.0]));
        assert!(found.coordinates(&[1.0, 2.0, 3.0]).iter().all(|x| *x == 0.0));
        // A single direction, and fewer directions than axes.
        let line = principal_axes(&[0.0, 0.0, 1.0, 1.0, 2.0, 2.0], 2, 2);
        assert!((line.shares()[0] - 1.0).abs() < 1e-12 && line.variances[1].abs() < 1e-12);
        assert_eq!(principal_axes(&[0.0, 1.0, 5.0], 1, 2).axes, [[1.0]]);
    }
}
