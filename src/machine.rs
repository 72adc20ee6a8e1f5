//! What the machine has to give: memory and disk.

use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;
use sysinfo::{CGroupLimits, Disks, System};

/// What to lower where memory runs out, once a run knows what it needs.
static ADVICE: OnceLock<String> = OnceLock::new();

/// Keeps what is to be said should memory run out: what was expected, and what to lower.
pub fn advise(text: String) {
    // A second run of one process keeps the first text; both name the same settings.
    let _ = ADVICE.set(text);
}

/// Says on standard error that an allocation failed and what to do; allocates nothing. What failed may be
/// put up with: a decoder's buffer costs an image, not the run.
#[cold]
pub fn out_of_memory() {
    let advice = ADVICE.get().map_or("lower batch or image_size, or free memory", String::as_str);
    let mut out = std::io::stderr();
    for part in ["beit: out of memory: ", advice, "\n"] {
        let _ = out.write_all(part.as_bytes());
    }
}

/// Bytes that this process may still take: what the machine has free, within what its control group and
/// its address-space limit (`ulimit -v`, Linux) leave. `None` where the machine does not tell.
pub fn free_memory() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    let group = system.cgroup_limits().as_ref().map(free_in_group);
    let machine = Some(system.available_memory()).filter(|&bytes| bytes > 0);
    [machine, group, free_addresses()].into_iter().flatten().min()
}

/// What the limit of the control group leaves beside the memory of its processes. The files that the group has read
/// count as its memory, too, and are dropped where room is needed: `free_memory` would take them for lost.
fn free_in_group(limits: &CGroupLimits) -> u64 {
    limits.total_memory.saturating_sub(limits.rss)
}

/// Bytes that are free on the disk of `folder`, which need not exist yet.
pub fn free_disk(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find_map(|path| match path.as_os_str().is_empty() {
        true => Path::new(".").canonicalize().ok(),
        false => path.canonicalize().ok(),
    })?;
    let disks = Disks::new_with_refreshed_list();
    let holds = |disk: &&sysinfo::Disk| there.starts_with(disk.mount_point());
    let own = disks.iter().filter(holds).max_by_key(|disk| disk.mount_point().as_os_str().len())?;
    // File systems that do not count say 0 of 0.
    (own.total_space() > 0).then(|| own.available_space())
}

/// What the limit of the address space leaves, where there is one.
fn free_addresses() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max address space"))?;
    let limit: u64 = line.split_whitespace().nth(3)?.parse().ok()?; // "unlimited" is no number
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmSize:"))?;
    let used: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(limit.saturating_sub(used << 10))
}

/// Bytes in words, as in `1.5 GB`.
pub fn in_words(bytes: u64) -> String {
    let mb = bytes as f64 / 1e6;
    if mb >= 1000.0 { format!("{:.1} GB", mb / 1000.0) } else { format!("{:.0} MB", mb.ceil()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_from_files_is_free() {
        let read = CGroupLimits {
            total_memory: 24 << 30,
            free_memory: 6 << 30,
            free_swap: 0,
            rss: 1 << 30,
        };
        assert_eq!(free_in_group(&read), 23 << 30);
    }

    #[test]
    fn this_machine_has_memory_and_a_disk() {
        assert!(free_memory().is_none_or(|bytes| bytes > 1 << 20));
        let folder = std::env::temp_dir();
        let (there, to_come) = (free_disk(&folder), free_disk(&folder.join("a/b/c")));
        assert_eq!(there.is_some(), to_come.is_some());
        assert_eq!(in_words(1_500_000_000), "1.5 GB");
        assert_eq!(in_words(1), "1 MB");
    }
}
