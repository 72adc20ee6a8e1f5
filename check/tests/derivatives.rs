//! Rules for Jacobian-vector and Hessian-vector products, each right and wrong, and derivatives of backwards.

mod common;

use beit_check::{
    Arrays, Check, Constraint, Differentiable, Function, Real, Report, Settings, Verdict,
};
use common::{passes, wave};
use ndarray::{Array2, ArrayD, Axis, array};

#[track_caller]
fn fails(report: &Report, text: &str) {
    common::fails(report, usize::MAX, text);
}

/// Softmax of rows, its two products, and a fault in each.
fn softmax(x: &Array2<f64>) -> Array2<f64> {
    let mut y = x.mapv(f64::exp);
    let sum = y.sum_axis(Axis(1)).insert_axis(Axis(1));
    y /= &sum;
    y
}

fn softmax_product(a: &Arrays, v: &Array2<f64>) -> Array2<f64> {
    let y = softmax(&a.matrix("x").to_owned());
    let mean = (&y * v).sum_axis(Axis(1)).insert_axis(Axis(1));
    y * (v - &mean)
}

fn at(rows: usize, cols: usize) -> Check {
    Check::new("softmax").at(Arrays::new().with("x", wave((rows, cols), 0.9)))
}

#[test]
fn a_rule_for_jacobian_vector_products() {
    for (rows, cols) in [(3, 4), (20, 30)] {
        let forward = |a: &Arrays| softmax(&a.matrix("x").to_owned());
        let right = |a: &Arrays, v: &Arrays| softmax_product(a, &v.matrix("x").to_owned());
        passes(&at(rows, cols).forward_mode(forward, right));
        let wrong = |a: &Arrays, v: &Arrays| forward(a) * v.matrix("x");
        fails(&at(rows, cols).forward_mode(forward, wrong), "(jvp): x");
        // Not linear: clipped.
        let clipped = |a: &Arrays, v: &Arrays| right(a, v).mapv(|r| r.clamp(-9.0, 9.0));
        fails(&at(rows, cols).forward_mode(forward, clipped), "J (−1024 v) = −1024 J v");
        // Of the wrong length.
        let short = |a: &Arrays, v: &Arrays| right(a, v).remove_first();
        fails(&at(rows, cols).forward_mode(forward, short), "jvp returns");
    }
}

trait RemoveFirst {
    fn remove_first(self) -> Self;
}

impl RemoveFirst for Array2<f64> {
    fn remove_first(mut self) -> Self {
        self.slice_collapse(ndarray::s![1.., ..]);
        self
    }
}

#[test]
fn both_products_of_one_function() {
    for (rows, cols) in [(3, 4), (20, 30)] {
        let run = |fault: f64| {
            at(rows, cols).forward_and_reverse(
                |a| softmax(&a.matrix("x").to_owned()),
                |a, v| softmax_product(a, &v.matrix("x").to_owned()),
                |a, dy| {
                    // Symmetric: the same product.
                    let mut dx = softmax_product(a, dy);
                    dx[[1, 2]] *= 1.0 + fault;
                    Arrays::new().with("x", dx)
                },
            )
        };
        passes(&run(0.0));
        let report = run(1e-9);
        fails(&report, "⟨u, J v⟩ = ⟨Jᵀ u, v⟩");
        fails(&report, "largest at x[1,2]");
    }
}

/// Products that compute in f32 agree at their own resolution.
#[test]
fn products_in_single_precision() {
    let single = |x: f64| x as f32;
    let run = |factor: f32| {
        let check = Check::new("tanh").at(Arrays::new().with("x", wave(6, 0.9)));
        let settings = Settings { resolution: 1e-4, first_step: 0.1, ..Settings::default() };
        check.settings(settings).forward_and_reverse(
            |a| a["x"].mapv(|x| f64::from(single(x).tanh())),
            |a, v| {
                let slope = a["x"].mapv(|x| 1.0 - single(x).tanh().powi(2));
                (&v["x"].mapv(single) * &slope).mapv(f64::from)
            },
            |a, dy| {
                // Another formula, another rounding.
                let slope = a["x"].mapv(|x| factor / single(x).cosh().powi(2));
                Arrays::new().with("x", (&dy.mapv(single) * &slope).mapv(f64::from))
            },
        )
    };
    let identities = |report: Report| report.identities.iter().map(|i| i.verdict).max();
    assert_eq!(identities(run(1.0)), Some(Verdict::Pass), "{}", run(1.0));
    assert_eq!(identities(run(1.001)), Some(Verdict::Fail));
}

/// ln p on a simplex: rates that sum to 0.
#[test]
fn products_on_a_simplex() {
    let run = |factor: f64| {
        let at = Arrays::new().with("p", array![0.2, 0.3, 0.5]);
        Check::new("ln").at(at).constrain("p", Constraint::Simplex).forward_and_reverse(
            |a| a["p"].mapv(f64::ln),
            |a, v| {
                assert!(v["p"].sum().abs() < 1e-8 * v["p"].mapv(f64::abs).sum().max(1e-300));
                &v["p"] / &a["p"] * factor
            },
            |a, dy| Arrays::new().with("p", dy / &a["p"] + 3.0),
        )
    };
    passes(&run(1.0));
    fails(&run(1.0001), "⟨u, J v⟩ = ⟨Jᵀ u, v⟩");
}

/// tanh(x w) for rows x, summed with weights: everything generic.
struct Layer {
    /// Whether the backward takes its cache for a constant.
    detached: bool,
}

impl Differentiable for Layer {
    fn forward<T: Real>(&self, a: &Arrays<T>) -> ArrayD<T> {
        a.matrix("x").dot(&a.matrix("w")).mapv(|h| h.tanh()).into_dyn()
    }
    fn backward<T: Real>(&self, a: &Arrays<T>, dy: &ArrayD<T>) -> Arrays<T> {
        let dy = dy.view().into_dimensionality::<ndarray::Ix2>().unwrap();
        let h = a.matrix("x").dot(&a.matrix("w")).mapv(|h| h.tanh());
        let h = if self.detached { h.mapv(|h| T::of(h.value())) } else { h };
        let d = &dy * &h.mapv(|h| T::ONE - h * h);
        Arrays::new().with("x", d.dot(&a.matrix("w").t())).with("w", a.matrix("x").t().dot(&d))
    }
}

impl Layer {
    /// ∂(backward)/∂x v by hand, with the rate of 1 − h² times a factor.
    fn product(a: &Arrays, dy: &ArrayD<f64>, v: &Arrays, factor: f64) -> Arrays {
        let dy = dy.view().into_dimensionality::<ndarray::Ix2>().unwrap();
        let (x, w, vx, vw) = (a.matrix("x"), a.matrix("w"), v.matrix("x"), v.matrix("w"));
        let h = x.dot(&w).mapv(f64::tanh);
        let slope = h.mapv(|h| 1.0 - h * h);
        let rate = (vx.dot(&w) + x.dot(&vw)) * &slope;
        let d = &dy * &slope;
        let dd = &dy * &(&h * &rate) * (-2.0 * factor);
        Arrays::new()
            .with("x", dd.dot(&w.t()) + d.dot(&vw.t()))
            .with("w", x.t().dot(&dd) + vx.t().dot(&d))
    }
}

fn layer(x: (usize, usize), outputs: usize) -> Check {
    let at = Arrays::new().with("x", wave(x, 0.9)).with("w", wave((x.1, outputs), 1.7));
    Check::new("layer").at(at)
}

#[test]
fn a_backward_is_differentiated() {
    for (x, outputs) in [((2, 3), 2), ((12, 11), 10)] {
        let (first, second) = layer(x, outputs).twice(&Layer { detached: false });
        passes(&first);
        passes(&second);
        // Right as a gradient, wrong as what is differentiated again.
        let (first, second) = layer(x, outputs).twice(&Layer { detached: true });
        passes(&first);
        fails(&second, "(second order)");
    }
}

#[test]
fn a_rule_for_hessian_vector_products() {
    for (x, outputs) in [((2, 3), 2), ((12, 11), 10)] {
        let run = |factor: f64| {
            let rule = |a: &Arrays, dy: &ArrayD<f64>, v: &Arrays| Layer::product(a, dy, v, factor);
            layer(x, outputs).hessian_of(&Layer { detached: false }, rule)
        };
        passes(&run(1.0));
        fails(&run(1.0 + 1e-10), "⟨w, H v⟩ by the rule = by dual numbers");
        fails(&run(1.1), "(second order): ");
        let missing = layer(x, outputs).hessian_of(&Layer { detached: false }, |a, _, _| {
            Arrays::new().with("x", a["x"].clone())
        });
        fails(&missing, "hvp returns no rates of the right shape");
    }
}

/// Entropy on a simplex: the Hessian −1/p, and what the simplex bends.
#[test]
fn hessians_on_a_simplex() {
    let run = |factor: f64| {
        let at = Arrays::new().with("p", array![0.2, 0.3, 0.5]);
        Check::new("entropy").at(at).constrain("p", Constraint::Simplex).hessian(
            |a| -a["p"].mapv(|p| p * p.ln()).sum(),
            |a, dy: &f64| Arrays::new().with("p", a["p"].mapv(|p| -p.ln() - 1.0) * *dy),
            |a, dy, v| Arrays::new().with("p", &v["p"] / &a["p"] * (-factor * dy)),
        )
    };
    passes(&run(1.0));
    fails(&run(1.01), "p[");
}

/// Backward and its rule twice too large: no Hessian of the forward, but what a check of rules lets pass.
#[test]
fn hessians_take_backward_at_its_word() {
    let at = Arrays::new().with("x", wave(5, 0.9));
    let check = Check::new("sine").at(at);
    let forward = |a: &Arrays| a["x"].mapv(f64::sin);
    let backward =
        |a: &Arrays, dy: &ArrayD<f64>| Arrays::new().with("x", dy * &a["x"].mapv(f64::cos) * 2.0);
    let rule = |a: &Arrays, dy: &ArrayD<f64>, v: &Arrays| {
        Arrays::new().with("x", dy * &v["x"] * &a["x"].mapv(f64::sin) * -2.0)
    };
    passes(&check.hessian(forward, backward, rule));
    passes(&check.symmetry(forward, backward));
    fails(&check.gradients(forward, backward), "x[");
}

#[test]
fn names_say_what_was_compared() {
    let check = Check::new("sine").at(Arrays::new().with("x", wave(3, 0.9)));
    let rate = |a: &Arrays, v: &Arrays| &v["x"] * &a["x"].mapv(f64::cos);
    let back = |a: &Arrays, dy: &ArrayD<f64>| Arrays::new().with("x", rate(a, &a.clone()) * dy);
    let twice = |_: &Arrays, dy: &ArrayD<f64>, _: &Arrays| Arrays::new().with("x", dy.clone());
    let sine = |a: &Arrays| a["x"].mapv(f64::sin);
    assert_eq!(check.forward_mode(sine, rate).case, "sine (jvp)");
    assert_eq!(check.forward_and_reverse(sine, rate, back).case, "sine (jvp)");
    assert_eq!(check.hessian(sine, back, twice).case, "sine (second order)");
    assert_eq!(check.symmetry(sine, back).case, "sine (symmetry)");
}

/// Each rule that panics is a fault of its report.
#[test]
fn panics_give_a_report() {
    let check = Check::new("sine").at(Arrays::new().with("x", wave(3, 0.9)));
    let sine = |a: &Arrays| a["x"].mapv(f64::sin);
    let back = |_: &Arrays, dy: &ArrayD<f64>| Arrays::new().with("x", dy.clone());
    let twice = |_: &Arrays, dy: &ArrayD<f64>, _: &Arrays| Arrays::new().with("x", dy.clone());
    let no = |a: &Arrays| a["y"].clone();
    let no_back = |_: &Arrays, up: &ArrayD<f64>| -> Arrays { panic!("{}", up.len()) };
    let no_rule = |_: &Arrays, v: &Arrays| v["y"].clone();
    let no_twice =
        |_: &Arrays, _: &ArrayD<f64>, v: &Arrays| Arrays::new().with("x", v["y"].clone());
    for (report, text) in [
        (check.hessian(no, back, twice), "forward panicked: there is no array `y`"),
        (check.hessian(sine, no_back, twice), "backward panicked"),
        (check.hessian(sine, back, no_twice), "hvp panicked: there is no array `y`"),
        (check.symmetry(no, back), "forward panicked"),
        (check.symmetry(sine, no_back), "backward panicked"),
        (check.forward_mode(no, no_rule), "forward panicked"),
        (check.forward_mode(sine, no_rule), "jvp panicked: there is no array `y`"),
        (check.forward_and_reverse(sine, |_, v| v["x"].clone(), no_back), "backward panicked"),
    ] {
        fails(&report, text);
    }
}

#[test]
fn a_backward_that_is_no_gradient() {
    let run = |stopped: bool| {
        let at = Arrays::new().with("x", wave((3, 4), 0.9));
        let forward = |a: &Arrays| {
            let x = a.matrix("x").to_owned();
            let mean = x.mapv(|x| x * x).mean_axis(Axis(1)).unwrap().insert_axis(Axis(1));
            x / mean.mapv(f64::sqrt)
        };
        Check::new("rms_norm").at(at).symmetry(forward, |a, dy: &Array2<f64>| {
            let x = a.matrix("x").to_owned();
            let root = x.mapv(|x| x * x).mean_axis(Axis(1)).unwrap().insert_axis(Axis(1));
            let root = root.mapv(f64::sqrt);
            let h = &x / &root;
            let mean = (dy * &h).mean_axis(Axis(1)).unwrap().insert_axis(Axis(1));
            // The root taken for a constant.
            let dx = if stopped { dy / &root } else { (dy - h * mean) / root };
            Arrays::new().with("x", dx)
        })
    };
    passes(&run(false));
    fails(&run(true), "⟨w, ∂g/∂x v⟩ = ⟨v, ∂g/∂x w⟩");
}

/// A rule for a function that runs on any scalar.
struct Sine;

impl Function for Sine {
    fn forward<T: Real>(&self, a: &Arrays<T>) -> ArrayD<T> {
        a["x"].mapv(|x| x.sin())
    }
    fn backward(&self, a: &Arrays, dy: &ArrayD<f64>) -> Arrays {
        Arrays::new().with("x", dy * &a["x"].mapv(f64::cos))
    }
}

#[test]
fn a_rule_against_dual_numbers() {
    let run = |factor: f64| {
        let check = Check::new("sine").at(Arrays::new().with("x", wave(7, 0.9)));
        check.forward_mode_of(&Sine, |a, v| &v["x"] * &a["x"].mapv(f64::cos) * factor)
    };
    passes(&run(1.0));
    fails(&run(1.0 + 1e-12), "by dual numbers");
}

/// Value, slope, and the slope by another formula.
type Formulas = fn(f64, f64) -> [f64; 3];

/// Two formulas for one slope that cancel, each in its own way: no equation between them is called wrong.
#[test]
fn rounding_is_no_fault() {
    let all: [Formulas; 5] = [
        |x, o| [(x + o).powi(2) - o * o, 2.0 * (x + o), (x + o) + (x + o)],
        |x, _| {
            let e = (30.0 + 2.0 * x).exp();
            let t = (e - 1.0) / (e + 1.0);
            [t, 1.0 - t * t, 4.0 * e / ((e + 1.0) * (e + 1.0))]
        },
        |x, o| [o * (1.0 - x.cos()), o * x.sin(), 2.0 * o * (x / 2.0).sin() * (x / 2.0).cos()],
        |x, o| [(o * x).sin(), o * (o * x).cos(), o * (1.0 - 2.0 * (o * x / 2.0).sin().powi(2))],
        |x, o| [(x * x + 1.0 / o).ln(), 2.0 * x / (x * x + 1.0 / o), 2.0 / (x + 1.0 / (o * x))],
    ];
    for seed in 0..200 {
        let offset = 10f64.powi(seed % 7);
        for formulas in all {
            let check =
                Check::new("f").at(Arrays::new().with("x", wave(6, 0.1 + 0.37 * f64::from(seed))));
            let report = check.forward_and_reverse(
                |a| a["x"].mapv(|x| formulas(x, offset)[0]),
                |a, v| &v["x"] * &a["x"].mapv(|x| formulas(x, offset)[1]),
                |a, dy| Arrays::new().with("x", dy * &a["x"].mapv(|x| formulas(x, offset)[2])),
            );
            for identity in &report.identities {
                assert_ne!(identity.verdict, Verdict::Fail, "{offset:e}: {identity}");
            }
        }
    }
}
