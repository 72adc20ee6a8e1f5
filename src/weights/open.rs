//! Which format a file has, by its first bytes.

use super::file::TensorFile;
use super::{pth, safetensors};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes that tell the formats apart; a tar file says its name at byte 257.
const PREFIX: u64 = 264;

impl TensorFile {
    /// Reads and checks a safetensors file; where it has checksums, it fits them.
    pub fn read(path: &Path) -> Result<Self> {
        safetensors::read(path)
    }

    /// Reads and checks a safetensors file or a PyTorch checkpoint, told apart by what is in them.
    pub fn read_any(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::format(path, "is a folder, not a file of weights"));
        }
        let mut prefix = Vec::new();
        let file = File::open(path).map_err(Error::io("cannot read", path))?;
        file.take(PREFIX).read_to_end(&mut prefix).map_err(Error::io("cannot read", path))?;
        if pth::is_checkpoint(&prefix) {
            return pth::read(path);
        }
        // The header is an object, behind its length.
        if prefix.get(8) == Some(&b'{') {
            return safetensors::read(path);
        }
        let what = what_else(&prefix);
        Err(Error::format(
            path,
            format!("neither a safetensors file nor a PyTorch checkpoint: {what}"),
        ))
    }
}

/// What a file of no known format is, and what to do about it.
fn what_else(prefix: &[u8]) -> &'static str {
    let begins = |with: &[u8]| prefix.starts_with(with);
    let text = prefix.trim_ascii_start();
    if prefix.is_empty() {
        "it is empty"
    } else if begins(&[0x1f, 0x8b])
        || begins(b"BZh")
        || begins(b"\xfd7zXZ")
        || begins(b"\x28\xb5\x2f\xfd")
    {
        "it is compressed; unpack it first"
    } else if prefix.get(257..262) == Some(b"ustar") {
        "it is a tar file; unpack it, or, if PyTorch before 0.1.10 wrote it, load it there and save it again \
         with a newer one"
    } else if begins(b"version https://git-lfs") {
        "it is the pointer of Git LFS to a file that was not fetched; run git lfs pull"
    } else if text.starts_with(b"<") {
        "it is a page of HTML or XML, as a download that failed leaves it; download it again"
    } else if begins(&[0x80]) {
        "it is a pickle that torch.save did not write"
    } else if begins(b"\x89HDF") {
        "it is an HDF5 file, as Keras writes them"
    } else if text.starts_with(b"{") || text.starts_with(b"[") {
        "it is JSON text"
    } else {
        "its first bytes are those of no format that is read here"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_is_instead_is_said() {
        let tar = [&[b'a'; 257][..], b"ustar"].concat();
        let cases: [(&[u8], &str); 8] = [
            (b"", "empty"),
            (&[0x1f, 0x8b, 8], "compressed"),
            (&tar, "tar file"),
            (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
            (b"\n<!doctype html>", "HTML"),
            (b"\x80\x04\x95", "pickle"),
            (b"{\"a\": 1}", "JSON"),
            (b"abcdefgh?", "no format"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        for (bytes, want) in cases {
            std::fs::write(&path, bytes).unwrap();
            let text = TensorFile::read_any(&path).unwrap_err().to_string();
            assert!(text.contains(want), "want {want:?} in {text:?}");
        }
        assert!(
            TensorFile::read_any(folder.path()).unwrap_err().to_string().contains("is a folder")
        );
    }
}
