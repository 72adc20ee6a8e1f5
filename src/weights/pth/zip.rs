//! The form since PyTorch 1.6: a zip file whose entries are stored as they are.
//!
//! Where entries lie is told by the directory at the end of the file, for the headers before them need
//! not say it. Below one folder are `data.pkl`, `data/KEY` for each key of numbers, and `byteorder`.

use super::bounds::{Bounds, PICKLE};
use super::element::StorageType;
use super::pickle::{Followed, follow};
use super::walk::{self, Contents};
use crate::shown;
use std::ops::Range;

mod directory;

use directory::{Member, members};

pub(super) const BIG_ENDIAN: &str =
    "its numbers are big-endian; save it again on a machine that is little-endian";

pub(super) fn begins(prefix: &[u8]) -> bool {
    prefix.starts_with(b"PK\x03\x04")
}

/// The tensors of a file of this form.
pub(super) fn tensors(bytes: &[u8], bounds: Bounds) -> Result<Contents, String> {
    if !begins(bytes) {
        return Err("not a PyTorch checkpoint: it begins like neither of their two forms".into());
    }
    let mut archive = Archive { bytes, members: members(bytes)?, folder: String::new() };
    archive.folder = archive.folder()?;
    if archive.find("byteorder").is_some_and(|member| archive.content(member) != b"little") {
        return Err(BIG_ENDIAN.into());
    }
    let pickle = archive.find("data.pkl").ok_or(NO_PICKLE)?;
    let text = archive.content(pickle);
    if text.len() > PICKLE {
        return Err(format!("its data.pkl has {} bytes, at most {PICKLE} are read", text.len()));
    }
    archive.intact(pickle)?;
    let Followed { graph, root, length } = follow(text, bounds)?;
    if length < text.len() {
        return Err(format!("its data.pkl goes on behind its end, at byte {length}"));
    }
    let mut seen = vec![false; archive.members.len()];
    let mut locate = |element: StorageType, key: &str, count: u64| {
        let at = archive.index(&format!("data/{key}"));
        let at = at.ok_or_else(|| format!("there is no entry data/{}", shown::name(key)))?;
        let member = &archive.members[at];
        let (want, found) = (element.bytes(count)?, member.place.len());
        if want != found {
            let entry = format!("data/{}", shown::name(key));
            return Err(format!("{count} elements take {want} bytes, entry {entry} has {found}"));
        }
        if !std::mem::replace(&mut seen[at], true) {
            archive.intact(member)?;
        }
        Ok::<Range<usize>, String>(member.place.clone())
    };
    walk::tensors(&graph, root, &mut locate, bounds)
}

const NO_PICKLE: &str = "a zip file without data.pkl, so that it is no PyTorch checkpoint";

/// A zip file whose directory was found consistent.
struct Archive<'a> {
    bytes: &'a [u8],
    /// Sorted by name.
    members: Vec<Member<'a>>,
    /// The folder that all entries lie in, with its slash.
    folder: String,
}

impl<'a> Archive<'a> {
    fn folder(&self) -> Result<String, String> {
        let folder = |name: &'a str| name.split_once('/').map(|(folder, _)| folder);
        let mut folders = self.members.iter().map(|member| folder(member.name));
        let first = folders.next().flatten().ok_or(NO_PICKLE)?;
        match folders.all(|other| other == Some(first)) {
            true => Ok(format!("{first}/")),
            false => Err("its entries do not lie in one folder, as torch.save writes them".into()),
        }
    }

    fn index(&self, name: &str) -> Option<usize> {
        let name = format!("{}{name}", self.folder);
        self.members.binary_search_by(|member| member.name.cmp(&name)).ok()
    }

    fn find(&self, name: &str) -> Option<&Member<'a>> {
        self.index(name).map(|at| &self.members[at])
    }

    fn content(&self, member: &Member) -> &'a [u8] {
        &self.bytes[member.place.clone()]
    }

    fn intact(&self, member: &Member) -> Result<(), String> {
        if crc32fast::hash(self.content(member)) == member.checksum {
            return Ok(());
        }
        let name = shown::name(member.name);
        Err(format!("entry {name} does not fit its checksum: damaged; take it from a copy"))
    }
}
