//! What several tests share.

use beit_check::{Report, Verdict};
use ndarray::{Array, ShapeBuilder};

/// Numbers of a sine, none of them 0.
pub fn wave<Sh: ShapeBuilder>(shape: Sh, k: f64) -> Array<f64, Sh::Dim> {
    let mut i = 0.0;
    Array::from_shape_simple_fn(shape, || {
        i += 1.0;
        (i * k).sin() + 0.1
    })
}

#[track_caller]
pub fn passes(report: &Report) {
    assert!(report.passed(), "{report}");
}

/// Fails, with this text among the first `most` lines.
#[track_caller]
pub fn fails(report: &Report, most: usize, text: &str) {
    assert_eq!(report.verdict(), Verdict::Fail, "{report}");
    assert!(report.failures(most).iter().any(|line| line.contains(text)), "{report}");
}
