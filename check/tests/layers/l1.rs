//! A smooth loss with an L1 term, weights down to 1e-7.

use super::count;
use super::forty::Must;
use super::{forty, must};
use beit_check::report::Report;
use beit_check::{Arrays, gradients};
use ndarray::{Array0, Array1, Array2, Axis, arr0};

/// Points of each kind.
const POINTS: usize = 50;

/// mean exp(Xw − y) + λ |w|₁, every third of twelve weights `tiny` times as large; the sum of L1 slopes is
/// `times` what it should be.
fn lasso(lambda: f64, tiny: f64, point: usize, times: f64) -> Report {
    let n = 12;
    let wave = |(i, j): (usize, usize)| ((i * 13 + j * 7 + point) as f64 * 0.77).sin();
    let x = Array2::from_shape_fn((20, n), wave);
    let y = Array1::from_shape_fn(20, |i| ((i + point) as f64 * 0.3).cos());
    let w = Array1::from_shape_fn(n, |j| {
        let w = ((j * 5 + point) as f64 * 1.1).sin();
        if j % 3 == 0 { w * tiny } else { w }
    });
    let loss = |a: &Arrays| (x.dot(&a.vector("w")) - &y).mapv(f64::exp);
    gradients(
        "lasso",
        &Arrays::new().with("w", w),
        |a| {
            let mean = loss(a).mean().expect("rows");
            arr0(mean + lambda * a["w"].mapv(f64::abs).sum())
        },
        |a, dy: &Array0<f64>| {
            let smooth = x.t().dot(&(loss(a) / 20.0));
            let kinks = a.vector("w").mapv(|w| times * lambda * w.signum());
            Arrays::new().with("w", (smooth + kinks) * dy[()])
        },
    )
}

#[test]
fn tiny_weights_are_never_called_wrong() {
    let kinds = [(1e-3, 1e-6), (1e-3, 1e-7), (1e-2, 1e-6), (1e-4, 1e-6), (1e-3, 1e-4)];
    let all = kinds.map(|(lambda, tiny)| {
        let [_, _, fail] = count((0..POINTS).map(|point| lasso(lambda, tiny, point, 1.0)));
        format!("lambda {lambda} weights of {tiny}: {fail} FAIL")
    });
    assert!(all.iter().all(|line| line.ends_with(": 0 FAIL")), "{}", all.join("\n"));
}

#[test]
fn most_of_them_pass() {
    for (lambda, tiny) in [(1e-3, 1e-6), (1e-3, 1e-4), (1e-2, 1e-6)] {
        let [pass, ..] = count((0..POINTS).map(|point| lasso(lambda, tiny, point, 1.0)));
        assert!(10 * pass >= 9 * POINTS, "lambda {lambda} weights of {tiny}: {pass} of {POINTS}");
    }
}

#[test]
fn an_l1_term_taken_twice_never_passes() {
    for (lambda, tiny) in [(1e-3, 1e-6), (1e-3, 1e-4), (1e-2, 1e-7)] {
        let [pass, ..] = count((0..POINTS).map(|point| lasso(lambda, tiny, point, 2.0)));
        assert_eq!(pass, 0, "lambda {lambda} weights of {tiny}");
    }
}

/// Two layers with a ReLU, at normal numbers.
fn network(point: usize) -> Report {
    let wave = |(i, j): (usize, usize)| ((i * 31 + j * 17 + point * 101) as f64 * 0.7).sin();
    let numbers = |n: usize, k: usize| Array2::from_shape_fn((n, k), wave);
    let hidden = |a: &Arrays| {
        (a.matrix("x").dot(&a.matrix("w1")) + a.vector("b1")).mapv(|h: f64| h.max(0.0))
    };
    let at = Arrays::new()
        .with("x", numbers(8, 10))
        .with("w1", numbers(10, 16))
        .with("b1", numbers(1, 16).row(0).to_owned())
        .with("w2", numbers(16, 5));
    gradients(
        "network",
        &at,
        |a| hidden(a).dot(&a.matrix("w2")),
        |a, dy| {
            let h = hidden(a);
            let alive = h.mapv(|h| f64::from(u8::from(h > 0.0)));
            let dh = dy.dot(&a.matrix("w2").t()) * alive;
            Arrays::new()
                .with("x", dh.dot(&a.matrix("w1").t()))
                .with("w1", a.matrix("x").t().dot(&dh))
                .with("b1", dh.sum_axis(Axis(0)))
                .with("w2", h.t().dot(dy))
        },
    )
}

#[test]
fn relu_networks_pass() {
    for point in 0..POINTS {
        must(Must::NotFail, &network(point));
    }
    let [pass, ..] = count((0..POINTS).map(network));
    assert!(10 * pass >= 9 * POINTS, "{pass} of {POINTS}");
}

/// Two layers of which the first has rows of padding: exact zeros in x and in h.
#[test]
fn padded_rows_pass() {
    let mut x = forty::wave(&[6, 4], 0.9).into_dimensionality::<ndarray::Ix2>().expect("two axes");
    x.slice_mut(ndarray::s![4.., ..]).fill(0.0);
    let at = Arrays::new().with("x", x).with("w", forty::wave(&[4, 5], 1.3));
    let product = |a: &Arrays| forty::matrix(a, "x").dot(&forty::matrix(a, "w"));
    let report = gradients(
        "padded",
        &at,
        |a| product(a).mapv(|h: f64| h.max(0.0)),
        |a, dy| {
            let d = dy * &product(a).mapv(|h| f64::from(u8::from(h > 0.0)));
            let dx = d.dot(&forty::matrix(a, "w").t());
            Arrays::new().with("x", dx).with("w", forty::matrix(a, "x").t().dot(&d))
        },
    );
    must(Must::Pass, &report);
}
