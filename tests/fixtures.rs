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
