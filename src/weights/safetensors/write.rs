//! Writing: the bytes of a file follow from tensors and metadata alone.

use super::header::HeaderLine;
use super::sums::with_sums;
use crate::error::{Error, Result};
use crate::weights::file::Checksum;
use crate::weights::info::Dtype;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;

/// Values to be written.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "one variant per element type")]
pub enum Slice<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    U32(&'a [u32]),
    U8(&'a [u8]),
}

impl<'a> Slice<'a> {
    fn dtype(self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F64(_) => Dtype::F64,
            Self::U32(_) => Dtype::U32,
            Self::U8(_) => Dtype::U8,
        }
    }

    /// The values as they lie in memory, which is the format's order on little-endian machines.
    fn bytes(self) -> &'a [u8] {
        const { assert!(cfg!(target_endian = "little"), "the format is little-endian") };
        match self {
            Self::F32(v) => bytemuck::cast_slice(v),
            Self::F64(v) => bytemuck::cast_slice(v),
            Self::U32(v) => bytemuck::cast_slice(v),
            Self::U8(v) => v,
        }
    }

    /// Index of the first value that is infinite or not a number.
    pub fn first_non_finite(self) -> Option<usize> {
        match self {
            Self::F32(v) => v.iter().position(|x| !x.is_finite()),
            Self::F64(v) => v.iter().position(|x| !x.is_finite()),
            Self::U32(_) | Self::U8(_) => None,
        }
    }
}

/// A named tensor to be written.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Name in the file.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub values: Slice<'a>,
}

impl<'a> View<'a> {
    /// A tensor; panics when the shape does not hold the values, which is the caller's mistake.
    #[track_caller]
    pub fn new(name: impl Into<String>, shape: &[usize], values: Slice<'a>) -> Self {
        let (name, shape) = (name.into(), shape.to_vec());
        let elements = values.bytes().len() / values.dtype().bytes();
        assert_eq!(elements, shape.iter().product::<usize>(), "{name}: shape {shape:?}");
        Self { name, shape, values }
    }
}

/// Writes tensors in the order element type, name: the bytes follow from the arguments alone.
pub fn write_tensors(
    file: &mut dyn Write,
    tensors: &[View],
    metadata: &BTreeMap<String, String>,
) -> std::io::Result<()> {
    let sorted = in_order(tensors);
    file.write_all(&header_bytes(&described(&sorted), metadata))?;
    sorted.iter().try_for_each(|view| file.write_all(view.values.bytes()))
}

/// The bytes before the values: the header's length and the header.
pub(super) fn header_bytes(tensors: &[HeaderLine], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    for HeaderLine { name, dtype, shape, range } in tensors {
        let offsets = [range.start, range.end];
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
        let twice = header.insert((*name).to_owned(), entry).is_some();
        assert!(!twice, "{name}: two tensors of this name");
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut header);
    bytes
}

fn in_order<'a>(tensors: &'a [View<'a>]) -> Vec<&'a View<'a>> {
    let mut sorted: Vec<&View> = tensors.iter().collect();
    sorted.sort_by_key(|v| (v.values.dtype(), v.name.as_str()));
    sorted
}

/// What the header says about tensors that lie one behind the other.
fn described<'a>(sorted: &[&'a View]) -> Vec<HeaderLine<'a>> {
    let mut end = 0;
    let place = |view: &&'a View| {
        let start = end;
        end += view.values.bytes().len();
        let dtype = format!("{:?}", view.values.dtype());
        HeaderLine { name: &view.name, dtype, shape: &view.shape, range: start..end }
    };
    sorted.iter().map(place).collect()
}

/// `metadata` and checksums of the file that [`write_tensors`] writes with them: of each tensor and of
/// the header.
pub(in crate::weights) fn with_checksums(
    tensors: &[View],
    metadata: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let sorted = in_order(tensors);
    let sums: Vec<u32> = sorted.iter().map(|v| crc32c::crc32c(v.values.bytes())).collect();
    with_sums(&described(&sorted), &sums, metadata)
}

/// The bytes that [`write_tensors`] writes.
pub fn encode(tensors: &[View], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_tensors(&mut bytes, tensors, metadata).expect("writing to memory does not fail");
    bytes
}

/// [`Checksum`] of tensors that are still to be written, in the order of their names.
pub(crate) fn checksum_of(seed: &str, tensors: &[View]) -> u32 {
    let mut sorted: Vec<&View> = tensors.iter().collect();
    sorted.sort_by_key(|v| v.name.as_str());
    let mut sum = Checksum::new(seed);
    for view in sorted {
        sum.describe(&view.name, Some(view.values.dtype()), &view.shape);
        sum.add(view.values.bytes());
    }
    sum.0
}

/// Refuses to save a weight that is infinite or not a number, naming it.
pub(crate) fn refuse_non_finite(what: &str, tensors: &[View]) -> Result<()> {
    for view in tensors {
        if let Some(index) = view.values.first_non_finite() {
            return Err(Error::Training(format!(
                "{what} not saved: {} is not finite at index {index}; what was saved before is untouched",
                view.name
            )));
        }
    }
    Ok(())
}
