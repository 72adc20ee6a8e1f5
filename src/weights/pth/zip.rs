//! The form since PyTorch 1.6: a zip file whose entries are stored as they are.
//!
//! Where entries lie is told by the directory at the end of the file, for the headers before them need
//! not say it. Below one folder are `data.pkl`, `data/KEY` for each key of numbers, and `byteorder`.

use super::bounds::{Bounds, PICKLE};
use super::element::StorageType;
use super::pickle::{Followed, follow};
use super::walk::{self, Contents};
use crate::shown;
use crate::weights::stored::StoredBytes;
use std::ops::Range;

mod directory;

use directory::{Directory, Member};

pub(super) const BIG_ENDIAN: &str =
    "its numbers are big-endian; save it again on a machine that is little-endian";

pub(super) fn begins(prefix: &[u8]) -> bool {
    prefix.starts_with(b"PK\x03\x04")
}

/// The tensors of a file of this form.
pub(super) fn tensors(stored: &StoredBytes, bounds: Bounds) -> Result<Contents, String> {
    if !begins(&stored.part_or_why(0..stored.length().min(4))?) {
        return Err("not a PyTorch checkpoint: it begins like neither of their two forms".into());
    }
    let directory = Directory::read(stored)?;
    let mut archive =
        Archive { stored, members: directory.members(stored)?, folder: String::new() };
    archive.folder = archive.folder()?;
    if let Some(Member { place, .. }) = archive.find("byteorder") {
        let little = b"little";
        if place.len() != little.len() || stored.part_or_why(place.clone())? != little {
            return Err(BIG_ENDIAN.into());
        }
    }
    let pickle = archive.find("data.pkl").ok_or(NO_PICKLE)?;
    let length = pickle.place.len();
    if length > PICKLE {
        return Err(format!("its data.pkl has {length} bytes, at most {PICKLE} are read"));
    }
    let text = &stored.part_or_why(pickle.place.clone())?;
    pickle.fits(crc32fast::hash(text))?;
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
            member.fits(archive.sum(member)?)?;
        }
        Ok::<Range<usize>, String>(member.place.clone())
    };
    walk::tensors(&graph, root, &mut locate, bounds)
}

const NO_PICKLE: &str = "a zip file without data.pkl, so that it is no PyTorch checkpoint";

/// A zip file whose directory was found consistent.
struct Archive<'a> {
    stored: &'a StoredBytes,
    /// Sorted by name.
    members: Vec<Member<'a>>,
    /// The folder that all entries lie in, with its slash.
    folder: String,
}

impl<'a> Archive<'a> {
    fn folder(&self) -> Result<String, String> {
        let folder = |member: &Member<'a>| Some(member.name.split_once('/')?.0);
        let mut folders = self.members.iter().map(folder);
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

    /// CRC-32 of what is in the file.
    fn sum(&self, member: &Member) -> Result<u32, String> {
        let mut sum = crc32fast::Hasher::new();
        let read = self.stored.pieces(member.place.clone(), &mut |bytes| {
            sum.update(bytes);
            Ok(())
        });
        read.map_err(|e| e.to_string())?;
        Ok(sum.finalize())
    }
}
