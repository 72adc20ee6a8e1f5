//! Metrics of a run: `metrics.jsonl` and the TensorBoard events beside it.
//!
//! Both only ever grow. A checkpoint records how long they were, and a resumed run cuts them back to
//! that, so that no step appears twice.

use super::events;
use crate::error::{Error, Result};
pub use crate::report::page::Curve;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Lengths of both files in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Lengths {
    metrics: u64,
    events: u64,
}

/// The two growing files of a run folder.
#[derive(Debug)]
pub(super) struct Metrics {
    lines: Growing,
    events: Growing,
}

impl Metrics {
    /// Opens both files and cuts them back to `lengths`; a fresh run passes zeros.
    pub(super) fn open(folder: &Path, lengths: Lengths) -> Result<Self> {
        let lines = Growing::open(folder.join("metrics.jsonl"), lengths.metrics)?;
        // The name needs `tfevents` in it to be found; the number is where the time would be.
        let mut events = Growing::open(folder.join("events.out.tfevents.0.beit"), lengths.events)?;
        if events.length == 0 {
            events.append(&events::file_version())?;
        }
        Ok(Self { lines, events })
    }

    pub(super) fn log(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let mut line = Map::from_iter([("step".to_owned(), Value::from(step))]);
        line.extend(values.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
        self.lines.append(format!("{}\n", Value::Object(line)).as_bytes())?;
        self.events.append(&events::scalars(step, values))
    }

    pub(super) fn picture(
        &mut self,
        step: u64,
        tag: &str,
        size: (usize, usize),
        png: &[u8],
    ) -> Result<()> {
        self.events.append(&events::picture(step, tag, size, png))
    }

    /// Makes everything logged so far durable and says how long the files are.
    pub(super) fn sync(&mut self) -> Result<Lengths> {
        self.lines.sync()?;
        self.events.sync()?;
        Ok(Lengths { metrics: self.lines.length, events: self.events.length })
    }
}

#[derive(Debug)]
struct Growing {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Growing {
    fn open(path: PathBuf, length: u64) -> Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io("cannot write", &path))?;
        let found = file.metadata().map_err(Error::io("cannot read", &path))?.len();
        if found < length {
            return Err(Error::format(
                &path,
                format!(
                    "{found} bytes long, the checkpoint recorded {length}: it was changed outside"
                ),
            ));
        }
        file.set_len(length)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .map_err(Error::io("cannot write", &path))?;
        Ok(Self { path, file, length })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("cannot write", &self.path))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("cannot write", &self.path))
    }
}

/// Every curve of a `metrics.jsonl`, in the order in which the names first appear.
pub fn read_curves(path: &Path) -> Result<Vec<Curve>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
    let mut curves: Vec<Curve> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line: Map<String, Value> = serde_json::from_str(line)
            .map_err(|e| Error::format(path, format!("line {}: not JSON ({e})", number + 1)))?;
        let step = line.get("step").and_then(Value::as_f64).unwrap_or(number as f64);
        for (name, value) in line.iter().filter(|(name, _)| *name != "step") {
            let Some(value) = value.as_f64() else { continue };
            match curves.iter_mut().find(|c| c.name == *name) {
                Some(curve) => curve.points.push((step, value)),
                None => curves.push(Curve { name: name.clone(), points: vec![(step, value)] }),
            }
        }
    }
    Ok(curves)
}
