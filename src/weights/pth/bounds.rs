//! What reading a file may take beside the file.

/// Bounds for one file, none of which depends on what is in it.
///
/// Beside its pickle, reading takes at most the file's length of memory, or [`LEAST`] for a small file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Nodes, links and places of stack and memo together.
    pub cells: usize,
    /// Instructions of one pickle.
    pub steps: usize,
    /// Bytes of what is kept of the tensors.
    pub kept: usize,
    /// Entries that are looked at, however often they are shared.
    pub visits: usize,
}

/// Bytes that any file may take: the tensors of the large model with the state of its optimizer take a
/// quarter of it.
const LEAST: usize = 8 << 20;

/// Bytes that a cell takes at most, with those that a vector holds while it grows.
const CELL: usize = 96;

/// Longest pickle that is read.
pub(super) const PICKLE: usize = 64 << 20;
/// Longest text.
pub(super) const TEXT: usize = 1 << 20;
/// Longest key, and longest name that keys are joined to.
pub(super) const NAME: usize = 1 << 10;
/// Deepest nesting.
pub(super) const DEPTH: usize = 64;

impl Bounds {
    pub(super) fn of(length: usize) -> Self {
        let bytes = length.max(LEAST);
        let cells = (bytes / 4 * 3 / CELL).min(1 << 20);
        Self { cells, steps: 1 << 20, kept: bytes / 4, visits: 1 << 18 }
    }
}

/// What to do about a file that asks for more.
pub(super) const TOO_MUCH: &str = "more than a file of weights of this length needs; \
     save its state dict alone";
