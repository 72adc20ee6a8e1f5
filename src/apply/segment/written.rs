//! Masks in files: the numbers of the classes, in their colours.

use crate::data::labels::Labels;
use crate::error::{Error, Result};
use crate::models::config::SegmentClass;
use crate::shown;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// Labels as a PNG of palette indices, which are the numbers of the classes; the palette has their colours.
pub fn palette_png(labels: &Labels, classes: &[SegmentClass]) -> Result<Vec<u8>> {
    let (mut bytes, size) = (Vec::new(), [labels.width, labels.height].map(|n| n as u32));
    let mut encoder = png::Encoder::new(&mut bytes, size[0], size[1]);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(classes.iter().flat_map(|class| class.colour).collect::<Vec<u8>>());
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&labels.values)?;
        writer.finish()
    });
    written.map_err(|e| Error::config(format!("a mask of {}x{}: {e}", size[1], size[0])))?;
    Ok(bytes)
}

/// Names of the files of masks, one for each image, no two alike.
#[derive(Debug, Default)]
pub struct MaskNames {
    taken: BTreeSet<String>,
    lines: String,
}

impl MaskNames {
    /// The name for an image: the stem of its path, what a file name should not have replaced, and a number where
    /// another image has that one.
    pub fn take(&mut self, image: &str) -> String {
        let stem = Path::new(image).file_stem().map_or(image.into(), |stem| stem.to_string_lossy());
        let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let stem: String = stem.chars().map(plain).collect();
        let free = |name: &String| !self.taken.contains(&name.to_lowercase());
        let mut numbered = (2..).map(|n| format!("{stem}-{n}"));
        let name = Some(stem.clone()).filter(free).or_else(|| numbered.find(free));
        let name = name.expect("there are more numbers than images");
        // Two names that differ in case alone are one file on some disks.
        self.taken.insert(name.to_lowercase());
        writeln!(self.lines, "{name}\t{}", shown::line(image)).expect("memory takes everything");
        name
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// A line for each: name, tab, image.
    pub fn text(&self) -> &str {
        &self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_come_back_as_numbers_with_colours_beside_them() {
        let colours = [[1, 2, 3], [4, 5, 6], [250, 0, 9]];
        let class = |(i, colour)| SegmentClass { name: format!("class {i}"), colour };
        let classes: Vec<SegmentClass> = colours.into_iter().enumerate().map(class).collect();
        let labels = Labels::new(2, 3, vec![0, 1, 2, 2, 1, 0]);
        let bytes = palette_png(&labels, &classes).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        assert_eq!(reader.info().palette.as_deref(), Some(colours.concat().as_slice()));
        let mut values = vec![0; 6];
        reader.next_frame(&mut values).unwrap();
        assert_eq!(values, labels.values);
    }

    #[test]
    fn no_two_images_have_one_name() {
        let mut names = MaskNames::default();
        let given = ["a/cat.jpg", "b/cat.png", "b/Cat.png", "scene 3", "cat-2.jpg", "c/.."];
        let got = given.map(|image| names.take(image));
        assert_eq!(got, ["cat", "cat-2", "Cat-3", "scene-3", "cat-2-2", "c-.."]);
        assert_eq!((names.len(), names.text().lines().next()), (6, Some("cat\ta/cat.jpg")));
    }
}
