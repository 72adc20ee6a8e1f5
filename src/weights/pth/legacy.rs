//! The form before PyTorch 1.6: five pickles and the numbers behind them.
//!
//! A number that names the format, its version, a dict about the machine, the object, the list of the keys
//! of its numbers; then for each key of the list the count of elements in eight bytes and the elements.

use super::bounds::{Bounds, PICKLE};
use super::element::StorageType;
use super::graph::{Datum, PickleGraph, PickleNode};
use super::pickle::{Followed, follow};
use super::walk::{self, Contents};
use crate::shown;
use crate::weights::stored::StoredBytes;
use std::collections::HashMap;
use std::ops::Range;

/// The first pickle, of the whole number 0x1950a86a20f9469cfc6c.
const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// The second one, of the version 1001.
const VERSION: &[u8] = b"\x80\x02M\xe9\x03.";

pub(super) fn begins(prefix: &[u8]) -> bool {
    prefix.starts_with(MAGIC)
}

/// Bytes at the beginning that the pickles of nearly all files lie in.
const SHORT: usize = 1 << 20;
/// Bytes that they lie in, whatever they say.
const MOST: usize = SHORT + 3 * PICKLE;

/// The tensors of a file of this form.
pub(super) fn tensors(stored: &StoredBytes, bounds: Bounds) -> Result<Contents, String> {
    let first = |most: usize| stored.part_or_why(0..stored.length().min(most));
    match within(stored, &first(SHORT)?, bounds) {
        Err(_) if stored.length() > SHORT => within(stored, &first(MOST)?, bounds),
        found => found,
    }
}

/// The tensors of a file whose pickles lie in its first `bytes`.
fn within(stored: &StoredBytes, bytes: &[u8], bounds: Bounds) -> Result<Contents, String> {
    if !bytes[MAGIC.len()..].starts_with(VERSION) {
        return Err("is of a version of the old form of PyTorch that is not known here".into());
    }
    let mut at = MAGIC.len() + VERSION.len();
    let mut next = |bounds: Bounds| {
        let rest = &bytes[at..];
        let described = follow(&rest[..rest.len().min(PICKLE)], bounds)?;
        at += described.length;
        Ok::<_, String>((described, at))
    };
    little_endian(&next(bounds)?.0)?;
    let (Followed { graph, root, .. }, _) = next(bounds)?;
    let (keys, end) = next(Bounds { cells: graph.left(), ..bounds })?;
    let places = places(&graph, &keys, stored, end)?;
    let mut locate = |_: StorageType, key: &str, _: u64| {
        let place = places.get(key).cloned();
        place.ok_or_else(|| format!("the numbers of the key {} are missing", shown::name(key)))
    };
    walk::tensors(&graph, root, &mut locate, bounds)
}

fn little_endian(about: &Followed) -> Result<(), String> {
    let Datum::Node(root) = about.root else { return Err(ABOUT.into()) };
    let PickleNode::Dict(dict) = about.graph.node(root) else { return Err(ABOUT.into()) };
    match about.graph.get(dict, "little_endian")? {
        Some(Datum::Bool(true)) => Ok(()),
        Some(Datum::Bool(false)) => Err(super::zip::BIG_ENDIAN.into()),
        _ => Err(ABOUT.into()),
    }
}

const ABOUT: &str = "does not say in which order its bytes are";

/// Where the numbers of each key lie; those that nobody asks for are passed over by their types, too.
fn places<'a>(
    graph: &PickleGraph<'a>,
    keys: &Followed<'a>,
    stored: &StoredBytes,
    mut at: usize,
) -> Result<HashMap<&'a str, Range<usize>>, String> {
    let mut claimed = HashMap::new();
    for node in graph.nodes() {
        if let PickleNode::Numbers { element, key, count } = *node {
            let key = graph.text(key)?;
            if *claimed.entry(key).or_insert((element, count)) != (element, count) {
                return Err(format!("key {}: two types or two lengths", shown::name(key)));
            }
        }
    }
    let Datum::Node(list) = keys.root else { return Err("has no list of keys".into()) };
    let PickleNode::List(list) = keys.graph.node(list) else {
        return Err("has no list of keys".into());
    };
    let mut places = HashMap::new();
    for key in keys.graph.items(list) {
        let Datum::Text(key) = key else { return Err("has a key that is no text".into()) };
        let key = keys.graph.text(key)?;
        let wrong = |text: String| format!("key {}: {text}", shown::name(key));
        let Some((element, count)) = claimed.get(key) else {
            return Err(wrong("is listed and of no type".into()));
        };
        let behind = stored.part_or_why(at..stored.length().min(at + 8))?;
        let found = behind.first_chunk().map(|count| u64::from_le_bytes(*count));
        if found != Some(*count) {
            let found = found.map_or("nothing".to_owned(), |found| found.to_string());
            return Err(wrong(format!("want {count} elements, the file has {found} (cut short?)")));
        }
        let end = element.bytes(*count).map_err(wrong)?.checked_add(at + 8);
        let Some(end) = end.filter(|end| *end <= stored.length()) else {
            return Err(wrong(format!("{count} elements are more than follow (cut short?)")));
        };
        if places.insert(key, at + 8..end).is_some() {
            return Err(wrong("is listed twice".into()));
        }
        at = end;
    }
    match stored.length() - at {
        0 => Ok(places),
        more => Err(format!("{more} bytes follow its end")),
    }
}
