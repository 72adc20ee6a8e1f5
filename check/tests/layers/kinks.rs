//! Layers at a kink, or beside one.

use super::{Layer, matrix};
use beit_check::report::Report;
use beit_check::{Arrays, gradients};
use ndarray::{Array2, Axis, array};

pub const LAYERS: &[Layer] = &[
    Layer::new("max_pool_ties", max_pool_ties),
    Layer::new("max_is_close", max_is_close),
    Layer::new("abs_at_0_slope7", abs_at_0_slope7),
    Layer::new("abs_at_0_nan", abs_at_0_nan),
    Layer::new("norm_zero_gradient", norm_zero_gradient),
];

/// The largest of each row; its gradient goes to the first, or to all, that are nearer to it than `near`.
fn max_of_rows(name: &str, x: Array2<f64>, near: f64, to_all: bool) -> Report {
    let most =
        |a: &Arrays| matrix(a, "x").map_axis(Axis(1), |r| r.fold(f64::MIN, |a, &b| a.max(b)));
    gradients(name, &Arrays::new().with("x", x), most, |a, dy| {
        let (x, most) = (matrix(a, "x"), most(a));
        let mut g = Array2::zeros(x.raw_dim());
        for (i, row) in x.rows().into_iter().enumerate() {
            let close = (0..row.len()).filter(|&j| most[i] - row[j] <= near);
            for j in close.take(if to_all { row.len() } else { 1 }) {
                g[[i, j]] = dy[i];
            }
        }
        Arrays::new().with("x", g)
    })
}

/// The whole gradient to every tied one (apache/mxnet#18563).
fn max_pool_ties(wrong: bool) -> Report {
    let x = array![[1.0, 2.0, 2.0, 0.5], [3.0, 3.0, 3.0, 3.0]];
    max_of_rows("max_pool_ties", x, 0.0, wrong)
}

/// What is within a hundredth counts as the largest (mni-ml/framework#22).
fn max_is_close(wrong: bool) -> Report {
    let near = if wrong { 1e-2 } else { 1e-12 };
    max_of_rows("max_is_close", array![[1.0, 2.0, 1.995, 0.5]], near, true)
}

/// |x|, with this slope at 0.
fn abs(name: &str, at_zero: f64) -> Report {
    gradients(
        name,
        &Arrays::new().with("x", array![0.0, 1.0, -1.0]),
        |a| a["x"].mapv(f64::abs),
        |a, dy| {
            let slope = |x: f64| if x == 0.0 { at_zero } else { x.signum() };
            Arrays::new().with("x", dy * a["x"].mapv(slope))
        },
    )
}

fn abs_at_0_slope7(wrong: bool) -> Report {
    abs("abs_at_0_slope7", if wrong { 7.0 } else { 0.0 })
}

/// x/|x|
fn abs_at_0_nan(wrong: bool) -> Report {
    abs("abs_at_0_nan", if wrong { f64::NAN } else { 0.0 })
}

/// |x|₂, whose gradient is taken to be 0 everywhere, as at the kink.
fn norm_zero_gradient(wrong: bool) -> Report {
    let length = |a: &Arrays| a["x"].mapv(|x| x * x).sum().sqrt();
    gradients(
        "norm_zero_gradient",
        &Arrays::new().with("x", array![0.3, 0.4]),
        |a| ndarray::arr0(length(a)),
        |a, dy| {
            let factor = if wrong { 0.0 } else { dy[()] / length(a) };
            Arrays::new().with("x", &a["x"] * factor)
        },
    )
}
