//! Reading a file into memory and decoding its tensors.

use super::header::{bounded_header, parse_header};
use super::sums::verify;
use super::{Dtype, TensorInfo, checksum};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A safetensors file in memory whose header was found consistent; values are decoded on request.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    tensors: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
    bytes: Vec<u8>,
    verified: bool,
}

impl TensorFile {
    /// Reads and checks a file; where it has checksums, it fits them.
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::format(path, "is a folder, not a safetensors file"));
        }
        let mut file = File::open(path).map_err(Error::io("cannot read", path))?;
        let length = file.metadata().map_err(Error::io("cannot read", path))?.len();
        let mut prefix = [0; 8];
        if length < 8 {
            return Err(Error::format(
                path,
                format!("not a safetensors file: {length} bytes long"),
            ));
        }
        file.read_exact(&mut prefix).map_err(Error::io("cannot read", path))?;
        let header_length = bounded_header(path, prefix, length)?;
        let mut header = vec![0; header_length];
        file.read_exact(&mut header).map_err(Error::io("cannot read", path))?;
        let data_length = length - 8 - header_length as u64;
        let (tensors, metadata) = parse_header(path, &header, data_length)?;
        let mut bytes = Vec::new();
        let too_large =
            |_| Error::format(path, format!("{data_length} bytes do not fit in memory"));
        let capacity = usize::try_from(data_length).unwrap_or(usize::MAX);
        bytes.try_reserve_exact(capacity).map_err(too_large)?;
        file.take(data_length).read_to_end(&mut bytes).map_err(Error::io("cannot read", path))?;
        if bytes.len() != capacity {
            return Err(Error::format(path, "became shorter while it was read"));
        }
        let verified =
            verify(&tensors, &metadata, &bytes).map_err(|text| Error::format(path, text))?;
        Ok(Self { path: path.to_path_buf(), tensors, metadata, bytes, verified })
    }

    /// True where the file has checksums; it fits them, or it would not have been read.
    pub fn verified(&self) -> bool {
        self.verified
    }

    /// Where it was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every tensor by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// The shape of every tensor by name.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.tensors.iter().map(|(name, info)| (name.clone(), info.shape.clone())).collect()
    }

    /// The text entries of the header.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Shape and values of a tensor of real numbers, all of them finite.
    pub fn f32s(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let (shape, values) = self.reals(name, |x| x, |x| x as f32)?;
        self.finite(name, values.iter().position(|x| !x.is_finite()))?;
        Ok((shape, values))
    }

    /// Shape and values of a tensor of real numbers, all of them finite, in double precision.
    pub fn f64s(&self, name: &str) -> Result<(Vec<usize>, Vec<f64>)> {
        let (shape, values) = self.reals(name, f64::from, |x| x)?;
        self.finite(name, values.iter().position(|x| !x.is_finite()))?;
        Ok((shape, values))
    }

    /// Shape and values of a tensor of `u32`.
    pub fn u32s(&self, name: &str) -> Result<(Vec<usize>, Vec<u32>)> {
        let (info, bytes) = self.raw(name, &[Dtype::U32])?;
        Ok((info.shape.clone(), decode(bytes, u32::from_le_bytes)))
    }

    /// Shape and values of a tensor of bytes.
    pub fn u8s(&self, name: &str) -> Result<(Vec<usize>, Vec<u8>)> {
        let (info, bytes) = self.raw(name, &[Dtype::U8])?;
        Ok((info.shape.clone(), bytes.to_vec()))
    }

    /// Checksum of names, types, shapes, values and of `seed`, a text kept in the metadata.
    pub(crate) fn checksum(&self, seed: &str) -> u32 {
        let entries = self.tensors.iter().map(|(name, t)| {
            (name.as_str(), t.dtype, t.shape.as_slice(), &self.bytes[t.range.clone()])
        });
        checksum(seed, entries)
    }

    fn reals<T>(
        &self,
        name: &str,
        single: impl Fn(f32) -> T,
        double: impl Fn(f64) -> T,
    ) -> Result<(Vec<usize>, Vec<T>)> {
        let real = [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::BF16];
        let (info, bytes) = self.raw(name, &real)?;
        let values = match info.dtype {
            Some(Dtype::F64) => decode(bytes, |b| double(f64::from_le_bytes(b))),
            Some(Dtype::F16) => decode(bytes, |b| single(half::f16::from_le_bytes(b).to_f32())),
            Some(Dtype::BF16) => decode(bytes, |b| single(half::bf16::from_le_bytes(b).to_f32())),
            _ => decode(bytes, |b| single(f32::from_le_bytes(b))),
        };
        Ok((info.shape.clone(), values))
    }

    fn raw(&self, name: &str, wanted: &[Dtype]) -> Result<(&TensorInfo, &[u8])> {
        let Some(info) = self.tensors.get(name) else {
            return Err(Error::format(&self.path, format!("tensor {name} is missing")));
        };
        match info.dtype {
            Some(dtype) if wanted.contains(&dtype) => Ok((info, &self.bytes[info.range.clone()])),
            other => {
                let other = other.map_or("of an unknown type".to_owned(), |d| format!("{d:?}"));
                let text = format!("tensor {name} is {other}, want one of {wanted:?}");
                Err(Error::format(&self.path, text))
            }
        }
    }

    fn finite(&self, name: &str, bad: Option<usize>) -> Result<()> {
        match bad {
            None => Ok(()),
            Some(index) => Err(Error::format(
                &self.path,
                format!("tensor {name} holds a non-finite value at index {index}"),
            )),
        }
    }
}

fn decode<T, const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| value(*chunk)).collect()
}
