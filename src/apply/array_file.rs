//! Arrays that are written row by row, for numpy (`.npy`, format 1.0) or as the one tensor of a safetensors file.
//!
//! The number of rows stands at the start of either file and is known at its end: the header has a fixed length,
//! and is written anew when the file is finished.

use crate::error::Result;
use crate::run::PendingFile;
use crate::words::words;
use serde_json::json;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

words! {
    /// The file of an array.
    ArrayFormat {
        /// numpy's.
        Npy = "npy",
        /// One tensor.
        Safetensors = "safetensors",
    }
}

/// Elements of an array.
pub trait ArrayElement: bytemuck::NoUninit {
    /// What numpy calls them.
    const NPY: &'static str;
    /// What safetensors calls them.
    const SAFETENSORS: &'static str;
}

macro_rules! elements {
    ($($type:ty, $npy:literal, $safetensors:literal;)+) => {
        $(impl ArrayElement for $type {
            const NPY: &'static str = $npy;
            const SAFETENSORS: &'static str = $safetensors;
        })+
    };
}

elements! {
    f32, "<f4", "F32";
    u16, "<u2", "U16";
    u32, "<u4", "U32";
}

/// Bytes of a header.
const HEADER: usize = 256;

/// An array that grows row by row.
pub struct ArrayFile<T> {
    file: PendingFile,
    path: PathBuf,
    format: ArrayFormat,
    /// Name of the array: that of the file and of the tensor.
    name: String,
    /// Extents of a row.
    row: Vec<usize>,
    rows: usize,
    elements: PhantomData<T>,
}

impl<T: ArrayElement> ArrayFile<T> {
    /// Begins the array `name` of rows of these extents, in a file of that name in `folder`.
    pub fn create(folder: &Path, name: &str, format: ArrayFormat, row: &[usize]) -> Result<Self> {
        let path = folder.join(format!("{name}.{format}"));
        let mut file = PendingFile::create(&path)?;
        file.append(&[0; HEADER])?;
        let (name, row) = (name.to_owned(), row.to_vec());
        Ok(Self { file, path, format, name, row, rows: 0, elements: PhantomData })
    }

    /// Adds whole rows.
    #[track_caller]
    pub fn push(&mut self, values: &[T]) -> Result<()> {
        const { assert!(cfg!(target_endian = "little"), "both formats are little-endian") };
        let row: usize = self.row.iter().product();
        assert!(values.len().is_multiple_of(row), "{}: {} values", self.name, values.len());
        self.rows += values.len() / row;
        self.file.append(bytemuck::cast_slice(values))
    }

    /// Extents of what was added.
    pub fn shape(&self) -> Vec<usize> {
        [&[self.rows], &self.row[..]].concat()
    }

    /// Makes the file appear under its name, which is returned.
    pub fn finish(self) -> Result<PathBuf> {
        let header = match self.format {
            ArrayFormat::Npy => self.npy_header(),
            ArrayFormat::Safetensors => self.safetensors_header(),
        };
        self.file.finish_beginning_with(&header)?;
        Ok(self.path)
    }

    /// `numpy/lib/format.py`: magic, version, length, a Python literal that ends in a line break.
    fn npy_header(&self) -> Vec<u8> {
        const BEFORE: &[u8] = b"\x93NUMPY\x01\x00";
        let shape: String = self.shape().iter().map(|extent| format!("{extent}, ")).collect();
        let text =
            format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({shape}), }}", T::NPY);
        let length = HEADER - BEFORE.len() - 2;
        let text = padded(text, length - 1) + "\n";
        [BEFORE, &(length as u16).to_le_bytes(), text.as_bytes()].concat()
    }

    fn safetensors_header(&self) -> Vec<u8> {
        let shape = self.shape();
        let bytes = shape.iter().product::<usize>() * size_of::<T>();
        let tensor = json!({ "dtype": T::SAFETENSORS, "shape": shape, "data_offsets": [0, bytes] });
        let text = padded(json!({ &self.name: tensor }).to_string(), HEADER - 8);
        [&((HEADER - 8) as u64).to_le_bytes(), text.as_bytes()].concat()
    }
}

/// The text with spaces behind it.
fn padded(text: String, length: usize) -> String {
    assert!(text.len() <= length, "a header of a few extents: {text}");
    format!("{text:<length$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;
    use safetensors::tensor::Dtype;

    fn written<T: ArrayElement>(format: ArrayFormat, row: &[usize], rows: &[&[T]]) -> Vec<u8> {
        let folder = tempfile::TempDir::new().unwrap();
        let mut array = ArrayFile::<T>::create(folder.path(), "x", format, row).unwrap();
        rows.iter().for_each(|rows| array.push(rows).unwrap());
        let path = array.finish().unwrap();
        assert_eq!(path, folder.path().join(format!("x.{format}")));
        std::fs::read(path).unwrap()
    }

    #[test]
    fn npy_files_are_numpys() {
        let bytes =
            written::<f32>(ArrayFormat::Npy, &[2], &[&[1.0, 2.0], &[], &[3.0, 4.0, 5.0, 6.0]]);
        assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\xf6\x00");
        let header = std::str::from_utf8(&bytes[10..256]).unwrap();
        let want = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, ), }";
        assert!(header.ends_with(" \n") && header.trim_end() == want, "{header}");
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes[256..]);
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let bytes = written::<u16>(ArrayFormat::Npy, &[1, 3], &[&[1, 2, 65535]]);
        assert!(
            String::from_utf8_lossy(&bytes)
                .contains("'<u2', 'fortran_order': False, 'shape': (1, 1, 3, )")
        );
        assert_eq!(&bytes[256..], [1, 0, 2, 0, 255, 255]);
    }

    #[test]
    fn safetensors_files_are_read_by_their_library() {
        let bytes = written::<u32>(ArrayFormat::Safetensors, &[2, 1], &[&[1, 2], &[3, 1 << 30]]);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let x = file.tensor("x").unwrap();
        assert_eq!((x.dtype(), x.shape()), (Dtype::U32, &[2, 2, 1][..]));
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, u32>(x.data()), [1, 2, 3, 1 << 30]);
        let bytes = written::<u16>(ArrayFormat::Safetensors, &[1], &[&[7]]);
        assert_eq!(
            SafeTensors::deserialize(&bytes).unwrap().tensor("x").unwrap().dtype(),
            Dtype::U16
        );
    }

    #[test]
    fn the_longest_header_fits() {
        let most = usize::MAX;
        for format in [ArrayFormat::Npy, ArrayFormat::Safetensors] {
            let folder = tempfile::TempDir::new().unwrap();
            let row = [1 << 12, 1 << 14];
            let array = ArrayFile::<f32>::create(folder.path(), "features", format, &row).unwrap();
            let array = ArrayFile { rows: most >> 30, ..array };
            array.finish().unwrap();
        }
    }
}
