//! Which of another project's tensors hold each of ours, and what the rest are.

use crate::cpu::Cpu;
use crate::models::config::EncoderConfig;
use crate::models::kind::ModelConfig;
use crate::ops::rel_pos_bias::relative_position_index;
use crate::shown;
use crate::weights::tensors::TensorPlace;
use crate::weights::{Dtype, Entry, ORIGINAL, Regrid, TensorFile};
use std::collections::BTreeMap;
use std::fmt;

/// End of the name of the number of batches that a batch norm has followed.
const COUNT: &str = ".num_batches_tracked";

/// What became of the tensors of another project's files.
#[derive(Clone, Debug, Default)]
pub struct ImportPlan {
    /// Each tensor of ours.
    pub taken: Vec<Taken>,
    /// Each tensor that is not used, and why.
    pub ignored: Vec<(String, &'static str)>,
}

/// Where a tensor of ours is from.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Its name.
    pub own: String,
    /// The tensors that hold its rows; none of a count that is left out.
    pub from: Vec<String>,
    /// How it was resized, where it was.
    pub regrid: Option<Regrid>,
}

/// What a tensor of ours is in their files.
pub(super) struct TheirNames {
    /// The tensors that hold its rows.
    pub(super) parts: Vec<String>,
    /// How they have to be resized to mean here what they mean there.
    pub(super) regrid: Option<Regrid>,
}

/// Their tensors by the names that are looked for: number of the file and name there.
pub(super) type There = BTreeMap<String, (usize, String)>;

/// Where each tensor of a model of these sizes lies, and the plan.
pub(super) fn translated(
    config: &ModelConfig,
    files: &[TensorFile],
    there: &There,
    theirs: impl Fn(&str) -> Option<TheirNames>,
) -> Result<(BTreeMap<String, TensorPlace>, ImportPlan), String> {
    let (mut places, mut plan) = (BTreeMap::new(), ImportPlan::default());
    let mut rest = there.clone();
    for param in config.layout(&Cpu::<f32>::new()).iter() {
        for entry in ORIGINAL.entries(param) {
            let own = || TheirNames { parts: vec![entry.name.clone()], regrid: None };
            let names = theirs(&entry.name).unwrap_or_else(own);
            let place = place(&entry, &names, files, there)?;
            names.parts.iter().for_each(|name| _ = rest.remove(name));
            let from = place.parts.iter().map(|(_, name)| name.clone()).collect();
            plan.taken.push(Taken { own: entry.name.clone(), from, regrid: place.regrid });
            places.insert(entry.name, place);
        }
    }
    for (name, (file, stored)) in &rest {
        let why = spare(config, name, &files[*file], stored)?;
        plan.ignored.push((stored.clone(), why));
    }
    Ok((places, plan))
}

/// Where the rows of `entry` lie, in these tensors.
fn place(
    entry: &Entry,
    names: &TheirNames,
    files: &[TensorFile],
    there: &There,
) -> Result<TensorPlace, String> {
    let part = |name: &String| {
        there.get(name).cloned().ok_or_else(|| {
            let here =
                if *name == entry.name { String::new() } else { format!(" ({})", entry.name) };
            format!("tensor {}{here} is missing", shown::name(name))
        })
    };
    if entry.name.ends_with(COUNT) {
        let parts = names.parts.iter().filter_map(|name| there.get(name).cloned());
        return count_place(entry, parts.collect(), files);
    }
    let parts = names.parts.iter().map(part).collect::<Result<Vec<_>, _>>()?;
    let rows = entry.shape[0] / parts.len();
    for (file, stored) in &parts {
        let found = &files[*file].tensors()[stored].shape;
        let want = [&[rows], &entry.shape[1..]].concat();
        if *found != want {
            let name = shown::name(stored);
            return Err(format!(
                "tensor {name} has shape {found:?}, the model's sizes want {want:?}"
            ));
        }
    }
    Ok(TensorPlace { shape: entry.shape.clone(), parts, regrid: names.regrid, count: false })
}

/// The place of the count of a batch norm, a single whole number there; files may leave it out.
fn count_place(
    entry: &Entry,
    parts: Vec<(usize, String)>,
    files: &[TensorFile],
) -> Result<TensorPlace, String> {
    for (file, stored) in &parts {
        let found = &files[*file].tensors()[stored];
        if found.elements() != 1 || found.dtype != Some(Dtype::I64) {
            let (name, shape) = (shown::name(stored), &found.shape);
            return Err(format!("tensor {name} has shape {shape:?}, want one whole number (I64)"));
        }
    }
    Ok(TensorPlace { shape: entry.shape.clone(), parts, regrid: None, count: true })
}

/// Why a tensor that the model has no place for may be left out; an error where nobody knows.
fn spare(
    config: &ModelConfig,
    name: &str,
    file: &TensorFile,
    stored: &str,
) -> Result<&'static str, String> {
    let encoder = match config {
        ModelConfig::Beit(sizes) => &sizes.encoder,
        ModelConfig::Classifier(sizes) => &sizes.encoder,
        ModelConfig::Segmenter(sizes) => &sizes.encoder,
        ModelConfig::Encoder(sizes) => sizes,
        ModelConfig::Bert(_) | ModelConfig::Dvae(_) | ModelConfig::Vae(_) => {
            return Err(unexplained(stored));
        }
    };
    if name.ends_with("relative_position_index") {
        return is_index(encoder, file, stored)
            .then_some("the index of the grid, which the sizes give")
            .ok_or_else(|| format!("tensor {} is not the index of its grid", shown::name(stored)));
    }
    let key_bias = ["key.bias", "k_bias"].iter().any(|end| name.ends_with(end));
    if key_bias {
        let zero = is_zero(file, stored);
        let other =
            || format!("tensor {} is not zero: BEiT has no bias of keys", shown::name(stored));
        return zero.then_some("a bias of keys, all zero").ok_or_else(other);
    }
    if let ModelConfig::Segmenter(sizes) = config {
        let beyond = format!("beit.encoder.layer.{}.", encoder.depth);
        if name.starts_with(&beyond) && sizes.taps[3] == encoder.depth && is_zero(file, stored) {
            return Ok("a block of zeros behind the last level, which changes nothing");
        }
        if ["beit.layernorm.", "beit.pooler.layernorm."].iter().any(|norm| name.starts_with(norm)) {
            return Ok("a norm behind the last block, which no level reads");
        }
    }
    let masks = ["mask_token", "beit.embeddings.mask_token"].contains(&name);
    match config {
        ModelConfig::Classifier(_) | ModelConfig::Segmenter(_) if masks => Ok("nothing is masked"),
        _ => Err(unexplained(stored)),
    }
}

fn unexplained(name: &str) -> String {
    format!("tensor {} is none of a model of this kind and these sizes", shown::name(name))
}

/// Whether all numbers of a tensor are 0.
pub(super) fn is_zero(file: &TensorFile, name: &str) -> bool {
    file.f32s(name).is_ok_and(|(_, values)| values.iter().all(|x| *x == 0.0))
}

fn is_index(encoder: &EncoderConfig, file: &TensorFile, name: &str) -> bool {
    let index = relative_position_index(encoder.grid());
    let n = encoder.tokens();
    file.i64s(name).is_ok_and(|(shape, values)| {
        shape == [n, n] && values.iter().zip(&index).all(|(a, b)| *a == i64::from(*b))
    })
}

/// A name with its numbers left out, and which of a layer's two tensors it is, for names that differ in these alone.
fn pattern(name: &str) -> String {
    let numbered = |part: &str| {
        let stem = part.trim_end_matches(|c: char| c.is_ascii_digit());
        let whole = stem.is_empty() || stem.ends_with('_');
        if whole && stem.len() < part.len() { format!("{stem}*") } else { part.to_owned() }
    };
    let mut parts: Vec<String> = name.split('.').map(numbered).collect();
    if let Some(last) =
        parts.last_mut().filter(|last| ["weight", "bias", "w", "b"].contains(&last.as_str()))
    {
        *last = "*".to_owned();
    }
    parts.join(".")
}

/// A line and how many tensors it is about.
type LineCount = (String, usize);

/// A line per kind of fate with its number of tensors, and below it a line per pattern of names.
impl fmt::Display for ImportPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |taken: &Taken| match &taken.from[..] {
            _ if taken.regrid.is_some() => "resized",
            [] => "left at 0",
            [one] if *one == taken.own => "matched",
            [_] => "renamed",
            _ => "joined",
        };
        let mut kinds: BTreeMap<&str, (usize, Vec<LineCount>)> = BTreeMap::new();
        let mut add = |kind: &'static str, line: Option<String>| {
            let (count, lines) = kinds.entry(kind).or_default();
            *count += 1;
            let Some(line) = line else { return };
            match lines.iter_mut().find(|(known, _)| *known == line) {
                Some((_, times)) => *times += 1,
                None => lines.push((line, 1)),
            }
        };
        for taken in &self.taken {
            let from: Vec<String> = taken.from.iter().map(|name| pattern(name)).collect();
            let line = match &from[..] {
                [] => pattern(&taken.own),
                from => format!("{} from {}", pattern(&taken.own), from.join(" + ")),
            };
            let line = match taken.regrid {
                Some(regrid) => format!("{line}, {regrid}"),
                None => line,
            };
            let kind = kind(taken);
            add(kind, (kind != "matched").then_some(line));
        }
        for (name, why) in &self.ignored {
            add("ignored", Some(format!("{}: {why}", pattern(name))));
        }
        for word in ["matched", "renamed", "joined", "resized", "left at 0", "ignored"] {
            let (count, lines) = kinds.get(word).cloned().unwrap_or_default();
            if word == "left at 0" && count == 0 {
                continue;
            }
            writeln!(f, "{word} {count}")?;
            for (line, times) in lines {
                let times = if times > 1 { format!(" ({times})") } else { String::new() };
                writeln!(f, "  {}{times}", shown::line(&line))?;
            }
        }
        Ok(())
    }
}
