//! Right gradients of functions on which checkers trip.

use super::forty::{Must, matrix, softmax, vector, wave};
use super::must;
use beit_check::gradients::Settings;
use beit_check::report::Report;
use beit_check::{Arrays, gradients, gradients_f32, gradients_with};
use ndarray::{Array0, Array1, Array2, ArrayD, Axis, arr0, array};

fn each(name: &str, x: ArrayD<f64>, f: impl Fn(f64) -> f64, slope: impl Fn(f64) -> f64) -> Report {
    each_with(&Settings::default(), name, x, f, slope)
}

fn each_with(
    settings: &Settings,
    name: &str,
    x: ArrayD<f64>,
    f: impl Fn(f64) -> f64,
    slope: impl Fn(f64) -> f64,
) -> Report {
    gradients_with(
        settings,
        name,
        &Arrays::new().with("x", x),
        |a| a["x"].mapv(&f),
        |a, dy| Arrays::new().with("x", dy * a["x"].mapv(&slope)),
    )
}

/// Of a vector.
fn at(name: &str, x: Array1<f64>, f: impl Fn(f64) -> f64, slope: impl Fn(f64) -> f64) -> Report {
    each(name, x.into_dyn(), f, slope)
}

#[test]
fn inputs_of_any_size() {
    for s in [1e-150, 1e-8, 1e8, 1e150] {
        let x = array![s, -2.0 * s, 0.5 * s];
        must(Must::Pass, &at("sin", x, |x| (x / s).sin(), |x| (x / s).cos() / s));
    }
}

#[test]
fn outputs_of_any_size() {
    for s in [1e-150, 1e-8, 1e8, 1e150] {
        let x = array![1.0, -2.0, 0.5];
        must(Must::Pass, &at("sin", x, |x| x.sin() * s, |x| x.cos() * s));
    }
}

#[test]
fn scales_mixed_in_one_tensor() {
    let log = |x: Array1<f64>| at("ln", x, |x| (x * x).ln_1p(), |x| 2.0 * x / (1.0 + x * x));
    must(Must::Pass, &log(array![1e5, 1.0, 0.5, -3.0]));
    must(Must::Pass, &log(array![1e8, 1.0, 0.5, -3.0, 1e-8]));
    must(Must::Pass, &at("sin", array![1e4, 1.0, 0.5, -3.0, 1e-4], f64::sin, f64::cos));
}

#[test]
fn denormal_gradients() {
    let slope = |x: f64| (x - 720.0).exp();
    must(Must::NotFail, &at("denormal", array![0.3, 0.5], slope, slope));
    let report = at("1e-310", array![0.3, 0.5], |x| 1e-310 * x * x, |x| 2e-310 * x);
    must(Must::NotFail, &report);
}

#[test]
fn jumps_beside_the_point() {
    let x = array![0.3, 2.7, 100.999, 7.0001];
    must(Must::Pass, &at("fraction", x.clone(), |x| x - x.floor(), |_| 1.0));
    let k = 3.7;
    must(Must::Pass, &at("x floor(kx)", x, |x| x * (k * x).floor(), |x| (k * x).floor()));
}

#[test]
fn kinks_beside_the_point() {
    for near in [1e-6, 1e-4, 1e-2] {
        let c = 0.7 + near;
        let slope = |x: f64| x.exp() + 1e-3 * (x - c).signum();
        let report = at("exp + |x-c|", array![0.7], |x| x.exp() + 1e-3 * (x - c).abs(), slope);
        must(Must::Pass, &report);
    }
}

#[test]
fn deep_compositions() {
    let step = |x: f64| (1.01 * x).tanh() + 0.001;
    let slope = |mut x: f64| {
        let mut g = 1.0;
        for _ in 0..1000 {
            let h = (1.01 * x).tanh();
            g *= 1.01 * (1.0 - h * h);
            x = h + 0.001;
        }
        g
    };
    let value = |x: f64| (0..1000).fold(x, |x, _| step(x));
    must(Must::NotFail, &at("1000 tanh", array![0.3, 1.7], value, slope));
}

/// x ← 3.9 x (1 − x)
fn logistic(depth: usize) -> Report {
    let value = |x: f64| (0..depth).fold(x, |x, _| 3.9 * x * (1.0 - x));
    let next = |(x, g): (f64, f64)| (3.9 * x * (1.0 - x), g * 3.9 * (1.0 - 2.0 * x));
    let slope = |x: f64| (0..depth).fold((x, 1.0), |at, _| next(at)).1;
    at("logistic map", array![0.3], value, slope)
}

#[test]
fn chaos_is_followed_as_far_as_it_goes() {
    must(Must::Pass, &logistic(20));
    must(Must::NotFail, &logistic(60));
}

#[test]
fn large_softmax() {
    let all = |a: &Arrays| {
        let e = a["x"].mapv(f64::exp);
        let sum = e.sum();
        e / sum
    };
    let report =
        gradients("softmax", &Arrays::new().with("x", wave(&[100_000], 0.37)), all, |a, dy| {
            let p = all(a);
            let mean = (&p * dy).sum();
            Arrays::new().with("x", &p * &(dy - mean))
        });
    must(Must::NotFail, &report);
}

#[test]
fn saturated_softmax() {
    let at = Arrays::new().with("x", array![[800.0, 0.0, -800.0, 799.0]]);
    let p = |a: &Arrays| softmax(&matrix(a, "x"));
    let report = gradients("saturated", &at, p, |a, dy| {
        let p = p(a);
        let mean = (&p * dy).sum_axis(Axis(1)).insert_axis(Axis(1));
        Arrays::new().with("x", &p * &(dy - &mean))
    });
    must(Must::Pass, &report);
}

/// Where the forward cancels, the message must not print two equal numbers.
#[test]
fn forwards_that_cancel() {
    let all = [
        at("1 - cos", array![1e-5, 1e-4], |x| 1.0 - x.cos(), f64::sin),
        at(
            "tanh with exp",
            array![15.0, -15.0, 0.3],
            |x| (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
            |x| 1.0 / x.cosh().powi(2),
        ),
        at("offset", array![0.4, -0.2], |x| 1e12 + x * x, |x| 2.0 * x),
        variance(1e3),
    ];
    for report in all {
        must(Must::NotFail, &report);
    }
}

/// E[x²] − m²
fn variance(offset: f64) -> Report {
    let x = wave(&[5], 0.9) + offset;
    gradients(
        "variance",
        &Arrays::new().with("x", x),
        |a| {
            let x = vector(a, "x");
            let mean = x.mean().expect("numbers");
            arr0(x.mapv(|x| x * x).mean().expect("numbers") - mean * mean)
        },
        |a, dy: &Array0<f64>| {
            let x = vector(a, "x");
            let mean = x.mean().expect("numbers");
            Arrays::new().with("x", x.mapv(|x| 2.0 * (x - mean) / 5.0) * dy[()])
        },
    )
}

#[test]
fn solvers_that_stop_at_a_tolerance() {
    // z = tanh(0.9 z + x), and the gradient of the exact solution.
    for tolerance in [1e-10, 1e-5] {
        let solve = |x: f64| {
            let mut z = 0.0;
            for _ in 0..1000 {
                let next: f64 = (0.9f64 * z + x).tanh();
                let change = (next - z).abs();
                z = next;
                if change < tolerance {
                    break;
                }
            }
            z
        };
        let slope = |x: f64| {
            let d = 1.0 - solve(x).powi(2);
            d / (1.0 - 0.9 * d)
        };
        // What the iteration leaves is smooth: the claim is not the derivative of the forward as it is.
        let x = array![0.3, -0.7, 0.05];
        must(Must::NotPass, &at("equilibrium", x.clone(), solve, slope));
        let settings = Settings { rtol: 1e-3, ..Settings::default() };
        let report = each_with(&settings, "equilibrium", x.into_dyn(), solve, slope);
        must(Must::Pass, &report);
        assert!(report.to_string().contains("passes by a tolerance"), "{report}");
    }
}

#[test]
fn tables_that_are_interpolated() {
    let knot = |i: f64| (i / 250.0 - 2.0).sin();
    let value = |x: f64| {
        let at = (x + 2.0) * 250.0;
        let low = at.floor();
        knot(low) + (at - low) * (knot(low + 1.0) - knot(low))
    };
    let slope = |x: f64| {
        let low = ((x + 2.0) * 250.0).floor();
        250.0 * (knot(low + 1.0) - knot(low))
    };
    must(Must::Pass, &each("table", wave(&[8], 0.77), value, slope));
}

#[test]
fn near_the_edge_of_the_domain() {
    let x = array![1e-12, 1.0, 0.5];
    must(Must::Pass, &at("sqrt", x, f64::sqrt, |x| 0.5 / x.sqrt()));
}

#[test]
fn the_largest_three() {
    let order = |x: &Array1<f64>| {
        let mut all: Vec<usize> = (0..x.len()).collect();
        all.sort_by(|a, b| x[*b].total_cmp(&x[*a]));
        all
    };
    let report = gradients(
        "top k",
        &Arrays::new().with("x", wave(&[9], 0.77)),
        |a| {
            let x = vector(a, "x");
            order(&x)[..3].iter().map(|i| x[*i]).collect::<Array1<f64>>()
        },
        |a, dy| {
            let mut g = Array1::<f64>::zeros(9);
            for (i, d) in order(&vector(a, "x")).into_iter().zip(dy) {
                g[i] = *d;
            }
            Arrays::new().with("x", g)
        },
    );
    must(Must::Pass, &report);
}

#[test]
fn backward_in_f32_below_a_forward_in_f64() {
    let report = each("f32 back", wave(&[9], 0.77), f64::sin, |x| f64::from((x as f32).cos()));
    must(Must::NotFail, &report);
}

#[test]
fn a_product_of_a_hundred_thousand_weights() {
    let at = Arrays::new().with("x", wave(&[16, 256], 0.37)).with("w", wave(&[256, 400], 0.11));
    let product = |a: &Arrays| -> Array2<f64> { matrix(a, "x").dot(&matrix(a, "w")) };
    let report = gradients("product", &at, product, |a, dy| {
        let dx = dy.dot(&matrix(a, "w").t());
        Arrays::new().with("x", dx).with("w", matrix(a, "x").t().dot(dy))
    });
    must(Must::NotFail, &report);
}

/// relu(xW) in f32; one element of dW off by a twentieth.
fn f32_linear_relu(wrong: bool) -> Report {
    let wave = |shape: &[usize], k: f64| wave(shape, k).mapv(|x| x as f32);
    let product = |a: &Arrays<f32>| a.matrix("x").dot(&a.matrix("w"));
    gradients_f32(
        "f32_linear_relu",
        &Arrays::new().with("x", wave(&[4, 8], 1.1)).with("w", wave(&[8, 4], 0.77)),
        |a| product(a).mapv(|y| y.max(0.0)),
        |a, dy| {
            let d = dy * &product(a).mapv(|y| f32::from(u8::from(y > 0.0)));
            let mut dw = a.matrix("x").t().dot(&d);
            if wrong {
                dw[[3, 2]] *= 1.05;
            }
            Arrays::new().with("x", d.dot(&a.matrix("w").t())).with("w", dw)
        },
    )
}

#[test]
fn f32_at_its_own_resolution() {
    must(Must::Pass, &f32_linear_relu(false));
    must(Must::Fail, &f32_linear_relu(true));
}
