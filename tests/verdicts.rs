//! What the checker says of this crate's right gradients where little can be seen: in f32, and with steps too
//! long and too short; and of one that is declared to be another.

use beit::check::gradients::{Settings, Variable, Verdict, check};
use beit::check::report::Location;
use beit::cpu::Cpu;
use beit::ops::gumbel_softmax::{GumbelSoftmaxOp, Noise};
use beit::selfcheck::cases;
use beit::tensor::{Master, Tensor};

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

#[test]
fn no_step_makes_a_right_gradient_wrong() {
    let mut seen = [0; 3];
    for case in cases()
        .iter()
        .filter(|c| !c.name.starts_with("model_") && !c.large && !c.inputs().forward_only)
    {
        for power in [1, 6, 12] {
            // Four steps each, so that few escape to where it is easier.
            let first_step = 10f64.powi(-power);
            let settings = Settings {
                first_step,
                steps: 4,
                dense: 4,
                samples: 4,
                projections: 1,
                blocks: 0,
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
    let elements = report.comparisons.iter().filter(|c| matches!(c.place, Location::Element(_)));
    let failed = elements.clone().filter(|c| c.verdict == Verdict::Fail).count();
    assert_eq!(failed, 30, "{report}");
    assert!(elements.clone().all(|c| c.numeric == 0.0), "{report}");
}
