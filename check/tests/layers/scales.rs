//! Mistakes in what is small beside something large.

use super::{Layer, Must, vector, wave};
use beit_check::report::Report;
use beit_check::{Arrays, gradients};
use ndarray::{Array1, array};

pub const LAYERS: &[Layer] = &[
    Layer::new("two_outputs_1e4", |wrong| two_outputs("two_outputs_1e4", 1e4, wrong)),
    Layer::new("two_outputs_1e6", |wrong| two_outputs("two_outputs_1e6", 1e6, wrong)),
    Layer::new("two_outputs_1e8", |wrong| two_outputs("two_outputs_1e8", 1e8, wrong)),
    Layer::new("two_outputs_1e10", |wrong| two_outputs("two_outputs_1e10", 1e10, wrong)),
    Layer::new("one_small_of_1e5", one_small_of_1e5).but(Must::NotFail, Must::NotPass),
    // An output of about 1 that no step moves could depend on it by as much.
    Layer::new("tiny_tensor_1e-14", tiny_tensor).but(Must::NotFail, Must::NotPass),
    // Of 1e-14 in a sum of about 1 two digits are left.
    Layer::new("tiny_tensor_1e-14_shared_output", |wrong| {
        shared_output("tiny_tensor_1e-14_shared_output", 1e-14, wrong)
    })
    .but(Must::NotFail, Must::NotPass),
    Layer::new("tiny_tensor_1e-8_shared_output", |wrong| {
        shared_output("tiny_tensor_1e-8_shared_output", 1e-8, wrong)
    }),
    Layer::new("mixed_scale_tensor", mixed_scale_tensor),
];

/// A large output beside one of about 1, whose gradient is half as much again.
fn two_outputs(name: &str, large: f64, wrong: bool) -> Report {
    gradients(
        name,
        &Arrays::new().with("x", array![0.7, -0.3]),
        |a| {
            let x = &a["x"];
            array![large * x[0].sin() * x[1].exp(), x[0].cos() * x[1]]
        },
        |a, dy| {
            let (x, small) = (&a["x"], dy[1] * if wrong { 1.5 } else { 1.0 });
            let first = dy[0] * large * x[0].cos() * x[1].exp() - small * x[0].sin() * x[1];
            let second = dy[0] * large * x[0].sin() * x[1].exp() + small * x[0].cos();
            Arrays::new().with("x", array![first, second])
        },
    )
}

/// 100,000 sines of sizes from 1 to 1e-6; one of the small gradients is missing.
fn one_small_of_1e5(wrong: bool) -> Report {
    let n = 100_000;
    let size = |i: usize| 10f64.powf(-6.0 * (i * 7919 % n) as f64 / n as f64);
    gradients(
        "one_small_of_1e5",
        &Arrays::new().with("x", wave(&[n], 0.37)),
        |a| {
            let x = vector(a, "x");
            Array1::from_shape_fn(n, |i| size(i) * x[i].sin())
        },
        |a, dy| {
            let x = vector(a, "x");
            let missing = |i: usize| wrong && i == 77_777;
            let slope = |i: usize| if missing(i) { 0.0 } else { size(i) * x[i].cos() };
            Arrays::new().with("x", Array1::from_shape_fn(n, |i| dy[i] * slope(i)))
        },
    )
}

/// Beside e^x₀ x₁ an output of size 1e-14, whose gradient has the wrong sign.
fn tiny_tensor(wrong: bool) -> Report {
    gradients(
        "tiny_tensor_1e-14",
        &Arrays::new().with("x", array![0.7, 0.2]).with("s", array![0.4, 0.9]),
        |a| array![large(a), 1e-14 * small(a)],
        |a, dy| tiny_back(a, dy[0], if wrong { -1e-14 } else { 1e-14 } * dy[1]),
    )
}

/// The same added to the same output.
fn shared_output(name: &str, size: f64, wrong: bool) -> Report {
    gradients(
        name,
        &Arrays::new().with("x", array![0.7, 0.2]).with("s", array![0.4, 0.9]),
        |a| array![large(a) + size * small(a)],
        |a, dy| tiny_back(a, dy[0], if wrong { -size } else { size } * dy[0]),
    )
}

fn large(a: &Arrays) -> f64 {
    a["x"][0].exp() * a["x"][1]
}

fn small(a: &Arrays) -> f64 {
    a["s"][0].sin() * a["s"][1]
}

fn tiny_back(a: &Arrays, dlarge: f64, dsmall: f64) -> Arrays {
    let (x, s) = (&a["x"], &a["s"]);
    Arrays::new()
        .with("x", array![dlarge * x[0].exp() * x[1], dlarge * x[0].exp()])
        .with("s", array![dsmall * s[0].cos() * s[1], dsmall * s[0].sin()])
}

/// ln(1 + x²) of numbers from 1e-8 to 1e8, one gradient half of what it should be.
fn mixed_scale_tensor(wrong: bool) -> Report {
    gradients(
        "mixed_scale_tensor",
        &Arrays::new().with("x", array![1e8, 1.0, 0.5, -3.0, 1e-8]),
        |a| a["x"].mapv(|x| (1.0 + x * x).ln()),
        |a, dy| {
            let factor = |x: f64| if wrong && x == 0.5 { 1.0 } else { 2.0 };
            Arrays::new().with("x", dy * a["x"].mapv(|x| factor(x) * x / (1.0 + x * x)))
        },
    )
}
