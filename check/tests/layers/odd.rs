//! What is no ordinary function: empty, panicking, not finite, random, with a state.

use super::forty::{Must, vector, wave};
use super::must;
use beit_check::{Arrays, gradients};
use ndarray::{Array1, Ix1, arr0, array};
use std::cell::{Cell, RefCell};

#[test]
fn empty_arrays_get_a_report() {
    let empty = Arrays::new().with("x", Array1::<f64>::zeros(0));
    let report =
        gradients("empty", &empty, |a| vector(a, "x"), |_, dy| Arrays::new().with("x", dy.clone()));
    must(Must::NotFail, &report);
    let report = gradients(
        "one of two is empty",
        &empty.clone().with("y", array![1.0]),
        |a| vector(a, "y"),
        |_, dy| Arrays::new().with("x", Array1::<f64>::zeros(0)).with("y", dy.clone()),
    );
    must(Must::NotFail, &report);
    let report = gradients(
        "one of two is empty",
        &empty.with("y", array![1.0]),
        |a| vector(a, "y"),
        |_, dy| Arrays::new().with("x", Array1::<f64>::zeros(0)).with("y", dy * 2.0),
    );
    must(Must::Fail, &report);
}

#[test]
fn a_forward_that_is_not_finite_gets_a_report() {
    let report = gradients(
        "ln",
        &Arrays::new().with("x", array![1.0, -1.0]),
        |a| vector(a, "x").mapv(f64::ln),
        |a, dy| Arrays::new().with("x", dy / &a["x"]),
    );
    must(Must::NotPass, &report);
    assert!(!report.failures(1).is_empty(), "{report}");
}

#[test]
fn a_forward_that_panics_beside_the_point_gets_a_report() {
    let report = gradients(
        "panics",
        &Arrays::new().with("x", array![1.0, -1.0]),
        |a| {
            assert!(a["x"][0] <= 1.05, "out of my domain");
            vector(a, "x")
        },
        |_, dy| Arrays::new().with("x", dy.clone()),
    );
    // With steps short enough the gradient is seen to be right.
    must(Must::NotFail, &report);
}

#[test]
fn a_forward_that_panics_at_the_point_gets_a_report() {
    let report = gradients(
        "panics",
        &Arrays::new().with("x", array![1.0]),
        |_| -> Array1<f64> { panic!("out of my domain") },
        |_, dy| Arrays::new().with("x", dy.clone()),
    );
    must(Must::NotPass, &report);
    assert!(report.to_string().contains("out of my domain"), "{report}");
}

#[test]
fn a_backward_that_panics_gets_a_report() {
    let report = gradients(
        "panics",
        &Arrays::new().with("x", array![1.0]),
        |a| vector(a, "x"),
        |_, _| panic!("not written yet"),
    );
    must(Must::Fail, &report);
    assert!(report.to_string().contains("not written yet"), "{report}");
}

#[test]
fn randomness_inside_is_a_fault() {
    let state = Cell::new(0u64);
    let report = gradients(
        "dropout",
        &Arrays::new().with("x", wave(&[4], 0.3)),
        |a| {
            state.set(state.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            a["x"].mapv(|x| x * ((state.get() >> 40) as f64))
        },
        |_, dy| Arrays::new().with("x", dy.clone()),
    );
    must(Must::Fail, &report);
}

#[test]
fn a_layer_may_keep_what_its_backward_needs() {
    let cache = RefCell::new(wave(&[4], 0.3));
    let report = |factor: f64| {
        gradients(
            "cached",
            &Arrays::new().with("x", wave(&[4], 0.3)),
            |a| {
                *cache.borrow_mut() = a["x"].mapv(f64::exp);
                cache.borrow().clone()
            },
            |_, dy| Arrays::new().with("x", dy * &*cache.borrow() * factor),
        )
    };
    must(Must::Pass, &report(1.0));
    must(Must::Fail, &report(1.0 + 1e-4));
}

#[test]
fn integers_among_the_arrays_are_no_reason_for_a_pass() {
    let at = Arrays::new().with("x", array![1.0, 2.0, 3.0]).with("i", array![2.0, 0.0]);
    let report = gradients(
        "gather",
        &at,
        |a| vector(a, "i").mapv(|i| a["x"][i as usize]),
        |a, dy| {
            let mut g = Array1::<f64>::zeros(3);
            for (i, d) in vector(a, "i").iter().zip(dy) {
                g[*i as usize] += d;
            }
            Arrays::new().with("x", g).with("i", array![0.0, 0.0])
        },
    );
    // A step of the index jumps: whatever is said of it, it is said with a cause.
    must(Must::NotFail, &report);
}

#[test]
fn a_norm_at_0_may_have_the_gradient_0() {
    let length = |a: &Arrays| a["x"].mapv(|x| x * x).sum().sqrt();
    let report = |x: Array1<f64>, at_zero: f64| {
        gradients(
            "norm",
            &Arrays::new().with("x", x),
            |a| arr0(length(a)),
            |a, dy| {
                let dx = match length(a) {
                    0.0 => Array1::from_elem(2, at_zero),
                    length => a.vector("x").mapv(|x| x / length),
                };
                Arrays::new().with("x", dx * dy[()])
            },
        )
    };
    must(Must::Pass, &report(array![0.0, 0.0], 0.0));
    must(Must::Fail, &report(array![0.0, 0.0], 2.0));
}

#[test]
fn infinite_slopes_are_no_pass() {
    let report = gradients(
        "sqrt",
        &Arrays::new().with("x", array![0.0, 1.0]),
        |a| vector(a, "x").mapv(f64::sqrt),
        |a, dy: &ndarray::Array<f64, Ix1>| {
            Arrays::new().with("x", dy * &vector(a, "x").mapv(|x| 0.5 / x.sqrt()))
        },
    );
    must(Must::NotPass, &report);
}
