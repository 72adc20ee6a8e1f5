//! Work that spreads over threads by itself, several pieces of it at once.

use rayon::ThreadPoolBuilder;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `f` with each number below `n` once, in order by whoever is free. Each worker is a pool of one thread: in a pool
/// that they shared, one that waits for its own pieces would begin other work meanwhile, and wait within that, until its
/// stack is full.
pub(super) fn each_in_turn(n: usize, f: impl Fn(usize) + Sync) {
    let (next, f) = (AtomicUsize::new(0), &f);
    let work = || {
        std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed))
            .take_while(|&i| i < n)
            .for_each(f);
    };
    std::thread::scope(|scope| {
        for _ in 0..rayon::current_num_threads() {
            let pool = ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
            scope.spawn(move || pool.install(work));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;
    use std::sync::Mutex;

    /// So many that each would wait within another: in a shared pool this overflows the stack.
    #[test]
    fn work_is_done_once_and_not_within_other_work() {
        const PIECES: usize = 3000;
        thread_local!(static WITHIN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
        let done = Mutex::new(Vec::new());
        each_in_turn(PIECES, |i| {
            assert!(!WITHIN.replace(true), "{i} was begun within another");
            let sum: usize = (0..64usize).into_par_iter().with_max_len(1).sum();
            assert_eq!(sum, 2016);
            WITHIN.set(false);
            done.lock().unwrap().push(i);
        });
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, (0..PIECES).collect::<Vec<_>>());
    }
}
