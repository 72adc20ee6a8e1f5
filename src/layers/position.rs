//! Relative-position tables and position embeddings made to fit another grid.
//!
//! A model trained at one image size is used at another by resizing what it knows about positions.
//! Every method here is separable: a matrix per axis, applied to the rows and to the columns.

use crate::error::{Error, Result};
use ndarray::{Array2, ArrayView3, Axis};

/// How a relative-position bias table is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableResize {
    /// The original's way (`run_class_finetuning.py`): entries lie at distances that grow
    /// geometrically, so that those near the centre keep their meaning; cubic spline between them.
    /// Square grids only.
    Geometric,
    /// Bilinear on the plane of offsets, corners not aligned (the Hugging Face port).
    Bilinear,
    /// Bicubic with a = −0.75, otherwise as bilinear.
    Bicubic,
}

/// Resizes a bias table `[(2Gh−1)(2Gw−1)+3, H]` from one grid to another. The last three rows, which
/// belong to the class token, are kept. Equal grids return the table as it is.
pub fn resize_bias_table(
    table: &[f64],
    heads: usize,
    from: (usize, usize),
    to: (usize, usize),
    method: TableResize,
) -> Result<Vec<f64>> {
    let offsets = |(h, w): (usize, usize)| (2 * h - 1, 2 * w - 1);
    let ((sh, sw), (th, tw)) = (offsets(from), offsets(to));
    let planes = sh * sw * heads;
    assert_eq!(table.len(), planes + 3 * heads, "bias table of grid {from:?} with {heads} heads");
    if from == to {
        return Ok(table.to_vec());
    }
    let (rows, columns) = match method {
        TableResize::Bilinear => (bilinear(sh, th), bilinear(sw, tw)),
        TableResize::Bicubic => (bicubic(sh, th), bicubic(sw, tw)),
        TableResize::Geometric => {
            if from.0 != from.1 || to.0 != to.1 || from.0 < 3 {
                return Err(Error::config(format!(
                    "a bias table cannot be resized geometrically from grid {from:?} to {to:?}: \
                     the method is defined for square grids of at least 3x3; use bilinear"
                )));
            }
            let half = (th / 2) as f64;
            let at: Vec<f64> = (0..th).map(|i| i as f64 - half).collect();
            let axis = spline(&geometric_coordinates(sh, th), &at);
            (axis.clone(), axis)
        }
    };
    let mut out = separable(&table[..planes], (sh, sw, heads), &rows, &columns);
    out.extend_from_slice(&table[planes..]);
    Ok(out)
}

/// Resizes a position embedding `[1+Gh·Gw, C]` to another grid: bicubic, the class token's row kept.
pub fn resize_pos_embed(
    embed: &[f64],
    width: usize,
    from: (usize, usize),
    to: (usize, usize),
) -> Vec<f64> {
    let (class, patches) = embed.split_at(width);
    assert_eq!(patches.len(), from.0 * from.1 * width, "position embedding of grid {from:?}");
    let mut out = class.to_vec();
    let (rows, columns) = (bicubic(from.0, to.0), bicubic(from.1, to.1));
    out.extend(separable(patches, (from.0, from.1, width), &rows, &columns));
    out
}

/// Where the `s` entries of an axis lie when it is resized geometrically to `t`: ±1, ±(1+q),
/// ±(1+q+q²), ... with the ratio q at which the outermost reach `t` div 2. As in the original, q is
/// the last value a bisection tried, not its limit.
pub fn geometric_coordinates(s: usize, t: usize) -> Vec<f64> {
    let (n, reach) = (s / 2, (t / 2) as f64);
    let (mut lo, mut hi, mut q) = (1.01, 1.5, 1.01);
    while hi - lo > 1e-6 {
        q = (lo + hi) / 2.0;
        let sum = (1.0 - f64::powi(q, n as i32)) / (1.0 - q);
        if sum > reach { hi = q } else { lo = q }
    }
    let steps = (0..n).scan(0.0, |c, k| {
        *c += f64::powi(q, k as i32);
        Some(*c)
    });
    let right: Vec<f64> = steps.collect();
    let left = right.iter().rev().map(|c| -c);
    left.chain([0.0]).chain(right.iter().copied()).collect()
}

/// out[i,j,·] = Σ rows[i,k] columns[j,l] x[k,l,·]
fn separable(
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

fn bilinear(n: usize, m: usize) -> Array2<f64> {
    unaligned(n, m, |at| {
        let (k, t) = (at.max(0.0).floor(), at.max(0.0).fract());
        vec![(k as isize, 1.0 - t), (k as isize + 1, t)]
    })
}

/// Cubic convolution with a = −0.75, as PyTorch's.
fn bicubic(n: usize, m: usize) -> Array2<f64> {
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
fn spline(x: &[f64], at: &[f64]) -> Array2<f64> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometric_coordinates_by_hand() {
        // 14x14 to 24x24; values computed once with the formula in the docs by a short script.
        let x = geometric_coordinates(27, 47);
        assert_eq!((x.len(), x[13], x[14]), (27, 0.0, 1.0));
        assert!((x[15] - 2.0903).abs() < 1e-4 && (x[26] - 22.999934).abs() < 1e-6);
        assert!((geometric_coordinates(27, 63)[26] - 31.000182).abs() < 1e-6);
    }

    #[test]
    fn a_ratio_at_its_bound_clamps_the_ends() {
        // From 4x4 to 6x6 the outermost entry stays inside: table √(7i+j).
        let table: Vec<f64> = (0..49).map(|i| f64::from(i).sqrt()).chain([7.0, 8.0, 9.0]).collect();
        let out = resize_bias_table(&table, 1, (4, 4), (6, 6), TableResize::Geometric).unwrap();
        let wanted = [(0, 2, 0.845906), (2, 0, 2.238058), (5, 5, 4.898979), (10, 10, 6.928203)];
        for (i, j, value) in wanted {
            assert!((out[i * 11 + j] - value).abs() < 1e-6, "{i},{j}: {}", out[i * 11 + j]);
        }
        assert_eq!(out[121..], [7.0, 8.0, 9.0]);
    }

    #[test]
    fn every_method_keeps_a_constant_and_an_equal_grid() {
        let table = vec![2.5; 25 + 3];
        for method in [TableResize::Geometric, TableResize::Bilinear, TableResize::Bicubic] {
            let out = resize_bias_table(&table, 1, (3, 3), (5, 5), method).unwrap();
            assert_eq!(out.len(), 84);
            assert!(out.iter().all(|x| (x - 2.5).abs() < 1e-12), "{method:?}");
            assert_eq!(resize_bias_table(&table, 1, (3, 3), (3, 3), method).unwrap(), table);
        }
        let wide = vec![0.0; 15 + 3];
        assert!(resize_bias_table(&wide, 1, (2, 3), (3, 4), TableResize::Geometric).is_err());
        assert_eq!(
            resize_bias_table(&wide, 1, (2, 3), (3, 4), TableResize::Bilinear).unwrap().len(),
            38
        );
    }
}
