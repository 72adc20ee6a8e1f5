//! The CPU backend: host vectors, ndarray views, products through matrixmultiply (f64) and
//! gemm (f32), [`pieces`] over rows.
//!
//! Results do not depend on the number of threads. Work is cut into pieces by shape alone, each
//! output element is computed inside one piece, and where many rows add into one the partial sums
//! are added in the order of the pieces. Heavy loops hand out one piece at a time
//! ([`pieces::spread_alone`]).
//!
//! A training step gives every thread whole samples ([`Parts::in_parts`]): what one op writes is
//! then still in the thread's cache when the next reads it, and nobody waits at the end of each op.
//! `beit bench step --preset tiny --batch 32` ran at 1.6 times the speed that threads inside the ops
//! alone gave it. Those remain for what is left over: one large sample, more threads than parts.
//!
//! Why two libraries: with AVX-512 and both threads busy, gemm's f32 kernels do 1.5 times the work of
//! matrixmultiply's; and so the judge and the judged do not share their products.

pub mod pieces;
pub mod pool;
pub mod scalar;
pub mod simd;
mod views;

use crate::cpu::pieces::{Cut, Numbers, Pieces, Tasks};
use crate::cpu::pool::{Pool, PoolBuffer};
use crate::cpu::scalar::Scalar;
use crate::params::Params;
use crate::parts::Parts;
use crate::real::{Element, Float, Real};
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};
use ndarray::{ArrayView2, ArrayViewMut2, Axis, ShapeBuilder};
use std::marker::PhantomData;
use std::ops::Range;

/// Samples of a part, and the most parts, of [`Parts::in_parts`]: the gradients of a part are small
/// beside the activations of 8 images, and 8 parts feed as many threads; more share the ops' pieces.
const PART: usize = 8;
const PARTS: usize = 8;

/// Numbers that one task adds at a time.
const PIECE: usize = 1 << 15;

/// The CPU with [`Scalar`] `T`: `Cpu<f64>` judges, `Cpu<f32>` trains, `Cpu<bf16>` says what a GPU in bf16
/// may be off by. Clones share one pool of buffers.
#[derive(Clone, Debug, Default)]
pub struct Cpu<T> {
    pool: Pool,
    scalar: PhantomData<T>,
}

impl<T> Cpu<T> {
    /// The backend, with an empty pool.
    pub fn new() -> Self {
        Self { pool: Pool::default(), scalar: PhantomData }
    }
}

impl<T: Scalar> Cpu<T> {
    /// Elements of unspecified value, for the use of one task.
    pub fn scratch(&self, n: usize) -> PoolBuffer<T::Master> {
        self.pool.unset(n)
    }

    /// A tensor of unspecified numbers, for an op that writes every element.
    pub fn unset<E: Float>(&self, shape: &[usize]) -> Tensor<Self, E> {
        let mut buf = self.pool.unset(shape.iter().product());
        if cfg!(debug_assertions) {
            buf.fill(E::from_f64(f64::NAN));
        }
        Tensor::new(self, buf, shape)
    }

    /// The numbers of `x` to compute with; `x` itself where they are already.
    pub fn wide(&self, x: Tensor<Self>) -> Master<Self> {
        let (buf, shape) = x.into_parts();
        Tensor::new(self, T::into_wide(&self.pool, buf), &shape)
    }

    /// `y`, each number rounded once; `y` itself where the types are one.
    pub fn narrow(&self, y: Master<Self>) -> Tensor<Self> {
        let (buf, shape) = y.into_parts();
        Tensor::new(self, T::into_narrow(&self.pool, buf), &shape)
    }
}

/// Parts that a batch is cut into.
pub fn parts(samples: usize) -> usize {
    samples.div_ceil(PART).clamp(1, PARTS)
}

impl<T: Scalar> Storage for Cpu<T> {
    type Elem = T;
    type Master = T::Master;
    type Buf<E: Element> = PoolBuffer<E>;

    fn describe(&self) -> String {
        let scalar = std::any::type_name::<T>();
        format!("the CPU in {}", scalar.rsplit("::").next().unwrap_or(scalar))
    }
    fn upload<E: Element>(&self, host: Vec<E>) -> PoolBuffer<E> {
        self.pool.adopt(host)
    }
    fn download<E: Element>(&self, buf: &PoolBuffer<E>) -> Vec<E> {
        buf.to_vec()
    }
    fn zeros<E: Element>(&self, n: usize) -> PoolBuffer<E> {
        self.pool.zeros(n)
    }
    fn copy<E: Element>(&self, buf: &PoolBuffer<E>) -> PoolBuffer<E> {
        self.pool.copy(buf)
    }
    fn clear<E: Element>(&self, buf: &mut PoolBuffer<E>) {
        buf.fill(E::default());
    }
    fn clear_range<E: Element>(&self, buf: &mut PoolBuffer<E>, range: Range<usize>) {
        buf[range].fill(E::default());
    }
    fn len<E: Element>(&self, buf: &PoolBuffer<E>) -> usize {
        buf.len()
    }
    fn narrow_copy(&self, master: &PoolBuffer<T::Master>) -> Option<PoolBuffer<T>> {
        T::narrow_copy(&self.pool, master)
    }
    fn synchronize(&self) {}
    fn peak_bytes(&self) -> Option<usize> {
        Some(self.pool.peak_bytes())
    }
    fn forget_peak(&self) {
        self.pool.forget_peak();
    }
    fn free_bytes(&self) -> Option<u64> {
        crate::machine::free_memory()
    }
}

impl<T: Scalar> Parts for Cpu<T> {
    fn at_once(&self, samples: usize) -> (usize, usize, usize) {
        let count = parts(samples);
        let busy = rayon::current_num_threads().min(count);
        (busy, samples.min(busy * samples.div_ceil(count)), count - 1)
    }

    fn in_parts<R: Send>(
        &self,
        samples: usize,
        g: &mut Params<Self>,
        work: impl Fn(Range<usize>, &mut Params<Self>) -> R + Sync,
    ) -> Vec<R> {
        let count = parts(samples);
        let layout = g.layout.clone();
        let mut own: Vec<_> = (1..count).map(|_| Params::zeros(self, &layout)).collect();
        let all = Tasks::new(std::iter::once(&mut *g).chain(&mut own)).enumerate();
        let range = |i: usize| i * samples / count..(i + 1) * samples / count;
        let results = all.collect_alone(|(i, g)| work(range(i), g));
        let pieces = g.master.par_chunks_mut(PIECE).enumerate();
        pieces.for_each(|(i, piece)| {
            for part in &own {
                simd::add_assign(piece, &part.master[i * PIECE..][..piece.len()]);
            }
        });
        results
    }
}

/// Rows of `cols` elements that one task takes in an element-wise pass: about 64 KiB of f32.
pub fn rows_per_task(cols: usize) -> usize {
    (16_384 / cols.max(1)).max(1)
}

/// Most pieces of a sum over rows...
pub const FOLDS: usize = 16;
/// ... and fewest rows of one.
pub const FOLD_ROWS: usize = 32;

/// Rows in one piece of a sum over `rows` rows: at most [`FOLDS`] pieces, and none so short that its
/// buffer costs more than its rows.
pub fn fold_step(rows: usize) -> usize {
    rows.div_ceil(FOLDS).max(FOLD_ROWS)
}

/// Sums contributions of many rows into `width` numbers in a fixed order: `body` adds those of a
/// range of rows into a zeroed buffer; the buffers are then added one after the other.
pub fn fold_rows<T: Real>(
    rows: usize,
    width: usize,
    body: impl Fn(Range<usize>, &mut [T]) + Sync + Send,
) -> Vec<T> {
    let step = fold_step(rows);
    fold_pieces(width, Numbers(rows.div_ceil(step)), |i, _, sums| {
        body(i * step..((i + 1) * step).min(rows), sums);
    })
}

/// [`fold_rows`] for a body that also writes: `pieces` are what each piece may write to, usually
/// chunks of [`fold_step`] rows. `body` gets the number of the piece, the piece and its sums.
pub fn fold_pieces<T: Real, P>(
    width: usize,
    pieces: impl Pieces<Piece = P>,
    body: impl Fn(usize, P, &mut [T]) + Sync + Send,
) -> Vec<T> {
    let partial = pieces.enumerate().collect_alone(|(i, piece)| {
        let mut sums = vec![T::ZERO; width];
        body(i, piece, &mut sums);
        sums
    });
    let mut partial = partial.into_iter();
    let mut total = partial.next().unwrap_or_else(|| vec![T::ZERO; width]);
    for sums in partial {
        simd::add_assign(&mut total, &sums);
    }
    total
}

/// The matrix whose row i is `data[i·step ..][.. cols]`; rows may overlap.
#[track_caller]
#[allow(unsafe_code)]
pub fn overlapping_rows<T>(
    data: &[T],
    (rows, cols): (usize, usize),
    step: usize,
) -> ArrayView2<'_, T> {
    assert!(rows == 0 || (rows - 1) * step + cols <= data.len(), "rows reach beyond the data");
    let shape = (rows, cols).strides((step, 1));
    // SAFETY: every element is inside `data`, which the view borrows; nobody writes through it.
    unsafe { ArrayView2::from_shape_ptr(shape, data.as_ptr()) }
}

/// `C <- alpha A B + beta C` on one thread; for use inside a parallel loop.
#[track_caller]
#[allow(unsafe_code)]
pub fn gemm_serial<T: Real>(
    alpha: T,
    a: ArrayView2<T>,
    b: ArrayView2<T>,
    beta: T,
    mut c: ArrayViewMut2<T>,
) {
    let ((m, k), (k2, n)) = (a.dim(), b.dim());
    assert!(k == k2 && c.dim() == (m, n), "gemm: {:?} x {:?} -> {:?}", a.dim(), b.dim(), c.dim());
    let (sa, sb) = (a.strides().to_vec(), b.strides().to_vec());
    let sc = c.strides().to_vec();
    // SAFETY: the pointers and strides are those of live views whose shapes were just checked, and
    // C is borrowed mutably, so it overlaps neither A nor B.
    unsafe {
        T::gemm_raw(
            (m, k, n),
            alpha,
            (a.as_ptr(), sa[0], sa[1]),
            (b.as_ptr(), sb[0], sb[1]),
            beta,
            (c.as_mut_ptr(), sc[0], sc[1]),
        );
    }
}

/// `C <- A B` in f64 on one thread by the library of the f32 path, which has AVX-512 kernels: the
/// machine's ceiling in f64. The judge's products stay with matrixmultiply (see above).
#[track_caller]
#[allow(unsafe_code)]
pub fn wide_dgemm(a: ArrayView2<f64>, b: ArrayView2<f64>, mut c: ArrayViewMut2<f64>) {
    let ((m, k), (k2, n)) = (a.dim(), b.dim());
    assert!(k == k2 && c.dim() == (m, n), "dgemm: {:?} x {:?} -> {:?}", a.dim(), b.dim(), c.dim());
    let (sa, sb) = (a.strides().to_vec(), b.strides().to_vec());
    let sc = c.strides().to_vec();
    let (lhs, rhs, dst) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    let serial = gemm::Parallelism::None;
    // SAFETY: the pointers and strides are those of live views whose shapes were just checked, and C is
    // borrowed mutably; gemm takes the column stride first.
    unsafe {
        gemm::gemm(
            m, n, k, dst, sc[1], sc[0], false, lhs, sa[1], sa[0], rhs, sb[1], sb[0], 0.0, 1.0,
            false, false, false, serial,
        );
    }
}

/// `C <- alpha A B + beta C`, split over threads along both axes of C.
///
/// The pieces follow from the shape alone, because the library may sum in another order where the
/// shape differs: 4 for anything above 1/4 GFLOP, more where each still has half a GFLOP.
#[track_caller]
pub fn gemm<T: Real>(alpha: T, a: ArrayView2<T>, b: ArrayView2<T>, beta: T, c: ArrayViewMut2<T>) {
    let ((m, n), k) = (c.dim(), a.ncols());
    let (down, across) = gemm_pieces(m, n, gemm_count(2 * m * n * k));
    gemm_in(down, across, alpha, (a, b), beta, c);
}

/// Pieces of a product of so many operations, a power of two.
fn gemm_count(flops: usize) -> usize {
    (flops >> 26).min(4).max(flops >> 29).next_power_of_two()
}

/// `count` pieces of a matrix, down and across. Every piece packs its rows of A and its columns of B: cut so
/// that the least is packed twice.
fn gemm_pieces(m: usize, n: usize, count: usize) -> (usize, usize) {
    let divisors = (1..=count).filter(|down| count.is_multiple_of(*down));
    let down = divisors.min_by_key(|down| count / down * m + down * n).unwrap_or(1);
    (down, count / down)
}

/// [`gemm`] in this many pieces of C down and across.
fn gemm_in<T: Real>(
    down: usize,
    across: usize,
    alpha: T,
    (a, b): (ArrayView2<T>, ArrayView2<T>),
    beta: T,
    mut c: ArrayViewMut2<T>,
) {
    let (m, n) = c.dim();
    let (pm, pn) = (m.div_ceil(down).max(1), n.div_ceil(across).max(1));
    let mut tasks = Vec::new();
    for (i, rows) in c.axis_chunks_iter_mut(Axis(0), pm).enumerate() {
        let mut rest = rows;
        let mut start = 0;
        while start < n {
            let width = pn.min(n - start);
            let (head, tail) = rest.split_at(Axis(1), width);
            tasks.push((i * pm, start, head));
            rest = tail;
            start += width;
        }
    }
    Tasks::new(tasks).for_each_alone(|(i, j, c)| {
        let a = a.slice_axis(Axis(0), (i..i + c.nrows()).into());
        let b = b.slice_axis(Axis(1), (j..j + c.ncols()).into());
        gemm_serial(alpha, a, b, beta, c);
    });
}

/// Sets every row of `y` to `row`.
pub fn fill_rows<T: Real>(y: &mut [T], row: &[T]) {
    y.par_chunks_mut(rows_per_task(row.len()) * row.len().max(1)).for_each(|rows| {
        rows.chunks_exact_mut(row.len()).for_each(|y| y.copy_from_slice(row));
    });
}

/// Adds the column sums of `x` `[rows, cols]` to `out` `[cols]`.
pub fn add_column_sums<T: Real>(x: &[T], out: &mut [T]) {
    let cols = out.len();
    if cols == 0 {
        return;
    }
    let sums = fold_rows(x.len() / cols, cols, |rows, sums| {
        for row in x[rows.start * cols..rows.end * cols].chunks_exact(cols) {
            simd::add_assign(sums, row);
        }
    });
    simd::add_assign(out, &sums);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    /// Whole numbers, of which sums are exact in any order.
    fn whole<T: Real>(rows: usize, cols: usize, factor: usize) -> Array2<T> {
        let one = |(i, j): (usize, usize)| ((i * 31 + j * 17) * factor % 23) as f64 - 11.0;
        Array2::from_shape_fn((rows, cols), |at| T::from_f64(one(at)))
    }

    fn in_pieces<T: Real>() {
        for (m, k, n) in [(1, 1, 1), (17, 5, 33), (40, 3, 2), (2, 7, 41), (5, 0, 6)] {
            let (a, b, old) = (whole::<T>(m, k, 1), whole::<T>(k, n, 3), whole::<T>(m, n, 5));
            let (alpha, beta) = (T::from_f64(2.0), T::from_f64(-3.0));
            let want = Array2::from_shape_fn((m, n), |(i, j)| {
                let sum: T = (0..k).map(|l| a[[i, l]] * b[[l, j]]).sum();
                alpha * sum + beta * old[[i, j]]
            });
            for down in [1, 2, 3, 8] {
                for across in [1, 2, 5, 16] {
                    let mut c = old.clone();
                    gemm_in(down, across, alpha, (a.view(), b.view()), beta, c.view_mut());
                    assert_eq!(c, want, "{m}x{k}x{n} in {down} x {across} pieces");
                }
            }
        }
    }

    #[test]
    fn products_in_pieces_are_products() {
        in_pieces::<f64>();
        in_pieces::<f32>();
    }

    #[test]
    fn pieces_of_a_product_by_hand() {
        let giga = |times: f64| gemm_count((times * f64::from(1 << 29)) as usize);
        // 2^26 operations are a piece up to four of them, then half a giga each.
        assert_eq!([0.0, 0.125, 0.25, 0.375, 4.0, 5.0, 17.0].map(giga), [1, 1, 2, 4, 4, 8, 32]);
        assert_eq!(gemm_pieces(100, 10, 8), (8, 1));
        assert_eq!(gemm_pieces(10, 100, 8), (1, 8));
        assert_eq!(gemm_pieces(100, 100, 16), (4, 4));
    }

    #[test]
    fn sums_over_rows_take_every_row_once() {
        for rows in [0, 1, 31, 32, 33, 95, 97, 511, 512, 513, 1601, 2053] {
            let x = whole::<f64>(rows, 3, 7);
            let mut sums = [1.0, 2.0, 3.0];
            add_column_sums(x.as_slice().expect("contiguous"), &mut sums);
            let want: Vec<f64> = (0..3).map(|j| (j + 1) as f64 + x.column(j).sum()).collect();
            assert_eq!(sums[..], want, "{rows} rows");
            assert!(rows.div_ceil(fold_step(rows)) <= FOLDS);
        }
    }

    #[test]
    fn parts_add_to_every_gradient() {
        use crate::params::{Decay, Init, Registry};
        let (bk, mut registry) = (Cpu::<f64>::new(), Registry::new());
        let n = 3 * PIECE + 5;
        registry.add("p", &[n], Decay::Yes, Init::Constant(0.0));
        let layout = registry.finish();
        for samples in [1, 8, 9, 25, 64, 65, 200] {
            let mut g = Params::zeros(&bk, &layout);
            g.master.fill(0.5);
            let ranges = bk.in_parts(samples, &mut g, |range, g| {
                g.master
                    .iter_mut()
                    .enumerate()
                    .for_each(|(i, g)| *g += (range.len() * (i % 7)) as f64);
                range
            });
            assert!(ranges.into_iter().flatten().eq(0..samples));
            let want = |i: usize| 0.5 + (samples * (i % 7)) as f64;
            assert!(g.master.iter().enumerate().all(|(i, g)| *g == want(i)), "{samples} samples");
        }
    }
}
