//! Normalisation and variance.

use super::{Layer, matrix, vector, wave};
use beit_check::report::Report;
use beit_check::{Arrays, gradients};
use ndarray::{Array0, Array1, Array2, Axis, arr0, array};

pub const LAYERS: &[Layer] = &[
    Layer::new("batch_norm", batch_norm),
    Layer::new("layer_norm_eps1e-5", layer_norm),
    Layer::new("variance_unbiased", variance_unbiased),
];

/// Normalised columns, and 1/deviation of each.
fn columns(x: &Array2<f64>) -> (Array2<f64>, Array1<f64>) {
    let mean = |x: &Array2<f64>| x.mean_axis(Axis(0)).expect("rows");
    let centred = x - &mean(x);
    let rstd = mean(&centred.mapv(|c| c * c)).mapv(|v| 1.0 / (v + 1e-5).sqrt());
    (&centred * &rstd, rstd)
}

/// γ is forgotten in dx (denizyuret/Knet.jl#288).
fn batch_norm(wrong: bool) -> Report {
    let at = Arrays::new()
        .with("x", wave(&[6, 3], 1.7))
        .with("gamma", array![1.0, 0.7, -0.4])
        .with("beta", array![0.1, 0.2, 0.3]);
    gradients(
        "batch_norm",
        &at,
        |a| columns(&matrix(a, "x")).0 * a.vector("gamma") + a.vector("beta"),
        |a, dy| {
            let (h, rstd) = columns(&matrix(a, "x"));
            let dh = if wrong { dy.clone() } else { dy * &a.vector("gamma") };
            let mean = |x: &Array2<f64>| x.mean_axis(Axis(0)).expect("rows");
            let dx = (&dh - &mean(&dh) - &h * &mean(&(&dh * &h))) * &rstd;
            Arrays::new()
                .with("x", dx)
                .with("gamma", (dy * &h).sum_axis(Axis(0)))
                .with("beta", dy.sum_axis(Axis(0)))
        },
    )
}

/// ε is added to the deviation instead of the variance.
fn layer_norm(wrong: bool) -> Report {
    let mean = |x: &Array2<f64>| x.mean_axis(Axis(1)).expect("columns").insert_axis(Axis(1));
    let normalised = |a: &Arrays, outside: bool| {
        let x = matrix(a, "x");
        let centred = &x - &mean(&x);
        let root = |v: f64| if outside { v.sqrt() + 1e-5 } else { (v + 1e-5).sqrt() };
        let rstd = mean(&centred.mapv(|c| c * c)).mapv(|v| 1.0 / root(v));
        (&centred * &rstd, rstd)
    };
    gradients(
        "layer_norm_eps1e-5",
        &Arrays::new().with("x", wave(&[4, 5], 1.7)),
        |a| normalised(a, false).0,
        |a, dy| {
            let (h, rstd) = normalised(a, wrong);
            let dx = (dy - &mean(dy) - &h * &mean(&(dy * &h))) * &rstd;
            Arrays::new().with("x", dx)
        },
    )
}

/// Of 50 numbers, divided by 49 forward and by 50 back.
fn variance_unbiased(wrong: bool) -> Report {
    let centred = |a: &Arrays| {
        let x = vector(a, "x");
        let mean = x.mean().expect("numbers");
        x - mean
    };
    gradients(
        "variance_unbiased",
        &Arrays::new().with("x", wave(&[50], 0.9)),
        |a| arr0(centred(a).mapv(|c| c * c).sum() / 49.0),
        |a, dy: &Array0<f64>| {
            let n = if wrong { 50.0 } else { 49.0 };
            Arrays::new().with("x", centred(a).mapv(|c| 2.0 * c / n) * dy[()])
        },
    )
}
