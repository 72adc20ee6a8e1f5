//! The setting `device`: where a command computes.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Where a command computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Place {
    /// The first GPU where it can be used, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl Place {
    /// Legal values in words.
    pub const LEGAL: &'static str = "auto, cpu, cuda or one of cuda:0 to cuda:15";
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = |n: &str| n.parse().ok().filter(|i: &usize| *i < 16 && i.to_string() == n);
        match text {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(number).map(Self::Cuda),
        }
        .ok_or_else(|| Error::config(format!("want {}, not {text}", Self::LEGAL)))
    }
}

impl TryFrom<String> for Place {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(i) => write!(f, "cuda:{i}"),
        }
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers() {
        let read = |text: &str| text.parse::<Place>().map_err(|e| e.to_string());
        for (text, place, again) in [
            ("auto", Place::Auto, "auto"),
            ("cpu", Place::Cpu, "cpu"),
            ("cuda", Place::Cuda(0), "cuda"),
            ("cuda:0", Place::Cuda(0), "cuda"),
            ("cuda:15", Place::Cuda(15), "cuda:15"),
        ] {
            assert_eq!(read(text), Ok(place));
            assert_eq!(place.to_string(), again);
        }
        for text in ["", "gpu", "cuda:", "cuda:16", "cuda:-1", "cuda:+1", "cuda:01", "cuda:1 "] {
            assert_eq!(read(text), Err(format!("want {}, not {text}", Place::LEGAL)));
        }
    }
}
