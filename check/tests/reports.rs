//! What a report says, and in which order.

mod common;

use beit_check::certificate::Certificate;
use beit_check::exact::Projection;
use beit_check::identity::Identity;
use beit_check::report::Comparison;
use beit_check::{Arrays, Cause, Check, Function, Location, Precision, Real, Settings, Verdict};
use common::{fails, passes, wave};
use ndarray::ArrayD;

/// The sine of n numbers, of whose backward the third is off by a factor.
struct Sine(f64);

impl Function for Sine {
    fn forward<T: Real>(&self, a: &Arrays<T>) -> ArrayD<T> {
        a["x"].mapv(|x| x.sin())
    }
    fn backward(&self, a: &Arrays, dy: &ArrayD<f64>) -> Arrays {
        let mut dx = dy * &a["x"].mapv(f64::cos);
        dx[[2]] *= self.0;
        Arrays::new().with("x", dx)
    }
}

fn sine(n: usize) -> Check {
    Check::new("sine").at(Arrays::new().with("x", wave(n, 0.9)))
}

fn identity(name: &str, error: f64, verdict: Verdict) -> Identity {
    let (name, located) = (name.into(), None);
    Identity {
        name,
        left: 1.0,
        right: 1.0,
        bound: 0.0,
        scale: 1.0,
        error,
        verdict,
        cause: None,
        located,
    }
}

/// Everything that can be wrong, the worst first; what is open behind it, a missing certificate at last and
/// with advice.
#[test]
fn the_worst_comes_first() {
    let mut report = sine(5).function(&Sine(1.0));
    passes(&report);
    let compared = report.comparisons[0].clone();
    let other = |place: &Location, error: f64, verdict: Verdict| {
        let cause = (verdict == Verdict::Inconclusive).then_some(Cause::Kink);
        Comparison { place: place.clone(), error, verdict, cause, ..compared.clone() }
    };
    let [one, two] = [1, 2].map(|i| Location::Element(vec![i]));
    let many = Location::Direction(3);
    report.comparisons = vec![
        other(&one, 0.5, Verdict::Inconclusive),
        other(&many, 0.9, Verdict::Fail),
        other(&one, 0.2, Verdict::Fail),
        other(&two, 0.3, Verdict::Fail),
        other(&many, 0.4, Verdict::Inconclusive),
    ];
    report.identities = vec![
        identity("open", 0.1, Verdict::Inconclusive),
        identity("near", 0.1, Verdict::Fail),
        identity("far", 0.2, Verdict::Fail),
    ];
    let exact = |number: usize, error: f64| Projection { number, error, ..report.exact[1].clone() };
    report.exact = vec![exact(0, 1e-3), exact(1, 1e-2), exact(2, 0.0)];
    report.certificate = Some(Certificate { value: 1.0, uncertainty: 1e-9, error: 0.0 });
    report.faults = vec!["a fault".into()];
    let lines = report.failures(usize::MAX);
    let want = [
        "a fault",
        "far",
        "near",
        "along levelled direction 1",
        "along levelled direction 0",
        "x[2]",
        "x[1]",
        "x along direction 3",
        "open",
        "x[1]",
        "x along direction 3",
        "double-double differences are certain to 1.0e-9 alone (limit 1e-20): move the point",
    ];
    assert_eq!(lines.len(), want.len(), "{report}");
    for (line, want) in lines.iter().zip(want) {
        assert!(line.starts_with(&format!("sine: {want}")), "{line}: {want}");
    }
    assert_eq!(report.failures(3), lines[..3]);
}

#[test]
fn exact_directions_are_numbered() {
    let report = sine(5).function(&Sine(1.0 + 1e-12));
    let lines = report.failures(usize::MAX);
    for number in 0..4 {
        let text = format!("along levelled direction {number} off by");
        assert_eq!(lines.iter().filter(|l| l.contains(&text)).count(), 1, "{report}");
    }
    let named: Vec<_> = report.exact.iter().map(|p| (p.direction, p.number)).collect();
    let levelled = (0..4).map(|n| ("levelled", n));
    assert!(named.into_iter().eq(std::iter::once(("normal", 0)).chain(levelled)));
}

/// What a layer in f32 needs, by the names at the root of the crate.
#[test]
fn single_precision_by_settings() {
    let settings = Settings { precision: Precision::F32, coarsest: 1e-3, ..Settings::default() };
    let run = |factor: f32| {
        sine(5).settings(settings).gradients(
            |a| a["x"].mapv(|x| f64::from((x as f32).sin())),
            |a, dy| {
                let slope = a["x"].mapv(|x| factor * (x as f32).cos());
                Arrays::new().with("x", (dy.mapv(|dy| dy as f32) * slope).mapv(f64::from))
            },
        )
    };
    passes(&run(1.0));
    fails(&run(1.01), 1, "x[");
}
