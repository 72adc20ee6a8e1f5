//! A file before it is decoded: whether it may be an image.

use image::ImageFormat;
use std::fs::{File, FileType};
use std::io::Read;
use std::path::Path;

/// Formats that are read.
pub(super) const FORMATS: [ImageFormat; 7] = [
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::WebP,
    ImageFormat::Bmp,
    ImageFormat::Tiff,
    ImageFormat::Gif,
    ImageFormat::Pnm,
];

/// Bytes that tell a format.
const HEAD: u64 = 16;

/// Whether the name's ending is that of a format that is read.
pub(super) fn has_known_ending(path: &Path) -> bool {
    ImageFormat::from_path(path).is_ok_and(|format| FORMATS.contains(&format))
}

/// The format that a file's first bytes tell, if it is one that is read. Two letters begin a PNM and a
/// BMP, as they begin many a text; there, what follows them is looked at too.
pub(super) fn format_of(head: &[u8]) -> Option<ImageFormat> {
    let format = image::guess_format(head).ok().filter(|format| FORMATS.contains(format))?;
    let fits = match format {
        ImageFormat::Pnm => match head {
            [_, b'7', b'\n', ..] => true,
            [_, _, b'#', ..] => true,
            [_, _, space, next, ..] if space.is_ascii_whitespace() => {
                next.is_ascii_digit() || next.is_ascii_whitespace() || *next == b'#'
            }
            _ => false,
        },
        ImageFormat::Bmp => head.get(6..10) == Some(&[0; 4]), // reserved
        _ => true,
    };
    fits.then_some(format)
}

/// [`format_of`] a file of which no more than that is read; none where it cannot be read.
pub(super) fn format_in(path: &Path) -> Option<ImageFormat> {
    let mut head = Vec::with_capacity(HEAD as usize);
    File::open(path).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    format_of(&head)
}

/// What a thing that is neither a file, a folder nor a link is called.
pub(super) fn special(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a FIFO (named pipe)";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        }
    }
    if kind.is_dir() { "a folder" } else { "of an unknown kind" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_begin_like_an_image_are_none() {
        for (head, wanted) in [
            (&b"P5\n4 4\n255\n"[..], Some(ImageFormat::Pnm)),
            (b"P6#made by hand\n", Some(ImageFormat::Pnm)),
            (b"P7\nWIDTH 4\n", Some(ImageFormat::Pnm)),
            (b"P5 is the fifth", None),
            (b"P1. A list", None),
            (b"BMW, a car of ", None),
            (b"BM\x36\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00", Some(ImageFormat::Bmp)),
            (b"qoif\x00\x00", None), // an image, of a format that is not read
            (b"\xff\xd8\xff", Some(ImageFormat::Jpeg)),
            (b"", None),
        ] {
            assert_eq!(format_of(head), wanted, "{head:?}");
        }
    }
}
