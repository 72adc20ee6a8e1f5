//! Layers that compute in f32.

use super::{Layer, Must, matrix, wave};
use beit_check::gradients::Settings;
use beit_check::report::Report;
use beit_check::{Arrays, gradients, gradients_with};
use ndarray::Array2;

/// The resolution that f32 has.
const COARSE: f64 = 1e-3;

pub const LAYERS: &[Layer] = &[
    Layer::new("f32_tanh", f32_tanh).but(Must::NotFail, Must::NotPass),
    Layer::new("f32_tanh_coarse", f32_tanh_coarse),
    // Of 200 columns some unit is always next to its kink.
    Layer::new("f32_linear_relu_coarse", f32_linear_relu_coarse).but(Must::NotFail, Must::Fail),
];

fn coarse() -> Settings {
    Settings { resolution: COARSE, ..Settings::default() }
}

fn tanh(x: f64) -> f64 {
    f64::from((x as f32).tanh())
}

/// A hundredth too much.
fn tanh_back(a: &Arrays, factor: f64) -> ndarray::ArrayD<f64> {
    a["x"].mapv(|x| (1.0 - tanh(x) * tanh(x)) * factor)
}

fn f32_tanh(wrong: bool) -> Report {
    gradients(
        "f32_tanh",
        &Arrays::new().with("x", wave(&[6], 1.1)),
        |a| a["x"].mapv(tanh),
        |a, dy| Arrays::new().with("x", dy * tanh_back(a, if wrong { 1.01 } else { 1.0 })),
    )
}

fn f32_tanh_coarse(wrong: bool) -> Report {
    gradients_with(
        &coarse(),
        "f32_tanh_coarse",
        &Arrays::new().with("x", wave(&[6], 1.1)),
        |a| a["x"].mapv(tanh),
        |a, dy| Arrays::new().with("x", dy * tanh_back(a, if wrong { 1.01 } else { 1.0 })),
    )
}

/// relu(xW) over 200 columns; one element of dW off by a twentieth, one row missing.
fn f32_linear_relu_coarse(wrong: bool) -> Report {
    let single = |a: &Array2<f64>| a.mapv(|x| x as f32);
    let product = |a: &Arrays| single(&matrix(a, "x")).dot(&single(&matrix(a, "w")));
    gradients_with(
        &coarse(),
        "f32_linear_relu_coarse",
        &Arrays::new().with("x", wave(&[4, 200], 1.1)).with("w", wave(&[200, 5], 0.77)),
        |a| product(a).mapv(|y| f64::from(y.max(0.0))),
        |a, dy| {
            let alive = product(a).mapv(|y| f64::from(u8::from(y > 0.0)));
            let d = single(&(dy * &alive));
            let mut dw = single(&matrix(a, "x")).t().dot(&d);
            if wrong {
                dw[[3, 2]] *= 1.05;
                dw.row_mut(9).fill(0.0);
            }
            let dx = d.dot(&single(&matrix(a, "w")).t());
            Arrays::new().with("x", dx.mapv(f64::from)).with("w", dw.mapv(f64::from))
        },
    )
}
