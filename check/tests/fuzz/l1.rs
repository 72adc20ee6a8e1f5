//! A smooth loss with an L1 term, most of whose weights are nearly or exactly 0.

use super::case::{Case, Draw, Family, vector};
use super::layers::dot;

pub fn families() -> Vec<Family> {
    vec![
        Family::hard("lasso, tiny weights", |d| {
            let tiny = d.log(1e-7, 1e-3);
            lasso(d, tiny, |e| e * e, |e| 2.0 * e)
        }),
        Family::hard("exp loss + L1, tiny weights", |d| {
            let tiny = d.log(1e-7, 1e-3);
            lasso(d, tiny, f64::exp, f64::exp)
        }),
        Family::hard("lasso, exact zeros", |d| lasso(d, 0.0, |e| e * e, |e| 2.0 * e)),
        Family::hard("elastic net, exact zeros", |d| {
            let lambda = d.log(1e-4, 1.0);
            let x = (0..12).map(|i| if i % 3 == 0 { 0.0 } else { d.log(0.05, 1.0) * d.sign() });
            let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
            let slope = move |x: f64| 2.0 * x + lambda * sign(x);
            let forward = move |v: &[Vec<f64>]| {
                vec![v[0].iter().map(|w| w * w + lambda * w.abs()).sum::<f64>()]
            };
            let backward = move |v: &[Vec<f64>], dy: &[f64]| {
                vec![v[0].iter().map(|w| slope(*w) * dy[0]).collect()]
            };
            Case::new(vec![vector("w", x.collect())], forward, backward)
        }),
        Family::hard("group lasso, small group", |d| {
            let (n, size) = (d.integer(2, 6), d.log(1e-7, 1.0));
            let lambda = d.log(1e-4, 1.0);
            let x: Vec<f64> = d.vector(n, size);
            let forward = move |v: &[Vec<f64>]| {
                let smooth: f64 = v[0].iter().map(|w| (w - 0.3).powi(2)).sum();
                vec![smooth + lambda * dot(&v[0], &v[0]).sqrt()]
            };
            let backward = move |v: &[Vec<f64>], dy: &[f64]| {
                let length = dot(&v[0], &v[0]).sqrt();
                vec![v[0].iter().map(|w| (2.0 * (w - 0.3) + lambda * w / length) * dy[0]).collect()]
            };
            Case::new(vec![vector("w", x)], forward, backward)
        }),
    ]
}

/// mean(loss(Xw − y)) + λ |w|₁, a third of the weights `tiny` times as large as the others.
fn lasso(d: &mut Draw, tiny: f64, loss: fn(f64) -> f64, slope: fn(f64) -> f64) -> Case {
    let (n, rows) = (8, 12);
    let (x, y) = (d.vector(n * rows, 1.0), d.vector(rows, 1.0));
    let lambda = d.log(1e-4, 1e-2);
    let weight = |i: usize, w: f64| if i.is_multiple_of(3) { tiny * w } else { w };
    let w = (0..n).map(|i| weight(i, d.log(0.1, 1.0) * d.sign())).collect();
    let residuals = {
        let x = x.clone();
        move |w: &[f64]| -> Vec<f64> {
            x.chunks(n).zip(&y).map(|(row, y)| dot(row, w) - y).collect()
        }
    };
    let again = residuals.clone();
    let forward = move |v: &[Vec<f64>]| {
        let mean = again(&v[0]).iter().map(|e| loss(*e)).sum::<f64>() / rows as f64;
        vec![mean + lambda * v[0].iter().map(|w| w.abs()).sum::<f64>()]
    };
    let backward = move |v: &[Vec<f64>], dy: &[f64], lambda: f64| {
        let e: Vec<f64> = residuals(&v[0]).iter().map(|e| slope(*e) / rows as f64).collect();
        let smooth = |j: usize| -> f64 { (0..rows).map(|r| e[r] * x[r * n + j]).sum() };
        let sign = |w: f64| if w == 0.0 { 0.0 } else { w.signum() };
        vec![(0..n).map(|j| (smooth(j) + lambda * sign(v[0][j])) * dy[0]).collect()]
    };
    let wrong = backward.clone();
    let case = Case::new(vec![vector("w", w)], forward, move |v, dy| backward(v, dy, lambda))
        .or_wrong(move |v, dy| wrong(v, dy, 2.0 * lambda));
    // An element that is off at a weight of exactly 0 can still be a subgradient.
    if tiny == 0.0 { case.only_own() } else { case }
}
