//! Metrics of a run: `metrics.jsonl` and the TensorBoard events beside it.
//!
//! Both only ever grow, and neither is state: a resumed run keeps what is whole in them up to the step
//! of its checkpoint, so that no step appears twice, says what is missing, and goes on appending.

use super::events;
use super::mended::{Whole, mended};
use crate::atomic::layer::Growing;
use crate::error::{Error, Result};
pub use crate::report::page::Curve;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// Name of the lines.
pub(super) const LINES: &str = "metrics.jsonl";
/// The name needs `tfevents` in it to be found; the number is where the time would be.
const EVENTS: &str = "events.out.tfevents.0.beit";

/// Lengths of both files in bytes, by which a resumed run knows whether something is missing.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
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
    /// Opens both files for a run that goes on after `step`, when they were so long; a fresh run passes
    /// zeros. What had to be mended is said through `note`.
    pub(super) fn open(
        folder: &Path,
        step: u64,
        lengths: Lengths,
        note: &mut impl FnMut(String),
    ) -> Result<Self> {
        let lines = |bytes: &[u8]| whole_lines(bytes, step, lengths.metrics);
        let lines = mended(folder.join(LINES), lengths.metrics, lines, note)?;
        let records = |bytes: &[u8]| events::whole_records(bytes, step);
        let mut events = mended(folder.join(EVENTS), lengths.events, records, note)?;
        if events.length()? == 0 {
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
        Ok(Lengths { metrics: self.lines.length()?, events: self.events.length()? })
    }
}

fn entry(line: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(line).ok()
}

/// The whole lines of `text` up to `step`. Of those that are not JSON, the ones that were there when
/// the file was `length` bytes long stay, for whoever wants to mend them.
fn whole_lines(text: &[u8], step: u64, length: u64) -> Whole {
    let (mut kept, mut at) = (Whole { bytes: Vec::new(), damaged: 0 }, 0);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let entry = entry(line);
        let later = |step_of: f64| step_of > step as f64;
        let stays = match &entry {
            Some(entry) => !entry.get("step").and_then(Value::as_f64).is_some_and(later),
            None => at < length,
        };
        if stays && line.ends_with(b"\n") {
            kept.bytes.extend(line);
            kept.damaged += usize::from(entry.is_none());
        }
        at += line.len() as u64;
    }
    kept
}

/// Every curve of a `metrics.jsonl`, in the order in which the names first appear. Lines that are not
/// JSON are skipped and counted through `note`; so is a file that cannot be read at all.
pub fn read_curves(path: &Path, mut note: impl FnMut(String)) -> Vec<Curve> {
    let text = std::fs::read(path).unwrap_or_else(|e| {
        note(format!("no curves: {}", Error::io("cannot read", path)(e)));
        Vec::new()
    });
    let (mut curves, mut damaged): (Vec<Curve>, _) = (Vec::new(), 0);
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(line) = entry(line) else {
            damaged += 1;
            continue;
        };
        let step = line.get("step").and_then(Value::as_f64).unwrap_or(number as f64);
        for (name, value) in line.iter().filter(|(name, _)| *name != "step") {
            let Some(value) = value.as_f64() else { continue };
            match curves.iter_mut().find(|c| c.name == *name) {
                Some(curve) => curve.points.push((step, value)),
                None => curves.push(Curve { name: name.clone(), points: vec![(step, value)] }),
            }
        }
    }
    if damaged > 0 {
        note(format!("{}: lines skipped as they are not JSON: {damaged}", path.display()));
    }
    curves
}
