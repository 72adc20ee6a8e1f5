//! Labelled images with their classes numbered as a model numbers them.

use super::dataset::{Dataset, Labelled};
use super::source::Source;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Names that a message has room for.
const NAMED: usize = 8;

/// A source each of whose images has a class of a list.
pub struct Classified {
    source: Arc<Source>,
    /// By class of the source, its place in the list.
    places: Vec<u32>,
}

impl Classified {
    /// The images of `source`, its classes matched by name with `classes`. An image without a class and a class that
    /// is not in the list are named.
    pub fn new(source: Arc<Source>, classes: &[String]) -> Result<Self> {
        if let Some(image) = (0..source.len()).find(|&i| source.label(i).is_none()) {
            return Err(Error::config(format!(
                "{}: has no class: put the images of each class into a folder of its name",
                source.name(image)
            )));
        }
        let all: BTreeMap<&String, u32> = classes.iter().zip(0..).collect();
        let own = source.classes();
        let unknown: Vec<&String> = own.iter().filter(|name| !all.contains_key(name)).collect();
        if !unknown.is_empty() {
            return Err(Error::config(format!(
                "the model does not know {}: it tells apart {}",
                listed(&unknown),
                listed(&classes.iter().collect::<Vec<_>>())
            )));
        }
        let places = own.iter().filter_map(|name| all.get(name).copied()).collect();
        Ok(Self { source, places })
    }

    /// The source.
    pub fn source(&self) -> &Source {
        &self.source
    }
}

/// Names in quotes, as many as there is room for; what a terminal would obey is escaped.
pub(crate) fn listed(names: &[&String]) -> String {
    let shown = names.iter().take(NAMED).map(|name| format!("{name:?}"));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl Dataset for Classified {
    type Item = Labelled;

    fn len(&self) -> usize {
        self.source.len()
    }

    fn checksum(&self) -> u32 {
        self.source.checksum()
    }

    fn contents(&self, all: bool) -> u32 {
        self.source.contents(all)
    }

    fn item(&self, i: usize) -> Result<Labelled> {
        let item = self.source.item(i)?;
        let label = item.label.map(|own| self.places[own as usize]);
        Ok(Labelled { label, ..item })
    }
}
