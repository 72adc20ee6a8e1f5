//! The header of a file, believed only as far as the file's length bears it out.
//!
//! The header is read entry by entry into the types of the `safetensors` crate, whose
//! [`Metadata`](safetensors::tensor::Metadata) has the last word on whether they fit together. Its own
//! way from bytes to there is not taken: it gathers the whole header as loose JSON first, many times
//! its size, lets the last of two tensors of one name win, and names the tensor in one of its errors
//! only. Here the first entry that cannot be right ends the reading, and is named.

use crate::error::{Error, Result};
use crate::shown;
use crate::weights::info::{MAX_AXES, TensorInfo};
use safetensors::tensor::{Dtype as AnyDtype, Metadata, TensorInfo as Entry};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::fmt;
use std::ops::Range;
use std::path::Path;

/// Longest header that is read, twenty times that of the large model. What is kept of the
/// densest header takes about ten times its length, so that no file costs more than some 10 MiB before its
/// values are read.
const MAX_HEADER: u64 = 1 << 20;

/// The key of the header that is no tensor.
const METADATA: &str = "__metadata__";

/// One tensor as the header describes it.
pub(super) struct HeaderLine<'a> {
    pub(super) name: &'a str,
    pub(super) dtype: String,
    pub(super) shape: &'a [usize],
    pub(super) range: Range<usize>,
}

impl<'a> HeaderLine<'a> {
    pub(super) fn of(name: &'a str, info: &'a TensorInfo) -> Self {
        let (dtype, range) = (info.stored.to_string(), info.range.clone());
        Self { name, dtype, shape: &info.shape, range }
    }
}

pub(super) fn bounded_header(path: &Path, prefix: [u8; 8], file_length: u64) -> Result<usize> {
    let length = u64::from_le_bytes(prefix);
    if length > file_length - 8 {
        return Err(Error::format(
            path,
            format!(
                "not a safetensors file, or cut short: its header claims {length} bytes, \
                 {} follow",
                file_length - 8
            ),
        ));
    }
    if length > MAX_HEADER {
        return Err(Error::format(
            path,
            format!("its header claims {length} bytes, at most {MAX_HEADER} are read"),
        ));
    }
    Ok(length as usize)
}

type Header = (BTreeMap<String, TensorInfo>, BTreeMap<String, String>);

pub(super) fn parse_header(path: &Path, header: &[u8], data_length: u64) -> Result<Header> {
    let wrong = |text: String| Error::format(path, text);
    let Screen { tensors, metadata, .. } = screened(header, data_length).map_err(wrong)?;
    let mut sorted: Vec<(&String, &TensorInfo)> = tensors.iter().collect();
    sorted.sort_by_key(|(_, info)| (info.range.start, info.range.end));
    let mut end = 0;
    for (name, TensorInfo { range, .. }) in &sorted {
        if range.start != end {
            let name = shown::name(name);
            let text = format!("tensor {name}: starts at byte {}, want {end}", range.start);
            return Err(wrong(text));
        }
        end = range.end;
    }
    if end as u64 != data_length {
        return Err(wrong(format!("the tensors take {end} bytes, the file holds {data_length}")));
    }
    let theirs = sorted.iter().map(|(name, TensorInfo { shape, range, stored, .. })| {
        let data_offsets = (range.start, range.end);
        ((*name).clone(), Entry { dtype: *stored, shape: shape.clone(), data_offsets })
    });
    Metadata::new(None, theirs.collect())
        .map_err(|e| wrong(format!("its header contradicts itself: {e}")))?;
    Ok((tensors, metadata))
}

/// The entries of a header, or why it is none.
fn screened(header: &[u8], data_length: u64) -> Result<Screen, String> {
    let mut screen = Screen { data_length, ..Screen::default() };
    let mut json = serde_json::Deserializer::from_slice(header);
    let read = screen.deserialize(&mut json).and_then(|()| json.end());
    match (read, screen.current.as_deref(), &screen.fault) {
        (Ok(()), ..) => Ok(screen),
        (Err(_), Some(name), Some(fault)) => Err(format!("tensor {}: {fault}", shown::name(name))),
        (Err(e), None, _) => Err(format!("not a safetensors file: its header is not JSON ({e})")),
        (Err(e), Some(METADATA), _) => {
            Err(format!("the header's {METADATA} is not a map of texts ({e})"))
        }
        (Err(e), Some(name), _) => {
            let reason = shown::name(&e.to_string());
            Err(format!("tensor {}: unusable header entry ({reason})", shown::name(name)))
        }
    }
}

/// What was read of a header, up to and including the entry at fault where there is one.
#[derive(Default)]
struct Screen {
    data_length: u64,
    tensors: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
    /// Key of the entry that is being read.
    current: Option<String>,
    /// What is wrong with it, where it is JSON of the right form.
    fault: Option<String>,
}

impl<'de> DeserializeSeed<'de> for &mut Screen {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Screen {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut described = false;
        while let Some(name) = map.next_key::<String>()? {
            self.current = Some(name.clone());
            if name == METADATA {
                if std::mem::replace(&mut described, true) {
                    return Err(A::Error::custom("it is there twice"));
                }
                self.metadata = map.next_value::<Option<Texts>>()?.unwrap_or_default().0;
            } else {
                let found = match self.tensors.entry(name) {
                    Occupied(_) => Err("there are two tensors of this name".to_owned()),
                    Vacant(place) => checked(map.next_value()?, self.data_length)
                        .map(|checked| _ = place.insert(checked)),
                };
                if let Err(fault) = found {
                    self.fault = Some(fault);
                    return Err(A::Error::custom("see its fault"));
                }
            }
            self.current = None;
        }
        Ok(())
    }
}

/// The text entries, each there once.
#[derive(Default)]
struct Texts(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for Texts {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a map of texts")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.0.entry(key) {
                Vacant(place) => place.insert(map.next_value()?),
                Occupied(twice) => {
                    let key = shown::name(twice.key());
                    return Err(A::Error::custom(format!("{key} is there twice")));
                }
            };
        }
        Ok(self)
    }
}

/// One entry as it stands in the header.
#[derive(Deserialize)]
struct HeaderEntry {
    dtype: AnyDtype,
    shape: Extents,
    data_offsets: (usize, usize),
}

/// A shape of at most [`MAX_AXES`] axes.
struct Extents(Vec<usize>);

impl<'de> Deserialize<'de> for Extents {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Self(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Extents {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a shape of at most {MAX_AXES} extents")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Self, A::Error> {
        while let Some(extent) = seq.next_element()? {
            if self.0.len() == MAX_AXES {
                return Err(A::Error::invalid_length(MAX_AXES + 1, &self));
            }
            self.0.push(extent);
        }
        Ok(self)
    }
}

fn checked(entry: HeaderEntry, data_length: u64) -> Result<TensorInfo, String> {
    let HeaderEntry { dtype, shape: Extents(shape), data_offsets: (start, end) } = entry;
    if start > end || end as u64 > data_length {
        return Err(format!(
            "bytes {start} to {end} do not lie in the file's {data_length} (cut short?)"
        ));
    }
    let elements = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
    let Some(elements) = elements else {
        return Err(format!("shape {shape:?} is absurd"));
    };
    let bits = elements.checked_mul(dtype.bitsize());
    if !bits.is_some_and(|bits| bits.is_multiple_of(8) && bits / 8 == end - start) {
        return Err(format!("shape {shape:?} of {dtype} does not take {} bytes", end - start));
    }
    Ok(TensorInfo::new(dtype, shape, start..end, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries that are kept of `header` before it is refused, and the refusal.
    fn refused(header: &str) -> (usize, String) {
        let mut screen = Screen { data_length: 4, ..Screen::default() };
        let mut json = serde_json::Deserializer::from_str(header);
        let read = screen.deserialize(&mut json).and_then(|()| json.end());
        assert!(read.is_err(), "accepted: {}", &header[..80.min(header.len())]);
        let text = screened(header.as_bytes(), 4).err().expect("refused both times");
        (screen.tensors.len() + screen.metadata.len(), text)
    }

    #[test]
    fn nonsense_is_refused_at_its_first_entry() {
        let many = |text: &str| text.repeat(1_000_000 / text.len());
        let entry = r#""dtype":"U8","data_offsets":[0,1],"shape":"#;
        let cases = [
            (many("\0"), "not JSON"),
            (many("["), "not JSON"),
            (format!("{{{}\"z\":0}}", many(r#""a":0,"#)), "tensor a: unusable header entry"),
            (format!("{{\"a\":{{{}\"z\":0}}}}", many(r#""x":0,"#)), "missing field `dtype`"),
            (format!("{{\"a\":{{{entry}[{}1]}}}}", many("1,")), "at most 16 extents"),
            (format!("{{\"a\":{{{entry}{}", many("[")), "tensor a: unusable header entry"),
            (format!("{{\"{}", many("a")), "not JSON"),
            (format!("{{\"a\":{{\"dtype\":\"{}\"}}}}", many("F")), "unknown variant `FFF"),
            (format!("{{\"a\":{{{entry}[1]}},{}", many("\"b\":7,")), "tensor b"),
            (
                format!("{{{}", many(&format!("\"a\":{{{entry}[1]}},"))),
                "tensor a: there are two tensors",
            ),
            (format!("{{\"{METADATA}\":{{{}", many(r#""a":"","#)), "a is there twice"),
        ];
        for (header, want) in cases {
            let (entries, text) = refused(&header);
            assert!(entries <= 1, "{entries} entries kept: {text}");
            assert!(text.contains(want) && text.len() < 400, "want {want:?} in {text:?}");
        }
    }

    #[test]
    fn a_header_is_bounded_before_it_is_read() {
        let length = (16u64 << 20).to_le_bytes();
        let text = bounded_header(Path::new("f"), length, 32 << 20).unwrap_err().to_string();
        assert_eq!(text, "f: its header claims 16777216 bytes, at most 1048576 are read");
    }
}
