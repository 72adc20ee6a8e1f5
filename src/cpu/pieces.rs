//! Slices cut into pieces, each of which one task works on.
//!
//! Named and used as rayon's parallel iterators. Rayon compiles the way in which tasks spread over
//! threads anew for each type of the pieces and for each body: for every op and every scalar, a
//! quarter of all code. Here it is compiled once, in [`spread`] and [`spread_alone`], which see
//! nothing of a piece but its number.

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

/// Calls `f` with each number below `n` once, on any thread.
pub fn spread(n: usize, f: &(dyn Fn(usize) + Sync)) {
    (0..n).into_par_iter().for_each(f);
}

/// [`spread`] for heavy work: hands out one number at a time, where rayon would give each thread a
/// quarter at once and leave it idle at the end.
pub fn spread_alone(n: usize, f: &(dyn Fn(usize) + Sync)) {
    (0..n).into_par_iter().with_max_len(1).for_each(f);
}

/// What tasks take by number.
#[allow(unsafe_code)]
pub trait Pieces: Sized + Sync {
    /// What one task works on.
    type Piece;

    /// Number of pieces.
    fn count(&self) -> usize;

    /// Piece number `i`.
    ///
    /// # Safety
    /// `i` is below the count, and no number is asked for twice.
    unsafe fn piece(&self, i: usize) -> Self::Piece;

    /// Pairs of pieces, as many as the fewer.
    fn zip<O: Pieces>(self, other: O) -> Zip<Self, O> {
        Zip(self, other)
    }

    /// Pieces with their numbers.
    fn enumerate(self) -> Zip<Numbers, Self> {
        Numbers(self.count()).zip(self)
    }

    /// Calls `f` on each piece.
    fn for_each(self, f: impl Fn(Self::Piece) + Sync) {
        // SAFETY: `spread` gives each number below the count once.
        spread(self.count(), &|i| f(unsafe { self.piece(i) }));
    }

    /// Calls `f` on each piece, handed out one at a time.
    fn for_each_alone(self, f: impl Fn(Self::Piece) + Sync) {
        // SAFETY: as above.
        spread_alone(self.count(), &|i| f(unsafe { self.piece(i) }));
    }

    /// What `f` makes of each piece, in order.
    fn collect<R: Send>(self, f: impl Fn(Self::Piece) -> R + Sync) -> Vec<R> {
        let mut results = empty(self.count());
        results.par_iter_mut().zip(self).for_each(|(result, piece)| *result = Some(f(piece)));
        whole(results)
    }

    /// What `f` makes of each piece, in order; pieces are handed out one at a time.
    fn collect_alone<R: Send>(self, f: impl Fn(Self::Piece) -> R + Sync) -> Vec<R> {
        let mut results = empty(self.count());
        let pairs = results.par_iter_mut().zip(self);
        pairs.for_each_alone(|(result, piece)| *result = Some(f(piece)));
        whole(results)
    }
}

fn empty<R>(n: usize) -> Vec<Option<R>> {
    std::iter::repeat_with(|| None).take(n).collect()
}

fn whole<R>(results: Vec<Option<R>>) -> Vec<R> {
    results.into_iter().map(|result| result.expect("each piece has a result")).collect()
}

/// The numbers below one.
pub struct Numbers(pub usize);

#[allow(unsafe_code)]
impl Pieces for Numbers {
    type Piece = usize;

    fn count(&self) -> usize {
        self.0
    }

    #[inline(always)]
    unsafe fn piece(&self, i: usize) -> usize {
        i
    }
}

/// Pairs.
pub struct Zip<A, B>(A, B);

#[allow(unsafe_code)]
impl<A: Pieces, B: Pieces> Pieces for Zip<A, B> {
    type Piece = (A::Piece, B::Piece);

    fn count(&self) -> usize {
        self.0.count().min(self.1.count())
    }

    #[inline(always)]
    unsafe fn piece(&self, i: usize) -> Self::Piece {
        // SAFETY: the number is below both counts, and the caller vouches for the rest.
        unsafe { (self.0.piece(i), self.1.piece(i)) }
    }
}

/// Runs of a slice.
pub struct Chunks<'a, T> {
    data: &'a [T],
    size: usize,
    count: usize,
}

#[allow(unsafe_code)]
impl<'a, T: Sync> Pieces for Chunks<'a, T> {
    type Piece = &'a [T];

    fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    unsafe fn piece(&self, i: usize) -> &'a [T] {
        let start = i * self.size;
        &self.data[start..self.data.len().min(start + self.size)]
    }
}

/// Runs of a slice to write to.
pub struct ChunksMut<'a, T> {
    data: *mut T,
    len: usize,
    size: usize,
    count: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: pieces do not overlap and each goes to one task, which may be on another thread.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for ChunksMut<'_, T> {}

#[allow(unsafe_code)]
impl<'a, T: Send> Pieces for ChunksMut<'a, T> {
    type Piece = &'a mut [T];

    fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    unsafe fn piece(&self, i: usize) -> &'a mut [T] {
        let start = i * self.size;
        assert!(start <= self.len, "no such piece");
        let len = self.size.min(self.len - start);
        // SAFETY: inside the slice that is borrowed for 'a; the caller asks for no piece twice, so
        // nobody else has a reference to it.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), len) }
    }
}

/// Elements to write to.
pub struct Elements<'a, T>(ChunksMut<'a, T>);

#[allow(unsafe_code)]
impl<'a, T: Send> Pieces for Elements<'a, T> {
    type Piece = &'a mut T;

    fn count(&self) -> usize {
        self.0.count
    }

    #[inline(always)]
    unsafe fn piece(&self, i: usize) -> &'a mut T {
        // SAFETY: the caller vouches for it; a piece has one element.
        unsafe { &mut self.0.piece(i)[0] }
    }
}

/// Values, each moved to its task.
pub struct Tasks<T>(Vec<Mutex<Option<T>>>);

impl<T: Send> Tasks<T> {
    /// One task for each value.
    pub fn new(values: impl IntoIterator<Item = T>) -> Self {
        Self(values.into_iter().map(|value| Mutex::new(Some(value))).collect())
    }
}

#[allow(unsafe_code)]
impl<T: Send> Pieces for Tasks<T> {
    type Piece = T;

    fn count(&self) -> usize {
        self.0.len()
    }

    unsafe fn piece(&self, i: usize) -> T {
        let taken = self.0[i].lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.expect("taken once")
    }
}

/// Ways to cut a slice.
pub trait Cut<T> {
    /// Runs of `size` elements; the last may be shorter.
    fn par_chunks(&self, size: usize) -> Chunks<'_, T>;
    /// Runs of `size` elements; what is left over at the end is in none.
    fn par_chunks_exact(&self, size: usize) -> Chunks<'_, T>;
    /// Runs of `size` elements to write to; the last may be shorter.
    fn par_chunks_mut(&mut self, size: usize) -> ChunksMut<'_, T>;
    /// Runs of `size` elements to write to; what is left over at the end is in none.
    fn par_chunks_exact_mut(&mut self, size: usize) -> ChunksMut<'_, T>;
    /// Single elements to write to.
    fn par_iter_mut(&mut self) -> Elements<'_, T>;
}

impl<T> Cut<T> for [T] {
    fn par_chunks(&self, size: usize) -> Chunks<'_, T> {
        assert!(size > 0, "pieces without elements");
        Chunks { data: self, size, count: self.len().div_ceil(size) }
    }

    fn par_chunks_exact(&self, size: usize) -> Chunks<'_, T> {
        assert!(size > 0, "pieces without elements");
        Chunks { data: self, size, count: self.len() / size }
    }

    fn par_chunks_mut(&mut self, size: usize) -> ChunksMut<'_, T> {
        assert!(size > 0, "pieces without elements");
        let (data, len) = (self.as_mut_ptr(), self.len());
        ChunksMut { data, len, size, count: len.div_ceil(size), borrowed: PhantomData }
    }

    fn par_chunks_exact_mut(&mut self, size: usize) -> ChunksMut<'_, T> {
        let all = self.par_chunks_mut(size);
        ChunksMut { count: all.len / size, ..all }
    }

    fn par_iter_mut(&mut self) -> Elements<'_, T> {
        Elements(self.par_chunks_mut(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_those_of_the_standard_library() {
        for n in [0, 1, 6, 7, 9] {
            let from: Vec<usize> = (0..n).collect();
            let pieces = from.par_chunks(3).collect(<[usize]>::to_vec);
            assert_eq!(pieces, from.chunks(3).map(<[usize]>::to_vec).collect::<Vec<_>>());
            let exact = from.par_chunks_exact(3).collect_alone(<[usize]>::to_vec);
            assert_eq!(exact, from.chunks_exact(3).map(<[usize]>::to_vec).collect::<Vec<_>>());
            let mut to = vec![usize::MAX; n];
            to.par_chunks_mut(3).zip(from.par_chunks(3)).for_each(|(to, from)| {
                to.copy_from_slice(from);
            });
            assert_eq!(to, from);
            to.par_chunks_exact_mut(3).enumerate().for_each_alone(|(i, to)| to.fill(i));
            let want = from.iter().map(|&x| if x < n / 3 * 3 { x / 3 } else { x });
            assert!(to.iter().copied().eq(want));
            to.par_iter_mut().enumerate().for_each(|(i, x)| *x = i);
            assert_eq!(to, from);
        }
    }

    #[test]
    fn tasks_are_moved_and_the_fewer_of_a_pair_count() {
        let names = Tasks::new(["a", "b", "c"].map(String::from));
        let named = names.zip(Numbers(2)).collect_alone(|(name, i)| format!("{name}{i}"));
        assert_eq!(named, ["a0", "b1"]);
    }
}
