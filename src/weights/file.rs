//! A file of tensors, read and decoded on request.

use super::info::{Dtype, TensorInfo};
use super::stored::StoredBytes;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// A file whose description of its tensors was found consistent; values are read on request, of the file that was
/// opened, which is kept open and must not change.
#[derive(Debug)]
pub struct TensorFile {
    pub(super) tensors: BTreeMap<String, TensorInfo>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) stored: StoredBytes,
    /// Byte of the file that the ranges of the tensors count from.
    pub(super) base: usize,
    pub(super) verified: bool,
}

impl TensorFile {
    /// True where the file has checksums; it fits them, or it would not have been read.
    pub fn verified(&self) -> bool {
        self.verified
    }

    /// Where it was read.
    pub fn path(&self) -> &Path {
        self.stored.path()
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
        Ok((info.shape.clone(), decode(&bytes, u32::from_le_bytes)))
    }

    /// Shape and values of a tensor of `i64`.
    pub fn i64s(&self, name: &str) -> Result<(Vec<usize>, Vec<i64>)> {
        let (info, bytes) = self.raw(name, &[Dtype::I64])?;
        Ok((info.shape.clone(), decode(&bytes, i64::from_le_bytes)))
    }

    /// Shape and values of a tensor of bytes.
    pub fn u8s(&self, name: &str) -> Result<(Vec<usize>, Vec<u8>)> {
        let (info, bytes) = self.raw(name, &[Dtype::U8])?;
        Ok((info.shape.clone(), bytes))
    }

    /// Gives so many elements of a tensor of real numbers as little-endian f32, row-major, to `each` in pieces: the
    /// bytes of the file where they are that already. All of them are finite.
    pub(super) fn f32_bytes(
        &self,
        name: &str,
        elements: Range<usize>,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let Some(TensorInfo { dtype: Some(Dtype::F32), strides: None, range, .. }) =
            self.tensors.get(name)
        else {
            let (_, values) = self.f32s(name)?;
            return each(bytemuck::cast_slice(&values[elements]));
        };
        let first = self.base + range.start;
        let mut index = elements.start;
        self.stored.pieces(first + 4 * elements.start..first + 4 * elements.end, &mut |bytes| {
            let bad = |b: &[u8; 4]| !f32::from_le_bytes(*b).is_finite();
            let values = bytes.as_chunks::<4>().0;
            // Without a way out of the loop, which makes it many times faster.
            if values.iter().fold(false, |any, value| any | bad(value)) {
                self.finite(name, values.iter().position(bad).map(|at| index + at))?;
            }
            index += values.len();
            each(bytes)
        })
    }

    /// Checksum of names, types, shapes, values (in the order of the names) and of `seed`, a text kept in the metadata.
    pub(crate) fn checksum(&self, seed: &str) -> Result<u32> {
        let mut sum = Checksum::new(seed);
        for (name, info) in &self.tensors {
            sum.describe(name, info.dtype, &info.shape);
            let mut add = |bytes: &[u8]| {
                sum.add(bytes);
                Ok(())
            };
            match info.strides {
                None => self.stored.pieces(self.place(info), &mut add)?,
                Some(_) => add(&self.gathered(info, info.stored.bitsize() / 8)?)?,
            }
        }
        Ok(sum.0)
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
            Some(Dtype::F64) => decode(&bytes, |b| double(f64::from_le_bytes(b))),
            Some(Dtype::F16) => decode(&bytes, |b| single(half::f16::from_le_bytes(b).to_f32())),
            Some(Dtype::BF16) => decode(&bytes, |b| single(half::bf16::from_le_bytes(b).to_f32())),
            _ => decode(&bytes, |b| single(f32::from_le_bytes(b))),
        };
        Ok((info.shape.clone(), values))
    }

    fn raw(&self, name: &str, wanted: &[Dtype]) -> Result<(&TensorInfo, Vec<u8>)> {
        let Some(info) = self.tensors.get(name) else {
            return Err(Error::format(self.path(), format!("tensor {name} is missing")));
        };
        match info.dtype {
            Some(dtype) if wanted.contains(&dtype) => {
                Ok((info, self.gathered(info, dtype.bytes())?))
            }
            other => {
                let other = other.map_or("of an unknown type".to_owned(), |d| format!("{d:?}"));
                let text = format!("tensor {name} is {other}, want one of {wanted:?}");
                Err(Error::format(self.path(), text))
            }
        }
    }

    /// Where the bytes of a tensor are in the file.
    fn place(&self, info: &TensorInfo) -> Range<usize> {
        self.base + info.range.start..self.base + info.range.end
    }

    /// The elements row by row, each of `size` bytes.
    fn gathered(&self, info: &TensorInfo, size: usize) -> Result<Vec<u8>> {
        let stored = self.stored.part(self.place(info))?;
        Ok(match &info.strides {
            None => stored,
            Some(strides) => gather(&stored, &info.shape, strides, size),
        })
    }

    fn finite(&self, name: &str, bad: Option<usize>) -> Result<()> {
        match bad {
            None => Ok(()),
            Some(index) => Err(Error::format(
                self.path(),
                format!("tensor {name} holds a non-finite value at index {index}"),
            )),
        }
    }
}

fn decode<T, const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| value(*chunk)).collect()
}

/// Elements of `size` bytes in row-major order of their axes; `strides` are in elements, from the first byte.
fn gather(stored: &[u8], shape: &[usize], strides: &[usize], size: usize) -> Vec<u8> {
    let elements: usize = shape.iter().product();
    let mut out = Vec::with_capacity(elements * size);
    let (mut at, mut index) = (0, vec![0; shape.len()]);
    for _ in 0..elements {
        out.extend_from_slice(&stored[at * size..][..size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= shape[axis] * strides[axis];
            index[axis] = 0;
        }
    }
    out
}

/// Checksum of tensors, of each what it is and then its bytes, and of a text kept in the metadata.
pub(super) struct Checksum(pub(super) u32);

impl Checksum {
    pub(super) fn new(seed: &str) -> Self {
        Self(crc32c::crc32c(seed.as_bytes()))
    }

    pub(super) fn describe(&mut self, name: &str, dtype: Option<Dtype>, shape: &[usize]) {
        self.add(format!("{name} {dtype:?} {shape:?}").as_bytes());
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_honoured() {
        let stored: Vec<u8> = (0..12).collect();
        assert_eq!(gather(&stored, &[3, 2], &[1, 3], 2), [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
        assert_eq!(gather(&stored, &[2, 2, 2], &[3, 0, 1], 1), [0, 1, 0, 1, 3, 4, 3, 4]);
        assert_eq!(gather(&stored, &[], &[], 4), [0, 1, 2, 3]);
        assert!(gather(&stored, &[2, 0], &[1, 1], 4).is_empty());
    }
}
