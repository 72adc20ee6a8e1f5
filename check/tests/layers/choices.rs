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

/// At a jump there is no derivative: a slope of the pieces beside it is a choice, another is no pass.
#[test]
fn at_a_jump() {
    let jump = |x: f64| x + f64::from(u8::from(x >= 0.0));
    let threshold = |x: f64| if x.abs() > 0.5 { x } else { 0.0 };
    type Case = (&'static str, fn(f64) -> f64, fn(f64) -> f64, f64, &'static [f64]);
    let all: [Case; 5] = [
        ("floor", f64::floor, |_| 0.0, 1.0, &[0.0]),
        ("sign", |x| if x == 0.0 { 0.0 } else { x.signum() }, |_| 0.0, 0.0, &[0.0]),
        ("x floor(x)", |x| x * x.floor(), f64::floor, 2.0, &[1.0, 2.0]),
        ("x + step", jump, |_| 1.0, 0.0, &[1.0]),
        ("threshold", threshold, |x| f64::from(u8::from(x.abs() > 0.5)), 0.5, &[0.0, 1.0]),
    ];
    for (name, f, slope, at, slopes) in all {
        let report = |claim: f64| {
            each(name, vec![at, at + 0.3], f, |x| if x == at { claim } else { slope(x) })
        };
        for slope in slopes {
            let report = report(*slope);
            must(Must::Pass, &report);
            let text = report.comparisons[0].choice.map(|c| c.to_string()).unwrap_or_default();
            assert!(text.contains("at a jump: the slopes beside it are in"), "{report}");
            assert_eq!(report.comparisons[0].verdict, Verdict::Pass, "{report}");
        }
        for wrong in [-1.0, 5.0] {
            let report = report(wrong);
            must(Must::NotPass, &report);
            assert_eq!(report.comparisons[0].cause, Some(Cause::Jump), "{report}");
        }
    }
}

#[test]
fn an_infinite_slope_is_named() {
    let report = each("cube root", vec![0.0, 0.3], f64::cbrt, |x| match x {
        0.0 => 0.0,
        x => x.cbrt() / x / 3.0,
    });
    must(Must::NotPass, &report);
    assert_eq!(report.comparisons[0].cause, Some(Cause::Jump), "{report}");
}

/// relu(x + b) at 0, with these slopes claimed for x and b.
fn shifted(rest: &[f64], of_x: f64, of_b: f64) -> Report {
    let values = [&[0.0], rest].concat();
    let all = ["x", "b"].map(|name| Variable::new(name, &[values.len()], values.clone()));
    check(
        "relu(x + b)",
        &all,
        |v| v[0].iter().zip(&v[1]).map(|(x, b)| (x + b).max(0.0)).collect(),
        |v, dy| {
            let back = |at_zero: f64| {
                let slope = |z: f64| if z == 0.0 { at_zero } else { f64::from(u8::from(z > 0.0)) };
                let sums = v[0].iter().zip(&v[1]).map(|(x, b)| x + b);
                sums.zip(dy).map(|(z, dy)| dy * slope(z)).collect()
            };
            vec![back(of_x), back(of_b)]
        },
    )
}

#[test]
fn a_kink_of_two_variables() {
    for rest in [&[][..], &[1.0]] {
        for claim in [0.0, 0.5, 1.0] {
            let report = shifted(rest, claim, claim);
            must(Must::Pass, &report);
            assert!(report.to_string().contains("is a subgradient"), "{report}");
        }
        for (of_x, of_b) in [(3.0, 3.0), (-2.0, -2.0), (0.0, 1.0), (1.0, 0.0)] {
            let report = shifted(rest, of_x, of_b);
            must(Must::Fail, &report);
            assert!(report.to_string().contains("move the point off the kink"), "{report}");
        }
    }
}

/// Σ v relu(xW + b) with a row of zeros in x and b = 0: what backward gives with any slope of ReLU at 0 is a limit
/// of gradients nearby, though no single direction shows it.
#[test]
fn kinks_behind_a_linear_layer_of_zeros() {
    let (w, v) = ([[0.3, -0.2], [0.9, 0.4]], [0.7, -1.1]);
    let hidden = move |a: &[Vec<f64>], r: usize, j: usize| {
        a[0][2 * r] * w[0][j] + a[0][2 * r + 1] * w[1][j] + a[1][j]
    };
    let report = |at_zero: f64, v0: f64| {
        let x = Variable::new("x", &[2, 2], vec![0.0, 0.0, 0.5, 1.0]);
        check(
            "two layers",
            &[x, Variable::new("b", &[2], vec![0.0, 0.0])],
            |a| {
                let row = |r| (0..2).map(|j| v[j] * hidden(a, r, j).max(0.0)).sum();
                (0..2).map(row).collect()
            },
            |a, dy| {
                let (mut dx, mut db) = (vec![0.0; 4], vec![0.0; 2]);
                for (r, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let slope = match hidden(a, r, j) {
                        0.0 => at_zero,
                        z => f64::from(u8::from(z > 0.0)),
                    };
                    let dz = dy[r] * slope * if j == 0 { v0 } else { v[1] };
                    db[j] += dz;
                    dx[2 * r] += dz * w[0][j];
                    dx[2 * r + 1] += dz * w[1][j];
                }
                vec![dx, db]
            },
        )
    };
    for at_zero in [0.0, 0.5, 1.0] {
        must(Must::Pass, &report(at_zero, v[0]));
    }
    for at_zero in [3.0, -1.0] {
        must(Must::Fail, &report(at_zero, v[0]));
    }
    must(Must::Fail, &report(0.0, 0.701));
}

/// Points all around excuse nothing that is wrong at a point beside a kink.
#[test]
fn a_kink_nearby_is_no_choice() {
    for near in [1e-9, 1e-6, 1e-3] {
        let report =
            each("relu", vec![near, 1.0], |x| x.max(0.0), |x| f64::from(u8::from(x > 0.5)));
        must(Must::Fail, &report);
    }
    // relu(x) − relu(−x) is x, whatever is chosen at 0.
    let report = |slope: f64| {
        each(
            "x",
            vec![0.0, 1.0],
            |x| x.max(0.0) - (-x).max(0.0),
            |x| if x == 0.0 { slope } else { 1.0 },
        )
    };
    must(Must::Pass, &report(1.0));
    must(Must::Fail, &report(0.0));
}
