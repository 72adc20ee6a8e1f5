//! Layers that mix elements: attention and what belongs to it, recurrent cells.

use super::{Layer, matrix, softmax, vector, wave};
use beit_check::report::Report;
use beit_check::{Arrays, gradients};
use ndarray::{Array1, Array2, Axis};

pub const LAYERS: &[Layer] = &[
    Layer::new("attention_scale_twice", attention_scale_twice),
    Layer::new("gather_repeated", gather_repeated),
    Layer::new("broadcast_bias_not_summed", broadcast_bias_not_summed),
    Layer::new("weight_tied", weight_tied),
    Layer::new("rope", rope),
    Layer::new("lstm_cell", lstm_cell),
];

fn attention_scale_twice(wrong: bool) -> Report {
    let scale = 1.0 / 3f64.sqrt();
    let probs = |a: &Arrays| softmax(&(matrix(a, "q").dot(&matrix(a, "k").t()) * scale));
    let at = Arrays::new()
        .with("q", wave(&[4, 3], 0.7))
        .with("k", wave(&[4, 3], 1.3))
        .with("v", wave(&[4, 3], 2.1));
    gradients(
        "attention_scale_twice",
        &at,
        |a| probs(a).dot(&matrix(a, "v")),
        |a, dy| {
            let p = probs(a);
            let dp = dy.dot(&matrix(a, "v").t());
            let mean = (&dp * &p).sum_axis(Axis(1)).insert_axis(Axis(1));
            let ds = &p * &(&dp - &mean) * scale;
            let again = if wrong { scale } else { 1.0 };
            Arrays::new()
                .with("q", ds.dot(&matrix(a, "k")) * again)
                .with("k", ds.t().dot(&matrix(a, "q")))
                .with("v", p.t().dot(dy))
        },
    )
}

/// Rows of a table, one twice: its gradients are assigned instead of added (pytorch/pytorch#1631).
fn gather_repeated(wrong: bool) -> Report {
    let ids = [2usize, 0, 2, 1];
    gradients(
        "gather_repeated",
        &Arrays::new().with("table", wave(&[4, 3], 0.8)),
        |a| matrix(a, "table").select(Axis(0), &ids),
        |_, dy| {
            let mut g = Array2::zeros((4, 3));
            for (from, &to) in ids.iter().enumerate() {
                let mut row = g.row_mut(to);
                if wrong {
                    row.assign(&dy.row(from));
                } else {
                    row += &dy.row(from);
                }
            }
            Arrays::new().with("table", g)
        },
    )
}

/// The gradient of a bias has the shape of the rows it was added to.
fn broadcast_bias_not_summed(wrong: bool) -> Report {
    gradients(
        "broadcast_bias_not_summed",
        &Arrays::new().with("x", wave(&[4, 3], 0.8)).with("b", wave(&[3], 0.3)),
        |a| matrix(a, "x") + a.vector("b"),
        |_, dy| {
            let dx = Arrays::new().with("x", dy.clone());
            if wrong { dx.with("b", dy.clone()) } else { dx.with("b", dy.sum_axis(Axis(0))) }
        },
    )
}

/// tanh(xW) Wᵀ, of whose two uses of W one is forgotten.
fn weight_tied(wrong: bool) -> Report {
    let hidden = |a: &Arrays| matrix(a, "x").dot(&matrix(a, "w")).mapv(f64::tanh);
    gradients(
        "weight_tied",
        &Arrays::new().with("x", wave(&[2, 3], 0.9)).with("w", wave(&[3, 3], 1.9)),
        |a| hidden(a).dot(&matrix(a, "w").t()),
        |a, dy| {
            let (x, w, h) = (matrix(a, "x"), matrix(a, "w"), hidden(a));
            let dh = dy.dot(&w) * h.mapv(|h| 1.0 - h * h);
            let first = x.t().dot(&dh);
            let dw = if wrong { first } else { first + dy.t().dot(&h) };
            Arrays::new().with("x", dh.dot(&w.t())).with("w", dw)
        },
    )
}

/// Rotated the wrong way back.
fn rope(wrong: bool) -> Report {
    let rotated = |x: &Array2<f64>, sign: f64| {
        Array2::from_shape_fn((3, 4), |(p, c)| {
            let angle = p as f64 * if c < 2 { 1.0 } else { 0.01 };
            let (sin, cos) = (sign * angle).sin_cos();
            let (even, odd) = (x[[p, c - c % 2]], x[[p, c - c % 2 + 1]]);
            if c % 2 == 0 { even * cos - odd * sin } else { even * sin + odd * cos }
        })
    };
    gradients(
        "rope",
        &Arrays::new().with("x", wave(&[3, 4], 0.9)),
        |a| rotated(&matrix(a, "x"), 1.0),
        |_, dy| Arrays::new().with("x", rotated(dy, if wrong { 1.0 } else { -1.0 })),
    )
}

/// What comes through the cell's own output is dropped.
fn lstm_cell(wrong: bool) -> Report {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    // i, g, f, o, c', tanh c' of unit j
    let parts = |z: &Array2<f64>, c: &Array1<f64>, j: usize| {
        let (i, g) = (sigmoid(z[[0, j]]), z[[1, j]].tanh());
        let (f, o) = (sigmoid(z[[2, j]]), sigmoid(z[[3, j]]));
        let next = i * g + f * c[j];
        (i, g, f, o, next, next.tanh())
    };
    gradients(
        "lstm_cell",
        &Arrays::new().with("z", wave(&[4, 3], 0.9)).with("c", wave(&[3], 1.9)),
        |a| {
            let (z, c) = (matrix(a, "z"), vector(a, "c"));
            Array2::from_shape_fn((2, 3), |(row, j)| {
                let (_, _, _, o, next, t) = parts(&z, &c, j);
                if row == 0 { next } else { o * t }
            })
        },
        |a, dy| {
            let (z, c) = (matrix(a, "z"), vector(a, "c"));
            let (mut dz, mut dc) = (Array2::zeros((4, 3)), Array1::zeros(3));
            for j in 0..3 {
                let (i, g, f, o, _, t) = parts(&z, &c, j);
                let own = if wrong { 0.0 } else { dy[[0, j]] };
                let dnext = own + dy[[1, j]] * o * (1.0 - t * t);
                dz[[0, j]] = dnext * g * i * (1.0 - i);
                dz[[1, j]] = dnext * i * (1.0 - g * g);
                dz[[2, j]] = dnext * c[j] * f * (1.0 - f);
                dz[[3, j]] = dy[[1, j]] * t * o * (1.0 - o);
                dc[j] = dnext * f;
            }
            Arrays::new().with("z", dz).with("c", dc)
        },
    )
}
