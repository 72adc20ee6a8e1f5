//! Writing the zip form, so that `torch.load` reads it with `weights_only=True`.
//!
//! Entries are stored as they are, their contents begin at multiples of 64 bytes, and their checksums
//! follow them, for nothing of a tensor is known before it is written. The numbers of the directory that may not fit in 32
//! bits are written in 64, too.

use crate::weights::info::Dtype;
use std::io::{self, Write};

/// A tensor of a checkpoint to be written.
#[derive(Clone, Copy, Debug)]
pub struct PthTensor<'a> {
    /// Name in the dict.
    pub name: &'a str,
    /// Extents, outermost first.
    pub shape: &'a [usize],
    /// Element type, `f32` or `i64`.
    pub dtype: Dtype,
}

impl PthTensor<'_> {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn storage(&self) -> &'static str {
        match self.dtype {
            Dtype::F32 => "FloatStorage",
            Dtype::I64 => "LongStorage",
            other => panic!("{}: {other:?} is not written to checkpoints", self.name),
        }
    }
}

/// What contents begin at multiples of.
const ALIGNMENT: u64 = 64;
/// The folder of all entries.
const FOLDER: &str = "archive";

/// Writes a checkpoint of a dict under `key`; `values` writes the little-endian elements of the tensor
/// of a number, row-major, once for each in order.
///
/// # Panics
/// If `values` writes another number of bytes than shape and type say, or a tensor takes 4 GiB.
pub fn write_pth(
    to: &mut dyn Write,
    key: &str,
    tensors: &[PthTensor],
    mut values: impl FnMut(usize, &mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut zip = ZipWriter { to, at: 0, directory: Vec::new(), entries: 0 };
    let pickle = pickle(key, tensors);
    zip.entry("data.pkl", |to| to.write_all(&pickle))?;
    zip.entry("byteorder", |to| to.write_all(b"little"))?;
    for (number, tensor) in tensors.iter().enumerate() {
        let size = zip.entry(&format!("data/{number}"), |to| values(number, to))?;
        let want = tensor.elements() * tensor.dtype.bytes();
        assert_eq!(size as usize, want, "bytes of tensor {}", tensor.name);
    }
    zip.entry("version", |to| to.write_all(b"3\n"))?;
    zip.finish()
}

fn pickle(key: &str, tensors: &[PthTensor]) -> Vec<u8> {
    let mut out = b"\x80\x02}".to_vec();
    text(&mut out, key);
    out.extend(b"ccollections\nOrderedDict\n)R(");
    for (number, tensor) in tensors.iter().enumerate() {
        text(&mut out, tensor.name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(format!("ctorch\n{}\n", tensor.storage()).bytes());
        text(&mut out, &number.to_string());
        text(&mut out, "cpu");
        whole(&mut out, tensor.elements());
        out.extend(b"tQK\0(");
        tensor.shape.iter().for_each(|extent| whole(&mut out, *extent));
        out.extend(b"t(");
        let behind = |axis: usize| tensor.shape[axis + 1..].iter().product();
        (0..tensor.shape.len()).for_each(|axis| whole(&mut out, behind(axis)));
        out.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"us.");
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes());
}

/// As a signed number of eight bytes.
fn whole(out: &mut Vec<u8>, number: usize) {
    out.extend([0x8a, 8]);
    out.extend((number as u64).to_le_bytes());
}

struct ZipWriter<'a> {
    to: &'a mut dyn Write,
    at: u64,
    directory: Vec<u8>,
    entries: u64,
}

/// A checksum and a length of what goes through.
struct Summed<'a> {
    to: &'a mut dyn Write,
    sum: crc32fast::Hasher,
    length: u64,
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Names in UTF-8, checksum and lengths behind the content.
const FLAGS: u16 = 0x0808;
/// The version of the format that has 64 bits.
const ZIP64: u16 = 45;

impl ZipWriter<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.to.write_all(bytes)
    }

    /// Writes an entry; the length of its content.
    fn entry(
        &mut self,
        name: &str,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<u64> {
        let (header, name) = (self.at, format!("{FOLDER}/{name}"));
        let length = (name.len() as u16).to_le_bytes();
        let unpadded = header + 30 + name.len() as u64 + 4;
        let padding = unpadded.next_multiple_of(ALIGNMENT) - unpadded;
        // The first of January 1980.
        let common = [ZIP64, FLAGS, 0, 0, 0x21].map(u16::to_le_bytes).concat();
        let local = [&b"PK\x03\x04"[..], &common, &[0; 12], &length].concat();
        let extra = [padding as u16 + 4, 0x4246, padding as u16].map(u16::to_le_bytes).concat();
        self.put(&local)?;
        self.put(&extra[..2])?;
        self.put(name.as_bytes())?;
        self.put(&extra[2..])?;
        self.put(&vec![0; padding as usize])?;

        let mut summed = Summed { to: &mut *self.to, sum: crc32fast::Hasher::new(), length: 0 };
        content(&mut summed)?;
        let (sum, size) = (summed.sum.finalize(), summed.length);
        self.at += size;
        assert!(size < u64::from(u32::MAX), "{name}: a tensor of {size} bytes");
        let sizes = [sum, size as u32, size as u32].map(u32::to_le_bytes).concat();
        self.put(b"PK\x07\x08")?;
        self.put(&sizes)?;

        let version = ZIP64.to_le_bytes();
        let wide = [&1u16.to_le_bytes()[..], &8u16.to_le_bytes(), &header.to_le_bytes()].concat();
        let extra = (wide.len() as u16).to_le_bytes();
        // No comment, the first disk, no attributes, and the place of the header in the wide field.
        let rest = [&length[..], &extra, &[0; 10], &u32::MAX.to_le_bytes()].concat();
        let entry = [&b"PK\x01\x02"[..], &version, &common, &sizes, &rest].concat();
        self.directory.extend([&entry[..], name.as_bytes(), &wide].concat());
        self.entries += 1;
        Ok(size)
    }

    fn finish(mut self) -> io::Result<()> {
        let (start, directory) = (self.at, std::mem::take(&mut self.directory));
        let (size, count) = (directory.len() as u64, self.entries);
        self.put(&directory)?;
        let end = self.at;
        self.put(b"PK\x06\x06")?;
        self.put(&44u64.to_le_bytes())?;
        self.put(&[ZIP64, ZIP64, 0, 0, 0, 0].map(u16::to_le_bytes).concat())?;
        self.put(&[count, count, size, start].map(u64::to_le_bytes).concat())?;
        self.put(b"PK\x06\x07\0\0\0\0")?;
        self.put(&end.to_le_bytes())?;
        self.put(&1u32.to_le_bytes())?;
        let short = |number: u64| u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes();
        let long = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        self.put(b"PK\x05\x06\0\0\0\0")?;
        self.put(&[short(count), short(count)].concat())?;
        self.put(&[long(size), long(start)].concat())?;
        self.put(&[0; 2])
    }
}
