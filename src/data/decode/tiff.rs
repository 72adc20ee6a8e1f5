//! What a TIFF says of its tags before they are read.

/// Memory that the decoder takes for each value of a tag while it reads it.
const VALUE: u64 = 32;
/// Bytes of a tag in the directory.
const ENTRY: usize = 12;

/// Memory for the tag with the most values. Refuses tags with more values than the file can hold: the decoder
/// takes memory, 256 MB at most, for as many as are claimed.
pub(super) fn memory_of_tags(bytes: &[u8]) -> Result<u64, String> {
    let little = bytes.starts_with(b"II");
    let short = |at: usize| -> Option<u16> {
        let two = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) })
    };
    let long = |at: usize| -> Option<u32> {
        let four = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) })
    };
    let directory = long(4).and_then(|at| usize::try_from(at).ok());
    let mut most = 0;
    // Where the directory is cut short, decoding is an error.
    let Some((directory, tags)) = directory.and_then(|at| Some((at, short(at)?))) else {
        return Ok(0);
    };
    for i in 0..usize::from(tags) {
        let at = directory + 2 + ENTRY * i;
        let (Some(tag), Some(kind), Some(count)) = (short(at), short(at + 2), long(at + 4)) else {
            break;
        };
        if u64::from(count) * size_of(kind) > bytes.len() as u64 {
            return Err(format!(
                "the TIFF's tag {tag} claims {count} values, more than the file holds"
            ));
        }
        most = most.max(u64::from(count));
    }
    Ok(most * VALUE)
}

/// Bytes of a value of this type (TIFF 6.0, section 2, and BigTIFF's); of others, at least one.
fn size_of(kind: u16) -> u64 {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 1,
    }
}
