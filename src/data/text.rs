//! Text as bytes: pieces of equal length, and which bytes of a piece are hidden (arXiv 1810.04805, §3.1).
//!
//! A file is bytes, in whatever encoding, and nothing is left out of it. The files of a folder follow each other with
//! a line break between, sorted by path. Pieces do not overlap; what is left over at the end is no piece.

use super::dataset::Dataset;
use crate::error::{Error, Result};
use crate::models::config::BertConfig;
use crate::progress::{is_news, note};
use crate::rng::{Philox, Purpose};
use std::path::{Path, PathBuf};

/// Share of the bytes that are chosen (15 % in the paper).
pub const CHOSEN: f64 = 0.15;
/// Shares of the chosen ones that are hidden, and that are hidden or another byte (80 % and 10 % in the paper).
const KINDS: [f64; 2] = [0.8, 0.9];
/// Folders inside folders that are followed.
const DEEPEST: usize = 24;

/// A text in pieces of N bytes.
#[derive(Debug)]
pub struct Text {
    bytes: Vec<u8>,
    length: usize,
}

/// N bytes of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Its number in the text.
    pub index: usize,
}

/// A piece as it is shown to a model, and what it is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct HiddenPiece {
    /// Symbols `[N]`: bytes, and [`BertConfig::MASK`] in hidden places.
    pub shown: Vec<u32>,
    /// Places that are to be predicted, ascending.
    pub chosen: Vec<u32>,
    /// The bytes `[N]`.
    pub bytes: Vec<u8>,
}

/// What chance says about one byte: whether it is chosen, what becomes of it then, and the byte that may stand there.
#[derive(Clone, Copy, Debug)]
pub struct HideDraw {
    /// Uniform in `[0,1)`.
    pub chosen: f64,
    /// Uniform in `[0,1)`.
    pub kind: f64,
    /// Any byte, the right one included.
    pub byte: u8,
}

impl Piece {
    /// Hides bytes by these draws, one for each: of the 15 % that are chosen, 80 % are hidden, 10 % become a random byte,
    /// and 10 % stay.
    pub fn hide(self, draws: impl IntoIterator<Item = HideDraw>) -> HiddenPiece {
        let (mut shown, mut chosen) = (Vec::with_capacity(self.bytes.len()), Vec::new());
        for ((i, &byte), draw) in self.bytes.iter().enumerate().zip(draws) {
            let is_chosen = draw.chosen < CHOSEN;
            chosen.extend(is_chosen.then_some(i as u32));
            shown.push(match draw.kind {
                kind if is_chosen && kind < KINDS[0] => BertConfig::MASK,
                kind if is_chosen && kind < KINDS[1] => u32::from(draw.byte),
                _ => u32::from(byte),
            });
        }
        HiddenPiece { shown, chosen, bytes: self.bytes }
    }

    /// The same by the stream (seed, epoch, number of the piece).
    pub fn hide_in(self, seed: u64, epoch: u32) -> HiddenPiece {
        let mut rng = Philox::new(seed, Purpose::Mask, epoch, self.index as u32);
        let draw =
            move || HideDraw { chosen: rng.unit(), kind: rng.unit(), byte: rng.integer(255) as u8 };
        self.hide(std::iter::repeat_with(draw))
    }
}

impl HiddenPiece {
    /// The bytes that are to be predicted.
    pub fn answers(&self) -> impl Iterator<Item = u8> {
        self.chosen.iter().map(|&place| self.bytes[place as usize])
    }
}

impl Text {
    /// Reads a file, or all files of a folder and of those inside. Hidden files, and files of a folder that hold a byte
    /// 0, which no text has, are left out; the latter is said on standard error.
    pub fn open(spec: &str, length: usize) -> Result<Self> {
        let path = Path::new(spec);
        let about = std::fs::metadata(path)
            .map_err(Error::io("cannot open the text (a file, or a folder of files)", path))?;
        let bytes = if about.is_dir() {
            joined(path)?
        } else if about.is_file() {
            std::fs::read(path).map_err(Error::io("cannot read", path))?
        } else {
            return Err(Error::format(path, "is neither a file nor a folder"));
        };
        let count = bytes.len();
        if count < length {
            return Err(Error::format(
                path,
                format!(
                    "{count} bytes of text are less than one piece of length {length}; set a lower length"
                ),
            ));
        }
        Ok(Self { bytes, length })
    }
}

impl Dataset for Text {
    type Item = Piece;

    const ITEMS: &'static str = "pieces";

    fn len(&self) -> usize {
        self.bytes.len() / self.length
    }

    /// By all bytes.
    fn checksum(&self) -> u32 {
        crc32c::crc32c(&self.bytes)
    }

    fn item(&self, index: usize) -> Result<Piece> {
        let bytes = self.bytes[index * self.length..][..self.length].to_vec();
        Ok(Piece { bytes, index })
    }
}

/// The texts of a folder, one after another.
fn joined(root: &Path) -> Result<Vec<u8>> {
    let (mut files, mut all, mut left_out) = (Vec::new(), Vec::new(), 0);
    collect(root, 0, &mut files)?;
    files.sort();
    for file in files {
        let bytes = std::fs::read(&file).map_err(Error::io("cannot read", &file))?;
        if bytes.contains(&0) {
            left_out += 1;
            continue;
        }
        if !all.is_empty() {
            all.push(b'\n');
        }
        all.extend(bytes);
    }
    if left_out > 0 {
        let line = format!("{}: left out {left_out} files that are no text", root.display());
        Some(&line).filter(|line| is_news(line)).into_iter().for_each(|line| note(line));
    }
    Ok(all)
}

/// Adds the files below a folder.
fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    if depth > DEEPEST {
        return Err(Error::format(folder, "folders inside folders without an end"));
    }
    for entry in std::fs::read_dir(folder).map_err(Error::io("cannot list", folder))? {
        let entry = entry.map_err(Error::io("cannot list", folder))?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match std::fs::metadata(&path) {
            Ok(about) if about.is_dir() => collect(&path, depth + 1, files)?,
            Ok(about) if about.is_file() => files.push(path),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_place_has_its_share() {
        let bytes: Vec<u8> = (0..50_000u32).map(|i| (i % 7) as u8 + b'a').collect();
        let hidden = Piece { bytes: bytes.clone(), index: 3 }.hide_in(5, 2);
        assert_eq!(hidden.bytes, bytes);
        let (n, mut kinds) = (hidden.chosen.len() as f64, [0.0; 3]);
        for &place in &hidden.chosen {
            let (shown, byte) = (hidden.shown[place as usize], bytes[place as usize]);
            let kind = match shown {
                BertConfig::MASK => 0,
                other if other != u32::from(byte) => 1,
                _ => 2,
            };
            kinds[kind] += 1.0;
        }
        // Five standard errors; a random byte is the right one in 1 of 256.
        let near = |found: f64, share: f64, of: f64| {
            (found / of - share).abs() < 5.0 * (share * (1.0 - share) / of).sqrt()
        };
        assert!(near(n, 0.15, bytes.len() as f64), "{n}");
        let random = 0.1 * 255.0 / 256.0;
        assert!(near(kinds[0], 0.8, n) && near(kinds[1], random, n), "{kinds:?}");
        let others = (0..bytes.len() as u32).filter(|i| hidden.chosen.binary_search(i).is_err());
        let mut same = others.map(|i| hidden.shown[i as usize] == u32::from(bytes[i as usize]));
        assert!(same.all(|same| same));
        let again = |seed, epoch| Piece { bytes: bytes.clone(), index: 3 }.hide_in(seed, epoch);
        assert_eq!(again(5, 2), hidden);
        assert!(again(5, 3) != hidden && again(6, 2) != hidden);
    }

    #[test]
    fn a_folder_is_its_texts_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("b")).expect("a folder");
        for (name, text) in [
            ("c.txt", &b"three"[..]),
            ("b/two.md", b"two"),
            ("a", b"one"),
            (".hidden", b"no"),
            ("d.bin", b"no\0"),
        ] {
            std::fs::write(at(name), text).expect("written");
        }
        let text = Text::open(&folder.path().display().to_string(), 4).expect("a text");
        let all: Vec<u8> =
            (0..text.len()).flat_map(|i| text.item(i).expect("there").bytes).collect();
        // Of 13 bytes three pieces.
        assert_eq!(String::from_utf8(all).expect("letters"), "one\ntwo\nthre");
        let error = |path: &Path, length| Text::open(&path.display().to_string(), length);
        let short = error(&at("a"), 4).expect_err("too short").to_string();
        assert!(
            short.ends_with(
                "3 bytes of text are less than one piece of length 4; set a lower length"
            ),
            "{short}"
        );
        assert!(
            error(&at("none"), 4)
                .expect_err("nothing")
                .to_string()
                .contains("cannot open the text")
        );
    }
}
