//! Layers of everyday sizes that compute in f32: right ones pass at the resolution that f32 leaves, and wrong
//! ones do not.

use super::forty::{Must, wave};
use super::must;
use beit_check::report::Report;
use beit_check::{Arrays, gradients_f32};
use ndarray::{Array1, Array2, Axis, array};

/// Numbers near a normal distribution, small ones beside large ones.
fn normal(shape: (usize, usize), seed: u64) -> Array2<f32> {
    let mut state = seed;
    let mut uniform = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    let mut one = || ((0..12).map(|_| uniform()).sum::<f64>() - 6.0) as f32;
    Array2::from_shape_simple_fn(shape, &mut one)
}

fn row(n: usize, seed: u64) -> Array1<f32> {
    normal((1, n), seed).row(0).to_owned()
}

/// act(x Wᵀ), with one element of dW off by a part.
fn linear(
    (n, i, o): (usize, usize, usize),
    act: fn(f32) -> f32,
    slope: fn(f32) -> f32,
    off: f32,
) -> Report {
    let z = |a: &Arrays<f32>| a.matrix("x").dot(&a.matrix("w").t());
    let w = normal((o, i), 200_000) / (i as f32).sqrt();
    gradients_f32(
        &format!("linear, {n}x{i} to {o}"),
        &Arrays::new().with("x", normal((n, i), 100_000)).with("w", w),
        |a| z(a).mapv(act),
        |a, dy| {
            let dz = dy * &z(a).mapv(slope);
            let mut dw = dz.t().dot(&a.matrix("x"));
            dw[[1, 3]] *= 1.0 + off;
            Arrays::new().with("x", dz.dot(&a.matrix("w"))).with("w", dw)
        },
    )
}

fn layer_norm((n, c): (usize, usize), off: f32) -> Report {
    let norm = |a: &Arrays<f32>| {
        let x = a.matrix("x");
        let mean = |x: &Array2<f32>| x.mean_axis(Axis(1)).expect("columns").insert_axis(Axis(1));
        let d = &x - &mean(&x.to_owned());
        let root = mean(&(&d * &d)).mapv(|v| 1.0 / (v + 1e-5).sqrt());
        (&d * &root, root)
    };
    let at = Arrays::new().with("x", normal((n, c), 100_000));
    gradients_f32(
        &format!("layer norm, {n}x{c}"),
        &at.with("w", row(c, 200_000)).with("b", row(c, 300_000)),
        |a| norm(a).0 * a.vector("w") + a.vector("b"),
        |a, dy| {
            let (h, root) = norm(a);
            let mean = |x: Array2<f32>| x.mean_axis(Axis(1)).expect("columns").insert_axis(Axis(1));
            let dh = dy * &a.vector("w");
            let mut dx = (&dh - &mean(dh.clone()) - &h * &mean(&dh * &h)) * &root;
            dx[[1, 3]] *= 1.0 + off;
            let dw = (dy * &h).sum_axis(Axis(0));
            Arrays::new().with("x", dx).with("w", dw).with("b", dy.sum_axis(Axis(0)))
        },
    )
}

fn softmax((n, c): (usize, usize), off: f32) -> Report {
    let p = |a: &Arrays<f32>| {
        let e = a.matrix("x").mapv(f32::exp);
        &e / &e.sum_axis(Axis(1)).insert_axis(Axis(1))
    };
    gradients_f32(
        &format!("softmax, {n}x{c}"),
        &Arrays::new().with("x", normal((n, c), 100_000)),
        p,
        |a, dy| {
            let p = p(a);
            let mean = (&p * dy).sum_axis(Axis(1)).insert_axis(Axis(1));
            let mut dx = &p * &(dy - &mean);
            dx[[1, 3]] *= 1.0 + off;
            Arrays::new().with("x", dx)
        },
    )
}

const SMALL: (usize, usize) = (4, 16);
const LARGE: (usize, usize) = (8, 32);

#[test]
fn layer_norm_in_f32() {
    for size in [SMALL, LARGE] {
        must(Must::Pass, &layer_norm(size, 0.0));
        must(Must::Fail, &layer_norm(size, 0.01));
    }
}

#[test]
fn softmax_in_f32() {
    for size in [SMALL, LARGE] {
        must(Must::Pass, &softmax(size, 0.0));
        must(Must::Fail, &softmax(size, 0.2));
    }
}

#[test]
fn linear_in_f32() {
    for size in [(4, 16, 8), (8, 32, 64)] {
        must(Must::Pass, &linear(size, |z| z, |_| 1.0, 0.0));
        must(Must::Fail, &linear(size, |z| z, |_| 1.0, 0.01));
        let slope = |z: f32| 1.0 - z.tanh().powi(2);
        must(Must::Pass, &linear(size, f32::tanh, slope, 0.0));
        must(Must::Fail, &linear(size, f32::tanh, slope, 0.1));
    }
    let slope = |z: f32| f32::from(u8::from(z > 0.0));
    must(Must::Pass, &linear((4, 16, 8), |z| z.max(0.0), slope, 0.0));
    must(Must::Fail, &linear((4, 16, 8), |z| z.max(0.0), slope, 0.1));
    must(Must::NotFail, &linear((8, 32, 64), |z| z.max(0.0), slope, 0.0));
}

/// What is not moved by a step has no part in its round-off.
#[test]
fn small_numbers_beside_large_ones_in_f32() {
    let x = array![0.0f32, 1e-3, -1e-3, 1.0];
    let report = gradients_f32(
        "relu",
        &Arrays::new().with("x", x),
        |a| a["x"].mapv(|x| x.max(0.0)),
        |a, dy| Arrays::new().with("x", dy * &a["x"].mapv(|x| f32::from(u8::from(x > 0.0)))),
    );
    must(Must::Pass, &report);
    let x = wave(&[64], 0.7).mapv(|x| (x * x * x) as f32);
    let report = gradients_f32(
        "3x",
        &Arrays::new().with("x", x),
        |a| a["x"].mapv(|x| 3.0 * x),
        |_, dy| Arrays::new().with("x", dy * 3.0),
    );
    must(Must::Pass, &report);
}
