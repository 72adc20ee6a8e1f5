//! What ndarray offers for arrays of f64, for arrays of every scalar of the checker.

use beit_check::bounded::Bounded;
use beit_check::double::Double;
use beit_check::dual::Dual;
use beit_check::{Arrays, Real};
use ndarray::{Array1, Array3, Axis};

/// One number that everything took part in.
fn everything<T: Real>() -> T {
    let count = |n: usize| T::of(n as f64 + 1.0);
    let a = Arrays::new()
        .with("m", Array1::from_shape_fn(6, count).into_shape_with_order((2, 3)).unwrap())
        .with("v", Array1::from_shape_fn(3, count))
        .with("c", Array3::from_shape_fn((2, 2, 3), |(i, j, k)| count(i + j + k)));
    let (m, v, c) = (a.matrix("m"), a.vector("v"), a.cube("c"));
    let product = m.dot(&m.t()).sum() + m.dot(&v).sum() + v.dot(&v);
    let x = T::of(0.5);
    let scaled =
        (&m * x).sum() + (&m / x).sum() + (&m - x).sum() + (&m + 1.0 / 2.0 * x.value()).sum();
    let broadcast = (&m + &v).sum() + (&c * &v).sum();
    let means = m.mean().unwrap() + m.mean_axis(Axis(0)).unwrap().sum() + c.sum_axis(Axis(1)).sum();
    let folded = m.fold(T::ZERO, |a, b| a.maximum(*b)) + m.mapv(|x| x.powi(2)).sum();
    let mut changed = m.to_owned();
    changed += &v;
    changed *= x;
    changed.mapv_inplace(|x| x + 1.0);
    let terms: T = v.iter().copied().sum();
    product
        + scaled
        + broadcast
        + means
        + folded
        + changed.sum()
        + terms
        + m.product()
        + x.maximum(0.0)
}

#[test]
fn arrays_of_every_scalar_have_the_operators_of_f64() {
    let want = everything::<f64>();
    assert_eq!(everything::<Dual>().value, want);
    assert_eq!(everything::<Double>().value(), want);
    assert_eq!(everything::<Bounded>().value, want);
}
