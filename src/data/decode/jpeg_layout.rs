//! What a JPEG says of itself before its pixels are decoded: whether it is whole, how large, in which colours,
//! which way up, and what of it is not read.

use image::metadata::Orientation;
use jpeg_decoder::ColorTransform;

/// Largest side, libjpeg's own.
const MAX_SIDE: u32 = 65_500;
/// Most scans; a progressive JPEG has ten or so, and each costs a pass over all pixels.
const MAX_SCANS: usize = 100;

const START: u8 = 0xD8;
const END: u8 = 0xD9;
const SCAN: u8 = 0xDA;

/// The layout of a whole JPEG.
#[derive(Debug)]
pub(super) struct JpegLayout {
    frame: Frame,
    jfif: bool,
    adobe: Option<u8>,
    /// That of its EXIF segment.
    pub orientation: Orientation,
}

#[derive(Clone, Debug)]
struct Frame {
    progressive: bool,
    width: u32,
    height: u32,
    components: Vec<Component>,
}

#[derive(Clone, Copy, Debug)]
struct Component {
    name: u8,
    across: u32,
    down: u32,
}

impl JpegLayout {
    /// Walks all segments. Stray bytes between them are passed over, as libjpeg does; a JPEG without its end
    /// marker is refused, because decoders fill with grey what is missing and a model should not be taught that.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let (mut frame, mut jfif, mut adobe) = (None, false, None);
        let mut orientation = None;
        let (mut scans, mut coded, mut at) = (0, 0, 2);
        loop {
            let marker = next_marker(bytes, &mut at).ok_or("the JPEG data is truncated")?;
            match marker {
                END => break,
                0x01 | START | 0xD0..=0xD7 => continue,
                _ => {}
            }
            let content = segment(bytes, &mut at).ok_or("the JPEG data is truncated")?;
            match marker {
                0xC4 => {}
                0xCC => return Err(unread("arithmetic coding")),
                0xC0..=0xCF | 0xF7 if frame.is_some() => return Err(unread("several frames")),
                0xC0..=0xCF | 0xF7 => frame = Some(Frame::read(marker, content)?),
                0xDC => return Err(unread("its height behind the first scan")),
                0xE0 if content.starts_with(b"JFIF\0") => jfif = true,
                0xE1 => {
                    let exif = content.strip_prefix(b"Exif\0\0");
                    orientation = orientation.or(exif.and_then(Orientation::from_exif_chunk));
                }
                0xEE if content.starts_with(b"Adobe") => adobe = content.get(11).copied().or(adobe),
                SCAN => {
                    let frame: &Frame = frame.as_ref().ok_or("a JPEG scan before its frame")?;
                    frame.check_scan(content)?;
                    scans += 1;
                    coded += entropy_coded(bytes, &mut at).ok_or("the JPEG data is truncated")?;
                }
                _ => {}
            }
            if scans > MAX_SCANS {
                return Err(format!("JPEG with more than {MAX_SCANS} scans, which is not read"));
            }
        }
        let frame = frame.ok_or("a JPEG without a frame")?;
        frame.check_coded(coded)?;
        let orientation = orientation.unwrap_or(Orientation::NoTransforms);
        Ok(Self { frame, jfif, adobe, orientation })
    }

    /// Width and height at `eighths` of the full size.
    pub fn size(&self, eighths: u32) -> (u32, u32) {
        let scaled = |side: u32| (side * eighths).div_ceil(8);
        (scaled(self.frame.width), scaled(self.frame.height))
    }

    /// The number of components.
    pub fn components(&self) -> usize {
        self.frame.components.len()
    }

    /// Bytes that decoding at `eighths` of the full size takes: coefficients, which wait for the decoder's second
    /// thread, and those that a progressive JPEG keeps besides; planes; pixels, once more where they are inks or
    /// greys.
    pub fn cost(&self, eighths: u32) -> u64 {
        let frame = &self.frame;
        let blocks = frame.padded_blocks();
        let (width, height) = self.size(eighths);
        let pixels = u64::from(width) * u64::from(height);
        let coefficients = blocks * if frame.progressive { 256 } else { 128 };
        let planes = blocks * u64::from(eighths * eighths);
        let channels = match self.components() as u64 {
            3 => 3,
            other => other + 3,
        };
        coefficients + planes + pixels * channels
    }

    /// The colours, decided as libjpeg does: JFIF, then Adobe's marker, then the names of the components.
    pub fn colours(&self) -> ColorTransform {
        let names: Vec<u8> = self.frame.components.iter().map(|c| c.name).collect();
        match (names.len(), self.adobe) {
            (1, _) => ColorTransform::Grayscale,
            (3, _) if self.jfif => ColorTransform::YCbCr,
            (3, Some(0)) => ColorTransform::RGB,
            (3, None) if names == *b"RGB" => ColorTransform::RGB,
            (3, _) => ColorTransform::YCbCr,
            (_, Some(0) | None) => ColorTransform::CMYK,
            (_, Some(_)) => ColorTransform::YCCK,
        }
    }
}

impl Frame {
    fn read(marker: u8, content: &[u8]) -> Result<Self, String> {
        match marker {
            0xC0..=0xC2 => {}
            0xC3 | 0xC7 | 0xCB | 0xCF | 0xF7 => return Err(unread("lossless coding")),
            0xC5 | 0xC6 | 0xCD | 0xCE => return Err(unread("several frames")),
            _ => return Err(unread("arithmetic coding")),
        }
        let &[precision, h1, h0, w1, w0, count, ref rest @ ..] = content else {
            return Err("the JPEG frame is cut short".into());
        };
        if precision != 8 {
            return Err(unread(&format!("{precision} bits a sample")));
        }
        let (height, width) = (u16::from_be_bytes([h1, h0]), u16::from_be_bytes([w1, w0]));
        let (height, width) = (u32::from(height), u32::from(width));
        if height == 0 || width == 0 {
            return Err(format!("the header promises an empty image, {width}x{height}"));
        }
        if height > MAX_SIDE || width > MAX_SIDE {
            return Err(format!(
                "the header promises {width}x{height} pixels; a JPEG has at most {MAX_SIDE} a side"
            ));
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(unread(&format!("{count} colours")));
        }
        let components = rest.as_chunks::<3>().0.iter().take(count.into());
        let components: Vec<_> = components
            .map(|&[name, sampling, _]| Component {
                name,
                across: u32::from(sampling >> 4),
                down: u32::from(sampling & 15),
            })
            .collect();
        let frame = Self { progressive: marker == 0xC2, width, height, components };
        frame.check_sampling(count.into())?;
        Ok(frame)
    }

    fn check_sampling(&self, count: usize) -> Result<(), String> {
        let legal = |c: &Component| (1..=4).contains(&c.across) && (1..=4).contains(&c.down);
        if self.components.len() != count || !self.components.iter().all(legal) {
            return Err("the JPEG frame is damaged".into());
        }
        let (across, down) = self.most();
        let divides = |c: &Component| across % c.across == 0 && down % c.down == 0;
        if !self.components.iter().all(divides) {
            return Err(unread("samplings of which one is no multiple of another"));
        }
        Ok(())
    }

    /// The finest sampling.
    fn most(&self) -> (u32, u32) {
        self.components.iter().fold((1, 1), |most, c| (most.0.max(c.across), most.1.max(c.down)))
    }

    /// Refuses scans of one component where the decoder would count other blocks than the standard does: it
    /// pads the component as if all were interleaved.
    fn check_scan(&self, content: &[u8]) -> Result<(), String> {
        let &[1, name, ..] = content else { return Ok(()) };
        let Some(c) = self.components.iter().find(|c| c.name == name) else { return Ok(()) };
        let (across, down) = self.most();
        let agrees = |side: u32, own: u32, most: u32| {
            let decoder = (side.div_ceil(8 * most) * own).min(side.div_ceil(8));
            decoder == (side * own).div_ceil(most).div_ceil(8)
        };
        if agrees(self.width, c.across, across) && agrees(self.height, c.down, down) {
            return Ok(());
        }
        Err(unread(&format!(
            "a scan of its own for a colour sampled {}x{} where the finest has {across}x{down}",
            c.across, c.down
        )))
    }

    /// Refuses sizes that the coded bytes cannot hold: each block takes at least a bit.
    fn check_coded(&self, bytes: usize) -> Result<(), String> {
        let (across, down) = self.most();
        let blocks = self.components.iter().map(|c| {
            let side =
                |side: u32, own: u32, most: u32| u64::from((side * own).div_ceil(most).div_ceil(8));
            side(self.width, c.across, across) * side(self.height, c.down, down)
        });
        if blocks.sum::<u64>() > 8 * bytes as u64 {
            return Err(format!(
                "the header promises {}x{} pixels, more than {bytes} bytes of JPEG data can hold",
                self.width, self.height
            ));
        }
        Ok(())
    }

    /// Blocks of all components with the padding of interleaved scans.
    fn padded_blocks(&self) -> u64 {
        let (across, down) = self.most();
        let groups =
            u64::from(self.width.div_ceil(8 * across)) * u64::from(self.height.div_ceil(8 * down));
        groups * self.components.iter().map(|c| u64::from(c.across * c.down)).sum::<u64>()
    }
}

fn unread(what: &str) -> String {
    format!("JPEG with {what}, which is not read; save it as an ordinary JPEG")
}

/// The next marker at or after `at`, which then points behind it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        *at += bytes.get(*at..)?.iter().position(|&b| b == 0xFF)?;
        *at += bytes[*at..].iter().position(|&b| b != 0xFF)?;
        *at += 1;
        if bytes[*at - 1] != 0 {
            return Some(bytes[*at - 1]);
        }
    }
}

/// What is in the segment whose length is at `at`, which then points behind it.
fn segment<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let &[hi, lo] = bytes.get(*at..*at + 2)? else { return None };
    let length = usize::from(u16::from_be_bytes([hi, lo]));
    let content = bytes.get(*at + 2..*at + length.max(2))?;
    *at += length.max(2);
    Some(content)
}

/// The number of entropy-coded bytes from `at`, which then points to the marker behind them. 0xFF is followed
/// by 0 or a restart mark inside them.
fn entropy_coded(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let ends = |w: &[u8]| w[0] == 0xFF && w[1] != 0 && !(0xD0..0xD8).contains(&w[1]);
    let length = bytes.get(*at..)?.windows(2).position(ends)?;
    *at += length;
    Some(length)
}
