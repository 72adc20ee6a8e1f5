//! Checksums of a file in its own metadata, where other readers pass them by.
//!
//! | key | text |
//! | --- | --- |
//! | `crc32c_tensors` | the CRC32C of each tensor's bytes, in the order in which they lie in the file |
//! | `crc32c_header` | the CRC32C of names, types, shapes, places and of all other metadata |
//!
//! Each sum is eight hexadecimal digits. Between the two of them a flipped bit has nowhere to hide: one of
//! the keys promises the other. A file with neither is somebody else's, or older, and is read unchecked.

use super::header::HeaderLine;
use crate::error::{Error, Result};
use crate::shown;
use crate::weights::info::TensorInfo;
use crate::weights::stored::StoredBytes;
use std::collections::BTreeMap;

const TENSORS: &str = "crc32c_tensors";
const HEADER: &str = "crc32c_header";

/// What to do about a sum that does not fit.
const ADVICE: &str = "damaged: take it from a copy (if another program rewrote it, let it leave out \
                      the metadata whose names begin with crc32c_)";

/// `metadata` and the checksums of a file of these tensors, which are in the order of their places, with the
/// CRC32C of each one's bytes.
pub(super) fn with_sums(
    tensors: &[HeaderLine],
    sums: &[u32],
    metadata: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut metadata = metadata.clone();
    let sums: Vec<String> = sums.iter().map(|sum| hex(*sum)).collect();
    metadata.insert(TENSORS.to_owned(), sums.join(" "));
    metadata.insert(HEADER.to_owned(), header_sum(tensors, &metadata));
    metadata
}

/// Eight digits.
pub(in crate::weights) fn hex(sum: u32) -> String {
    format!("{sum:08x}")
}

/// Whether a file has checksums and its bytes fit them, those of the tensors from `base` on; what does not fit is named.
pub(super) fn verify(
    tensors: &BTreeMap<String, TensorInfo>,
    metadata: &BTreeMap<String, String>,
    stored: &StoredBytes,
    base: usize,
) -> Result<bool> {
    let wrong = |text: String| Error::format(stored.path(), text);
    let (sums, header) = match (metadata.get(TENSORS), metadata.get(HEADER)) {
        (None, None) => return Ok(false),
        (Some(sums), Some(header)) => (sums, header),
        _ => return Err(wrong(format!("has only one of {TENSORS} and {HEADER}; {ADVICE}"))),
    };
    let mut described: Vec<HeaderLine> =
        tensors.iter().map(|(n, info)| HeaderLine::of(n, info)).collect();
    described.sort_by_key(|t| (t.range.start, t.range.end));
    if *header != header_sum(&described, metadata) {
        return Err(wrong(format!("its header does not fit its checksum; {ADVICE}")));
    }
    let mut sums = sums.split(' ');
    for HeaderLine { name, range, .. } in described {
        let mut sum = 0;
        stored.pieces(base + range.start..base + range.end, &mut |bytes| {
            sum = crc32c::crc32c_append(sum, bytes);
            Ok(())
        })?;
        if sums.next() != Some(&hex(sum)) {
            let name = shown::name(name);
            return Err(wrong(format!("tensor {name} does not fit its checksum; {ADVICE}")));
        }
    }
    Ok(true)
}

/// Checksum of all that a header says, but for itself.
fn header_sum(tensors: &[HeaderLine], metadata: &BTreeMap<String, String>) -> String {
    let mut sum = 0;
    let mut add = |text: &str| {
        // The length keeps two texts from reading as two others.
        sum = crc32c::crc32c_append(sum, &(text.len() as u64).to_le_bytes());
        sum = crc32c::crc32c_append(sum, text.as_bytes());
    };
    for HeaderLine { name, dtype, shape, range } in tensors {
        add(name);
        add(&format!("{dtype} {shape:?} {range:?}"));
    }
    for (key, text) in metadata.iter().filter(|(key, _)| *key != HEADER) {
        add(key);
        add(text);
    }
    hex(sum)
}
