//! Stored files that tests of several programs read.

use std::path::{Path, PathBuf};

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A file of `tests/fixtures/image_kinds.py` and Pillow's pixels of it.
pub struct Kind {
    pub name: String,
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<u8>,
    pub file: Vec<u8>,
}

pub fn kinds() -> Vec<Kind> {
    let bytes = image::open(fixture("image_kinds.png")).unwrap().into_luma8().into_raw();
    let mut rest = &bytes[..];
    let mut take = |count: usize| {
        let (taken, left) = rest.split_at(count);
        rest = left;
        taken.to_vec()
    };
    let mut kinds = Vec::new();
    loop {
        let length = take(1)[0];
        if length == 0 {
            return kinds;
        }
        let name = String::from_utf8(take(length.into())).unwrap();
        let mut number = || usize::from(u16::from_le_bytes(take(2).try_into().unwrap()));
        let (width, height, length) = (number(), number(), number());
        let (pixels, file) = (take(width * height * 3), take(length));
        kinds.push(Kind { name, width, height, pixels, file });
    }
}

/// A zip file of entries that are stored as they are, with the sizes in both of its headers.
pub fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let [length, size] = [name.len(), content.len()].map(|n| n as u32);
        let at = file.len() as u32;
        let mut common = vec![10, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        for number in [crc32fast::hash(content), size, size] {
            common.extend(number.to_le_bytes());
        }
        common.extend(length.to_le_bytes());
        file.extend([b"PK\x03\x04", &common[..], name.as_bytes(), content].concat());
        directory.extend([b"PK\x01\x02\x0a\0", &common[..], &[0; 10]].concat());
        directory.extend([&at.to_le_bytes(), name.as_bytes()].concat());
    }
    let (at, count) = (file.len() as u32, entries.len() as u16);
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([count, count].map(u16::to_le_bytes).concat());
    file.extend([directory.len() as u32, at].map(u32::to_le_bytes).concat());
    file.extend([0; 2]);
    file
}
