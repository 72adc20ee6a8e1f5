//! Interpolation on a grid, each axis by a matrix.

use ndarray::{Array2, ArrayView3, Axis};

/// out[i,j,·] = Σ rows[i,k] columns[j,l] x[k,l,·]
pub fn separable(
    x: &[f64],
    (h, w, depth): (usize, usize, usize),
    rows: &Array2<f64>,
    columns: &Array2<f64>,
) -> Vec<f64> {
    let x = ArrayView3::from_shape((h, w, depth), x).expect("lengths were checked");
    let mut out = vec![0.0; rows.nrows() * columns.nrows() * depth];
    for (d, plane) in x.axis_iter(Axis(2)).enumerate() {
        let plane = rows.dot(&plane).dot(&columns.t());
        for (out, value) in out.iter_mut().skip(d).step_by(depth).zip(&plane) {
            *out = *value;
        }
    }
    out
}

/// Matrix `[m,n]` of an axis resized with corners not aligned: output i lies at (i+½)n/m − ½, and
/// `taps` gives inputs and weights for such a place.
fn unaligned(n: usize, m: usize, taps: impl Fn(f64) -> Vec<(isize, f64)>) -> Array2<f64> {
    let mut matrix = Array2::zeros((m, n));
    for i in 0..m {
        for (k, weight) in taps((i as f64 + 0.5) * n as f64 / m as f64 - 0.5) {
            matrix[[i, k.clamp(0, n as isize - 1) as usize]] += weight;
        }
    }
    matrix
}

pub fn bilinear(n: usize, m: usize) -> Array2<f64> {
    unaligned(n, m, |at| {
        let (k, t) = (at.max(0.0).floor(), at.max(0.0).fract());
        vec![(k as isize, 1.0 - t), (k as isize + 1, t)]
    })
}

/// Cubic convolution with a = −0.75, as PyTorch's.
pub fn bicubic(n: usize, m: usize) -> Array2<f64> {
    const A: f64 = -0.75;
    let near = |t: f64| ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
    let far = |t: f64| A * (((t - 5.0) * t + 8.0) * t - 4.0);
    unaligned(n, m, |at| {
        let (k, t) = (at.floor() as isize, at - at.floor());
        let weights = [far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)];
        (k - 1..).zip(weights).collect()
    })
}

/// Matrix of the interpolating cubic spline with not-a-knot ends through knots `x` (at least 4),
/// evaluated at `at`, which is clamped to the knots' range.
pub fn spline(x: &[f64], at: &[f64]) -> Array2<f64> {
    let n = x.len();
    let h: Vec<f64> = x.windows(2).map(|p| p[1] - p[0]).collect();
    // System · M = right · y for the second derivatives M.
    let (mut system, mut right) = (Array2::zeros((n, n)), Array2::zeros((n, n)));
    for i in 1..n - 1 {
        let (a, b) = (h[i - 1], h[i]);
        system[[i, i - 1]] = a;
        system[[i, i]] = 2.0 * (a + b);
        system[[i, i + 1]] = b;
        right[[i, i - 1]] = 6.0 / a;
        right[[i, i]] = -6.0 / a - 6.0 / b;
        right[[i, i + 1]] = 6.0 / b;
    }
    // Not a knot: the third derivative does not jump at the second knot and at the last but one.
    for (row, i) in [(0, 0), (n - 1, n - 3)] {
        system[[row, i]] = h[i + 1];
        system[[row, i + 1]] = -h[i] - h[i + 1];
        system[[row, i + 2]] = h[i];
    }
    solve(&mut system, &mut right);
    let mut matrix = Array2::zeros((at.len(), n));
    for (i, &at) in at.iter().enumerate() {
        let at = at.clamp(x[0], x[n - 1]);
        let k = x.partition_point(|&x| x <= at).clamp(1, n - 1) - 1;
        let (l, r, h) = (x[k + 1] - at, at - x[k], h[k]);
        matrix[[i, k]] = l / h;
        matrix[[i, k + 1]] = r / h;
        let (ml, mr) = ((l * l * l / h - h * l) / 6.0, (r * r * r / h - h * r) / 6.0);
        let (second_l, second_r) = (right.row(k), right.row(k + 1));
        matrix.row_mut(i).zip_mut_with(&second_l, |w, s| *w += ml * s);
        matrix.row_mut(i).zip_mut_with(&second_r, |w, s| *w += mr * s);
    }
    matrix
}

/// right <- system⁻¹ right, by elimination with row pivoting; destroys `system`.
fn solve(system: &mut Array2<f64>, right: &mut Array2<f64>) {
    let n = system.nrows();
    for k in 0..n {
        let size = |i: &usize| system[[*i, k]].abs();
        let pivot = (k..n).max_by(|a, b| size(a).total_cmp(&size(b))).unwrap_or(k);
        for matrix in [&mut *system, &mut *right] {
            for j in 0..n {
                matrix.swap([k, j], [pivot, j]);
            }
        }
        for i in (0..n).filter(|&i| i != k) {
            let factor = system[[i, k]] / system[[k, k]];
            if factor != 0.0 {
                for matrix in [&mut *system, &mut *right] {
                    let (from, mut to) =
                        matrix.multi_slice_mut((ndarray::s![k, ..], ndarray::s![i, ..]));
                    to.scaled_add(-factor, &from);
                }
            }
        }
    }
    for k in 0..n {
        let pivot = system[[k, k]];
        right.row_mut(k).mapv_inplace(|x| x / pivot);
    }
}
