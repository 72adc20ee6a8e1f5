//! Run-time choice of vector instructions: the only place for it.
//!
//! A binary must run on another machine, so nothing is compiled for the build machine's processor.
//! Inner loops that gain from wide vectors are written once inside [`simd_fn!`](crate::simd_fn),
//! which compiles the same body for AVX-512, for AVX2 with FMA and for the baseline, and picks at
//! the call; for the number types of the gradient checker there is the baseline alone. No body uses fused multiply-add or depends on the vector width for its result, so all
//! three give the same bits.

/// Which vector instructions the running processor offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// AVX-512 F, VL, BW and DQ.
    Avx512,
    /// AVX2.
    Avx2,
    /// Whatever the target guarantees.
    Baseline,
}

/// The level of the running processor (cached by the standard library).
#[inline]
pub fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
        {
            return Level::Avx512;
        }
        if is_x86_feature_detected!("avx2") {
            return Level::Avx2;
        }
    }
    Level::Baseline
}

/// Defines `fn name<T: Real>(args) -> ret { body }`, compiled once per instruction set and chosen
/// at the call. The body must not call anything that is not inlined.
#[macro_export]
macro_rules! simd_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$t:ident>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code)]
        $vis fn $name<$t: $crate::real::Real>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<$t: $crate::real::Real>($($arg: $ty),*) $(-> $ret)? $body
            // Where this is false, the compiler makes no code of what is inside.
            #[cfg(target_arch = "x86_64")]
            if <$t as $crate::real::Real>::VECTORISED {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
                fn avx512<$t: $crate::real::Real>($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn avx2<$t: $crate::real::Real>($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                match $crate::cpu::simd::level() {
                    // SAFETY: the processor has the features, just checked.
                    $crate::cpu::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::cpu::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::cpu::simd::Level::Baseline => {}
                }
            }
            body($($arg),*)
        }
    };
}

/// Independent partial sums, so that a sum of floats vectorises; the grouping is part of the result
/// and is the same at every level.
pub const LANES: usize = 16;

simd_fn! {
    /// Sum of a slice.
    pub fn sum<T>(x: &[T]) -> T {
        let mut lanes = [T::ZERO; LANES];
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                lanes[i] += block[i];
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            *lane += value;
        }
        fold(lanes)
    }
}

simd_fn! {
    /// Sum of products of two slices of one length.
    pub fn dot<T>(x: &[T], y: &[T]) -> T {
        let mut lanes = [T::ZERO; LANES];
        let (bx, rx) = x.as_chunks::<LANES>();
        let (by, ry) = y.as_chunks::<LANES>();
        for (a, b) in bx.iter().zip(by) {
            for i in 0..LANES {
                lanes[i] += a[i] * b[i];
            }
        }
        for (lane, (&a, &b)) in lanes.iter_mut().zip(rx.iter().zip(ry)) {
            *lane += a * b;
        }
        fold(lanes)
    }
}

simd_fn! {
    /// Largest element; the lowest value of no element is -infinity's stand-in, so `x` must not be
    /// empty.
    pub fn max<T>(x: &[T]) -> T {
        let mut lanes = [x[0]; LANES];
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                lanes[i] = lanes[i].maximum(block[i]);
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            *lane = lane.maximum(value);
        }
        let mut best = lanes[0];
        for &lane in &lanes[1..] {
            best = best.maximum(lane);
        }
        best
    }
}

simd_fn! {
    /// y += x
    pub fn add_assign<T>(y: &mut [T], x: &[T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

/// Pairwise sum of the lanes.
#[inline(always)]
pub fn fold<T: crate::real::Real>(mut lanes: [T; LANES]) -> T {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            let upper = lanes[i + width];
            lanes[i] += upper;
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::Real;

    /// Every rest that lanes leave, behind none, one and several blocks.
    fn every_length<T: Real>() {
        for n in 1..=4 * LANES + 1 {
            // Whole numbers, of which sums are exact; the largest in each place in turn.
            let x: Vec<T> = (0..n).map(|i| T::from_f64((i * 7 % 11) as f64 - 5.0)).collect();
            let y: Vec<T> = (0..n).map(|i| T::from_f64((i * 5 % 13) as f64 - 6.0)).collect();
            assert_eq!(sum(&x), x.iter().copied().sum::<T>(), "sum of {n}");
            assert_eq!(
                dot(&x, &y),
                x.iter().zip(&y).map(|(&x, &y)| x * y).sum::<T>(),
                "dot of {n}"
            );
            for i in 0..n {
                let mut high = x.clone();
                high[i] = T::from_f64(9.0);
                assert_eq!(max(&high), high[i], "largest of {n}, at {i}");
                let mut to = y.clone();
                add_assign(&mut to, &high);
                assert_eq!(to[i], y[i] + high[i]);
            }
        }
    }

    #[test]
    fn every_rest_of_the_lanes_counts() {
        every_length::<f64>();
        every_length::<f32>();
    }
}
