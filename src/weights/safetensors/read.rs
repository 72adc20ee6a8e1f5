//! Reading a file into memory.

use super::header::{bounded_header, parse_header};
use super::sums::verify;
use crate::error::{Error, Result};
use crate::weights::file::TensorFile;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Reads and checks a file; where it has checksums, it fits them.
pub(in crate::weights) fn read(path: &Path) -> Result<TensorFile> {
    if path.is_dir() {
        return Err(Error::format(path, "is a folder, not a safetensors file"));
    }
    let mut file = File::open(path).map_err(Error::io("cannot read", path))?;
    let length = file.metadata().map_err(Error::io("cannot read", path))?.len();
    let mut prefix = [0; 8];
    if length < 8 {
        return Err(Error::format(path, format!("not a safetensors file: {length} bytes long")));
    }
    file.read_exact(&mut prefix).map_err(Error::io("cannot read", path))?;
    let header_length = bounded_header(path, prefix, length)?;
    let mut header = vec![0; header_length];
    file.read_exact(&mut header).map_err(Error::io("cannot read", path))?;
    let data_length = length - 8 - header_length as u64;
    let (tensors, metadata) = parse_header(path, &header, data_length)?;
    let mut bytes = Vec::new();
    let too_large = |_| Error::format(path, format!("{data_length} bytes do not fit in memory"));
    let capacity = usize::try_from(data_length).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(capacity).map_err(too_large)?;
    file.take(data_length).read_to_end(&mut bytes).map_err(Error::io("cannot read", path))?;
    if bytes.len() != capacity {
        return Err(Error::format(path, "became shorter while it was read"));
    }
    let verified = verify(&tensors, &metadata, &bytes).map_err(|text| Error::format(path, text))?;
    Ok(TensorFile { path: path.to_path_buf(), tensors, metadata, bytes, verified })
}
