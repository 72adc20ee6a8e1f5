//! Changes to the content of a file, drawn by lot.

use crate::fixtures::zip_of;
use beit::rng::Philox;
use serde_json::Value;

/// What programs that count in a few bytes stumble over.
const EXTREMES: [u64; 9] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, 1 << 40, i64::MAX as u64];

/// What stands where a text had a value.
const WORDS: [&str; 28] = [
    "0",
    "-1",
    "1",
    "2",
    "255",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "-1e308",
    "1e999",
    "1e-300",
    "nan",
    "inf",
    "-0.0",
    "0.5",
    "[]",
    "{}",
    "null",
    "true",
    "\"x\"",
    "[0, 0]",
    "[8192, 8192]",
    "\"\"",
];

/// The seed's bytes after one to four changes; `other` is a file of the same kind.
pub fn mutated(seed: &[u8], other: &[u8], text: bool, random: &mut Philox) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..[1, 1, 2, 4][random.integer(3)] {
        if text && random.integer(3) > 0 {
            replace_value(&mut bytes, random);
        } else {
            change(&mut bytes, other, random);
        }
    }
    bytes
}

/// A place in the file; every second time one of its first bytes, where headers are.
fn place(length: usize, random: &mut Philox) -> usize {
    let within = if random.integer(1) == 0 { length.min(200) } else { length };
    random.integer(within - 1)
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Philox) {
    if bytes.is_empty() {
        return bytes.extend(other);
    }
    let at = place(bytes.len(), random);
    let end = (at + 1 + random.integer(63)).min(bytes.len());
    match random.integer(9) {
        0 | 1 => bytes[at] ^= 1 << random.integer(7),
        2 => {
            let value = [0, 255, bytes[at]][random.integer(2)];
            bytes[at..end].fill(value);
        }
        3 => bytes[at..end].iter_mut().for_each(|byte| *byte = random.integer(255) as u8),
        4 => bytes.truncate(at),
        5 => {
            let times = [1, 1, 2, 2000][random.integer(3)];
            let slice = bytes[at..end].repeat(times);
            bytes.splice(at..at, slice);
        }
        6 => drop(bytes.drain(at..end)),
        7 => {
            let from = random.integer(other.len());
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
        _ => {
            let value =
                EXTREMES[random.integer(EXTREMES.len() - 1)] * (1 + random.integer(1) as u64);
            let width = [2, 4, 8][random.integer(2)].min(bytes.len() - at);
            let little = value.to_le_bytes();
            let mut written = little[..width].to_vec();
            if random.integer(1) == 0 {
                written.reverse();
            }
            bytes[at..at + width].copy_from_slice(&written);
        }
    }
}

/// Puts an extreme value where a number or a word of letters was.
fn replace_value(bytes: &mut Vec<u8>, random: &mut Philox) {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || b".+-_".contains(byte);
    let begins = |at: usize| part(&bytes[at]) && (at == 0 || !part(&bytes[at - 1]));
    let starts: Vec<usize> = (0..bytes.len()).filter(|at| begins(*at)).collect();
    if starts.is_empty() {
        return;
    }
    // Numbers, where there are some, more often than words.
    let numbers: Vec<usize> =
        starts.iter().copied().filter(|at| bytes[*at].is_ascii_digit()).collect();
    let from = if random.integer(3) > 0 && !numbers.is_empty() { numbers } else { starts };
    let at = from[random.integer(from.len() - 1)];
    let length = bytes[at..].iter().take_while(|byte| part(byte)).count();
    bytes.splice(at..at + length, WORDS[random.integer(WORDS.len() - 1)].bytes());
}

/// The same for a safetensors file, every second time in the text of its header, whose length then fits.
pub fn mutated_tensors(seed: &[u8], other: &[u8], random: &mut Philox) -> Vec<u8> {
    let (length, rest) = seed.split_first_chunk::<8>().expect("a seed");
    if random.integer(1) == 0 {
        return mutated(seed, other, false, random);
    }
    let (header, values) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header = mutated(header, header, true, random);
    [&(header.len() as u64).to_le_bytes()[..], &header, values].concat()
}

/// The same for a checkpoint, every second time in the state that its header holds as a text.
pub fn mutated_checkpoint(seed: &[u8], other: &[u8], random: &mut Philox) -> Vec<u8> {
    if random.integer(1) == 0 {
        return mutated_tensors(seed, other, random);
    }
    let (length, rest) = seed.split_first_chunk::<8>().expect("a seed");
    let (header, values) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).expect("a seed");
    let state = &mut header["__metadata__"]["state"];
    let text = state.as_str().expect("a seed").as_bytes();
    *state = Value::from(String::from_utf8_lossy(&mutated(text, text, true, random)).into_owned());
    let header = header.to_string().into_bytes();
    [&(header.len() as u64).to_le_bytes()[..], &header, values].concat()
}

/// The same for pickles, every second time with instructions where others were.
pub fn mutated_pickle(seed: &[u8], other: &[u8], random: &mut Philox) -> Vec<u8> {
    if seed.is_empty() || random.integer(1) == 0 {
        return mutated(seed, other, false, random);
    }
    let mut bytes = seed.to_vec();
    for _ in 0..[1, 1, 2, 4][random.integer(3)] {
        // The numbers of the longest seed are far behind its pickle.
        let at = random.integer(bytes.len().min(12_000) - 1);
        let code = INSTRUCTIONS[random.integer(INSTRUCTIONS.len() - 1)];
        match random.integer(2) {
            0 => bytes[at] = code,
            1 => bytes.insert(at, code),
            _ => drop(bytes.splice(at..at, [code].repeat(1 + random.integer(200)))),
        }
    }
    bytes
}

/// Those of protocol 2.
const INSTRUCTIONS: &[u8] = b"}])(tuseabRcQqhjrXUKJMGN.\x80\x81\x85\x86\x87\x88\x89\x8a";

/// The same for a zip file, every second time in one of its entries, whose checksum then fits.
pub fn mutated_zip(seed: &[u8], other: &[u8], random: &mut Philox) -> Vec<u8> {
    if random.integer(1) == 0 {
        return mutated(seed, other, false, random);
    }
    let mut entries = entries(seed);
    // Most times in the first one, the pickle.
    let last = if random.integer(3) > 0 { 0 } else { entries.len() - 1 };
    let entry = random.integer(last);
    let content = mutated_pickle(&entries[entry].1, &entries[0].1, random);
    entries[entry].1 = content;
    let entries: Vec<_> = entries.iter().map(|(name, content)| (&**name, &**content)).collect();
    zip_of(&entries)
}

/// Names and contents, by the directory at the end.
fn entries(zip: &[u8]) -> Vec<(String, Vec<u8>)> {
    let number = |at: usize, width: usize| {
        zip[at..at + width].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let end = zip.len() - 22;
    let (mut at, mut all) = (number(end + 16, 4), Vec::new());
    for _ in 0..number(end + 10, 2) {
        let (length, header) = (number(at + 28, 2), number(at + 42, 4));
        let name = String::from_utf8(zip[at + 46..at + 46 + length].to_vec()).expect("a seed");
        let from = header + 30 + number(header + 26, 2) + number(header + 28, 2);
        all.push((name, zip[from..from + number(at + 24, 4)].to_vec()));
        at += 46 + length + number(at + 30, 2) + number(at + 32, 2);
    }
    all
}

/// Makes the checksums of a PNG's chunks fit, as far as chunks can be found.
pub fn seal_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let Some(body) = bytes.get(at + 4..at + 8 + length) else { return };
        let crc = !body.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| {
                (c >> 1) ^ (0xEDB8_8320 & (c & 1).wrapping_neg())
            })
        });
        let Some(sum) = bytes.get_mut(at + 8 + length..at + 12 + length) else { return };
        sum.copy_from_slice(&crc.to_be_bytes());
        at += 12 + length;
    }
}

/// Makes the checksums of TFRecords fit, as far as records can be found.
pub fn seal_records(bytes: &mut [u8]) {
    let masked = |bytes: &[u8]| {
        crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
    };
    let mut at = 0;
    while let Some(length) = bytes.get(at..at + 8) {
        let (sum, length) = (masked(length), u64::from_le_bytes(length.try_into().expect("eight")));
        let Some(place) = bytes.get_mut(at + 8..at + 12) else { return };
        place.copy_from_slice(&sum);
        let from = at + 12;
        let end = usize::try_from(length).ok().and_then(|length| from.checked_add(length));
        let Some((end, message)) = end.and_then(|end| Some((end, bytes.get(from..end)?))) else {
            return;
        };
        let sum = masked(message);
        let Some(place) = bytes.get_mut(end..end + 4) else { return };
        place.copy_from_slice(&sum);
        at = end + 4;
    }
}
