//! Fields of other projects' configurations, believed as far as they go.

use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::shown;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Longest configuration that is read: class names of ImageNet-22k take 1.5 MiB in Hugging Face's.
const LONGEST: u64 = 8 << 20;

/// The object in a JSON file.
pub(super) fn read(path: &Path) -> Result<Map<String, Value>> {
    let length = std::fs::metadata(path).map_err(Error::io("cannot read", path))?.len();
    if length > LONGEST {
        let text = format!("{length} bytes are too many for a configuration");
        return Err(Error::format(path, text));
    }
    let bytes = std::fs::read(path).map_err(Error::io("cannot read", path))?;
    serde_json::from_slice(&bytes).map_err(|e| {
        let reason = shown::name(&e.to_string());
        Error::format(path, format!("is no configuration: want a JSON object ({reason})"))
    })
}

/// Fields of a file, named in errors.
pub(super) struct ForeignFields<'a> {
    pub(super) path: &'a Path,
    pub(super) fields: &'a Map<String, Value>,
}

impl ForeignFields<'_> {
    pub(super) fn wrong(&self, key: &str, want: &str) -> Error {
        let found = match self.fields.get(key) {
            None => "is missing".to_owned(),
            Some(value) => format!("is {}", shown::name(&value.to_string())),
        };
        Error::format(self.path, format!("{key} {found}, want {want}"))
    }

    /// A size.
    pub(super) fn size(&self, key: &str) -> Result<usize> {
        let size = self.fields.get(key).and_then(Value::as_u64).and_then(|n| n.try_into().ok());
        size.ok_or_else(|| self.wrong(key, "a whole number"))
    }

    /// A size, or what its absence means.
    pub(super) fn size_or(&self, key: &str, absent: usize) -> Result<usize> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(absent),
            Some(_) => self.size(key),
        }
    }

    /// Height and width, which one number gives too.
    pub(super) fn sides(&self, key: &str) -> Result<(usize, usize)> {
        let side = |value: &Value| value.as_u64().and_then(|n| n.try_into().ok());
        let sides = match self.fields.get(key) {
            Some(Value::Array(sides)) if sides.len() == 2 => side(&sides[0]).zip(side(&sides[1])),
            Some(value) => side(value).map(|n| (n, n)),
            None => None,
        };
        sides.ok_or_else(|| self.wrong(key, "a whole number or two, height and width"))
    }

    /// A number, or what its absence means.
    pub(super) fn real(&self, key: &str, absent: f64) -> Result<f64> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(absent),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(key, "a number")),
        }
    }

    /// A switch, or what its absence means.
    pub(super) fn flag(&self, key: &str, absent: bool) -> Result<bool> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(absent),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "true or false")),
        }
    }

    /// Mean and deviation of the views, where both keys are there.
    pub(super) fn normalise(&self, mean: &str, std: &str) -> Result<Option<Normalise>> {
        let three = |key: &str| -> Option<[f32; 3]> {
            let values =
                self.fields.get(key)?.as_array()?.iter().map(|v| v.as_f64().map(|x| x as f32));
            values.collect::<Option<Vec<f32>>>()?.try_into().ok()
        };
        if self.fields.get(mean).is_none() && self.fields.get(std).is_none() {
            return Ok(None);
        }
        let found = three(mean).zip(three(std));
        let known = [Normalise::Half, Normalise::Imagenet];
        let one = known.into_iter().find(|n| found == Some(n.moments()));
        one.map(Some).ok_or_else(|| {
            let text = "(with its std) that of ImageNet or 0.5, the two that are known here";
            self.wrong(mean, text)
        })
    }
}

/// The decimal that was meant by an `f32`.
pub(super) fn decimal(x: f32) -> f64 {
    x.to_string().parse().expect("a number")
}

/// Fields of `config.json` that a head has.
pub(super) type HeadFields = Vec<(&'static str, Value)>;

/// Classes and their numbers.
pub(super) fn labels(classes: &[String]) -> HeadFields {
    let names = classes.iter().enumerate();
    let labels: Map<_, _> = names.clone().map(|(i, name)| (i.to_string(), json!(name))).collect();
    let ids: Map<_, _> = names.map(|(i, name)| (name.clone(), json!(i))).collect();
    vec![("id2label", json!(labels)), ("label2id", json!(ids))]
}
