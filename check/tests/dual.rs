//! Dual numbers against an independent crate, and the bound of a bounded number against the error made.

use beit_check::Real;
use beit_check::bounded::Bounded;
use beit_check::double::Double;
use beit_check::dual::Dual;
use num_dual::{Dual64, DualNum};

/// Numbers of both signs: tiny, around 1, large.
fn numbers(most: f64) -> Vec<f64> {
    let mut all = vec![1e-300, 1e-20, 1e-8, 0.5, 1.0 - 1e-9, 1.0, 1.0 + 1e-9, 1e5, 1e20, 1e300];
    all.extend((0..60).map(|i| (0.37 * f64::from(i)).exp() * 1e-3));
    all.retain(|x| *x <= most);
    let negative: Vec<f64> = all.iter().map(|x| -x).collect();
    all.extend(negative);
    all
}

fn close(what: &str, x: f64, ours: Dual, theirs: Dual64, limit: f64) {
    let near = |a: f64, b: f64| (a - b).abs() <= limit * f64::EPSILON * b.abs() || a == b;
    assert!(near(ours.value, theirs.re), "{what}({x:e}): value {ours:?}, num-dual {theirs}");
    assert!(near(ours.slope, theirs.eps), "{what}({x:e}): slope {ours:?}, num-dual {theirs}");
}

type Both = (&'static str, fn(Dual) -> Dual, fn(Dual64) -> Dual64);

#[test]
fn functions_of_everything_agree_with_num_dual() {
    let all: [Both; 5] = [
        ("sin", Real::sin, |x| x.sin()),
        ("cos", Real::cos, |x| x.cos()),
        ("tan", Real::tan, |x| x.tan()),
        ("atan", Real::atan, |x| x.atan()),
        ("cbrt", Real::cbrt, |x| x.cbrt()),
    ];
    for (what, ours, theirs) in all {
        for x in numbers(1e20) {
            close(what, x, ours(Dual::new(x, 0.7)), theirs(Dual64::new(x, 0.7)), 8.0);
        }
    }
}

#[test]
fn functions_of_parts_agree_with_num_dual() {
    type Domain = fn(f64) -> bool;
    let all: [(Both, Domain); 10] = [
        (("exp", Real::exp, |x| x.exp()), |x| x < 700.0),
        (("exp_m1", Real::exp_m1, |x| x.exp_m1()), |x| x < 700.0),
        (("sinh", Real::sinh, |x| x.sinh()), |x| x.abs() < 700.0),
        (("cosh", Real::cosh, |x| x.cosh()), |x| x.abs() < 700.0),
        // Theirs cancels elsewhere.
        (("tanh", Real::tanh, |x| x.tanh()), |x| x.abs() < 0.5),
        (("ln", Real::ln, |x| x.ln()), |x| x > 0.0),
        (("ln_1p", Real::ln_1p, |x| x.ln_1p()), |x| x > -0.99),
        (("sqrt", Real::sqrt, |x| x.sqrt()), |x| x > 0.0),
        (("asin", Real::asin, |x| x.asin()), |x| x.abs() < 0.9),
        (("acos", Real::acos, |x| x.acos()), |x| x.abs() < 0.9),
    ];
    for ((what, ours, theirs), domain) in all {
        for x in numbers(1e300).into_iter().filter(|x| domain(*x)) {
            close(what, x, ours(Dual::new(x, 0.7)), theirs(Dual64::new(x, 0.7)), 8.0);
        }
    }
}

#[test]
fn arithmetic_and_functions_of_two_numbers_agree_with_num_dual() {
    let numbers = numbers(200.0);
    for (i, &a) in numbers.iter().enumerate() {
        let b = numbers[(7 * i + 3) % numbers.len()];
        let (x, y) = (Dual::new(a, 0.3), Dual::new(b, -1.1));
        let (p, q) = (Dual64::new(a, 0.3), Dual64::new(b, -1.1));
        close("+", a, x + y, p + q, 8.0);
        close("*", a, x * 0.5, p * 0.5, 8.0);
        close("-", a, -x, -p, 8.0);
        // A difference may cancel: compared on the scale of its terms.
        let (ours, theirs) = (x / y - x * x, p / q - p * p);
        let scale = (0.3 / b).abs() + (a / b * 1.1 / b).abs() + 0.6 * a.abs();
        assert!(
            scale.is_infinite() || (ours.slope - theirs.eps).abs() <= 8.0 * f64::EPSILON * scale,
            "{a} {b}"
        );
        if a.abs() > 1e-20 && b.abs() > 1e-20 {
            let (ours, theirs) = (x.atan2(y), p.atan2(q));
            let scale = (0.3 * b).hypot(1.1 * a) / (a * a + b * b);
            assert!((ours.slope - theirs.eps).abs() <= 8.0 * f64::EPSILON * scale, "{a} {b}");
        }
        for n in [-3, -1, 0, 1, 2, 7] {
            if a.abs() > 1e-20 {
                close("powi", a, Real::powi(x, n), p.powi(n), 8.0);
            }
        }
        if a > 1e-20 && b.abs() < 20.0 {
            close("powf", a, Real::powf(x, 1.7), p.powf(1.7), 8.0);
            let (ours, theirs) = (Real::powf(x, y), p.powd(q));
            let parts = (b * a.powf(b - 1.0) * 0.3).abs() + (a.powf(b) * a.ln() * 1.1).abs();
            let limit = 8.0 * (1.0 + (b * a.ln()).abs()) * f64::EPSILON * parts;
            assert!((ours.slope - theirs.eps).abs() <= limit, "{a} {b} {ours:?} {theirs}");
        }
    }
}

/// Where num-dual cancels or has no such function: the differences of double-double.
#[test]
fn slopes_agree_with_differences_of_double_double() {
    fn all<T: Real>(x: T) -> [T; 8] {
        let root = (x * x + 1e-3).sqrt();
        [
            x.tanh(),
            x.sigmoid(),
            x.erf(),
            (x.tanh() * 0.9).asin(),
            (x.tanh() * 0.9).acos(),
            root.powf(x * 0.01),
            root.atan2(x),
            x.maximum(0.5).minimum(20.0) * (x.floor() + x.round() + x.signum()),
        ]
    }
    // Not at the jumps of floor and round.
    let jump = |x: f64| (2.0 * x - (2.0 * x).round()).abs() < 1e-5;
    for x in numbers(40.0).into_iter().filter(|x| x.abs() > 1e-4 && !jump(*x)) {
        let h = 2f64.powi(-30) * x.abs().min(1.0);
        let [a, b, c, d] = [h, -h, 2.0 * h, -2.0 * h].map(|h| all(Double::new(x, h)));
        for (i, ours) in all(Dual::new(x, 1.0)).into_iter().enumerate() {
            let slope = ((a[i] - b[i]) * 8.0 - (c[i] - d[i])) / Double::of(12.0 * h);
            let off = (ours.slope - slope.value()).abs();
            // What 31 digits leave of the difference, and the rounding of an argument and of what cancels.
            let limit = 1e-31 * ours.value.abs() / h + 1e-12 * slope.value().abs() + 1e-15;
            assert!(off <= limit, "{i} at {x:e}: {:e}, {:e}", ours.slope, slope.value());
        }
    }
}

#[test]
fn a_constant_exponent_needs_no_logarithm() {
    let x = Dual::new(0.0, 1.0);
    assert_eq!((Real::powf(x, 2.0).slope, Real::powf(x, 1.0).slope), (0.0, 1.0));
    assert_eq!((Real::powi(x, 1).slope, Real::powi(x, 0).slope), (1.0, 0.0));
    assert_eq!(Real::powf(Dual::new(-2.0, 1.0), 3.0).slope, 12.0);
    assert_eq!(Real::powf(Dual::of(0.0), Dual::new(2.0, 1.0)).slope, 0.0);
    assert_eq!(Real::floor(Dual::new(2.5, 1.0)).slope, 0.0);
}

/// In f32, rounded after each function, no number is farther from f64 than its bound.
#[test]
fn bounds_hold_in_single_precision() {
    let unit = 0.5 * f64::from(f32::EPSILON);
    type Single = fn(f32) -> f32;
    type Ours = fn(Bounded) -> Bounded;
    let all: [(&str, Ours, Single); 15] = [
        ("exp", Real::exp, f32::exp),
        ("ln", Real::ln, f32::ln),
        ("sin", Real::sin, f32::sin),
        ("cos", Real::cos, f32::cos),
        ("tan", Real::tan, f32::tan),
        ("asin", Real::asin, f32::asin),
        ("acos", Real::acos, f32::acos),
        ("atan", Real::atan, f32::atan),
        ("sinh", Real::sinh, f32::sinh),
        ("cosh", Real::cosh, f32::cosh),
        ("tanh", Real::tanh, f32::tanh),
        ("cbrt", Real::cbrt, f32::cbrt),
        ("ln_1p", Real::ln_1p, f32::ln_1p),
        ("exp_m1", Real::exp_m1, f32::exp_m1),
        ("powf", |x| Real::powf(x, 1.5), |x| x.powf(1.5)),
    ];
    for (what, ours, single) in all {
        let mut tight = 0.0f64;
        for i in 1..400 {
            // The argument has an error of its own: a product.
            let (a, b) = (0.002 * f64::from(i as f32 * 0.97), 1.1f32);
            let a = a as f32;
            let y = ours(Bounded::of(f64::from(a)) * Bounded::of(f64::from(b)));
            let off = (f64::from(single(a * b)) - y.value).abs() / unit;
            if y.value.is_finite() {
                assert!(off <= y.error, "{what}({a}): {off} above {}", y.error);
                tight = tight.max(off / y.error);
            }
        }
        assert!(tight > 0.05, "{what}: the bound is {} times what is seen", 1.0 / tight);
    }
}
