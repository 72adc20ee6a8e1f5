//! What a launch takes: arguments, places in memory, blocks and threads.

use std::marker::PhantomData;

/// One argument of a kernel: 8 bytes, whatever it is.
#[derive(Clone, Copy)]
pub(crate) struct Argument(pub(super) u64);

impl From<usize> for Argument {
    fn from(x: usize) -> Self {
        Self(x as u64)
    }
}
impl From<i64> for Argument {
    fn from(x: i64) -> Self {
        Self(x as u64)
    }
}
impl From<bool> for Argument {
    fn from(x: bool) -> Self {
        Self(x.into())
    }
}
impl From<f64> for Argument {
    fn from(x: f64) -> Self {
        Self(x.to_bits())
    }
}
impl<E> From<Pointer<E>> for Argument {
    fn from(p: Pointer<E>) -> Self {
        Self(p.address)
    }
}
/// Null where there is none.
impl<A: Into<Argument>> From<Option<A>> for Argument {
    fn from(x: Option<A>) -> Self {
        x.map_or(Self(0), Into::into)
    }
}

/// The arguments of a launch.
macro_rules! args {
    ($($x:expr),* $(,)?) => { &[$($crate::cuda::Argument::from($x)),*] };
}
pub(crate) use args;

/// A place in device memory.
pub(crate) struct Pointer<E> {
    pub(super) address: u64,
    element: PhantomData<E>,
}

impl<E> Clone for Pointer<E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for Pointer<E> {}

impl<E> Pointer<E> {
    pub(super) fn to(address: u64) -> Self {
        Self { address, element: PhantomData }
    }

    /// Whether the address is a multiple of `bytes`.
    pub(crate) fn is_aligned(self, bytes: u64) -> bool {
        self.address.is_multiple_of(bytes)
    }

    /// `n` elements on.
    pub(crate) fn plus(self, n: usize) -> Self {
        Self { address: self.address + (n * size_of::<E>()) as u64, ..self }
    }
}

/// Blocks and threads of a launch.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    pub(super) blocks: [usize; 2],
    pub(super) threads: usize,
}

/// Threads of a block at most.
const THREADS: usize = 256;

impl Grid {
    /// A thread per element; beyond a million blocks, threads take several.
    pub(crate) fn each(n: usize) -> Self {
        let threads = n.next_multiple_of(32).clamp(32, THREADS);
        Self { blocks: [n.div_ceil(threads).min(1 << 20), 1], threads }
    }

    /// As many blocks of as many threads.
    pub(crate) fn blocks(blocks: [usize; 2], threads: usize) -> Self {
        Self { blocks, threads }
    }

    /// A block per row of `cols` elements.
    pub(crate) fn rows(rows: usize, cols: usize) -> Self {
        Self { blocks: [rows, 1], threads: cols.next_multiple_of(32).clamp(32, THREADS) }
    }

    /// A thread per column, a row of blocks per piece.
    pub(crate) fn pieces(cols: usize, pieces: usize) -> Self {
        let threads = cols.next_multiple_of(32).clamp(32, THREADS);
        Self { blocks: [cols.div_ceil(threads), pieces], threads }
    }
}

/// Rows cut into pieces whose sums are added in order; by the number of rows alone.
#[derive(Clone, Copy)]
pub(crate) struct RowPieces {
    /// Rows of a piece.
    pub step: usize,
    /// Pieces.
    pub count: usize,
}

impl RowPieces {
    /// At most 256 pieces, none shorter than 32 rows.
    pub(crate) fn of(rows: usize) -> Self {
        let step = rows.div_ceil(256).max(32);
        Self { step, count: rows.div_ceil(step) }
    }
}
