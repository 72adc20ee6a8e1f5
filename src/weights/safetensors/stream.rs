//! Writing a file tensor by tensor, for models that are not to lie in memory twice.

use super::header::HeaderLine;
use super::sums::with_sums;
use super::write::header_bytes;
use crate::atomic::PendingFile;
use crate::error::Result;
use crate::weights::info::Dtype;
use std::collections::BTreeMap;
use std::path::Path;

/// Where the bytes of a tensor go, piece by piece.
pub type ByteSink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// Writes tensors in the order element type, name, each as `bytes` gives it when its turn comes. The file's bytes
/// are those that [`write_tensors`](super::write_tensors) would write; with `checksums`, of a file with them.
pub fn stream_tensors(
    path: &Path,
    tensors: &BTreeMap<String, (Dtype, Vec<usize>)>,
    metadata: &BTreeMap<String, String>,
    checksums: bool,
    bytes: &mut dyn FnMut(&str, ByteSink) -> Result<()>,
) -> Result<()> {
    let mut end = 0;
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by_key(|(name, (dtype, _))| (*dtype, *name));
    let line = |(name, (dtype, shape)): (&'_ String, &'_ (Dtype, Vec<usize>))| {
        let start = end;
        end += dtype.bytes() * shape.iter().product::<usize>();
        (name.clone(), format!("{dtype:?}"), shape.clone(), start..end)
    };
    let lines: Vec<_> = sorted.into_iter().map(line).collect();
    let lines: Vec<HeaderLine> = lines
        .iter()
        .map(|(name, dtype, shape, range)| {
            let (dtype, range) = (dtype.clone(), range.clone());
            HeaderLine { name, dtype, shape, range }
        })
        .collect();
    let header = |sums: &[u32]| {
        let metadata = if checksums { with_sums(&lines, sums, metadata) } else { metadata.clone() };
        header_bytes(&lines, &metadata)
    };
    let mut sums = vec![0; lines.len()];
    let mut file = PendingFile::create(path)?;
    // Sums take the same room whatever they are.
    file.append(&header(&sums))?;
    for (sum, line) in sums.iter_mut().zip(&lines) {
        let mut length = 0;
        bytes(line.name, &mut |piece| {
            length += piece.len();
            if checksums {
                *sum = crc32c::crc32c_append(*sum, piece);
            }
            file.append(piece)
        })?;
        assert_eq!(length, line.range.len(), "{}: shape {:?}", line.name, line.shape);
    }
    file.finish_beginning_with(&header(&sums))
}
