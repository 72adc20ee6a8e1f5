//! What the checker says of right and of wrong gradients where little can be seen: in f32, at kinks, at the
//! edge of a domain, in large tensors.

use beit_check::gradients::{Cause, Settings, Variable, Verdict, check, check_with};
use beit_check::report::{Location, Report};

fn failed_elements(report: &Report) -> usize {
    let elements = report.comparisons.iter().filter(|c| matches!(c.place, Location::Element(_)));
    elements.filter(|c| c.verdict == Verdict::Fail).count()
}

fn relu(at: Vec<f64>) -> Report {
    let x = Variable::new("x", &[at.len()], at);
    let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.max(0.0)).collect();
    check("relu", &[x], forward, |v, dy| {
        vec![v[0].iter().zip(dy).map(|(&x, dy)| if x > 0.0 { *dy } else { 0.0 }).collect()]
    })
}

/// A bound that is always too large would also never call anything wrong.
#[test]
fn a_wrong_gradient_in_f32_is_called_wrong() {
    let x = Variable::new("x", &[4], vec![0.5, -0.25, 1.5, 0.75]);
    let forward =
        |v: &[Vec<f64>]| v[0].iter().map(|&x| f64::from((x as f32).sin() * 1.5)).collect();
    let backward = |factor: f32| {
        move |v: &[Vec<f64>], dy: &[f64]| {
            let slope = |x: f64| f64::from((x as f32).cos() * 1.5 * factor);
            vec![v[0].iter().zip(dy).map(|(x, dy)| dy * slope(*x)).collect()]
        }
    };
    let right = check("sin", std::slice::from_ref(&x), forward, backward(1.0));
    assert_ne!(right.verdict(), Verdict::Fail, "{right}");
    let wrong = check("sin", &[x], forward, backward(1.0001));
    assert_eq!(wrong.verdict(), Verdict::Fail, "{wrong}");
}

#[test]
fn the_cause_is_named() {
    // In f32 no pass is fine enough to see 1e-6.
    let x = Variable::new("x", &[1], vec![0.7]);
    let forward = |v: &[Vec<f64>]| vec![f64::from((v[0][0] as f32).exp())];
    let fine = Settings { coarsest: 1e-6, ..Settings::default() };
    let backward =
        |v: &[Vec<f64>], dy: &[f64]| vec![vec![dy[0] * f64::from((v[0][0] as f32).exp())]];
    let report = check_with(&fine, "exp", &[x], &forward, &backward);
    assert_eq!(report.comparisons[0].cause, Some(Cause::RoundOff), "{report}");

    // The square root has a finite gradient next to 0, but no room for a step to the left.
    let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.sqrt()).collect();
    let backward = |v: &[Vec<f64>], dy: &[f64]| {
        vec![v[0].iter().zip(dy).map(|(x, dy)| dy * 0.5 / x.sqrt()).collect()]
    };
    let sqrt = |at: f64| {
        let x = Variable::new("x", &[2], vec![at, 1.5]);
        check("sqrt", &[x], forward, backward)
    };
    let report = sqrt(1e-20);
    assert_eq!(report.comparisons[0].cause, Some(Cause::DomainEdge), "{report}");
    for at in [1e-12, 1e-9, 0.5] {
        assert!(sqrt(at).passed(), "{}", sqrt(at));
    }

    // Four long steps over a fast wave are no riddle: it is looked at from below.
    let x = Variable::new("x", &[1], vec![0.3]);
    let forward = |v: &[Vec<f64>]| vec![(40.0 * v[0][0]).sin()];
    let backward = |v: &[Vec<f64>], dy: &[f64]| vec![vec![40.0 * dy[0] * (40.0 * v[0][0]).cos()]];
    let settings = Settings { first_step: 0.2, steps: 4, ..Settings::default() };
    let report = check_with(&settings, "wave", std::slice::from_ref(&x), &forward, &backward);
    assert!(report.passed(), "{report}");
}

#[test]
fn points_at_a_kink_are_drawn_anew() {
    let report = relu(vec![0.5, 0.0, -1.0, 0.0]);
    assert!(report.passed(), "{report}");
    let redrawn: Vec<bool> = report.comparisons.iter().map(|c| c.redrawn > 0).collect();
    assert_eq!(redrawn, [false, true, false, true]);
    // Further away smaller steps do.
    let report = relu(vec![1e-5, -1e-7, 1.0]);
    assert!(report.passed() && report.comparisons.iter().all(|c| c.redrawn == 0), "{report}");
    for c in &report.comparisons {
        assert!(c.step <= 1e-5 || c.tensor == "x" && c.place == Location::Element(vec![2]));
    }
    // A kink that goes along with the point: |x| over a bias that is drawn anew is still one.
    let x = Variable::new("x", &[1], vec![0.0]);
    let forward = |v: &[Vec<f64>]| vec![v[0][0].rem_euclid(f64::MIN_POSITIVE).max(0.0), v[0][0]];
    let report = check("smooth", &[x], forward, |_, dy| vec![vec![dy[1]]]);
    assert_eq!(report.count(Verdict::Fail), 0, "{report}");
}

/// The difference is no kink: a branch that is wrong everywhere is not excused.
#[test]
fn a_wrong_branch_is_no_kink() {
    let x = Variable::new("x", &[3], vec![0.5, 0.25, -1.0]);
    let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.max(0.0)).collect();
    let report = check("relu", &[x], forward, |_, dy| vec![dy.to_vec()]);
    assert_eq!(failed_elements(&report), 1, "{report}");
    let text = report.failures(1).join("");
    assert!(text.starts_with("relu: x[2]: analytic"), "{text}");
}

/// Steps that are whole periods of a wave all show the same difference, 0.
#[test]
fn a_wave_is_no_alias() {
    let wave = 32.0 * std::f64::consts::PI;
    let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| (wave * x).sin()).collect();
    for at in [0.9, 0.85, 1.03, 1.2] {
        let x = Variable::new("x", &[1], vec![at]);
        let right = check("wave", std::slice::from_ref(&x), forward, |v, dy| {
            vec![vec![dy[0] * wave * (wave * v[0][0]).cos()]]
        });
        assert!(right.passed(), "{right}");
        let none = check("wave", &[x], forward, |_, _| vec![vec![0.0]]);
        assert_eq!(none.verdict(), Verdict::Fail, "{none}");
    }
}

/// What four steps of any length cannot call wrong they must not be unable to call wrong at all.
#[test]
fn four_steps_see_a_wrong_sign() {
    let x = Variable::new("x", &[2], vec![0.4, -1.1]);
    let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.sin()).collect();
    let backward = |v: &[Vec<f64>], dy: &[f64]| {
        vec![v[0].iter().zip(dy).map(|(x, dy)| -dy * x.cos()).collect()]
    };
    for power in 1..=10 {
        let settings = Settings { first_step: 10f64.powi(-power), steps: 4, ..Settings::default() };
        let report = check_with(&settings, "sin", std::slice::from_ref(&x), &forward, &backward);
        // By the differences; the Taylor remainder alone would object, too.
        assert_eq!(failed_elements(&report), 2, "step 1e-{power}: {report}");
    }
}

/// Any value between the two slopes is as good as another.
#[test]
fn a_subgradient_at_a_kink_is_not_called_wrong() {
    let x = Variable::new("x", &[3], vec![0.0, 1.0, -1e-7]);
    let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.abs()).collect();
    for at_zero in [0.0, 1.0, -1.0] {
        let report = check("abs", std::slice::from_ref(&x), forward, |v, dy| {
            let slope = |x: f64| if x == 0.0 { at_zero } else { x.signum() };
            vec![v[0].iter().zip(dy).map(|(x, dy)| dy * slope(*x)).collect()]
        });
        assert_ne!(report.verdict(), Verdict::Fail, "{report}");
    }
}

/// The gradient of a straight-through estimator is that of its soft sample, as it declares, and not that of
/// what its forward returns.
/// Of 10,000 elements one is off by 1e-7, in a function of which nothing is known but its values.
#[test]
fn one_element_of_ten_thousand_is_found_by_differences_alone() {
    let n = 10_000;
    let values: Vec<f64> = (0..n).map(|i| 0.3 + 1.7 * (i as f64 * 0.37).sin().abs()).collect();
    let x = Variable::new("x", &[100, 100], values);
    let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.exp().ln_1p()).collect();
    for fault in [None, Some(0), Some(4321), Some(9999)] {
        let report = check("softplus", std::slice::from_ref(&x), forward, |v, dy| {
            let slope = |x: f64| 1.0 / (1.0 + (-x).exp());
            let mut dx: Vec<f64> = v[0].iter().zip(dy).map(|(x, dy)| dy * slope(*x)).collect();
            if let Some(i) = fault {
                dx[i] *= 1.0 + 1e-7;
            }
            vec![dx]
        });
        match fault {
            None => assert!(report.passed(), "{report}"),
            Some(i) => {
                let want = format!("softplus: x[{},{}]: analytic", i / 100, i % 100);
                let text = report.failures(1).join("");
                assert!(text.starts_with(&want), "`{want}` is not in: {report}");
            }
        }
    }
}
