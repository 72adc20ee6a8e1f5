//! One setting: its name, its legal values and the messages when it is given something else.

use super::Place;
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::config::BeitConfig;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use toml::Value;

/// A setting of a run.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Name in `config.toml` and in `--set`.
    pub name: &'static str,
    /// What it is, in which unit, and where its default comes from.
    pub doc: &'static str,
    /// Legal values.
    pub range: Range,
}

/// Legal values of a setting.
#[derive(Clone, Copy, Debug)]
pub enum Range {
    /// Whole number, both ends included.
    Int(i64, i64),
    /// Finite number, both ends included.
    Real(f64, f64),
    /// Finite number above the first, at most the second.
    Above(f64, f64),
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
    /// Pixels: a side, or `[height, width]`.
    Size,
    /// A [`Place`].
    Device,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(min, i64::MAX) => write!(f, "a whole number, {min} or more"),
            Self::Int(min, max) => write!(f, "a whole number from {min} to {max}"),
            Self::Real(min, max) => write!(f, "a number from {min} to {max}"),
            Self::Above(min, max) => write!(f, "a number above {min}, at most {max}"),
            Self::Flag => f.write_str("true or false"),
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Self::Text => f.write_str("text"),
            Self::Size => f.write_str("a side in pixels, or [height, width], from 1 to 8192"),
            Self::Device => f.write_str(Place::LEGAL),
        }
    }
}

impl Key {
    /// Key `name` of these shared blocks, under `doc` where that is not empty. A name that no block has
    /// does not compile.
    pub(super) const fn shared(blocks: &[&[Self]], name: &'static str, doc: &'static str) -> Self {
        let mut block = 0;
        while block < blocks.len() {
            let mut i = 0;
            while i < blocks[block].len() {
                let key = blocks[block][i];
                if equal(key.name, name) {
                    return Self { doc: if doc.is_empty() { key.doc } else { doc }, ..key };
                }
                i += 1;
            }
            block += 1;
        }
        panic!("no shared block has this key")
    }

    /// Checks a value and brings it to the key's type (a whole number where a real one is wanted).
    pub fn check(&self, value: Value) -> Result<Value> {
        let legal = match (self.range, &value) {
            (Range::Int(min, max), Value::Integer(i)) => (min..=max).contains(i),
            (Range::Real(min, max), Value::Float(x)) => (min..=max).contains(x),
            (Range::Above(min, max), Value::Float(x)) => *x > min && *x <= max,
            (Range::Real(..) | Range::Above(..), Value::Integer(i)) => {
                return self.check(Value::Float(*i as f64));
            }
            (Range::Flag, Value::Boolean(_)) | (Range::Text, Value::String(_)) => true,
            (Range::Choice(words), Value::String(s)) => words.contains(&s.as_str()),
            (Range::Device, Value::String(s)) => s.parse::<Place>().is_ok(),
            (Range::Size, Value::Integer(_) | Value::Array(_)) => {
                let size = value.clone().try_into::<ImageSize>();
                size.is_ok_and(|s| (1..=8192).contains(&s.0) && (1..=8192).contains(&s.1))
            }
            _ => false,
        };
        if legal {
            return Ok(value);
        }
        let hint = match (self.range, &value) {
            (Range::Choice(words), Value::String(s)) => suggestion(s, words.iter().copied()),
            _ => String::new(),
        };
        let shown = match &value {
            Value::String(text) => format!("{text:?}"),
            other => other.to_string(),
        };
        Err(Error::config(format!(
            "{} = {shown} is not usable: want {}{hint}",
            self.name, self.range
        )))
    }

    /// Reads the text after `--set key=`.
    pub fn parse(&self, text: &str) -> Result<Value> {
        let value = match self.range {
            Range::Text | Range::Choice(_) | Range::Device => Value::String(text.to_owned()),
            _ => match toml::from_str::<toml::Table>(&format!("value = {text}")) {
                Ok(mut table) if table.len() == 1 => {
                    table.remove("value").unwrap_or_else(|| Value::String(text.to_owned()))
                }
                _ => Value::String(text.to_owned()),
            },
        };
        self.check(value)
    }
}

/// `a == b`, which no constant can ask yet.
const fn equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// `; did you mean X?` for the nearest of `names`, or nothing when none is near.
pub(super) fn suggestion<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(given, names).map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// The nearest of `names`, where one is near.
pub(super) fn nearest<'a>(
    given: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(given, name);
    let nearest = names.into_iter().min_by_key(|name| distance(name));
    nearest.filter(|name| distance(name) <= 2 + name.len() / 3)
}

/// A named set of sizes and starting values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// 32 px, minutes on a laptop.
    Tiny,
    /// 64 px, hours on a laptop.
    Small,
    /// The original base model at 224 px.
    Base,
    /// The original large model at 224 px.
    Large,
}

impl Preset {
    /// Names on the command line, in the order of size.
    pub const NAMES: &'static [&'static str] = &["tiny", "small", "base", "large"];

    /// Sizes of the encoder that is pretrained.
    pub fn beit(self) -> BeitConfig {
        match self {
            Self::Tiny => BeitConfig::tiny(),
            Self::Small => BeitConfig::small(),
            Self::Base => BeitConfig::base_patch16_224(),
            Self::Large => BeitConfig::large_patch16_224(),
        }
    }

    /// Mean and deviation of its views: those of ImageNet where the original's recipe is followed.
    pub fn normalise(self) -> Normalise {
        match self {
            Self::Tiny | Self::Small => Normalise::Half,
            Self::Base | Self::Large => Normalise::Imagenet,
        }
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "tiny" => Ok(Self::Tiny),
            "small" => Ok(Self::Small),
            "base" => Ok(Self::Base),
            "large" => Ok(Self::Large),
            _ => Err(Error::config(format!(
                "unknown preset {name}: want one of {}{}",
                Self::NAMES.join(", "),
                suggestion(name, Self::NAMES.iter().copied())
            ))),
        }
    }
}

/// Height and width in pixels; a square one is written as its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SizeText", into = "SizeText")]
pub struct ImageSize(
    /// Height.
    pub usize,
    /// Width.
    pub usize,
);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum SizeText {
    Square(usize),
    Rectangle((usize, usize)),
}

impl From<SizeText> for ImageSize {
    fn from(text: SizeText) -> Self {
        match text {
            SizeText::Square(side) => Self(side, side),
            SizeText::Rectangle((height, width)) => Self(height, width),
        }
    }
}

impl From<ImageSize> for SizeText {
    fn from(size: ImageSize) -> Self {
        if size.0 == size.1 { Self::Square(size.0) } else { Self::Rectangle((size.0, size.1)) }
    }
}

impl From<(usize, usize)> for ImageSize {
    fn from((height, width): (usize, usize)) -> Self {
        Self(height, width)
    }
}
