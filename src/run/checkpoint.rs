//! Checkpoints: one safetensors file each, with a checksum over everything in it.
//!
//! Tensors come back bit for bit. The rest of the state (epoch, position, sums) is a small JSON
//! document in the file's metadata; its numbers come back exactly too, as `serde_json` is built with
//! `float_roundtrip`.

use crate::atomic::layer::remove;
use crate::atomic::write_atomic_with;
use crate::error::{Error, Result};
use crate::progress::note;
use crate::weights::{TensorFile, View, checksum_of, refuse_non_finite, write_tensors};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Checkpoints that are kept: the newest, and one in case the disk damages it.
const KEPT: usize = 2;

/// A checkpoint that was read and found undamaged.
#[derive(Debug)]
pub struct Checkpoint {
    /// Optimizer steps done.
    pub step: u64,
    /// The tensors.
    pub tensors: TensorFile,
    state: Value,
}

impl Checkpoint {
    /// The state that was given when it was written.
    pub fn state<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.state.clone()).map_err(|e| {
            let path = self.tensors.path();
            Error::format(path, format!("written by another version of this program ({e})"))
        })
    }

    fn read(path: &Path) -> Result<Self> {
        let tensors = TensorFile::read(path)?;
        let damaged = || Error::format(path, "damaged: its checksum does not fit");
        let state = tensors.metadata().get("state").ok_or_else(damaged)?;
        let stored = tensors.metadata().get("crc32c").ok_or_else(damaged)?;
        if *stored != format!("{:08x}", tensors.checksum(state)?) {
            return Err(damaged());
        }
        let state: Value = serde_json::from_str(state).map_err(|_| damaged())?;
        let step = step_of(path).ok_or_else(damaged)?;
        Ok(Self { step, tensors, state })
    }
}

/// Writes the checkpoint of `step` into `folder`, reads it back, and only then removes all but the
/// last two; an old one that cannot be removed is reported and stays.
///
/// A non-finite value is refused before a byte is written.
pub fn write_checkpoint(
    folder: &Path,
    step: u64,
    state: &impl Serialize,
    tensors: &[View],
) -> Result<()> {
    refuse_non_finite(&format!("checkpoint of step {step}"), tensors)?;
    let state = serde_json::to_string(state)
        .map_err(|e| Error::Training(format!("state of step {step} cannot be written: {e}")))?;
    let checksum = format!("{:08x}", checksum_of(&state, tensors));
    let metadata = BTreeMap::from([("crc32c".into(), checksum), ("state".into(), state)]);
    let path = folder.join(format!("step-{step:010}.safetensors"));
    let mut written = 0;
    write_atomic_with(&path, |file| {
        let mut sum = Summing { file, sum: 0 };
        write_tensors(&mut sum, tensors, &metadata)?;
        written = sum.sum;
        Ok(())
    })?;
    if file_sum(&path)? != written {
        return Err(Error::format(
            &path,
            "reads back differently from what was written; the disk fails",
        ));
    }
    for old in checkpoints(folder)?.iter().rev().skip(KEPT) {
        remove(old).unwrap_or_else(|e| note(&format!("an old checkpoint stays: {e}")));
    }
    Ok(())
}

/// The newest undamaged checkpoint of `folder`, or nothing when there is none at all.
///
/// A damaged one is reported through `note` and the one before it used; when all are damaged, that
/// is an error, because starting over would throw the run away silently.
pub fn load_newest(folder: &Path, mut note: impl FnMut(String)) -> Result<Option<Checkpoint>> {
    let paths = checkpoints(folder)?;
    let mut last = None;
    for path in paths.iter().rev() {
        match Checkpoint::read(path) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(e) => {
                note(format!("checkpoint skipped: {e}"));
                last = Some(e);
            }
        }
    }
    match last {
        None => Ok(None),
        Some(e) => Err(Error::format(
            folder,
            format!("none of the {} checkpoints is usable, the oldest because: {e}", paths.len()),
        )),
    }
}

/// The checkpoints of a folder, oldest first.
fn checkpoints(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("cannot read", folder)(e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("cannot read", folder))?.path();
        if let Some(step) = step_of(&path) {
            paths.push((step, path));
        }
    }
    paths.sort();
    Ok(paths.into_iter().map(|(_, path)| path).collect())
}

fn step_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()
}

/// Passes bytes on and keeps their checksum.
struct Summing<'a> {
    file: &'a mut dyn Write,
    sum: u32,
}

impl Write for Summing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.sum = crc32c::crc32c_append(self.sum, &bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn file_sum(path: &Path) -> Result<u32> {
    let mut file = File::open(path).map_err(Error::io("cannot read", path))?;
    let (mut sum, mut chunk) = (0, vec![0; 1 << 20]);
    loop {
        match file.read(&mut chunk).map_err(Error::io("cannot read", path))? {
            0 => return Ok(sum),
            count => sum = crc32c::crc32c_append(sum, &chunk[..count]),
        }
    }
}
