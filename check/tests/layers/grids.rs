//! Layers whose mistakes are in an index.

use super::{Layer, matrix, wave};
use beit_check::report::Report;
use beit_check::{Arrays, gradients};
use ndarray::{Array1, Array2, s};

pub const LAYERS: &[Layer] = &[
    Layer::new("conv_transpose1d_padding", conv_transpose1d_padding),
    Layer::new("upsample_align_corners", upsample_align_corners),
    Layer::new("last_column", last_column),
    Layer::new("nonstandard_layout", nonstandard_layout),
];

/// Stride 2, padding 1, whose offset is forgotten in dx.
fn conv_transpose1d_padding(wrong: bool) -> Report {
    let (n, k, stride, padding) = (5usize, 4usize, 2usize, 1usize);
    let outputs = (n - 1) * stride + k - 2 * padding;
    // Input, tap and output of every term.
    let terms = || {
        let all = (0..n * k).map(move |at| (at / k, at % k));
        let inside = all.filter_map(move |(i, j)| {
            let to = (i * stride + j).checked_sub(padding)?;
            (to < outputs).then_some((i, j, to))
        });
        inside.collect::<Vec<_>>()
    };
    gradients(
        "conv_transpose1d_padding",
        &Arrays::new().with("x", wave(&[n], 1.1)).with("w", wave(&[k], 0.6)),
        |a| {
            let mut y = Array1::zeros(outputs);
            for (i, j, to) in terms() {
                y[to] += a["x"][i] * a["w"][j];
            }
            y
        },
        |a, dy| {
            let (mut dx, mut dw) = (Array1::zeros(n), Array1::zeros(k));
            for (i, j, to) in terms() {
                let from = if wrong { to + padding } else { to };
                dx[i] += dy.get(from).copied().unwrap_or(0.0) * a["w"][j];
                dw[j] += dy[to] * a["x"][i];
            }
            Arrays::new().with("x", dx).with("w", dw)
        },
    )
}

/// Linear, with the backward of aligned corners.
fn upsample_align_corners(wrong: bool) -> Report {
    let (n, outputs) = (5usize, 8usize);
    // The two neighbours of an output, and the weight of the second.
    let weights = |i: usize, aligned: bool| {
        let at = if aligned {
            i as f64 * (n - 1) as f64 / (outputs - 1) as f64
        } else {
            ((i as f64 + 0.5) * n as f64 / outputs as f64 - 0.5).max(0.0)
        };
        let low = at.floor() as usize;
        (low, (low + 1).min(n - 1), at - low as f64)
    };
    gradients(
        "upsample_align_corners",
        &Arrays::new().with("x", wave(&[n], 1.1)),
        |a| {
            Array1::from_shape_fn(outputs, |i| {
                let (low, high, f) = weights(i, false);
                a["x"][low] * (1.0 - f) + a["x"][high] * f
            })
        },
        |_, dy| {
            let mut g = Array1::<f64>::zeros(n);
            for i in 0..outputs {
                let (low, high, f) = weights(i, wrong);
                g[low] += dy[i] * (1.0 - f);
                g[high] += dy[i] * f;
            }
            Arrays::new().with("x", g)
        },
    )
}

/// Products of neighbours, of which one term of the last element is missing.
fn last_column(wrong: bool) -> Report {
    gradients(
        "last_column",
        &Arrays::new().with("x", wave(&[20, 20], 0.37)),
        |a| {
            let x = matrix(a, "x");
            &x.slice(s![.., 1..]) * &x.slice(s![.., ..-1])
        },
        |a, dy| {
            let x = matrix(a, "x");
            let mut g = Array2::<f64>::zeros((20, 20));
            for (i, j) in (0..20 * 19).map(|at| (at / 19, at % 19)) {
                g[[i, j]] += dy[[i, j]] * x[[i, j + 1]];
                if !(wrong && (i, j) == (19, 18)) {
                    g[[i, j + 1]] += dy[[i, j]] * x[[i, j]];
                }
            }
            Arrays::new().with("x", g)
        },
    )
}

/// x², with a backward that takes the numbers of x column by column.
fn nonstandard_layout(wrong: bool) -> Report {
    gradients(
        "nonstandard_layout",
        &Arrays::new().with("x", wave(&[3, 4], 0.9)),
        |a| matrix(a, "x").mapv(|x| x * x),
        |a, dy| {
            let x = matrix(a, "x");
            let read =
                if wrong { x.t().iter().copied().collect() } else { x.into_raw_vec_and_offset().0 };
            let x = Array2::from_shape_vec((3, 4), read).expect("as many as before");
            Arrays::new().with("x", x * dy * 2.0)
        },
    )
}
