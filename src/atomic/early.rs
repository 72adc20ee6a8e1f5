//! Making a large file durable while the rest of it is written.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Bytes that are written between two times of making them durable; smaller files are left to the end.
const EVERY: usize = 64 << 20;

/// Counts what is written to a file, and has it on the disk soon: the disk works while the next bytes are computed,
/// and the sync at the end finds little left to wait for.
#[derive(Default)]
pub(super) struct EarlySync {
    since: usize,
    worker: Option<Worker>,
}

struct Worker {
    wake: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl EarlySync {
    /// So many more bytes were written to `file`, the same one each time.
    pub(super) fn written(&mut self, file: &File, count: usize) -> io::Result<()> {
        self.since += count;
        if self.since < EVERY {
            return Ok(());
        }
        self.since = 0;
        if self.worker.is_none() {
            let file = file.try_clone()?;
            let (wake, woken) = sync_channel(1);
            let thread = Builder::new().spawn(move || sync(&file, &woken))?;
            self.worker = Some(Worker { wake, thread });
        }
        if let Some(worker) = &self.worker {
            // Whether it is at it still or has failed, which the end says, there is nothing to do.
            let _ = worker.wake.try_send(());
        }
        Ok(())
    }

    /// Waits for what was begun; a failure of it, which the system reports once, is the file's.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let Some(Worker { wake, thread }) = self.worker.take() else { return Ok(()) };
        drop(wake);
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs ended")))
    }
}

/// Where the file is given up, nobody holds it any more once it is removed.
impl Drop for EarlySync {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

fn sync(file: &File, woken: &Receiver<()>) -> io::Result<()> {
    while woken.recv().is_ok() {
        file.sync_data()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_has_no_thread_and_a_large_one_waits_for_it() {
        let file = tempfile::tempfile().unwrap();
        let mut early = EarlySync::default();
        early.written(&file, EVERY - 1).unwrap();
        assert!(early.worker.is_none());
        for _ in 0..3 {
            early.written(&file, EVERY).unwrap();
        }
        assert!(early.worker.is_some());
        early.finish().unwrap();
        assert!(early.worker.is_none());
    }

    /// The system says it to one of two handles of a file alone.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_failure_meanwhile_is_one_of_the_file() {
        // A device that has nothing to sync.
        let file = File::open("/dev/null").unwrap();
        let mut early = EarlySync::default();
        for _ in 0..3 {
            early.written(&file, EVERY).unwrap();
        }
        assert_eq!(early.finish().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
