//! At a kink: slopes between the one-sided ones are a choice, others are wrong.

use super::forty::Must;
use super::must;
use beit_check::gradients::{Settings, Variable, check, check_with};
use beit_check::report::{Cause, Report, Verdict};

/// A function of each element by itself.
fn each(name: &str, x: Vec<f64>, f: fn(f64) -> f64, slope: impl Fn(f64) -> f64) -> Report {
    each_with(&Settings::default(), name, x, f, slope)
}

fn each_with(
    settings: &Settings,
    name: &str,
    x: Vec<f64>,
    f: fn(f64) -> f64,
    slope: impl Fn(f64) -> f64,
) -> Report {
    check_with(
        settings,
        name,
        &[Variable::new("x", &[x.len()], x)],
        &|v| v[0].iter().map(|x| f(*x)).collect(),
        &|v, dy| vec![v[0].iter().zip(dy).map(|(x, d)| d * slope(*x)).collect()],
    )
}

fn abs(at_zero: f64) -> Report {
    each("abs", vec![0.0, 1.0, -1.0], f64::abs, |x| if x == 0.0 { at_zero } else { x.signum() })
}

fn relu(at_zero: f64) -> Report {
    let slope = |x: f64| match x {
        0.0 => at_zero,
        x => f64::from(u8::from(x > 0.0)),
    };
    each("relu", vec![0.0, 0.0, 1.0, -1.0], |x| x.max(0.0), slope)
}

fn clamp(at_bounds: f64) -> Report {
    let slope = |x: f64| match x {
        0.0 | 1.0 => at_bounds,
        x => f64::from(u8::from(x > 0.0 && x < 1.0)),
    };
    each("clamp", vec![0.0, 1.0, 0.5, 2.0], |x| x.clamp(0.0, 1.0), slope)
}

#[test]
fn abs_at_0() {
    for slope in [-1.0, -0.3, 0.0, 1.0] {
        must(Must::Pass, &abs(slope));
    }
    for slope in [1.01, -1.01, 7.0, -100.0] {
        must(Must::Fail, &abs(slope));
    }
}

#[test]
fn relu_at_0() {
    for slope in [0.0, 0.5, 1.0] {
        must(Must::Pass, &relu(slope));
    }
    for slope in [-5.0, -0.01, 1.01, 2.0] {
        must(Must::Fail, &relu(slope));
    }
}

#[test]
fn clamp_at_its_bounds() {
    for slope in [0.0, 0.5, 1.0] {
        must(Must::Pass, &clamp(slope));
    }
    for slope in [3.0, -0.1] {
        must(Must::Fail, &clamp(slope));
    }
}

/// The mean of both sides too, which differences meet.
#[test]
fn a_choice_may_be_refused() {
    let settings = Settings { refuse_kinks: true, ..Settings::default() };
    for slope in [-1.0, -0.3, 0.0, 1.0] {
        let at = |x: f64| if x == 0.0 { slope } else { x.signum() };
        let report = each_with(&settings, "abs", vec![0.0, 1.0, -1.0], f64::abs, at);
        assert_eq!(report.verdict(), Verdict::Inconclusive, "{slope}: {report}");
        let open = report.comparisons.iter().filter(|c| c.cause == Some(Cause::Kink));
        assert_eq!(open.count(), 1, "{slope}: {report}");
    }
}

#[test]
fn a_choice_is_reported_as_such() {
    for report in [abs(0.0), relu(0.0), clamp(0.5)] {
        let text = report.to_string();
        assert!(
            text.contains("is a subgradient (times the upstream gradient), yours is"),
            "{text}"
        );
    }
    let text = each("square", vec![0.0, 1.0], |x| x * x, |x| 2.0 * x).to_string();
    assert!(!text.contains("subgradient"), "{text}");
}

#[test]
fn a_kink_on_a_slope() {
    for weight in [1e-4, 1e-3, 0.1, 1.0] {
        let report = |at_zero: f64| {
            check(
                "exp + |x|",
                &[Variable::new("x", &[1], vec![0.0])],
                |v| vec![v[0][0].exp() + weight * v[0][0].abs()],
                |v, dy| {
                    let x = v[0][0];
                    let kink = if x == 0.0 { at_zero } else { x.signum() };
                    vec![vec![dy[0] * (x.exp() + weight * kink)]]
                },
            )
        };
        for kink in [-1.0, 0.0, 0.7, 1.0] {
            must(Must::Pass, &report(kink));
        }
        for kink in [-1.2, 1.2, 3.0] {
            must(Must::Fail, &report(kink));
        }
    }
}

/// The largest of all, whose gradient is shared out like this where they are tied.
fn largest(x: &[f64], share: &[f64]) -> Report {
    let start = x.to_vec();
    check(
        "max",
        &[Variable::new("x", &[x.len()], x.to_vec())],
        |v| vec![v[0].iter().copied().fold(f64::MIN, f64::max)],
        |v, dy| {
            let most = v[0].iter().copied().fold(f64::MIN, f64::max);
            let tied = |x: &[f64]| x.iter().filter(|x| **x == most).count();
            // Elsewhere fewer are tied, and share alike.
            let here =
                v[0].iter().zip(&start).all(|(x, s)| (x == &most) == (*s == largest_of(&start)));
            let alike = 1.0 / tied(&v[0]) as f64;
            let one = |(x, s): (&f64, &f64)| match *x == most {
                true => dy[0] * if here { *s } else { alike },
                false => 0.0,
            };
            vec![v[0].iter().zip(share).map(one).collect()]
        },
    )
}

fn largest_of(x: &[f64]) -> f64 {
    x.iter().copied().fold(f64::MIN, f64::max)
}

#[test]
fn tied_inputs_share_one_gradient() {
    for share in [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.9, 0.1]] {
        must(Must::Pass, &largest(&[2.0, 2.0], &share));
    }
    // Each is between the one-sided slopes 0 and 1, but along (1, 1) the function is smooth.
    for share in [[1.0, 1.0], [0.0, 0.0], [0.7, 0.7], [0.5, 0.4]] {
        must(Must::Fail, &largest(&[2.0, 2.0], &share));
    }
    must(Must::Pass, &largest(&[0.0, 0.0, 0.0, 0.0], &[1.0, 0.0, 0.0, 0.0]));
    must(Must::Pass, &largest(&[0.0, 0.0, 0.0, 0.0], &[0.25; 4]));
    must(Must::Fail, &largest(&[0.0, 0.0, 0.0, 0.0], &[1.0; 4]));
    must(Must::Pass, &largest(&[1.0, 2.0, 2.0, 0.5], &[9.0, 0.0, 1.0, 9.0]));
    must(Must::Fail, &largest(&[1.0, 2.0, 2.0, 0.5], &[9.0, 1.0, 1.0, 9.0]));
}

#[test]
fn a_sum_of_two_kinks_that_cancel_is_smooth() {
    // |x| − |x| + x²: whatever is claimed beside 2x is wrong.
    let report = |claim: f64| {
        each(
            "cancelled",
            vec![0.0, 0.5],
            |x| x.abs() - x.abs() + x * x,
            |x| 2.0 * x + if x == 0.0 { claim } else { 0.0 },
        )
    };
    must(Must::Pass, &report(0.0));
    must(Must::Fail, &report(0.5));
}

#[test]
fn a_maximum_with_zero_of_negative_numbers() {
    // Pooling of a rectified image: nothing moves, the gradient is 0.
    let report = |claim: f64| {
        check(
            "pool_relu",
            &[Variable::new("x", &[4], vec![-1.0, -2.0, -0.5, -0.1])],
            |v| vec![v[0].iter().fold(0.0f64, |a, &b| a.max(b))],
            |_, dy| vec![vec![claim * dy[0]; 4]],
        )
    };
    must(Must::NotFail, &report(0.0));
    must(Must::Fail, &report(1.0));
}
