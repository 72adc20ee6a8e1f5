//! Exact zeros among the inputs, and gradients that are zero.

use super::forty::Must;
use super::must;
use beit_check::gradients::{Variable, check};
use beit_check::report::{Report, Verdict};

/// Every other number is 0 or so, as behind a ReLU or in padding.
fn half_zero(n: usize) -> Vec<f64> {
    (0..n).map(|i| (i as f64 * 0.7).sin().max(0.0)).collect()
}

fn relu(n: usize, alive: f64, at_zero: f64) -> Report {
    check(
        "relu of relu",
        &[Variable::new("x", &[n], half_zero(n))],
        |v| v[0].iter().map(|x| x.max(0.0)).collect(),
        |v, dy| {
            let slope = |x: f64| match x {
                0.0 => at_zero,
                x if x > 0.0 => alive,
                _ => 0.0,
            };
            vec![v[0].iter().zip(dy).map(|(x, d)| d * slope(*x)).collect()]
        },
    )
}

#[test]
fn relu_of_what_a_relu_left() {
    for n in [20, 96, 97, 400] {
        must(Must::Pass, &relu(n, 1.0, 0.0));
        must(Must::Fail, &relu(n, 1.001, 0.0));
        must(Must::Fail, &relu(n, 1.0, -0.5));
    }
}

/// Σ w² + 0.1 |w|
fn lasso(n: usize, weight: f64, at_zero: f64) -> Report {
    check(
        "lasso",
        &[Variable::new("w", &[n], half_zero(n))],
        |v| vec![v[0].iter().map(|w| w * w + 0.1 * w.abs()).sum()],
        |v, dy| {
            let sign = |w: f64| if w == 0.0 { at_zero } else { w.signum() };
            vec![v[0].iter().map(|w| dy[0] * (2.0 * w + weight * sign(*w))).collect()]
        },
    )
}

#[test]
fn weights_of_exactly_0_below_an_l1_term() {
    for n in [12, 96, 200] {
        must(Must::Pass, &lasso(n, 0.1, 0.0));
        must(Must::Fail, &lasso(n, 0.11, 0.0));
        must(Must::Fail, &lasso(n, 0.1, 1.5));
    }
}

#[test]
fn a_redrawn_point_is_printed() {
    // √|x|: no slope at 0 that could be compared.
    let report = check(
        "root",
        &[Variable::new("x", &[2], vec![0.0, 1.0])],
        |v| v[0].iter().map(|x| x.abs().sqrt()).collect(),
        |v, dy| {
            let slope = |x: f64| if x == 0.0 { 0.0 } else { 0.5 * x.signum() / x.abs().sqrt() };
            vec![v[0].iter().zip(dy).map(|(x, d)| d * slope(*x)).collect()]
        },
    );
    must(Must::NotFail, &report);
    if report.comparisons.iter().any(|c| c.redrawn > 0) {
        assert!(report.to_string().contains("redrawn"), "{report}");
    } else {
        must(Must::NotPass, &report);
    }
}

/// A function whose gradient is claimed to be 0.
fn zero(name: &str, x: Vec<f64>, f: impl Fn(&[f64]) -> Vec<f64>) -> Report {
    let n = x.len();
    let variable = Variable::new("x", &[n], x);
    check(name, &[variable], |v| f(&v[0]), |_, _| vec![vec![0.0; n]])
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let all: Vec<f64> = x.iter().map(|x| x.exp()).collect();
    let sum: f64 = all.iter().sum();
    all.iter().map(|e| e / sum).collect()
}

#[test]
fn gradients_that_are_zero_pass_and_it_is_said() {
    let round = |x: &[f64]| x.iter().map(|x| x.round()).collect();
    let all = [
        zero("round", vec![0.3, 2.7, -1.2], round),
        zero("floor", vec![0.3, 2.7, -1.2], |x| x.iter().map(|x| x.floor()).collect()),
        zero("sum of a softmax", vec![0.3, 2.7, -1.2], |x| vec![softmax(x).iter().sum()]),
        zero("constant", vec![0.3, 2.7], |_| vec![1.0, 2.0]),
    ];
    for report in all {
        must(Must::Pass, &report);
        assert_eq!(report.all_zero, ["x"], "{report}");
        assert!(report.to_string().contains("zero"), "never silently: {report}");
    }
}

#[test]
fn a_gradient_that_is_zero_and_should_not_be_fails() {
    must(Must::Fail, &zero("sine", vec![0.3, 2.7], |x| x.iter().map(|x| x.sin()).collect()));
    must(Must::Fail, &zero("softmax", vec![0.3, 2.7, -1.2], softmax));
    // A bump of width 1e-3 beside the point: the largest steps see nothing of it.
    let bump = |x: &[f64]| vec![(-(1e3 * (x[0] - 1.2)).powi(2)).exp()];
    must(Must::Fail, &zero("bump", vec![1.2003], bump));
}

#[test]
fn a_dead_unit_is_not_passed_silently() {
    let report =
        zero("dead relu", vec![-1.0, -2.0, -0.5], |x| x.iter().map(|x| x.max(0.0)).collect());
    assert_ne!(report.verdict(), Verdict::Fail, "{report}");
    assert!(!report.passed() || report.to_string().contains("zero"), "{report}");
}

#[test]
fn an_unused_input_beside_a_used_one() {
    let report = |unused: f64| {
        check(
            "unused",
            &[Variable::new("x", &[1], vec![0.4]), Variable::new("unused", &[1], vec![0.7])],
            |v| vec![v[0][0].sin()],
            |v, dy| vec![vec![dy[0] * v[0][0].cos()], vec![unused * dy[0]]],
        )
    };
    must(Must::Pass, &report(0.0));
    must(Must::Fail, &report(1e-3));
}
