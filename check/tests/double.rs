//! Double-double numbers against an independent crate of arbitrary precision, over the whole range.

use beit_check::Real;
use beit_check::double::Double;
use dashu_float::FBig;
use dashu_float::round::mode::HalfEven;

type Big = FBig<HalfEven, 2>;

/// Bits of the reference: eight doubles.
const BITS: usize = 424;

/// 2⁻¹⁰⁶
const UNIT: f64 = f64::EPSILON * f64::EPSILON / 4.0;

fn big(x: f64) -> Big {
    Big::try_from(x).expect("finite").with_precision(BITS).value()
}

fn wide(x: Double) -> Big {
    big(x.value()) + big(x.low())
}

/// Distance from `want`, relative to it.
fn error(ours: Double, want: &Big) -> f64 {
    let off = (wide(ours) - want) / want;
    off.to_f64().value().abs()
}

/// Numbers of both signs and several sizes with all digits of a double-double in use.
fn numbers() -> Vec<Double> {
    let third = Double::ONE / Double::of(3.0);
    let mut all = Vec::new();
    for i in 0..60 {
        let size = [0.003, 0.4, 1.0, 7.0, 120.0][i % 5];
        all.push(Double::of(size * ((i * i) as f64).sin()) * third);
    }
    all.retain(|x| x.value() != 0.0);
    all
}

/// Numbers of both signs from `least` to `most`, those around 1, and some of few digits.
fn range(least: f64, most: f64) -> Vec<Double> {
    let third = Double::ONE / Double::of(3.0);
    let (mut all, mut size) = (Vec::new(), least);
    while size <= most {
        all.extend([Double::of(size), Double::of(2.9 * size) * third]);
        size *= if (1e-3..1e3).contains(&size) { 1.37 } else { 1.9e3 };
    }
    for distance in [1e-30, 1e-20, 1e-12, 1e-5, 0.05] {
        all.extend([distance, -distance].map(|d| Double::new(1.0, d)));
    }
    all.extend([0.25, 0.5, 1.0, 2.0, 3.0].map(Double::of));
    all.retain(|x| (least..=most).contains(&x.value()));
    let negative: Vec<Double> = all.iter().map(|x| -*x).collect();
    all.extend(negative);
    all
}

/// The largest error of a function over `arguments`, in units of 2⁻¹⁰⁶ and of `scale`; results near the end
/// of the range have fewer digits.
#[track_caller]
fn holds(
    what: &str,
    limit: f64,
    arguments: &[Double],
    ours: impl Fn(Double) -> Double,
    want: impl Fn(&Big) -> Big,
    scale: impl Fn(f64) -> f64,
) {
    let (mut worst, mut at) = (0.0, Double::ZERO);
    for &x in arguments {
        let y = ours(x);
        assert!(y.is_finite(), "{what}({x:?}) is {y:?}");
        if y.value().abs() < 1e-290 {
            continue;
        }
        let units = error(y, &want(&wide(x))) / UNIT / scale(x.value());
        if units.is_nan() || units > worst {
            (worst, at) = (units, x);
        }
    }
    assert!(worst <= limit, "{what}: {worst:.2} units of 2^-106 at {at:?}, above {limit}");
}

fn one(_: f64) -> f64 {
    1.0
}

#[test]
fn arithmetic_agrees_with_dashu() {
    let all = numbers();
    let (mut worst, mut cancelled) = ([0.0f64; 2], 0.0f64);
    for &a in &all {
        for &b in &all {
            let (x, y) = (wide(a), wide(b));
            // Sums may cancel: judged on the scale of their terms.
            let scale = a.value().abs() + b.value().abs();
            let off = (wide(a + b) - (&x + &y)).to_f64().value().abs() / scale;
            cancelled = cancelled.max(off);
            worst[0] = worst[0].max(error(a * b, &(&x * &y)));
            worst[1] = worst[1].max(error(a / b, &(&x / &y)));
        }
    }
    let units = [worst[0], worst[1], cancelled].map(|e| e / UNIT);
    assert!(units.iter().all(|&u| u <= 4.0), "*, /, + in units of 2^-106: {units:?}");
}

#[test]
fn roots_agree_with_dashu() {
    let all = range(1e-305, 1e300);
    holds("cbrt", 4.0, &all, Real::cbrt, cbrt, one);
    let positive: Vec<Double> = all.into_iter().filter(|x| x.value() > 0.0).collect();
    holds("sqrt", 4.0, &positive, Real::sqrt, |x| x.sqrt(), one);
}

/// The root of the magnitude with the sign of the number.
fn cbrt(x: &Big) -> Big {
    if *x < Big::ZERO { -(-x).nth_root(3) } else { x.nth_root(3) }
}

#[test]
fn exponentials_and_logarithms_agree_with_dashu() {
    let small = range(1e-305, 700.0);
    holds("exp", 4.0, &small, Real::exp, Big::exp, one);
    holds("exp_m1", 4.0, &small, Real::exp_m1, Big::exp_m1, one);
    holds("sigmoid", 4.0, &small, Real::sigmoid, |x| big(1.0) / (big(1.0) + (-x).exp()), one);
    let wide: Vec<Double> = range(1e-305, 1e300);
    let above = |least: f64| -> Vec<Double> {
        wide.iter().copied().filter(|x| x.value() > least && *x != Double::ONE).collect()
    };
    holds("ln", 4.0, &above(0.0), Real::ln, Big::ln, one);
    holds("ln_1p", 4.0, &above(-1.0), Real::ln_1p, Big::ln_1p, one);
}

#[test]
fn trigonometric_functions_agree_with_dashu() {
    let mut all = range(1e-305, 1e15);
    // Beside multiples of π/2, as near as f64 and double-double come.
    let quarter = Double::ONE.atan2(0.0);
    for k in [1.0, 2.0, 3.0, 4.0, 11.0, 355.0, 710.0, 12_345.0, 636_619.0, 6.4e8] {
        let turn = quarter * Double::of(k);
        all.extend([turn, -turn, Double::of(turn.value()), Double::new(turn.value(), 1e-30)]);
    }
    holds("sin", 4.0, &all, Real::sin, Big::sin, one);
    holds("cos", 4.0, &all, Real::cos, Big::cos, one);
    holds("tan", 4.0, &all, Real::tan, Big::tan, one);
    let far = Real::sin(Double::of(1e18)).value();
    assert!((far - 1e18f64.sin()).abs() < 1e-15, "{far}");
}

#[test]
fn inverse_trigonometric_functions_agree_with_dashu() {
    let inside = range(1e-305, 1.0 - f64::EPSILON);
    holds("asin", 4.0, &inside, Real::asin, Big::asin, one);
    holds("acos", 4.0, &inside, Real::acos, Big::acos, one);
    holds("atan", 4.0, &range(1e-305, 1e300), Real::atan, Big::atan, one);
    for y in numbers() {
        let atan2 = |x: &Big| wide(y).atan2(x);
        holds("atan2", 4.0, &numbers(), |x| y.atan2(x), atan2, one);
    }
}

#[test]
fn hyperbolic_functions_agree_with_dashu() {
    let all = range(1e-305, 700.0);
    holds("sinh", 4.0, &all, Real::sinh, Big::sinh, one);
    holds("cosh", 4.0, &all, Real::cosh, Big::cosh, one);
    holds("tanh", 4.0, &all, Real::tanh, Big::tanh, one);
}

#[test]
fn powers_agree_with_dashu() {
    for n in [-31, -3, -1, 2, 5, 100] {
        let size = 10f64.powf(250.0 / f64::from(n).abs()).min(1e250);
        let scale = f64::from(n).abs().max(1.0);
        let powi = |x: &Big| x.powi(n.into());
        holds("powi", 4.0, &range(size.recip(), size), |x| Real::powi(x, n), powi, |_| scale);
    }
    for p in [-3.7, -0.5, 1.0 / 3.0, 0.7, 2.5, 17.25] {
        let size = 10f64.powf(250.0 / f64::abs(p)).min(1e250);
        let all = range(size.recip(), size).into_iter().filter(|x| x.value() > 0.0);
        let scale = |x: f64| 1.0 + (p * x.ln()).abs();
        let powf = |x: &Big| (big(p) * x.ln()).exp();
        holds("powf", 4.0, &all.collect::<Vec<_>>(), |x| Real::powf(x, p), powf, scale);
    }
    let of = Double::of;
    assert_eq!((Real::powf(of(-2.0), 3.0).value(), Real::powf(of(-2.0), 2.0).value()), (-8.0, 4.0));
    assert!(Real::powf(of(-2.0), 0.5).value().is_nan());
    assert_eq!((Real::powf(of(0.0), 0.5), Real::powf(of(5.0), 0.0)), (of(0.0), of(1.0)));
    assert_eq!((Real::powi(of(2.0), -2), Real::powi(of(0.0), 0)), (of(0.25), of(1.0)));
}

#[test]
fn the_error_function_agrees_with_dashu() {
    let two_over_root_pi = big(2.0) / Big::pi(BITS).sqrt();
    // The alternating series: other terms than the crate's, at a precision that bears it.
    let series = |x: &Big| {
        let (mut term, mut sum, square) = (x.clone(), x.clone(), x * x);
        for n in 1..400 {
            term = -term * &square / big(f64::from(n));
            sum += &term / big(f64::from(2 * n + 1));
        }
        sum * &two_over_root_pi
    };
    holds("erf", 4.0, &range(1e-305, 8.0), Real::erf, series, |x| 1.0 + x * x);
}

#[test]
fn steps() {
    let below = Double::new(3.0, -1e-20);
    assert_eq!((Real::floor(below).value(), Real::floor(-below).value()), (2.0, -3.0));
    assert_eq!(Real::floor(Double::new(3.0, 1e-20)).value(), 3.0);
    let half = Double::new(2.5, -1e-20);
    assert_eq!((Real::round(half).value(), Real::round(Double::of(2.5)).value()), (2.0, 3.0));
    assert_eq!((Real::round(-half).value(), Real::round(Double::of(-2.5)).value()), (-2.0, -3.0));
    assert_eq!((Real::signum(-half).value(), Real::signum(half).value()), (-1.0, 1.0));
    assert_eq!((half.maximum(2.5).value(), half.minimum(2.5)), (2.5, half));
}

#[test]
fn ends_of_the_range() {
    let of = Double::of;
    assert_eq!(Real::exp(of(0.0)), Double::ONE);
    assert_eq!(Real::exp(of(-800.0)), Double::ZERO);
    assert_eq!(Real::exp(of(710.0)).value(), f64::INFINITY);
    assert!(Real::exp(of(709.5)).value().is_finite());
    assert_eq!(Real::ln(Double::ONE), Double::ZERO);
    assert_eq!(Real::ln(Double::ZERO).value(), f64::NEG_INFINITY);
    assert!(Real::ln(of(-1.0)).value().is_nan() && Real::sqrt(of(-1.0)).value().is_nan());
    assert_eq!(Real::sqrt(Double::ZERO), Double::ZERO);
    assert_eq!((Double::ONE / Double::ZERO).value(), f64::INFINITY);
    assert_eq!(Real::erf(Double::ZERO), Double::ZERO);
    assert_eq!(Real::erf(of(-9.0)).value(), -1.0);
    assert!(Real::erf(of(f64::NAN)).value().is_nan());
    assert!(Double::new(1.0, 1e-20) > Double::ONE && Double::new(1.0, -1e-20) < Double::ONE);
}

/// What is too large is infinite, as in f64, and not NaN.
#[test]
fn infinities() {
    let (large, infinite) = (Double::of(1e300), Double::of(f64::INFINITY));
    assert_eq!((large * large).value(), f64::INFINITY);
    assert_eq!((infinite + large).value(), f64::INFINITY);
    assert_eq!(large / infinite, Double::ZERO);
    assert_eq!(Real::sigmoid(Double::of(-1e4)), Double::ZERO);
    assert_eq!(Double::ONE / (Double::ONE + Real::exp(Double::of(1e4))), Double::ZERO);
    let three = [Real::sinh(-infinite), Real::cosh(infinite), Real::tanh(-infinite)];
    assert_eq!(three.map(Real::value), [f64::NEG_INFINITY, f64::INFINITY, -1.0]);
    assert_eq!(Real::atan(infinite), Double::ONE.atan2(0.0));
    assert!(Real::sin(infinite).value().is_nan() && Real::asin(Double::of(1.1)).value().is_nan());
    assert!(Real::sinh(Double::of(710.3)).value().is_finite());
    assert_eq!(Double::of(-0.0).atan2(-1.0).value(), -std::f64::consts::PI);
}
