//! From the pixels of a mask to labels.

use super::classes::ClassList;
use crate::data::decode::Mask;
use crate::data::image::Image;
use crate::data::labels::Labels;
use std::collections::BTreeMap;

/// What the pixels of masks stand for.
#[derive(Debug)]
pub(super) enum MaskRule {
    /// Indices of so many classes behind a 0 for everything else.
    Reduced(usize),
    /// Indices of so many classes.
    Indices(usize),
    /// Indices of so many classes, or their colours.
    Listed(usize, BTreeMap<[u8; 3], u8>),
}

impl MaskRule {
    pub fn listed(list: &ClassList) -> Result<Self, String> {
        Ok(Self::Listed(list.classes.len(), list.by_colour()?))
    }

    /// The labels of a mask, or the first pixel that stands for nothing.
    pub fn labels(&self, mask: Mask) -> Result<Labels, String> {
        match (self, mask) {
            (Self::Reduced(classes), Mask::Indices(mut labels)) => {
                check(&labels, classes + 1)?;
                labels.reduce_zero();
                Ok(labels)
            }
            (Self::Indices(classes) | Self::Listed(classes, _), Mask::Indices(labels)) => {
                check(&labels, *classes)?;
                Ok(labels)
            }
            (Self::Listed(_, colours), Mask::Colours(image)) => by_colour(&image, colours),
            (Self::Reduced(_), Mask::Colours(_)) => {
                Err("has colours, and ADE20K's masks have numbers".to_owned())
            }
            (Self::Indices(_), Mask::Colours(_)) => Err("has colours that nothing names; put a \
                 classes.txt with a line R G B NAME for each class beside images/ and masks/"
                .to_owned()),
        }
    }
}

/// Where value `i` of rows of `width` is, in words.
fn place(i: usize, width: usize) -> String {
    format!("row {}, column {}", i / width, i % width)
}

fn check(labels: &Labels, classes: usize) -> Result<(), String> {
    let outside = |&v: &u8| usize::from(v) >= classes && v != Labels::IGNORED;
    match labels.values.iter().position(outside) {
        None => Ok(()),
        Some(i) => Err(format!(
            "has {} at {}; its numbers must be 0 to {} or 255",
            labels.values[i],
            place(i, labels.width),
            classes - 1
        )),
    }
}

fn by_colour(image: &Image, colours: &BTreeMap<[u8; 3], u8>) -> Result<Labels, String> {
    let (pixels, _) = image.pixels.as_chunks::<3>();
    // Neighbours mostly agree.
    let mut last = None;
    let label = |(i, colour): (usize, &[u8; 3])| {
        if let Some((known, label)) = last
            && known == *colour
        {
            return Ok(label);
        }
        let [r, g, b] = colour;
        let label = *colours.get(colour).ok_or_else(|| {
            format!(
                "has the colour {r} {g} {b} at {}, which classes.txt lacks",
                place(i, image.width)
            )
        })?;
        last = Some((*colour, label));
        Ok(label)
    };
    let values = pixels.iter().enumerate().map(label).collect::<Result<Vec<_>, String>>()?;
    Ok(Labels::new(image.height, image.width, values))
}
