//! What becomes of each tensor when a file is loaded into a model, decided before a value is read.
//!
//! A model is rarely loaded into its twin: fine-tuning takes an encoder with one table of relative
//! positions for all blocks into one with a table per block, at another image size, under another
//! head. Each of these is right where the caller means it and a silent mistake everywhere else, so
//! that a caller says what it accepts, and what happened can be printed and tested.

mod resize;
#[cfg(test)]
mod tests;

pub use resize::Regrid;

use super::names::{Entry, Naming};
use crate::error::Result;
use crate::params::{Layout, Param, arena_len};
use crate::shown;
use resize::PositionKind;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Relative-position table of all blocks.
const SHARED_TABLE: &str = "rel_pos_bias.relative_position_bias_table";

/// Relative-position table of one block, after `blocks.i.`.
const OWN_TABLE: &str = "attn.relative_position_bias_table";

/// Shapes of a file's tensors by name.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// What a caller accepts besides tensors that are there in the model's shape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allow<'a> {
    /// The table shared by all blocks may fill the tables of the single blocks.
    pub expand: bool,
    /// Tables of relative positions and absolute positions may be resized.
    pub resize: Option<Regrid>,
    /// Parameters whose names begin with one of these may keep their initial values, where the file
    /// has none or has them in another shape: `["head."]`.
    pub new: &'a [&'a str],
    /// Parameters whose names begin with one of these keep their initial values whatever the file has, and why.
    pub fresh: &'a [(&'a str, &'a str)],
    /// Beginnings of the names of tensors that only the file may have, and why they are ignored; where `None`, any
    /// tensor may be only there.
    pub spare: Option<&'a [(&'a str, &'a str)]>,
}

/// The reason beside the first beginning that `name` has.
fn reason<'a>(reasons: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    reasons.iter().find(|(beginning, _)| name.starts_with(beginning)).map(|(_, reason)| *reason)
}

/// What becomes of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// The file's tensor is taken as it is.
    Matched,
    /// The table `from`, shared by all blocks, is copied, resized where the grids differ.
    Expanded {
        /// Name in the file.
        from: String,
        /// The grids, where they differ.
        resize: Option<Regrid>,
    },
    /// The file's tensor is resized.
    Resized(Regrid),
    /// The model keeps its initial values, because of this.
    New(String),
    /// The file's tensor is not used, because of this.
    Ignored(String),
}

/// One tensor of a plan.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its name in the file; where the file lacks it, the name it would have.
    pub name: String,
    /// What becomes of it.
    pub fate: Fate,
    /// Where its values go; nowhere when it is ignored.
    target: Option<(Param, Entry)>,
}

/// What becomes of every tensor of the model, in the layout's order, and then of those that only the
/// file has.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// The tensors.
    pub tensors: Vec<Planned>,
    layout: Layout,
}

impl LoadPlan {
    /// Plans to fill `layout` from a file with tensors of these shapes and `naming`'s names. Names
    /// the first tensor that the caller does not accept.
    pub fn new(
        naming: &Naming,
        layout: &Layout,
        file: &Shapes,
        allow: &Allow,
    ) -> Result<Self, String> {
        let (mut tensors, mut used) = (Vec::new(), BTreeSet::new());
        for param in layout.iter() {
            for entry in naming.entries(param) {
                let fate = fate(naming, param, &entry, file, allow)?;
                match &fate {
                    Fate::Matched | Fate::Resized(_) => used.insert(entry.name.clone()),
                    Fate::Expanded { from, .. } => used.insert(from.clone()),
                    Fate::New(_) | Fate::Ignored(_) => false,
                };
                let target = Some((param.clone(), entry.clone()));
                tensors.push(Planned { name: entry.name, fate, target });
            }
        }
        let wanted: BTreeSet<String> = tensors.iter().map(|t| t.name.clone()).collect();
        for name in file.keys().filter(|name| !used.contains(*name)) {
            let why = match allow.spare {
                _ if reason(allow.fresh, name).is_some() => "new here",
                _ if wanted.contains(name) => "another shape here",
                None => "not in the model",
                Some(spare) => reason(spare, name)
                    .ok_or_else(|| format!("tensor {} is not in the model", shown::name(name)))?,
            };
            let fate = Fate::Ignored(why.to_owned());
            tensors.push(Planned { name: name.clone(), fate, target: None });
        }
        Ok(Self { tensors, layout: layout.clone() })
    }

    /// The parameters' values: those of the file, as `read` returns them by name, over `initial`.
    pub fn apply(
        &self,
        initial: Vec<f32>,
        read: impl Fn(&str) -> Result<Vec<f32>>,
    ) -> Result<Vec<f32>> {
        let mut values = initial;
        assert_eq!(values.len(), arena_len(&self.layout), "load plan: wrong number of values");
        for Planned { name, fate, target } in &self.tensors {
            let (from, resize) = match fate {
                Fate::Matched => (name, None),
                Fate::Expanded { from, resize } => (from, *resize),
                Fate::Resized(regrid) => (name, Some(*regrid)),
                Fate::New(_) | Fate::Ignored(_) => continue,
            };
            let (param, entry) = target.as_ref().expect("a used tensor has a place");
            let mut tensor = read(from)?;
            if let (Some(regrid), Some(positions)) = (resize, PositionKind::of(&param.name)) {
                tensor = positions.resize(&tensor, &entry.shape, &regrid)?;
            }
            entry.scatter(&tensor, &mut values[param.range.clone()]);
        }
        Ok(values)
    }
}

/// What becomes of `entry` of `param`, or why the caller cannot go on.
fn fate(
    naming: &Naming,
    param: &Param,
    entry: &Entry,
    file: &Shapes,
    allow: &Allow,
) -> Result<Fate, String> {
    if let Some(why) = reason(allow.fresh, &param.name) {
        return Ok(Fate::New(why.to_owned()));
    }
    let may_be_new = allow.new.iter().any(|prefix| param.name.starts_with(prefix));
    let new = |reason: String, otherwise: String| {
        if may_be_new { Ok(Fate::New(reason)) } else { Err(otherwise) }
    };
    let twin = file.get_key_value(&entry.name);
    let has_table = || param.name.starts_with("blocks.") && param.name.ends_with(OWN_TABLE);
    let shared = (allow.expand && twin.is_none() && has_table())
        .then(|| naming.name(SHARED_TABLE))
        .and_then(|name| file.get_key_value(&name));
    let Some((from, there)) = twin.or(shared) else {
        return new("not in the file".to_owned(), format!("tensor {} is missing", entry.name));
    };
    let here = &entry.shape;
    let resize = match (allow.resize, PositionKind::of(&param.name)) {
        (Some(grids), Some(positions)) if grids.from != grids.to => {
            positions.check(from, there, here, &grids)?;
            Some(grids)
        }
        _ if there == here => None,
        _ => {
            return new(
                format!("{there:?} in the file, {here:?} here"),
                format!("tensor {from} has shape {there:?}, the model has {here:?}"),
            );
        }
    };
    Ok(match (shared, resize) {
        (Some((from, _)), resize) => Fate::Expanded { from: from.clone(), resize },
        (None, Some(grids)) => Fate::Resized(grids),
        (None, None) => Fate::Matched,
    })
}

impl Fate {
    /// Its kind's place in [`KINDS`].
    fn kind(&self) -> usize {
        match self {
            Self::Matched => 0,
            Self::Expanded { .. } => 1,
            Self::Resized(_) => 2,
            Self::New(_) => 3,
            Self::Ignored(_) => 4,
        }
    }
}

/// The kinds of fate in the order in which a plan is printed.
const KINDS: [&str; 5] = ["matched", "expanded", "resized", "new", "ignored"];

/// The reason in brackets; nothing where there is none.
impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matched => Ok(()),
            Self::Expanded { from, resize: None } => write!(f, " ({from})"),
            Self::Expanded { from, resize: Some(grids) } => write!(f, " ({from}, {grids})"),
            Self::Resized(grids) => write!(f, " ({grids})"),
            Self::New(reason) | Self::Ignored(reason) => write!(f, " ({reason})"),
        }
    }
}

impl LoadPlan {
    /// A line per fate that any tensor has: how many, and which of those that are not taken as they are.
    pub fn lines(&self) -> Vec<String> {
        let text = self.to_string();
        let matched = text.lines().take(1).filter_map(|line| line.split(':').next());
        let others = text.lines().skip(1).filter(|line| line.contains(": "));
        matched.chain(others).map(|line| format!("  {line}")).collect()
    }
}

/// One line per kind of fate: how many tensors, and which.
impl fmt::Display for LoadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, word) in KINDS.iter().enumerate() {
            let of_kind = self.tensors.iter().filter(|t| t.fate.kind() == kind);
            let names: Vec<String> =
                of_kind.map(|t| format!("{}{}", shown::name(&t.name), t.fate)).collect();
            let colon = if names.is_empty() { "" } else { ": " };
            writeln!(f, "{word} {}{colon}{}", names.len(), names.join(", "))?;
        }
        Ok(())
    }
}
