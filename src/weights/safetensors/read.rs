//! Opening a file.

use super::header::{bounded_header, parse_header};
use super::sums::verify;
use crate::error::{Error, Result};
use crate::weights::file::TensorFile;
use crate::weights::stored::StoredBytes;
use std::path::Path;

/// Opens and checks a file; where it has checksums, it fits them.
pub(in crate::weights) fn read(path: &Path) -> Result<TensorFile> {
    if path.is_dir() {
        return Err(Error::format(path, "is a folder, not a safetensors file"));
    }
    let stored = StoredBytes::open(path)?;
    let length = stored.length();
    if length < 8 {
        return Err(Error::format(path, format!("not a safetensors file: {length} bytes long")));
    }
    let prefix = *stored.part(0..8)?.first_chunk().expect("8 bytes");
    let base = 8 + bounded_header(path, prefix, length as u64)?;
    let header = stored.part(8..base)?;
    let (tensors, metadata) = parse_header(path, &header, (length - base) as u64)?;
    let verified = verify(&tensors, &metadata, &stored, base)?;
    Ok(TensorFile { tensors, metadata, stored, base, verified })
}
