//! Functions of each element by itself.

use super::{Layer, Must, vector, wave};
use beit_check::report::Report;
use beit_check::{Arrays, gradients};
use ndarray::{Array1, ArrayD, array};

/// √(2/π)
const ROOT: f64 = 0.797_884_560_802_865_4;

pub const LAYERS: &[Layer] = &[
    Layer::new("gelu_tanh", gelu_tanh),
    Layer::new("inplace_alias", inplace_alias),
    Layer::new("stop_gradient", stop_gradient),
    Layer::new("huber_only_tail", huber_only_tail),
    // No element is in the tail.
    Layer::new("huber_tail_unvisited", huber_tail_unvisited).but(Must::Pass, Must::Same),
    // No element is alive.
    Layer::new("dead_relu", dead_relu).but(Must::NotFail, Must::Same),
    Layer::new("floor_straight_through", floor_straight_through),
];

/// One function of each element of x.
fn each(name: &str, x: ArrayD<f64>, f: impl Fn(f64) -> f64, slope: impl Fn(f64) -> f64) -> Report {
    gradients(
        name,
        &Arrays::new().with("x", x),
        |a| a["x"].mapv(&f),
        |a, dy| Arrays::new().with("x", dy * a["x"].mapv(&slope)),
    )
}

/// Of d(0.044715 x³) the 3 is forgotten.
fn gelu_tanh(wrong: bool) -> Report {
    let inner = |x: f64| (ROOT * (x + 0.044_715 * x * x * x)).tanh();
    let cubic = if wrong { 0.044_715 } else { 3.0 * 0.044_715 };
    let slope = |x: f64| {
        let t = inner(x);
        0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * ROOT * (1.0 + cubic * x * x)
    };
    each("gelu_tanh", wave(&[3, 4], 0.9), |x| 0.5 * x * (1.0 + inner(x)), slope)
}

/// x² + relu(x), the relu in place: the backward of x² reads what it left.
fn inplace_alias(wrong: bool) -> Report {
    let slope = |x: f64| {
        let read = if wrong { x.max(0.0) } else { x };
        2.0 * read + f64::from(u8::from(x > 0.0))
    };
    each("inplace_alias", wave(&[6], 1.8), |x| x * x + x.max(0.0), slope)
}

/// |z − stop(z/2)|², with the gradient as if nothing were stopped.
fn stop_gradient(wrong: bool) -> Report {
    let start = wave(&[5], 0.9);
    let stopped = &start * 0.5;
    gradients(
        "stop_gradient",
        &Arrays::new().with("z", start.clone()),
        |a| (&a["z"] - &stopped).mapv(|d| d * d),
        |a, dy| {
            let factor = if wrong { 0.5 } else { 1.0 };
            Arrays::new().with("z", dy * &(&a["z"] - &stopped).mapv(|d| 2.0 * d) * factor)
        },
    )
}

/// The parabola's slope in the tail, too.
fn huber(name: &str, x: Array1<f64>, wrong: bool) -> Report {
    let value = |x: f64| if x.abs() < 1.0 { 0.5 * x * x } else { x.abs() - 0.5 };
    let slope = |x: f64| if x.abs() < 1.0 || wrong { x } else { x.signum() };
    each(name, x.into_dyn(), value, slope)
}

fn huber_only_tail(wrong: bool) -> Report {
    huber("huber_only_tail", array![0.2, -0.4, 0.7, 3.0], wrong)
}

fn huber_tail_unvisited(wrong: bool) -> Report {
    huber("huber_tail_unvisited", array![0.2, -0.4, 0.7], wrong)
}

/// No gradient where the unit is alive.
fn dead_relu(wrong: bool) -> Report {
    let x = array![-1.0, -2.0, -0.5].into_dyn();
    let slope = |x: f64| if x > 0.0 && !wrong { 1.0 } else { 0.0 };
    each("dead_relu", x, |x| x.max(0.0), slope)
}

/// floor with the gradient of the identity.
fn floor_straight_through(wrong: bool) -> Report {
    gradients(
        "floor_straight_through",
        &Arrays::new().with("x", array![0.3, 2.7]),
        |a| vector(a, "x").mapv(f64::floor),
        |_, dy| Arrays::new().with("x", if wrong { dy.clone() } else { dy * 0.0 }),
    )
}
