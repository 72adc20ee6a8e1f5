//! TensorBoard events: TFRecord framing around the few protocol-buffer messages that scalars and
//! pictures need, written by hand.
//!
//! Sources: `tensorflow/core/lib/io/record_writer.cc` (framing, masked CRC32C) and the field numbers
//! of `event.proto` and `summary.proto` in the same project.

use super::mended::Whole;
use std::time::{SystemTime, UNIX_EPOCH};

/// Length of a record, and the checksum of it, before the message; its own checksum follows.
const HEAD: usize = 8 + 4;

/// What the first record holds.
const VERSION: &[u8] = b"brain.Event:2";
/// Key of the field `step`, a number.
const STEP: u8 = 2 << 3;

/// The record that every event file begins with.
pub(super) fn file_version() -> Vec<u8> {
    record(&event(0, |out| bytes_field(out, 3, VERSION)))
}

/// One record with the scalars of a step.
pub(super) fn scalars(step: u64, values: &[(&str, f64)]) -> Vec<u8> {
    let summary: Vec<u8> = values.iter().flat_map(|(tag, value)| scalar(tag, *value)).collect();
    record(&event(step, |out| bytes_field(out, 5, &summary)))
}

/// One record with a PNG picture.
pub(super) fn picture(
    step: u64,
    tag: &str,
    (width, height): (usize, usize),
    png: &[u8],
) -> Vec<u8> {
    let mut image = Vec::new();
    varint_field(&mut image, 1, height as u64);
    varint_field(&mut image, 2, width as u64);
    // The colour type of the PNG's header, as the number of channels.
    varint_field(&mut image, 3, if png.get(25) == Some(&6) { 4 } else { 3 });
    bytes_field(&mut image, 4, png);
    let mut value = Vec::new();
    bytes_field(&mut value, 1, tag.as_bytes());
    bytes_field(&mut value, 4, &image);
    let mut summary = Vec::new();
    bytes_field(&mut summary, 1, &value);
    record(&event(step, |out| bytes_field(out, 5, &summary)))
}

/// The whole records of a file up to `step`, after a record of the version. What lies between them, in
/// which no record can be found, counts as one that is damaged; the end of a file may be torn.
pub(super) fn whole_records(bytes: &[u8], step: u64) -> Whole {
    let (mut kept, mut at, mut lost) = (Whole { bytes: Vec::new(), damaged: 0 }, 0, false);
    while at < bytes.len() {
        let Some(message) = message(&bytes[at..]) else {
            (at, lost) = (at + 1, true);
            continue;
        };
        kept.damaged += usize::from(std::mem::take(&mut lost));
        let end = at + HEAD + message.len() + 4;
        if step_of(message).is_some_and(|found| found <= step) {
            if kept.bytes.is_empty() && !message.ends_with(VERSION) {
                kept.bytes = file_version();
            }
            kept.bytes.extend(&bytes[at..end]);
        }
        at = end;
    }
    kept
}

/// The message of the record that `bytes` begin with, if both checksums fit.
fn message(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (sum, rest) = rest.split_first_chunk()?;
    if u32::from_le_bytes(*sum) != masked_crc(length) {
        return None;
    }
    let (message, rest) = rest.split_at_checked(u64::from_le_bytes(*length).try_into().ok()?)?;
    (u32::from_le_bytes(*rest.first_chunk()?) == masked_crc(message)).then_some(message)
}

/// The step of a message that [`event`] made: the number after its time.
fn step_of(message: &[u8]) -> Option<u64> {
    let rest = message.get(9..)?;
    let Some((&STEP, digits)) = rest.split_first() else { return Some(0) };
    let last = digits.iter().position(|byte| byte & 0x80 == 0).filter(|last| *last < 10)?;
    Some(digits[..=last].iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7f)))
}

fn scalar(tag: &str, value: f64) -> Vec<u8> {
    let mut message = Vec::new();
    bytes_field(&mut message, 1, tag.as_bytes());
    message.push(2 << 3 | 5); // simple_value, 32 bits
    message.extend((value as f32).to_le_bytes());
    let mut out = Vec::new();
    bytes_field(&mut out, 1, &message);
    out
}

fn event(step: u64, what: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let mut out = vec![1 << 3 | 1]; // wall_time, 64 bits
    out.extend(now.to_le_bytes());
    varint_field(&mut out, 2, step);
    what(&mut out);
    out
}

fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut out = length.to_vec();
    out.extend(masked_crc(&length).to_le_bytes());
    out.extend(message);
    out.extend(masked_crc(message).to_le_bytes());
    out
}

/// Rotated and shifted, so that a checksum of data that holds checksums stays a good one.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A number; zeros are left out, as in every proto3 message.
fn varint_field(out: &mut Vec<u8>, field: u64, value: u64) {
    if value > 0 {
        varint(out, field << 3);
        varint(out, value);
    }
}

fn bytes_field(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_and_fields() {
        // Layout derived by hand from the message definitions.
        assert_eq!(scalar("a", 1.0), [0x0a, 8, 0x0a, 1, b'a', 0x15, 0, 0, 0x80, 0x3f]);
        let framed = file_version();
        let length = u64::from_le_bytes(framed[..8].try_into().unwrap()) as usize;
        assert_eq!(framed.len(), 8 + 4 + length + 4);
        assert!(framed.windows(13).any(|w| w == b"brain.Event:2"));
        // The length checksum of this record as TensorFlow writes it: 24 bytes, masked CRC32C.
        assert_eq!(framed[..12], [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
    }

    #[test]
    fn long_values_take_several_bytes() {
        let mut out = Vec::new();
        varint(&mut out, 300);
        assert_eq!(out, [0xac, 0x02]);
    }
}
