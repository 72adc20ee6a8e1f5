//! The memory that all decoding of the process takes together.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// The share of the machine's memory that decoding may take where no setting says more.
const SHARE: u64 = 4;
/// Memory of a machine that does not tell.
const UNKNOWN: u64 = 4 << 30;

/// Bytes that are claimed, and who waits for more, in the order of asking.
#[derive(Debug)]
struct MemoryPool {
    state: Mutex<MemoryInUse>,
    changed: Condvar,
}

#[derive(Debug)]
struct MemoryInUse {
    held: u64,
    waiting: VecDeque<u64>,
    next: u64,
}

/// That of the process.
static POOL: MemoryPool = MemoryPool::new();

/// Claimed bytes, free again when it is dropped. A thread holds one at a time.
#[derive(Debug)]
pub(super) struct MemoryClaim {
    bytes: u64,
    pool: &'static MemoryPool,
}

/// The bytes that a setting of `megabytes` allows; 0 is a quarter of what the machine, or the control group that
/// the process is in, has.
pub(super) fn limit(megabytes: usize) -> u64 {
    static DEFAULT: OnceLock<u64> = OnceLock::new();
    match megabytes {
        0 => *DEFAULT.get_or_init(|| machine_memory() / SHARE),
        some => (some as u64).saturating_mul(1 << 20),
    }
}

fn machine_memory() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let group = system.cgroup_limits().map_or(u64::MAX, |group| group.total_memory);
    match system.total_memory().min(group) {
        0 => UNKNOWN,
        bytes => bytes,
    }
}

/// Claims the first of these (way, bytes) that `limit` can hold, waiting until others have given back enough.
pub(super) fn claim_first(
    (width, height): (u32, u32),
    ways: &[(u32, u64)],
    limit: u64,
) -> Result<(u32, MemoryClaim), String> {
    let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let fits = |(_, bytes): &&(u32, u64)| *bytes <= limit;
    let least = ways.iter().map(|way| way.1).min().unwrap_or(0);
    let Some(&(way, bytes)) = ways.iter().find(fits) else {
        return Err(format!(
            "decoding {width}x{height} pixels takes {} MB, more than the {} MB that decoding may take; set \
             decode_memory to more, or make the image smaller",
            megabytes(least),
            megabytes(limit)
        ));
    };
    let claim = POOL.claim(bytes, limit).ok_or_else(|| {
        format!(
            "the system has not the {} MB that decoding {width}x{height} pixels takes; make the image smaller or \
             free memory",
            megabytes(bytes)
        )
    })?;
    Ok((way, claim))
}

impl MemoryPool {
    const fn new() -> Self {
        let state = MemoryInUse { held: 0, waiting: VecDeque::new(), next: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, MemoryInUse> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims `bytes` of `limit`, or nothing if the system refuses them though nobody else holds any.
    fn claim(&'static self, bytes: u64, limit: u64) -> Option<MemoryClaim> {
        let mut state = self.lock();
        let ticket = state.next;
        state.next += 1;
        state.waiting.push_back(ticket);
        loop {
            let first = state.waiting.front() == Some(&ticket);
            if first && state.held.saturating_add(bytes) <= limit {
                let granted = obtainable(bytes);
                if granted || state.held == 0 {
                    state.waiting.pop_front();
                    state.held += if granted { bytes } else { 0 };
                    self.changed.notify_all();
                    return granted.then(|| MemoryClaim { bytes, pool: self });
                }
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Whether the system gives that much at once. Decoders end the process if it does not, so it is asked first.
fn obtainable(bytes: u64) -> bool {
    let mut trial = Vec::<u8>::new();
    usize::try_from(bytes).is_ok_and(|bytes| black_box(&mut trial).try_reserve_exact(bytes).is_ok())
}

impl Drop for MemoryClaim {
    fn drop(&mut self) {
        self.pool.lock().held -= self.bytes;
        self.pool.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    #[test]
    fn threads_wait_until_their_images_fit() {
        static POOL: MemoryPool = MemoryPool::new();
        static HELD: AtomicU64 = AtomicU64::new(0);
        const LIMIT: u64 = 100;
        std::thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || {
                    for i in 0..200 {
                        let bytes = 1 + (thread * 37 + i * 13) % LIMIT;
                        let claim = POOL.claim(bytes, LIMIT).unwrap();
                        assert!(HELD.fetch_add(bytes, SeqCst) + bytes <= LIMIT);
                        std::thread::yield_now();
                        HELD.fetch_sub(bytes, SeqCst);
                        drop(claim);
                    }
                });
            }
        });
        let state = POOL.lock();
        assert_eq!((state.held, state.waiting.len(), state.next), (0, 0, 1600));
    }

    #[test]
    fn what_the_system_refuses_is_an_error() {
        let most = u64::MAX / 4;
        let refused = claim_first((9, 9), &[(0, most)], most).unwrap_err();
        assert!(refused.contains("the system has not"), "{refused}");
        // And nothing of it stays claimed.
        let (way, _claim) = claim_first((9, 9), &[(8, 1 << 20), (4, 1 << 18)], 1 << 19).unwrap();
        assert_eq!(way, 4);
        let refused = claim_first((9, 9), &[(8, 5 << 20), (4, 3 << 20)], 1 << 20).unwrap_err();
        assert!(refused.contains("3 MB") && refused.contains("decode_memory"), "{refused}");
    }

    #[test]
    fn a_quarter_of_the_machine_is_the_default() {
        assert!(limit(0) > 1 << 20, "{}", limit(0));
        assert_eq!((limit(0), limit(3)), (machine_memory() / 4, 3 << 20));
    }
}
