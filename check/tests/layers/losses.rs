//! Losses and other reductions to one number.

use super::{Layer, matrix, softmax, vector, wave};
use beit_check::report::Report;
use beit_check::{Arrays, gradients};
use ndarray::{Array0, Array1, arr0, array};

pub const LAYERS: &[Layer] = &[
    Layer::new("cross_entropy_ignore", cross_entropy_ignore),
    Layer::new("upstream_ignored", upstream_ignored),
    Layer::new("prod_with_zero", prod_with_zero),
];

/// The mean over the targets that count, with a gradient divided by the number of all.
fn cross_entropy_ignore(wrong: bool) -> Report {
    let targets = [Some(1), None, Some(0), Some(3)];
    let counted = 3.0;
    gradients(
        "cross_entropy_ignore",
        &Arrays::new().with("z", wave(&[4, 5], 2.3)),
        |a| {
            let p = softmax(&matrix(a, "z"));
            let terms = targets.iter().enumerate();
            let terms = terms.filter_map(|(i, t)| t.map(|t: usize| -p[[i, t]].ln()));
            arr0(terms.sum::<f64>() / counted)
        },
        |a, dy: &Array0<f64>| {
            let mut g = softmax(&matrix(a, "z"));
            for (i, target) in targets.iter().enumerate() {
                match target {
                    Some(t) => g[[i, *t]] -= 1.0,
                    None => g.row_mut(i).fill(0.0),
                }
            }
            Arrays::new().with("z", g * (dy[()] / if wrong { 4.0 } else { counted }))
        },
    )
}

/// ln Σ eˣ, as if it were the last step before the loss (k2-fsa/k2#341).
fn upstream_ignored(wrong: bool) -> Report {
    gradients(
        "upstream_ignored",
        &Arrays::new().with("x", wave(&[4], 0.9)),
        |a| arr0(a["x"].mapv(f64::exp).sum().ln()),
        |a, dy: &Array0<f64>| {
            let all = a["x"].mapv(f64::exp);
            let sum = all.sum();
            Arrays::new().with("x", all / sum * if wrong { 1.0 } else { dy[()] })
        },
    )
}

/// The product of all divided by each, and 0 for an element that is 0.
fn prod_with_zero(wrong: bool) -> Report {
    gradients(
        "prod_with_zero",
        &Arrays::new().with("x", array![2.0, 0.0, 3.0]),
        |a| arr0(a["x"].product()),
        |a, dy: &Array0<f64>| {
            let x = vector(a, "x");
            let others = |i: usize| -> f64 { (0..3).filter(|j| *j != i).map(|j| x[j]).product() };
            let quotient = |i: usize| if x[i] == 0.0 { 0.0 } else { x.product() / x[i] };
            let slope = |i: usize| if wrong { quotient(i) } else { others(i) };
            Arrays::new().with("x", Array1::from_shape_fn(3, |i| dy[()] * slope(i)))
        },
    )
}
