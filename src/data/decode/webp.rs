//! What a WebP says of its chunks before they are read.

/// The chunk in front of others; a file without it has a single one.
const EXTENDED: &[u8] = b"VP8X";

/// Refuses chunks that reach behind the end of the file: the decoder takes memory for what one claims to
/// hold, 4 GB at most, before it reads it.
pub(super) fn check_chunks(bytes: &[u8]) -> Result<(), String> {
    let number = |at: usize| -> Option<u64> {
        Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?).into())
    };
    let damaged = || "the WebP data is truncated".to_owned();
    let riff = number(4).ok_or_else(damaged)?;
    let (mut at, mut end) = (12, 13);
    while at < end {
        let place = usize::try_from(at).map_err(|_| damaged())?;
        let (Some(name), Some(length)) = (bytes.get(place..place + 4), number(place + 4)) else {
            return Ok(()); // the decoder stops here, too
        };
        if at + 8 + length > bytes.len() as u64 {
            return Err(damaged());
        }
        let first = at == 12;
        at += 8 + length + length % 2;
        if first && name == EXTENDED {
            // As far as the decoder looks for others.
            end = at + riff.saturating_sub(12);
        }
    }
    Ok(())
}
