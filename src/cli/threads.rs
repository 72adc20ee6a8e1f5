//! How many threads a command works on.

/// Runs `f` on a pool of `threads` threads (0: one per core). The number never changes a result.
pub(super) fn on_threads<T: Send>(
    threads: usize,
    f: impl FnOnce() -> crate::Result<T> + Send,
) -> crate::Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|e| crate::Error::config(format!("cannot start {threads} threads: {e}")))?
        .install(f)
}
