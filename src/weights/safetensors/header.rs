//! The header of a file, believed only as far as the file's length bears it out.

use super::Dtype;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Longest header that is read. The header of the large model takes 50 kB.
const MAX_HEADER: u64 = 16 << 20;

/// What a file says about one tensor, checked.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Element type; nothing for one that this crate does not read.
    pub dtype: Option<Dtype>,
    pub(super) range: Range<usize>,
}

impl TensorInfo {
    /// Number of values.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

#[derive(Deserialize)]
struct HeaderEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

pub(super) fn bounded_header(path: &Path, prefix: [u8; 8], file_length: u64) -> Result<usize> {
    let length = u64::from_le_bytes(prefix);
    if length > MAX_HEADER || length > file_length - 8 {
        return Err(Error::format(
            path,
            format!(
                "not a safetensors file, or cut short: its header claims {length} bytes, \
                 {} follow",
                file_length - 8
            ),
        ));
    }
    Ok(length as usize)
}

type Header = (BTreeMap<String, TensorInfo>, BTreeMap<String, String>);

pub(super) fn parse_header(path: &Path, header: &[u8], data_length: u64) -> Result<Header> {
    let wrong = |text: String| Error::format(path, text);
    let mut entries: Map<String, Value> = serde_json::from_slice(header)
        .map_err(|e| wrong(format!("not a safetensors file: its header is not JSON ({e})")))?;
    let metadata = match entries.remove("__metadata__") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(value) => serde_json::from_value(value)
            .map_err(|_| wrong("the header's __metadata__ is not a map of texts".into()))?,
    };
    let mut tensors = BTreeMap::new();
    for (name, value) in entries {
        let shown = shown(&name);
        let entry: HeaderEntry = serde_json::from_value(value)
            .map_err(|e| wrong(format!("tensor {shown}: unusable header entry ({e})")))?;
        let info =
            checked(entry, data_length).map_err(|e| wrong(format!("tensor {shown}: {e}")))?;
        tensors.insert(name, info);
    }
    let mut ranges: Vec<_> = tensors.iter().map(|(name, t)| (&t.range, name)).collect();
    ranges.sort_by_key(|(range, _)| (range.start, range.end));
    let mut end = 0;
    for (range, name) in ranges {
        if range.start != end {
            let name = shown(name);
            let text = format!("tensor {name}: starts at byte {}, want {end}", range.start);
            return Err(wrong(text));
        }
        end = range.end;
    }
    if end as u64 != data_length {
        return Err(wrong(format!("the tensors take {end} bytes, the file holds {data_length}")));
    }
    Ok((tensors, metadata))
}

/// A tensor's name as it can stand in a message, whatever is in it.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}

fn checked(entry: HeaderEntry, data_length: u64) -> Result<TensorInfo, String> {
    let HeaderEntry { dtype, shape, data_offsets: (start, end) } = entry;
    if start > end || end as u64 > data_length {
        return Err(format!(
            "bytes {start} to {end} do not lie in the file's {data_length} (cut short?)"
        ));
    }
    let dtype: Option<Dtype> = serde_json::from_value(Value::String(dtype)).ok();
    let elements = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
    let Some(elements) = elements else {
        return Err(format!("shape {shape:?} is absurd"));
    };
    if let Some(dtype) = dtype
        && elements.checked_mul(dtype.bytes()) != Some(end - start)
    {
        return Err(format!("shape {shape:?} of {dtype:?} does not take {} bytes", end - start));
    }
    Ok(TensorInfo { shape, dtype, range: start..end })
}
