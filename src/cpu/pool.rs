//! Buffers that are used again.
//!
//! A training step makes and drops the same few hundred tensors over and over. The system's
//! allocator returns buffers of that size to the kernel and fetches fresh pages, cleared one by one,
//! for the next; that was an eighth of a step. Dropped buffers wait here instead for the next tensor
//! of their size.

use crate::cpu::pieces::{Cut, Pieces};
use crate::real::Element;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::mem::{size_of, take};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Smaller buffers go back to the allocator, which keeps those itself.
const SMALLEST: usize = 1 << 14;

/// Elements that one thread clears or copies at a time.
const PIECE: usize = 1 << 16;

/// Idle buffers, shared by all clones of a backend and by the buffers in use.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<PoolState>>);

#[derive(Debug, Default)]
struct PoolState {
    /// By type and number of elements.
    idle: HashMap<(TypeId, usize), Vec<Box<dyn Any + Send>>>,
    idle_bytes: usize,
    used_bytes: usize,
    most_used_bytes: usize,
    /// The same since it was last forgotten.
    peak_bytes: usize,
}

/// Elements that go back to their pool when dropped.
#[derive(Debug)]
pub struct PoolBuffer<E: Element> {
    data: Vec<E>,
    pool: Pool,
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `n` elements of unspecified value: zeros, or what a buffer held when it was dropped.
    pub fn unset<E: Element>(&self, n: usize) -> PoolBuffer<E> {
        self.adopt(self.take(n).unwrap_or_else(|| vec![E::default(); n]))
    }

    /// `n` zeros.
    pub fn zeros<E: Element>(&self, n: usize) -> PoolBuffer<E> {
        match self.take(n) {
            None => self.adopt(vec![E::default(); n]),
            Some(mut data) => {
                data.par_chunks_mut(PIECE).for_each(|piece| piece.fill(E::default()));
                self.adopt(data)
            }
        }
    }

    /// A copy of `source`.
    pub fn copy<E: Element>(&self, source: &[E]) -> PoolBuffer<E> {
        match self.take(source.len()) {
            None => self.adopt(source.to_vec()),
            Some(mut data) => {
                let pieces = data.par_chunks_mut(PIECE).zip(source.par_chunks(PIECE));
                pieces.for_each(|(to, from)| to.copy_from_slice(from));
                self.adopt(data)
            }
        }
    }

    /// A buffer over a host vector.
    pub fn adopt<E: Element>(&self, data: Vec<E>) -> PoolBuffer<E> {
        let mut state = self.state();
        state.used_bytes += data.len() * size_of::<E>();
        state.most_used_bytes = state.most_used_bytes.max(state.used_bytes);
        state.peak_bytes = state.peak_bytes.max(state.used_bytes);
        PoolBuffer { data, pool: self.clone() }
    }

    /// The most bytes in use at once since [`Pool::forget_peak`]; idle buffers do not count.
    pub fn peak_bytes(&self) -> usize {
        self.state().peak_bytes
    }

    /// Counts the peak from what is in use now.
    pub fn forget_peak(&self) {
        let mut state = self.state();
        state.peak_bytes = state.used_bytes;
    }

    /// An idle buffer of `n` elements, with whatever it held. Where there is none and the pool is
    /// full, all idle ones are given up: sizes change from one phase of a program to the next.
    fn take<E: Element>(&self, n: usize) -> Option<Vec<E>> {
        let bytes = n * size_of::<E>();
        let mut state = self.state();
        let Some(found) = state.idle.get_mut(&(TypeId::of::<E>(), n)).and_then(Vec::pop) else {
            if bytes >= SMALLEST && state.is_full(bytes) {
                state.idle_bytes = 0;
                let given_up = take(&mut state.idle);
                drop(state);
                drop(given_up);
            }
            return None;
        };
        state.idle_bytes -= bytes;
        found.downcast().ok().map(|data| *data)
    }
}

impl PoolState {
    /// With `bytes` more, used and idle buffers are a quarter above what was ever used at once.
    fn is_full(&self, bytes: usize) -> bool {
        self.used_bytes + self.idle_bytes + bytes > self.most_used_bytes / 4 * 5
    }
}

impl<E: Element> Drop for PoolBuffer<E> {
    fn drop(&mut self) {
        let data = take(&mut self.data);
        let bytes = data.len() * size_of::<E>();
        let mut state = self.pool.state();
        state.used_bytes -= bytes;
        // A full pool keeps nothing more: some buffers come from outside (uploads) and only end here.
        if bytes >= SMALLEST && !state.is_full(bytes) {
            state.idle_bytes += bytes;
            let key = (TypeId::of::<E>(), data.len());
            state.idle.entry(key).or_default().push(Box::new(data));
        }
    }
}

impl<E: Element> Deref for PoolBuffer<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        &self.data
    }
}

impl<E: Element> DerefMut for PoolBuffer<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        &mut self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again_and_cleared() {
        let pool = Pool::default();
        let mut a = pool.zeros::<f32>(10_000);
        a.fill(3.0);
        let at = a.as_ptr();
        drop(a);
        let b = pool.zeros::<f32>(10_000);
        assert_eq!(b.as_ptr(), at);
        assert!(b.iter().all(|&x| x == 0.0));
        assert_eq!(pool.state().idle_bytes, 0);
    }

    #[test]
    fn buffers_from_outside_do_not_add_up() {
        let pool = Pool::default();
        for _ in 0..100 {
            drop(pool.adopt(vec![0.0f64; 10_000]));
        }
        assert!(pool.state().idle_bytes <= 2 * 8 * 10_000);
    }

    #[test]
    fn the_peak_counts_what_is_used_at_once() {
        let pool = Pool::default();
        let a = pool.zeros::<f32>(10_000);
        drop(pool.zeros::<f64>(10_000));
        assert_eq!(pool.peak_bytes(), 120_000);
        pool.forget_peak();
        assert_eq!(pool.peak_bytes(), 40_000);
        drop(a);
        drop(pool.zeros::<f32>(11_000));
        assert_eq!(pool.peak_bytes(), 44_000);
    }

    #[test]
    fn idle_buffers_do_not_add_up() {
        let pool = Pool::default();
        for n in 10_000..10_100 {
            pool.zeros::<f64>(n);
        }
        assert!(pool.state().idle_bytes <= 2 * 8 * 10_100);
        assert_eq!(pool.state().used_bytes, 0);
    }
}
