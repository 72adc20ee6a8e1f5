//! The binary files of CIFAR-10 and CIFAR-100.
//!
//! A record is one label byte (CIFAR-10) or a coarse and a fine one (CIFAR-100), then the red,
//! green and blue planes of a 32x32 image. The files have no header: what they are is told by
//! their names and sizes.

use super::image::Image;
use super::split::Split;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

/// Which of the two data sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CifarKind {
    Ten,
    Hundred,
}

impl CifarKind {
    fn label_bytes(self) -> usize {
        match self {
            Self::Ten => 1,
            Self::Hundred => 2,
        }
    }

    fn record(self) -> usize {
        self.label_bytes() + 3 * PLANE
    }

    fn classes(self) -> usize {
        match self {
            Self::Ten => 10,
            Self::Hundred => 100,
        }
    }

    /// File with the names of the classes, one a line.
    fn names_file(self) -> &'static str {
        match self {
            Self::Ten => "batches.meta.txt",
            Self::Hundred => "fine_label_names.txt",
        }
    }

    /// By name where the name says it, else by size.
    fn of(name: &str, bytes: usize) -> Option<Self> {
        let fits = |kind: &Self| bytes > 0 && bytes.is_multiple_of(kind.record());
        let named = match name {
            "train.bin" | "test.bin" => Some(Self::Hundred),
            _ if name.contains("batch") => Some(Self::Ten),
            _ => None,
        };
        match named {
            Some(kind) => Some(kind).filter(fits),
            None => [Self::Ten, Self::Hundred].into_iter().find(fits),
        }
    }
}

/// Images of one or more CIFAR files, in memory as they lie in the files.
#[derive(Clone, Debug)]
pub(super) struct Cifar {
    kind: CifarKind,
    bytes: Vec<u8>,
    pub classes: Vec<String>,
}

impl Cifar {
    /// The files of a split in a folder, in order; empty if the folder is not one of CIFAR's.
    pub fn files_in(folder: &Path, split: Split) -> Vec<PathBuf> {
        let (ten, hundred) = match split {
            Split::Train => ((1..=5).map(|n| format!("data_batch_{n}.bin")).collect(), "train.bin"),
            Split::Test => (vec!["test_batch.bin".to_string()], "test.bin"),
        };
        let there = |names: &[String]| -> Vec<PathBuf> {
            names.iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect()
        };
        let files = there(&ten);
        if files.is_empty() { there(&[hundred.to_string()]) } else { files }
    }

    /// Reads the files, all of one kind.
    pub fn open(files: &[PathBuf]) -> Result<Self> {
        let mut all: Option<(CifarKind, Vec<u8>)> = None;
        for path in files {
            let bytes = std::fs::read(path).map_err(Error::io("cannot read", path))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(kind) = CifarKind::of(&name, bytes.len()) else {
                return Err(Error::format(
                    path,
                    format!(
                        "{} bytes are not whole records of CIFAR-10 ({} bytes each) or CIFAR-100 \
                         ({}); take the binary version and download it again if it is cut short",
                        bytes.len(),
                        CifarKind::Ten.record(),
                        CifarKind::Hundred.record()
                    ),
                ));
            };
            let labels = bytes.iter().skip(kind.label_bytes() - 1).step_by(kind.record());
            if let Some(label) = labels.copied().find(|&l| usize::from(l) >= kind.classes()) {
                return Err(Error::format(
                    path,
                    format!("label {label} in a file of {} classes", kind.classes()),
                ));
            }
            match &mut all {
                None => all = Some((kind, bytes)),
                Some((first, _)) if *first != kind => {
                    return Err(Error::format(path, "CIFAR-10 and CIFAR-100 files are mixed"));
                }
                Some((_, all)) => all.extend(bytes),
            }
        }
        let (kind, bytes) = all.ok_or_else(|| Error::config("no CIFAR files were given"))?;
        let names = files[0].with_file_name(kind.names_file());
        let classes = std::fs::read_to_string(names)
            .map(|text| text.split_whitespace().map(String::from).collect())
            .ok()
            .filter(|names: &Vec<_>| names.len() == kind.classes())
            .unwrap_or_else(|| (0..kind.classes()).map(|i| i.to_string()).collect());
        Ok(Self { kind, bytes, classes })
    }

    pub fn len(&self) -> usize {
        self.bytes.len() / self.kind.record()
    }

    fn record(&self, i: usize) -> (&[u8], &[u8]) {
        let record = &self.bytes[i * self.kind.record()..][..self.kind.record()];
        record.split_at(self.kind.label_bytes())
    }

    /// Checksum of all records after that of `before`.
    pub fn checksum(&self, before: u32) -> u32 {
        crc32c::crc32c_append(before, &self.bytes)
    }

    pub fn label(&self, i: usize) -> u32 {
        u32::from(self.record(i).0[self.kind.label_bytes() - 1])
    }

    pub fn image(&self, i: usize) -> Image {
        let planes = self.record(i).1;
        let pixels = (0..PLANE).flat_map(|p| [0, 1, 2].map(|c| planes[c * PLANE + p])).collect();
        Image::new(SIDE, SIDE, pixels)
    }
}
