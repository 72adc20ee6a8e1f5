//! Layers at generated sizes: right ones pass at all, a fault is shrunk to where it begins.

use beit_check::{Arrays, Check, Shapes, Verdict};
use ndarray::{Array1, Array2, Axis, s};

#[test]
fn a_right_layer_passes_at_all_sizes() {
    let shapes =
        Shapes::new("linear").size("rows", 1..=33).size("inputs", 1..=9).size("outputs", 1..=9);
    let found = shapes.check(|n| {
        let at = Arrays::new()
            .with("x", n.normal("x", (n["rows"], n["inputs"])))
            .with("w", n.normal("w", (n["outputs"], n["inputs"])))
            .with("b", n.normal("b", n["outputs"]));
        Check::new("linear").at(at).gradients(
            |a| a.matrix("x").dot(&a.matrix("w").t()) + a.vector("b"),
            |a, dy: &Array2<f64>| {
                let (dx, dw) = (dy.dot(&a.matrix("w")), dy.t().dot(&a.matrix("x")));
                Arrays::new().with("x", dx).with("w", dw).with("b", dy.sum_axis(Axis(0)))
            },
        )
    });
    assert!(found.passed() && found.cases > 60, "{found}");
    assert!(found.to_string().starts_with("linear: pass ("), "{found}");
}

/// Weights' gradients in blocks of eight rows, each of which overwrites the one before.
#[test]
fn a_block_that_overwrites() {
    let shapes = Shapes::new("blocks").size("width", 1..=6).size("rows", 1..=70);
    let found = shapes.check(|n| {
        let at = Arrays::new()
            .with("x", n.normal("x", (n["rows"], n["width"])))
            .with("w", n.normal("w", n["width"]));
        Check::new("blocks").at(at).gradients(
            |a| a.matrix("x").dot(&a.vector("w")),
            |a, dy: &Array1<f64>| {
                let x = a.matrix("x");
                let mut dw = Array1::zeros(n["width"]);
                for first in (0..n["rows"]).step_by(8) {
                    let rows = first..(first + 8).min(n["rows"]);
                    dw = x.slice(s![rows.clone(), ..]).t().dot(&dy.slice(s![rows]));
                }
                let dx = dy.view().insert_axis(Axis(1)).dot(&a.vector("w").insert_axis(Axis(0)));
                Arrays::new().with("x", dx).with("w", dw)
            },
        )
    });
    assert_eq!(found.verdict, Verdict::Fail);
    let text = found.to_string();
    assert!(text.contains("smallest at width = 1, rows = 9\n"), "{text}");
    assert!(text.contains("w[0]"), "{text}");
}

/// Two sizes that must both be large.
#[test]
fn a_fault_of_two_sizes() {
    let found = Shapes::new("tall").size("a", 1..=40).size("b", 1..=40).check(|n| {
        let at = Arrays::new().with("x", n.normal("x", 3));
        let factor = if n["a"] > 6 && n["b"] > 4 { 1.01 } else { 1.0 };
        Check::new("tall").at(at).gradients(
            |a| a["x"].sum(),
            |a, dy| Arrays::new().with("x", a["x"].mapv(|_| factor * dy)),
        )
    });
    assert_eq!(found.smallest.unwrap().to_string(), "a = 7, b = 5");
}

/// A layer that cannot bear a size.
#[test]
fn a_panic_is_a_fault_at_its_sizes() {
    let found = Shapes::new("halves").size("n", 1..=9).check(|n| {
        let at = Arrays::new().with("x", n.normal("x", n["n"]));
        Check::new("halves").at(at).gradients(
            |a| {
                let x = a.vector("x");
                assert!(x.len() % 2 == 0 || x.len() < 3, "an odd number of elements: {}", x.len());
                x.to_owned()
            },
            |_, dy| Arrays::new().with("x", dy.clone()),
        )
    });
    let text = found.to_string();
    assert!(text.contains("smallest at n = 3\n"), "{text}");
    assert!(text.contains("an odd number of elements: 3"), "{text}");
}
