//! Layers as people have them, each right and wrong: several outputs, indices, state, constraints, axes,
//! memory orders.

mod common;

use beit_check::{Arrays, Check, Constraint, Layer};
use common::{fails, passes, wave};
use ndarray::{Array1, Array2, Array3, ArrayD, Axis, Ix4, ShapeBuilder, Zip, arr0, array, s};
use std::cell::RefCell;

/// Mean and variance of rows, by name; the mean's gradient forgotten.
#[test]
fn several_outputs() {
    let run = |wrong: bool| {
        let at = Arrays::new().with("x", wave((3, 4), 0.9));
        Check::new("moments").at(at).gradients(
            |a| {
                let x = a.matrix("x");
                let mean = x.mean_axis(Axis(1)).unwrap();
                let centred = &x - &mean.clone().insert_axis(Axis(1));
                let variance = centred.mapv(|c| c * c).mean_axis(Axis(1)).unwrap();
                Arrays::new().with("mean", mean).with("variance", variance)
            },
            |a, up| {
                let x = a.matrix("x");
                let centred = &x - &x.mean_axis(Axis(1)).unwrap().insert_axis(Axis(1));
                let [dm, dv] =
                    ["mean", "variance"].map(|n| up.vector(n).to_owned().insert_axis(Axis(1)));
                let dx = centred * 0.5 * dv + if wrong { dm * 0.0 } else { dm * 0.25 };
                Arrays::new().with("x", dx)
            },
        )
    };
    passes(&run(false));
    fails(&run(true), 1, "x[");
}

/// A loss, which is one number.
#[test]
fn one_number() {
    let run = |factor: f64| {
        let at = Arrays::new().with("x", wave(5, 0.9));
        let forward = |a: &Arrays| a["x"].mapv(|x| x * x).sum();
        Check::new("squares")
            .at(at)
            .gradients(forward, |a, dy: &f64| Arrays::new().with("x", &a["x"] * (factor * dy)))
    };
    passes(&run(2.0));
    fails(&run(2.0001), 1, "x[");
}

/// Rows by index, one of them twice: the gradient is added, not assigned.
#[test]
fn indices() {
    let rows = [2usize, 0, 2, 1];
    let run = |wrong: bool| {
        let at = Arrays::new().with("table", wave((4, 3), 0.8));
        Check::new("gather").at(at).gradients(
            |a| a.matrix("table").select(Axis(0), &rows),
            |_, dy: &Array2<f64>| {
                let mut table = Array2::zeros((4, 3));
                for (&row, dy) in rows.iter().zip(dy.rows()) {
                    let mut own = table.row_mut(row);
                    if wrong { own.assign(&dy) } else { own += &dy }
                }
                Arrays::new().with("table", table)
            },
        )
    };
    passes(&run(false));
    fails(&run(true), 1, "table[2,");
}

/// A layer that keeps its input; the wrong one keeps that of the first run.
#[derive(Default)]
struct Squares {
    kept: Option<ArrayD<f64>>,
    wrong: bool,
}

impl Layer for Squares {
    type Outputs = ArrayD<f64>;
    fn forward(&mut self, at: &Arrays) -> ArrayD<f64> {
        if self.kept.is_none() || !self.wrong {
            self.kept = Some(at["x"].clone());
        }
        at["x"].mapv(|x| x * x)
    }
    fn backward(&mut self, upstream: &ArrayD<f64>) -> Arrays {
        let kept = self.kept.as_ref().expect("forward has run");
        Arrays::new().with("x", upstream * kept * 2.0)
    }
}

#[test]
fn state() {
    let check = Check::new("squares").at(Arrays::new().with("x", wave(5, 0.9)));
    passes(&check.layer(&mut Squares::default()));
    fails(&check.layer(&mut Squares { wrong: true, ..Squares::default() }), 1, "x[");
}

/// Closures that change what they captured, and share it.
#[test]
fn closures_with_state() {
    let (kept, mut runs) = (RefCell::new(Array1::zeros(0)), 0);
    let check = Check::new("exp").at(Arrays::new().with("x", wave(5, 0.9)));
    let report = check.gradients(
        |a| {
            runs += 1;
            *kept.borrow_mut() = a.vector("x").mapv(f64::exp);
            kept.borrow().clone()
        },
        |_, dy: &Array1<f64>| Arrays::new().with("x", dy * &*kept.borrow()),
    );
    passes(&report);
    assert!(runs > 10);
}

/// A power of what is positive; with zeros inside the first step.
#[test]
fn positive() {
    let run = |wrong: f64| {
        let at = Arrays::new().with("x", array![1e-3, 0.2, 3.0]);
        Check::new("root").at(at).constrain("x", Constraint::Positive).gradients(
            |a| {
                assert!(a["x"].iter().all(|x| *x > 0.0), "left where it may be");
                a["x"].mapv(|x| x.ln() + x.powf(0.3))
            },
            |a, dy| Arrays::new().with("x", dy * a["x"].mapv(|x| wrong / x + 0.3 * x.powf(-0.7))),
        )
    };
    passes(&run(1.0));
    fails(&run(1.001), 1, "x[");
}

/// Entropy of rows of probabilities; the gradient is −ln p − 1, up to a number for each row.
#[test]
fn simplex() {
    let run = |slope: fn(f64) -> f64| {
        let at = Arrays::new().with("p", array![[0.2, 0.3, 0.5], [0.9, 0.09, 0.01]]);
        Check::new("entropy").at(at).constrain("p", Constraint::Simplex).gradients(
            |a| {
                let p = a.matrix("p");
                assert!(p.sum_axis(Axis(1)).iter().all(|s| (s - 1.0).abs() < 1e-12));
                p.map_axis(Axis(1), |p| -p.mapv(|p| p * p.ln()).sum())
            },
            |a, dy: &Array1<f64>| {
                let p = a.matrix("p");
                Arrays::new().with("p", p.mapv(slope) * dy.view().insert_axis(Axis(1)))
            },
        )
    };
    passes(&run(|p| -p.ln() - 1.0));
    passes(&run(|p| -p.ln() + 17.0));
    fails(&run(|p| -p.ln() - p), 1, "p[");
    let free = Check::new("entropy").at(Arrays::new().with("p", array![0.2, 0.3, 0.5]));
    let report = free.gradients(
        |a| -a["p"].mapv(|p| p * p.ln()).sum(),
        |a, dy: &f64| Arrays::new().with("p", a["p"].mapv(|p| -p.ln()) * *dy),
    );
    fails(&report, 1, "p[");
}

/// xᵀ A x with a symmetric A: x xᵀ; its lower half, doubled, passes, too; with a doubled off-diagonal it is
/// another.
#[test]
fn symmetric() {
    let x = array![0.5, -1.2, 0.8];
    let run = |weight: fn(usize, usize) -> f64| {
        let at =
            Arrays::new().with("a", array![[2.0, 0.3, -0.1], [0.3, 1.0, 0.4], [-0.1, 0.4, 0.7]]);
        Check::new("quadratic").at(at).constrain("a", Constraint::Symmetric).gradients(
            |a| {
                let a = a.matrix("a");
                assert_eq!(a, a.t());
                x.dot(&a.dot(&x))
            },
            |_, dy: &f64| {
                let all = |(i, j)| weight(i, j) * x[i] * x[j] * dy;
                Arrays::new().with("a", Array2::from_shape_fn((3, 3), all))
            },
        )
    };
    passes(&run(|_, _| 1.0));
    passes(&run(|i, j| f64::from(u8::from(i >= j)) * if i == j { 1.0 } else { 2.0 }));
    fails(&run(|i, j| if i == j { 1.0 } else { 2.0 }), 1, "a[");
}

/// A point that breaks its own constraint is named.
#[test]
fn points_outside() {
    let run = |constraint, x: Array2<f64>| {
        let check = Check::new("sum").at(Arrays::new().with("x", x)).constrain("x", constraint);
        check.gradients(|a| a["x"].sum(), |a, dy| Arrays::new().with("x", a["x"].mapv(|_| *dy)))
    };
    let ok = array![[0.5, 0.5], [0.5, 0.5]];
    assert!(run(Constraint::Positive, ok.clone()).faults.is_empty());
    for (constraint, x, text) in [
        (Constraint::Positive, array![[1.0, 0.0]], "x[0, 1] is 0: start from"),
        (
            Constraint::Simplex,
            array![[1.0, 0.5]],
            "sum to 1.5 along its last axis, not to 1: divide",
        ),
        (Constraint::Symmetric, array![[1.0, 0.5]], "shape [1, 2], no square matrices"),
        (Constraint::Symmetric, array![[1.0, 0.5], [0.4, 1.0]], "off: start from (A + Aᵀ)/2"),
    ] {
        fails(&run(constraint, x), 1, text);
    }
    let check =
        Check::new("sum").at(Arrays::new().with("x", ok)).constrain("y", Constraint::Positive);
    let report = check.gradients(|a| a["x"].sum(), |_, _: &f64| Arrays::new());
    fails(&report, 1, "constraint for `y`, which is no array");
}

/// A sum over the last axes of an image, of four axes, and one of three.
#[test]
fn more_axes() {
    let at = Arrays::new().with("x", wave((2, 3, 2, 2), 0.7)).with("w", wave((3, 2, 2), 1.3));
    let report = Check::new("pooled").at(at).gradients(
        |a| (&a.view::<Ix4>("x") * &a.cube("w")).sum_axis(Axis(3)).sum_axis(Axis(2)),
        |a, dy: &Array2<f64>| {
            let dy = dy.view().insert_axis(Axis(2)).insert_axis(Axis(3));
            let dx = &dy * &a.cube("w");
            Arrays::new().with("x", dx).with("w", (&dy * &a.view::<Ix4>("x")).sum_axis(Axis(0)))
        },
    );
    passes(&report);
}

#[test]
#[should_panic(expected = "`x` has shape [2, 2], wanted are 3 axes")]
fn another_number_of_axes() {
    Arrays::new().with("x", wave((2, 2), 0.7)).cube("x");
}

/// Whatever the memory order of the point, the outputs and the gradients: the same report.
#[test]
fn memory_orders() {
    let x: Array3<f64> = wave((2, 3, 4), 0.7);
    let mut fortran = Array3::zeros((2, 3, 4).f());
    fortran.assign(&x);
    let mut large = Array3::zeros((2, 6, 4));
    large.slice_mut(s![.., ..;-2, ..;-1]).assign(&x);
    let sliced = large.slice(s![.., ..;-2, ..;-1]);
    let reversed = |y: Array3<f64>| {
        let mut other = Array3::zeros((4, 3, 2));
        Zip::from(other.view_mut().reversed_axes()).and(&y).for_each(|o, y| *o = *y);
        other.reversed_axes()
    };
    let run = |at: Arrays, turned: bool| {
        let own = |y: Array3<f64>| if turned { reversed(y) } else { y };
        let report = Check::new("tanh").at(at).gradients(
            |a| own(a.cube("x").mapv(f64::tanh)),
            |a, dy| {
                let slope = a.cube("x").mapv(|x| 1.0 - x.tanh().powi(2));
                Arrays::new().with("x", own(dy * &slope))
            },
        );
        assert!(report.passed(), "{report}");
        format!("{report:?}")
    };
    let want = run(Arrays::new().with("x", x), false);
    assert_eq!(want, run(Arrays::new().with("x", fortran), false));
    assert_eq!(want, run(Arrays::new().with("x", sliced), true));
}

/// An output that vanishes is no output.
#[test]
fn nothing_comes_out() {
    let check = Check::new("empty").at(Arrays::new().with("x", wave(3, 0.7)));
    let report = check.gradients(|_| Arrays::new(), |a, _| a.clone());
    assert!(report.faults.iter().any(|f| f == "forward returns no outputs"), "{report}");
    let report = check.gradients(|a| arr0(a["x"].sum()), |_, _| Arrays::new());
    fails(&report, 1, "no gradient for x");
}

/// Ids that are given as an array: what to do is said, whether backward has a gradient for them or not.
#[test]
fn ids_among_the_arrays() {
    let ids = |a: &Arrays| a["ids"].iter().map(|id| *id as usize).collect::<Vec<_>>();
    let run = |own: bool| {
        let at = Arrays::new().with("table", wave((4, 2), 0.8)).with("ids", array![1.0, 3.0, 1.0]);
        Check::new("lookup").at(at).gradients(
            |a| a.matrix("table").select(Axis(0), &ids(a)),
            |a, dy: &Array2<f64>| {
                let mut table = Array2::zeros((4, 2));
                for (id, dy) in ids(a).into_iter().zip(dy.rows()) {
                    let mut row = table.row_mut(id);
                    row += &dy;
                }
                let gradients = Arrays::new().with("table", table);
                if own { gradients.with("ids", Array1::zeros(3)) } else { gradients }
            },
        )
    };
    fails(
        &run(false),
        1,
        "no gradient for ids; what has none (ids, a mask, targets) belongs into the",
    );
    let report = run(true);
    let notes = report.notes();
    assert!(
        notes.iter().any(|n| n.starts_with("ids has whole numbers, gradients of 0")),
        "{report}"
    );
}
