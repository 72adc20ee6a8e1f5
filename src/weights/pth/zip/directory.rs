//! The directory at the end of a zip file, held against the headers before the entries.

use crate::shown;
use crate::weights::stored::StoredBytes;
use std::ops::Range;

/// One entry.
pub(super) struct Member<'a> {
    pub name: &'a str,
    /// CRC-32 of its content.
    pub checksum: u32,
    /// Where its content is.
    pub place: Range<usize>,
    /// Where its header begins.
    header: usize,
}

impl Member<'_> {
    /// Refuses a content with another checksum.
    pub(super) fn fits(&self, checksum: u32) -> Result<(), String> {
        if checksum == self.checksum {
            return Ok(());
        }
        let name = shown::name(self.name);
        Err(format!("entry {name} does not fit its checksum: damaged; take it from a copy"))
    }
}

/// The directory as it stands in the file.
pub(super) struct Directory {
    bytes: Vec<u8>,
    /// Entries that it has.
    count: usize,
    /// Where it begins, and all contents end.
    start: usize,
}

impl Directory {
    pub(super) fn read(stored: &StoredBytes) -> Result<Self, String> {
        let (count, place) = end_record(stored)?;
        Ok(Self { count, start: place.start, bytes: stored.part_or_why(place)? })
    }

    /// All entries by name; none lies within another, and no name is there twice.
    pub(super) fn members(&self, stored: &StoredBytes) -> Result<Vec<Member<'_>>, String> {
        let mut rest = Packed { bytes: &self.bytes, at: 0 };
        let mut headers = Headers { stored, end: self.start, at: 0, block: Vec::new() };
        // Each entry of the directory takes 46 bytes and more.
        let mut members = Vec::with_capacity(self.count.min(self.bytes.len() / 46));
        for _ in 0..self.count {
            members.push(member(&mut rest, &mut headers)?);
        }
        if rest.at != self.bytes.len() {
            return Err("its directory is longer than its entries".into());
        }
        members.sort_unstable_by_key(|member| (member.header, member.place.end));
        if let Some([_, second]) = members.windows(2).find(|two| two[1].header < two[0].place.end) {
            return Err(format!("entry {} lies within another", shown::name(second.name)));
        }
        members.sort_unstable_by_key(|member| member.name);
        match members.windows(2).find(|two| two[0].name == two[1].name) {
            None => Ok(members),
            Some(two) => Err(format!("entry {} is there twice", shown::name(two[0].name))),
        }
    }
}

/// Little-endian numbers one behind the other.
struct Packed<'a> {
    bytes: &'a [u8],
    at: usize,
}

const CUT: &str = "its zip directory is cut short or damaged; take it from a copy";

impl<'a> Packed<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..length)).ok_or(CUT)?;
        self.at += length;
        Ok(taken)
    }

    fn number(&mut self, length: usize) -> Result<u64, String> {
        let bytes = self.take(length)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn numbers<const N: usize>(&mut self, lengths: [usize; N]) -> Result<[u64; N], String> {
        let mut numbers = [0; N];
        for (number, length) in numbers.iter_mut().zip(lengths) {
            *number = self.number(length)?;
        }
        Ok(numbers)
    }
}

/// How many entries there are, and where their directory lies.
fn end_record(stored: &StoredBytes) -> Result<(usize, Range<usize>), String> {
    const LENGTH: usize = 22;
    // A comment of at most 65535 bytes may follow, and the place of the record of 64 bits stands before.
    let from = stored.length().saturating_sub(LOCATOR + LENGTH + 0xffff);
    let bytes = &stored.part_or_why(from..stored.length())?;
    let none = "begins like a zip file and has no zip directory at its end (cut short?)";
    let last = bytes.len().checked_sub(LENGTH).ok_or(none)?;
    let ends = |at: &usize| {
        let length = usize::from(u16::from_le_bytes([bytes[at + 20], bytes[at + 21]]));
        bytes[*at..].starts_with(b"PK\x05\x06") && at + LENGTH + length == bytes.len()
    };
    let at = (last.saturating_sub(0xffff)..=last).rev().find(ends).ok_or(none)?;
    let mut fields = Packed { bytes, at: at + 4 };
    let [disk, first, here, count, size, start] = fields.numbers([2, 2, 2, 2, 4, 4])?;
    let mut found = [disk, first, here, count, size, start];
    let wide = match at.checked_sub(LOCATOR) {
        Some(locator) => wide_record(stored, &bytes[locator..at], from + locator)?,
        None => None,
    };
    if let Some((wide, _)) = wide {
        let most = [0xffff, 0xffff, 0xffff, 0xffff, 0xffff_ffff, 0xffff_ffff];
        for ((found, wide), most) in found.iter_mut().zip(wide).zip(most) {
            if *found != most && *found != wide {
                return Err("its two zip directories contradict each other".into());
            }
            *found = wide;
        }
    }
    let [disk, first, here, count, size, start] = found;
    if disk != 0 || first != 0 || here != count {
        return Err("is a part of a zip file of several parts".into());
    }
    let behind = wide.map_or(from + at, |(_, at)| at) as u64;
    let end = start.checked_add(size).filter(|end| *end == behind).ok_or(CUT)?;
    // Both ends lie within the file, and each entry takes bytes of it.
    Ok((usize::try_from(count).map_err(|_| CUT)?, start as usize..end as usize))
}

/// Bytes that say where the record of 64 bits is.
const LOCATOR: usize = 20;

/// The numbers of the record of 64 bits that may lie before the ordinary one, and where it begins; `locator`, which lies
/// at `end`, would say it.
fn wide_record(
    stored: &StoredBytes,
    locator: &[u8],
    end: usize,
) -> Result<Option<([u64; 6], usize)>, String> {
    if !locator.starts_with(b"PK\x06\x07") {
        return Ok(None);
    }
    let [_, at, _] = Packed { bytes: locator, at: 4 }.numbers([4, 8, 4])?;
    let at = usize::try_from(at).ok().filter(|at| *at < end).ok_or(CUT)?;
    let record = stored.part_or_why(at..end.min(at + 56))?;
    let mut fields = Packed { bytes: &record, at: 0 };
    if fields.take(4)? != b"PK\x06\x06" {
        return Err(CUT.into());
    }
    let [_, _, _, disk, first, here, count, size, start] =
        fields.numbers([8, 2, 2, 4, 4, 8, 8, 8, 8])?;
    Ok(Some(([disk, first, here, count, size, start], at)))
}

/// The headers before the entries, of which those of small entries lie close together.
struct Headers<'a> {
    stored: &'a StoredBytes,
    /// Where the directory begins.
    end: usize,
    /// Where the block begins.
    at: usize,
    block: Vec<u8>,
}

impl Headers<'_> {
    /// Bytes that are read at a time.
    const BLOCK: usize = 1 << 12;

    /// Where the content begins behind the header at `at`, which is of the entry of this name.
    fn content(&mut self, at: usize, name: &str) -> Result<usize, String> {
        let length = (30 + name.len()).min(self.end - at);
        let have = self.at..self.at + self.block.len();
        if at < have.start || at + length > have.end {
            let to = self.end.min(at + length.max(Self::BLOCK));
            (self.at, self.block) = (at, self.stored.part_or_why(at..to)?);
        }
        let mut fields = Packed { bytes: &self.block, at: at - self.at };
        let signature = fields.take(4)?;
        let [_, _, method, _, _, _, _, length, extra] =
            fields.numbers([2, 2, 2, 4, 4, 4, 4, 2, 2])?;
        let (behind, other) =
            (at + 30, "is another one where it lies than in the directory".to_owned());
        if signature != b"PK\x03\x04" || length as usize != name.len() || method != 0 {
            return Err(other);
        }
        if fields.take(length as usize)? != name.as_bytes() {
            return Err(other);
        }
        let start = behind + (length + extra) as usize;
        if start > self.end { Err(CUT.to_owned()) } else { Ok(start) }
    }
}

/// The next entry of the directory; all contents lie before it.
fn member<'a>(fields: &mut Packed<'a>, headers: &mut Headers) -> Result<Member<'a>, String> {
    if fields.take(4)? != b"PK\x01\x02" {
        return Err(CUT.into());
    }
    let [_, _, flags, method, _, checksum] = fields.numbers([2, 2, 2, 2, 4, 4])?;
    let [packed, size] = fields.numbers([4, 4])?;
    let [name, extra, comment, disk, _, _, header] = fields.numbers([2, 2, 2, 2, 2, 4, 4])?;
    let name = fields.take(name as usize)?;
    let extra = fields.take(extra as usize)?;
    fields.take(comment as usize)?;
    let shown = shown::name(&String::from_utf8_lossy(name));
    let wrong = |text: &str| format!("entry {shown} {text}");
    if flags & 1 != 0 {
        return Err(wrong("is encrypted"));
    }
    if method != 0 {
        return Err(wrong(
            "is compressed, which torch.save never does; unpack the file and pack it again without \
             compression (zip -0 -r), or save it again with torch.save",
        ));
    }
    let [size, packed, header] =
        wide_fields(extra, [size, packed, header]).map_err(|e| wrong(&e))?;
    if size != packed || disk != 0 && disk != 0xffff {
        return Err(wrong("has two lengths"));
    }
    let Some(name) = std::str::from_utf8(name).ok().filter(|name| plain(name)) else {
        return Err(wrong("has a name that leads out of its folder"));
    };
    let end = headers.end;
    let header = usize::try_from(header).ok().filter(|at| *at < end);
    let header = header.ok_or_else(|| wrong("does not lie within the file"))?;
    let start = headers.content(header, name).map_err(|e| wrong(&e))?;
    let stop = usize::try_from(size).ok().and_then(|size| start.checked_add(size));
    let stop = stop.filter(|stop| *stop <= end);
    let stop = stop.ok_or_else(|| wrong("does not lie within the file"))?;
    Ok(Member { name, checksum: checksum as u32, place: start..stop, header })
}

/// Those of the three numbers that do not fit in 32 bits, from the field 1 beside the name.
fn wide_fields(extra: &[u8], mut found: [u64; 3]) -> Result<[u64; 3], String> {
    let mut fields = Packed { bytes: extra, at: 0 };
    while fields.at < extra.len() && found.contains(&0xffff_ffff) {
        let [id, length] = fields.numbers([2, 2])?;
        let mut field = Packed { bytes: fields.take(length as usize)?, at: 0 };
        if id == 1 {
            for number in found.iter_mut().filter(|number| **number == 0xffff_ffff) {
                *number = field.number(8)?;
            }
            break;
        }
    }
    Ok(found)
}

fn plain(name: &str) -> bool {
    !name.contains(['\\', '\0'])
        && name.split('/').all(|part| part != ".." && part != ".")
        && !name.starts_with('/')
}
