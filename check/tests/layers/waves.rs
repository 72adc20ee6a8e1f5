//! Waves and narrow bumps.

use super::forty::Must;
use super::{count, must};
use beit_check::gradients::{Variable, check};
use beit_check::report::Report;

/// sin(kx) at one point, with this factor before the gradient.
fn wave(k: f64, at: f64, factor: f64) -> Report {
    check(
        "wave",
        &[Variable::new("x", &[1], vec![at])],
        |v| vec![(k * v[0][0]).sin()],
        |v, dy| vec![vec![dy[0] * factor * k * (k * v[0][0]).cos()]],
    )
}

#[test]
fn round_wave_numbers_pass() {
    for k in [100.0, 1000.0, 1e4] {
        for at in [0.5, 0.9, 1.7] {
            must(Must::Pass, &wave(k, at, 1.0));
            must(Must::Fail, &wave(k, at, 1.001));
        }
    }
}

#[test]
fn waves_are_never_called_wrong_and_seldom_open() {
    for (lo, hi) in [(100.0, 500.0), (500.0, 1e3), (1e3, 2e3), (2e3, 5e3), (5e3, 2e4)] {
        let at = |i: usize| {
            wave(lo + (hi - lo) * (i as f64 + 0.5) / 500.0, 0.55 + 0.0028 * i as f64, 1.0)
        };
        let [_, open, fail] = count((0..500).map(at));
        assert_eq!(fail, 0, "k from {lo} to {hi}");
        assert!(open <= 10, "k from {lo} to {hi}: {open} of 500 are inconclusive");
    }
}

#[test]
fn what_aliased_steps_would_say_is_wrong() {
    let first = 3299.0 / 4096.0 / 16.0;
    for i in 0..200 {
        let k = 995.0 + 0.1 * f64::from(i);
        let alias = (k * first / 8.0).sin() / (k * first / 8.0);
        must(Must::NotPass, &wave(k, 0.5, alias));
    }
}

#[test]
fn siren_layers_pass() {
    for omega in [30.0, 100.0, 300.0, 700.0, 1000.0, 2000.0, 3000.0] {
        let layer = |seed: usize, factor: f64| {
            let x: Vec<f64> = (0..64).map(|i| ((i * 31 + seed * 7 + 1) as f64).sin()).collect();
            let omega = omega * (1.0 + 0.01 * seed as f64);
            check(
                "siren",
                &[Variable::new("x", &[64], x)],
                |v| v[0].iter().map(|x| (omega * x).sin()).collect(),
                |v, dy| {
                    let slope = |(x, d): (&f64, &f64)| d * factor * omega * (omega * x).cos();
                    vec![v[0].iter().zip(dy).map(slope).collect()]
                },
            )
        };
        let [_, open, fail] = count((0..10).map(|seed| layer(seed, 1.0)));
        assert_eq!((open, fail), (0, 0), "omega {omega}");
        must(Must::Fail, &layer(0, 1.0 + 1e-4));
    }
}

#[test]
fn bumps_are_never_called_wrong() {
    for k in [100.0, 1000.0] {
        for i in 0..200 {
            let at = 0.5 + 0.00731 * f64::from(i);
            let report = check(
                "rbf",
                &[Variable::new("x", &[1], vec![at])],
                |v| vec![(-(k * (v[0][0] - 1.2)).powi(2)).exp()],
                |v, dy| {
                    let d = v[0][0] - 1.2;
                    vec![vec![dy[0] * -2.0 * k * k * d * (-(k * d).powi(2)).exp()]]
                },
            );
            must(Must::NotFail, &report);
        }
    }
}
