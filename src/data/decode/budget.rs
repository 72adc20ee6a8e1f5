//! The memory that all decoding of the process takes together.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// The share of the machine's memory that decoding may take where no setting says more.
const SHARE: u64 = 4;
/// Memory of a machine that does not tell.
const UNKNOWN: u64 = 4 << 30;

/// Bytes that are claimed, and who waits for more, in the order of asking.
#[derive(Default)]
struct MemoryClaims {
    held: u64,
    waiting: VecDeque<u64>,
    next: u64,
}

static CLAIMS: Mutex<MemoryClaims> =
    Mutex::new(MemoryClaims { held: 0, waiting: VecDeque::new(), next: 0 });
static CHANGED: Condvar = Condvar::new();

/// Claimed bytes, free again when it is dropped. A thread holds one at a time.
#[derive(Debug)]
pub(super) struct MemoryClaim(u64);

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

/// MemoryClaims the first of these (way, bytes) that `limit` can hold, waiting until others have given back enough.
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
    let claim = claim(bytes, limit).ok_or_else(|| {
        format!(
            "the system has not the {} MB that decoding {width}x{height} pixels takes; make the image smaller or \
             free memory",
            megabytes(bytes)
        )
    })?;
    Ok((way, claim))
}

/// MemoryClaims `bytes` of `limit`, or nothing if the system refuses them though nobody else holds any.
fn claim(bytes: u64, limit: u64) -> Option<MemoryClaim> {
    let mut claims = lock();
    let ticket = claims.next;
    claims.next += 1;
    claims.waiting.push_back(ticket);
    loop {
        if claims.waiting.front() == Some(&ticket) && claims.held.saturating_add(bytes) <= limit {
            let granted = obtainable(bytes);
            if granted || claims.held == 0 {
                claims.waiting.pop_front();
                claims.held += if granted { bytes } else { 0 };
                CHANGED.notify_all();
                return granted.then_some(MemoryClaim(bytes));
            }
        }
        claims = CHANGED.wait(claims).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Whether the system gives that much at once. Decoders end the process if it does not, so it is asked first.
fn obtainable(bytes: u64) -> bool {
    let mut trial = Vec::<u8>::new();
    usize::try_from(bytes).is_ok_and(|bytes| black_box(&mut trial).try_reserve_exact(bytes).is_ok())
}

fn lock() -> MutexGuard<'static, MemoryClaims> {
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for MemoryClaim {
    fn drop(&mut self) {
        lock().held -= self.0;
        CHANGED.notify_all();
    }
}
