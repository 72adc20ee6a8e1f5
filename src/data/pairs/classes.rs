//! The classes of pixels: ADE20K's, those of a `classes.txt`, and numbered ones.

use crate::data::labels::Labels;
use crate::models::config::SegmentClass;
use std::collections::BTreeMap;

/// Classes in the order of their labels, and colours of masks that stand for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClassList {
    pub classes: Vec<SegmentClass>,
    pub ignored: Vec<[u8; 3]>,
}

/// ADE20K's 150 classes, in the form of a `classes.txt`.
const ADE20K: &str = include_str!("ade20k.txt");

/// The classes of ADE20K.
pub(crate) fn ade20k() -> Vec<SegmentClass> {
    ClassList::lines(ADE20K).expect("the list of ADE20K is read by a test").classes
}

/// Classes that are named by their numbers.
pub(crate) fn numbered(count: usize) -> Vec<SegmentClass> {
    let one = |i: usize| SegmentClass { name: i.to_string(), colour: palette(i) };
    (0..count).map(one).collect()
}

/// The colour of class `i` where nobody gave one: bit 3k + c of i is bit 7 − k of channel c, as in the palette of
/// PASCAL VOC. The first 256 differ, and 0 is black.
pub(crate) fn palette(i: usize) -> [u8; 3] {
    let channel = |c: usize| (0..8).map(|k| ((i >> (3 * k + c) & 1) as u8) << (7 - k)).sum();
    [channel(0), channel(1), channel(2)]
}

impl ClassList {
    /// Reads a `classes.txt`: one class a line, `R G B NAME`, in the order of their labels; a line `- R G B`, with
    /// anything behind it, is a colour of masks whose pixels are ignored. Empty lines and those that begin with `#`
    /// say nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let list = Self::lines(text)?;
        list.by_colour()?;
        let mut names: Vec<_> = list.classes.iter().map(|class| &class.name).collect();
        names.sort();
        match names.windows(2).find(|two| two[0] == two[1]) {
            Some(two) => Err(format!("two classes are named {}; name each once", two[0])),
            None => Ok(list),
        }
    }

    fn lines(text: &str) -> Result<Self, String> {
        let mut list = Self::default();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong =
                || format!("line {} is {line:?}, not R G B NAME (0 to 255 each) or - R G B", i + 1);
            let ignored = line.strip_prefix('-');
            let (colour, name) = colour_and_rest(ignored.unwrap_or(line)).ok_or_else(wrong)?;
            match ignored {
                Some(_) => list.ignored.push(colour),
                None if name.is_empty() => return Err(wrong()),
                None => list.classes.push(SegmentClass { name: name.to_owned(), colour }),
            }
        }
        match list.classes.len() {
            0 => Err("there is no class; give a line R G B NAME for each".to_owned()),
            n if n > Labels::MOST_CLASSES => {
                Err(format!("{n} classes are more than {}", Labels::MOST_CLASSES))
            }
            _ => Ok(list),
        }
    }

    /// The label of each colour. Two classes, or a class and what is ignored, of one colour are an error.
    pub fn by_colour(&self) -> Result<BTreeMap<[u8; 3], u8>, String> {
        let mut labels = BTreeMap::new();
        let numbers = 0..Labels::IGNORED;
        let classes = self.classes.iter().zip(numbers).map(|(class, i)| (class.colour, i));
        let ignored = self.ignored.iter().map(|&colour| (colour, Labels::IGNORED));
        for (colour, label) in classes.chain(ignored) {
            if labels.insert(colour, label).is_some_and(|other| other != label) {
                let [r, g, b] = colour;
                return Err(format!("two lines have the colour {r} {g} {b}; give each its own"));
            }
        }
        Ok(labels)
    }
}

/// Three numbers and what follows them.
fn colour_and_rest(mut text: &str) -> Option<([u8; 3], &str)> {
    let mut colour = [0; 3];
    for channel in &mut colour {
        text = text.trim_start();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        *channel = text[..end].parse().ok()?;
        text = &text[end..];
    }
    Some((colour, text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_list_of_ade20k_is_complete() {
        let classes = ade20k();
        assert_eq!(classes.len(), 150);
        let first = SegmentClass { name: "wall".into(), colour: [120; 3] };
        assert_eq!((&classes[0], &*classes[149].name), (&first, "flag"));
        let names: BTreeSet<_> = classes.iter().map(|class| &class.name).collect();
        assert_eq!(names.len(), 150);
    }

    #[test]
    fn numbered_classes_have_colours_of_their_own() {
        // The first of PASCAL VOC.
        let wanted = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]];
        assert!((0..5).map(palette).eq(wanted));
        assert_eq!((0..256).map(palette).collect::<BTreeSet<_>>().len(), 256);
        assert_eq!(numbered(3)[2], SegmentClass { name: "2".into(), colour: [0, 128, 0] });
    }

    #[test]
    fn lists_are_read_or_refused() {
        let list = ClassList::parse("# mine\n\n 1 2 3 traffic  light\r\n-4 5 6 edge\n0 0 0 road\n");
        let list = list.unwrap();
        let names: Vec<_> = list.classes.iter().map(|class| &*class.name).collect();
        assert_eq!((names, &list.ignored[..]), (vec!["traffic  light", "road"], &[[4, 5, 6]][..]));
        let labels = list.by_colour().unwrap();
        assert_eq!((labels[&[1, 2, 3]], labels[&[0; 3]], labels[&[4, 5, 6]]), (0, 1, 255));
        let many: String = (0..256).map(|i| format!("{i} {i} {i} c{i}\n")).collect();
        for (text, said) in [
            ("", "no class"),
            ("- 1 2 3", "no class"),
            ("1 2 3 a\n1 2 b", "line 2"),
            ("1 2 256 a", "line 1"),
            ("1 2 3", "line 1"),
            ("1 2 3 a\n4 5 6 a", "named a"),
            ("1 2 3 a\n1 2 3 b", "colour 1 2 3"),
            ("1 2 3 a\n- 1 2 3", "colour 1 2 3"),
            (&many, "256 classes"),
        ] {
            let error = ClassList::parse(text).unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
