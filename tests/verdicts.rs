//! What the checker says of right and of wrong gradients where little can be seen: in f32, with steps too
//! long and too short, at kinks and at the edge of a domain.

use beit::check::gradients::{Cause, Settings, Variable, Verdict, check, check_with};
use beit::check::report::{Location, Report};
use beit::cpu::Cpu;
use beit::ops::gumbel_softmax::{GumbelSoftmaxOp, Noise};
use beit::selfcheck::cases;
use beit::tensor::{Master, Tensor};

fn relu(at: Vec<f64>) -> Report {
    let x = Variable::new("x", &[at.len()], at);
    let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.max(0.0)).collect();
    check("relu", &[x], forward, |v, dy| {
        vec![v[0].iter().zip(dy).map(|(&x, dy)| if x > 0.0 { *dy } else { 0.0 }).collect()]
    })
}

#[test]
fn a_right_gradient_in_f32_is_never_called_wrong() {
    let mut seen = [0; 3];
    // Not the models: among the many ReLUs of a tokenizer some are within the round-off of f32 of their
    // kink, and backward takes another branch than the differences do.
    for case in cases().iter().filter(|c| !c.name.starts_with("model_") && !c.large) {
        let report = case.gradients_f32();
        assert_ne!(report.verdict(), Verdict::Fail, "{report}");
        for c in &report.comparisons {
            seen[c.verdict as usize] += 1;
        }
    }
    println!("f32: {} pass, {} inconclusive", seen[0], seen[1]);
    assert!(seen[0] > 0 && seen[1] > 0);
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
fn no_step_makes_a_right_gradient_wrong() {
    let mut seen = [0; 3];
    for case in cases()
        .iter()
        .filter(|c| !c.name.starts_with("model_") && !c.large && !c.inputs().forward_only)
    {
        for power in 1..=12 {
            // Four steps each, so that none escapes to where it is easier.
            let first_step = 10f64.powi(-power);
            let settings = Settings {
                first_step,
                steps: 4,
                dense: 4,
                samples: 4,
                projections: 1,
                ..Settings::default()
            };
            let report = case.gradients_with(&settings);
            assert_ne!(report.verdict(), Verdict::Fail, "step 1e-{power}: {report}");
            for c in &report.comparisons {
                seen[c.verdict as usize] += 1;
            }
        }
    }
    println!("steps: {} pass, {} inconclusive", seen[0], seen[1]);
    assert!(seen[0] > 0 && seen[1] > 0);
}

#[test]
fn the_cause_is_named() {
    // In f32 a resolution of 1e-6 is not to be had.
    let x = Variable::new("x", &[1], vec![0.7]);
    let forward = |v: &[Vec<f64>]| vec![f64::from((v[0][0] as f32).exp())];
    let report =
        check("exp", &[x], forward, |v, dy| vec![vec![dy[0] * f64::from((v[0][0] as f32).exp())]]);
    assert_eq!(report.comparisons[0].cause, Some(Cause::RoundOff), "{report}");

    // The square root has a finite gradient at 1e-9, but no room for a step to the left.
    let settings = Settings { steps: 12, ..Settings::default() };
    let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.sqrt()).collect();
    let backward = |v: &[Vec<f64>], dy: &[f64]| {
        vec![v[0].iter().zip(dy).map(|(x, dy)| dy * 0.5 / x.sqrt()).collect()]
    };
    let sqrt = |at: f64| {
        // The tensor has a size of 1 in both cases.
        let x = Variable::new("x", &[2], vec![at, 1.5]);
        check_with(&settings, "sqrt", &[x], &forward, &backward)
    };
    let report = sqrt(1e-9);
    assert_eq!(report.comparisons[0].cause, Some(Cause::DomainEdge), "{report}");
    assert!(sqrt(0.5).passed(), "{}", sqrt(0.5));

    // Four long steps over a fast wave.
    let x = Variable::new("x", &[1], vec![0.3]);
    let forward = |v: &[Vec<f64>]| vec![(40.0 * v[0][0]).sin()];
    let backward = |v: &[Vec<f64>], dy: &[f64]| vec![vec![40.0 * dy[0] * (40.0 * v[0][0]).cos()]];
    let settings = Settings { first_step: 0.2, steps: 4, ..settings };
    let report = check_with(&settings, "wave", std::slice::from_ref(&x), &forward, &backward);
    assert_eq!(report.comparisons[0].cause, Some(Cause::Steps), "{report}");
    // With the usual ladder it is no riddle.
    assert!(check("wave", &[x], forward, backward).passed());
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
    assert_eq!(report.count(Verdict::Fail), 1, "{report}");
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
        assert_eq!(report.count(Verdict::Fail), 2, "step 1e-{power}: {report}");
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
#[test]
fn a_straight_through_estimator_follows_its_rule_and_not_its_forward() {
    let (shape, tau) = ([3, 2, 5], 0.6);
    let bk = Cpu::<f64>::new();
    let noise = Master::<Cpu<f64>>::from_f64(&bk, &[0.0; 30], &shape);
    let sample = |logits: &[f64]| {
        let logits = Master::<Cpu<f64>>::from_f64(&bk, logits, &shape);
        bk.gumbel_softmax_forward(&logits, &Noise::Given(&noise), tau, true)
    };
    let values: Vec<f64> = (0..30).map(|i| (i as f64 * 1.7).sin()).collect();
    let logits = Variable::new("logits", &shape, values);
    let backward = |v: &[Vec<f64>], dz: &[f64]| {
        let (_, y) = sample(&v[0]);
        let dz = Tensor::from_f64(&bk, dz, &shape);
        vec![bk.gumbel_softmax_backward(&y, &dz, tau).to_f64(&bk)]
    };
    let soft = |v: &[Vec<f64>]| sample(&v[0]).1.to_f64(&bk);
    let report = check("declared", std::slice::from_ref(&logits), soft, backward);
    assert!(report.passed(), "{report}");
    let hard = |v: &[Vec<f64>]| sample(&v[0]).0.to_f64(&bk);
    assert!(hard(std::slice::from_ref(&logits.values)).iter().all(|z| *z == 0.0 || *z == 1.0));
    let report = check("true", &[logits], hard, backward);
    assert_eq!(report.count(Verdict::Fail), 30, "{report}");
    assert!(report.comparisons.iter().all(|c| c.numeric == 0.0), "{report}");
}

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
