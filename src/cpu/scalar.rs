//! What the CPU computes with for each type that a tensor inside a branch may hold.
//!
//! For a [`Real`] the two are one type, and all that is here is the identity: nothing is copied and
//! no bit changes. bf16 is widened to f32 where it is read and rounded once where a result is written.

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::pool::{Pool, PoolBuffer};
use crate::real::{Float, Real};
use half::bf16;
use std::borrow::Cow;

/// Numbers that one thread converts at a time.
const PIECE: usize = 1 << 14;

/// `Elem` of a [`Cpu`](crate::cpu::Cpu), and the type that it computes with.
pub trait Scalar: Float {
    /// See [`Storage::Master`](crate::storage::Storage::Master).
    type Master: Real;

    /// The numbers as they are computed with.
    fn wide(x: &[Self]) -> Cow<'_, [Self::Master]>;
    /// The same of numbers that are given up.
    fn into_wide(pool: &Pool, x: PoolBuffer<Self>) -> PoolBuffer<Self::Master>;
    /// Results, each rounded once.
    fn into_narrow(pool: &Pool, x: PoolBuffer<Self::Master>) -> PoolBuffer<Self>;
    /// See [`Storage::narrow_copy`](crate::storage::Storage::narrow_copy).
    fn narrow_copy(pool: &Pool, x: &[Self::Master]) -> Option<PoolBuffer<Self>>;
    /// The numbers as this type holds them: operands of products that come from the stream.
    fn rounded(x: &[Self::Master]) -> Cow<'_, [Self::Master]>;
    /// The same in place.
    fn round(x: &mut [Self::Master]);
}

impl<T: Real> Scalar for T {
    type Master = T;

    #[inline(always)]
    fn wide(x: &[T]) -> Cow<'_, [T]> {
        Cow::Borrowed(x)
    }
    #[inline(always)]
    fn into_wide(_: &Pool, x: PoolBuffer<T>) -> PoolBuffer<T> {
        x
    }
    #[inline(always)]
    fn into_narrow(_: &Pool, x: PoolBuffer<T>) -> PoolBuffer<T> {
        x
    }
    fn narrow_copy(_: &Pool, _: &[T]) -> Option<PoolBuffer<T>> {
        None
    }
    #[inline(always)]
    fn rounded(x: &[T]) -> Cow<'_, [T]> {
        Cow::Borrowed(x)
    }
    #[inline(always)]
    fn round(_: &mut [T]) {}
}

/// `to[i] = convert(from[i])`
fn convert<A: Copy + Sync, B: Send>(from: &[A], to: &mut [B], one: impl Fn(A) -> B + Sync) {
    let pieces = to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE));
    pieces.for_each(|(to, from)| to.iter_mut().zip(from).for_each(|(to, &x)| *to = one(x)));
}

impl Scalar for bf16 {
    type Master = f32;

    fn wide(x: &[Self]) -> Cow<'_, [f32]> {
        let mut wide = vec![0.0; x.len()];
        convert(x, &mut wide, Self::to_f32);
        Cow::Owned(wide)
    }
    fn into_wide(pool: &Pool, x: PoolBuffer<Self>) -> PoolBuffer<f32> {
        let mut wide = pool.unset(x.len());
        convert(&x, &mut wide, Self::to_f32);
        wide
    }
    fn into_narrow(pool: &Pool, x: PoolBuffer<f32>) -> PoolBuffer<Self> {
        let mut narrow = pool.unset(x.len());
        convert(&x, &mut narrow, Self::from_f32);
        narrow
    }
    fn narrow_copy(pool: &Pool, x: &[f32]) -> Option<PoolBuffer<Self>> {
        let mut narrow = pool.unset(x.len());
        convert(x, &mut narrow, Self::from_f32);
        Some(narrow)
    }
    fn rounded(x: &[f32]) -> Cow<'_, [f32]> {
        let mut rounded = vec![0.0; x.len()];
        convert(x, &mut rounded, |x| Self::from_f32(x).to_f32());
        Cow::Owned(rounded)
    }
    fn round(x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x = Self::from_f32(*x).to_f32());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_copies_nothing() {
        let pool = Pool::default();
        let x = pool.adopt(vec![1.0f32, 2.0]);
        assert!(matches!(f32::wide(&x), Cow::Borrowed(_)));
        assert!(matches!(f32::rounded(&x), Cow::Borrowed(_)));
        assert!(f32::narrow_copy(&pool, &x).is_none());
        let at = x.as_ptr();
        let x = f32::into_narrow(&pool, f32::into_wide(&pool, x));
        assert_eq!((x.as_ptr(), &*x), (at, &[1.0, 2.0][..]));
    }

    #[test]
    fn every_piece_is_converted() {
        let pool = Pool::default();
        for n in [0, PIECE, PIECE + 1, 3 * PIECE + 5] {
            let x: Vec<f32> = (0..n).map(|i| (i % 251) as f32 - 99.0).collect();
            let narrow = bf16::into_narrow(&pool, pool.adopt(x.clone()));
            assert_eq!(*bf16::wide(&narrow), x);
            assert_eq!(*bf16::rounded(&x), x);
            assert_eq!(*bf16::narrow_copy(&pool, &x).expect("narrower"), *narrow);
            assert_eq!(*bf16::into_wide(&pool, narrow), *x);
        }
    }

    #[test]
    fn bf16_is_rounded_to_the_nearest_even() {
        let pool = Pool::default();
        // 1 + 1/256 lies between 1 and 1 + 1/128, 1 + 3/256 between that and 1 + 1/64.
        let x = [1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -3.0];
        let want = [1.0, 1.0 + 1.0 / 64.0, -3.0];
        assert_eq!(*bf16::rounded(&x), want);
        let narrow = bf16::into_narrow(&pool, pool.adopt(x.to_vec()));
        assert_eq!(*bf16::wide(&narrow), want);
        assert_eq!(*bf16::narrow_copy(&pool, &x).expect("narrower"), *narrow);
        assert_eq!(*bf16::into_wide(&pool, narrow), want);
    }
}
