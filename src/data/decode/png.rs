//! What a PNG says of itself before its pixels are decoded.

/// The longest run of bytes that a byte of deflate can stand for: a match of 258 bytes takes two bits at least.
const MOST_INFLATED: u64 = 1032;

/// Size, and how many bytes of pixels are in the file.
#[derive(Debug)]
pub(super) struct PngHeader {
    width: u32,
    height: u32,
    bits: u64,
    packed: u64,
}

impl PngHeader {
    /// Walks all chunks.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let damaged = || "the PNG header is damaged".to_owned();
        let number = |at: usize| -> Option<u32> {
            Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
        };
        let (width, height) = (number(16).zip(number(20))).ok_or_else(damaged)?;
        let &[depth, colours] = bytes.get(24..26).ok_or_else(damaged)? else {
            return Err(damaged());
        };
        let channels = match colours {
            2 => 3,
            4 => 2,
            6 => 4,
            _ => 1,
        };
        let (mut packed, mut at) = (0, 8);
        while let (Some(length), Some(name)) = (number(at), bytes.get(at + 4..at + 8)) {
            if name == b"IDAT" {
                packed += u64::from(length);
            }
            at = at.saturating_add(12).saturating_add(length as usize);
        }
        Ok(Self { width, height, bits: u64::from(depth) * channels, packed })
    }

    /// Refuses sizes that the packed bytes cannot hold.
    pub fn check_packed(&self) -> Result<(), String> {
        let pixels = u64::from(self.width) * u64::from(self.height);
        if pixels.saturating_mul(self.bits) / 8 > self.packed.saturating_mul(MOST_INFLATED) {
            return Err(format!(
                "the header promises {}x{} pixels, more than {} bytes of PNG data can hold",
                self.width, self.height, self.packed
            ));
        }
        Ok(())
    }
}
