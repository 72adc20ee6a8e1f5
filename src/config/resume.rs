//! When `--resume` may continue a run.

use super::layers::{Layers, read_versioned, to_table};
use super::{Preset, RunConfig};
use crate::error::{Error, Result};
use std::fmt;
use std::path::Path;
use toml::{Table, Value};

/// Keys that may differ between a run and its continuation: none of them changes a weight.
pub const FREE_KEYS: &[&str] =
    &["threads", "loader_threads", "checkpoint_every", "log_every", "recompute", "disk_full"];

/// Keys whose values name files: they are compared as places, however they are spelled.
const PLACES: &[&str] = &["data", "val", "init", "tokenizer", "model", "like"];

/// Keys whose values may change though that moves the last bits of a run.
const ROUNDING: &[&str] = &["device"];

/// A setting that differs between a run and its continuation.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The key.
    pub key: String,
    /// What the run was started with, if it was set.
    pub was: Option<Value>,
    /// What it is to go on with, if that is set.
    pub now: Option<Value>,
}

impl Changed {
    /// True where the place that was named is gone, as of a folder that was moved or a path that another
    /// folder's runs began from. What is in the new one is compared when a checkpoint is restored.
    fn moved(&self) -> bool {
        match (path(&self.was), path(&self.now)) {
            (Some(was), Some(now)) if PLACES.contains(&self.key.as_str()) => {
                !is_drawn(was) && !was.exists() && now.exists()
            }
            _ => false,
        }
    }

    fn rounding(&self) -> bool {
        ROUNDING.contains(&self.key.as_str())
    }

    /// True where both mean the same.
    fn same(&self) -> bool {
        let place =
            |value: &Option<Value>| path(value).filter(|path| !is_drawn(path))?.canonicalize().ok();
        let places = PLACES.contains(&self.key.as_str());
        self.was == self.now
            || places && place(&self.was).is_some_and(|was| Some(was) == place(&self.now))
    }
}

fn path(value: &Option<Value>) -> Option<&Path> {
    value.as_ref().and_then(Value::as_str).map(Path::new)
}

/// True for data that is drawn, not read.
fn is_drawn(spec: &Path) -> bool {
    spec.to_str().is_some_and(|spec| spec == "synthetic" || spec.starts_with("synthetic:"))
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show =
            |value: &Option<Value>| value.as_ref().map_or("not set".into(), Value::to_string);
        write!(f, "{} was {} and is now {}", self.key, show(&self.was), show(&self.now))?;
        if self.rounding() {
            f.write_str(" (bits will differ from those of a run that stayed)")?;
        }
        Ok(())
    }
}

impl Layers {
    /// The same for a run that continues in `folder`: what is not given is as it was there.
    pub fn resolve_in<C: RunConfig>(&self, folder: &Path) -> Result<C> {
        let settings = folder.join("config.toml");
        if !settings.exists() {
            return self.resolve();
        }
        // What is to be said about the file is said when the folder is opened.
        self.resolve_over(Some(saved_settings::<C>(&settings, &mut |_| ())?))
    }
}

/// What differs between the settings of a run and those of its continuation, if it may: the device, a
/// place that was moved, and the keys that are `allowed`. All that may not is named in the error. Free keys
/// do not count.
pub fn same_run(saved: &Table, now: &Table, allowed: &[String]) -> Result<Vec<Changed>> {
    let keys = now.keys().chain(saved.keys().filter(|key| !now.contains_key(*key)));
    let changes = keys.filter(|key| !FREE_KEYS.contains(&key.as_str())).map(|key| Changed {
        key: key.clone(),
        was: saved.get(key).cloned(),
        now: now.get(key).cloned(),
    });
    let (may, refused): (Vec<_>, Vec<_>) = changes
        .filter(|change| !change.same())
        .partition(|c| c.rounding() || c.moved() || allowed.contains(&c.key));
    if refused.is_empty() {
        return Ok(may);
    }
    let text: Vec<String> = refused.iter().map(Changed::to_string).collect();
    let keys: Vec<&str> = refused.iter().map(|change| change.key.as_str()).collect();
    Err(Error::config(format!(
        "cannot resume: {}; give the original command line again, or --allow-change {} (only {} and device \
         may differ without it)",
        text.join(", "),
        keys.join(","),
        FREE_KEYS.join(", ")
    )))
}

/// Keys that a version of the format added, the first that has them, and the value, in TOML, that was built
/// in before; keys that are not listed here had the preset's.
const ADDED: &[(&str, i64, &str)] = &[("val", 2, "\"none\""), ("orientation", 2, "\"stored\"")];

/// Commands and keys that they once had, which could have one value alone.
const DROPPED: &[(&str, &str)] = &[("dino", "ema"), ("mocov3", "accumulate")];

/// The settings of a run folder. A key that its version had not yet has the value that was built in then.
pub(crate) fn saved_settings<C: RunConfig>(
    path: &Path,
    note: &mut impl FnMut(String),
) -> Result<Table> {
    let (format, mut saved) = read_versioned::<C>(path)?;
    saved.retain(|key, _| !DROPPED.contains(&(C::KIND, key)));
    for key in C::KEYS {
        let Some(value) = saved.get_mut(key.name) else { continue };
        *value = key.check(value.clone()).map_err(|e| Error::format(path, e.to_string()))?;
    }
    if format > super::FORMAT {
        let unknown = saved.keys().filter(|key| C::KEYS.iter().all(|known| known.name != *key));
        note(format!(
            "{}: written by a newer version (format {format}, this one knows up to {}); settings that this \
             version does not know: {}",
            path.display(),
            super::FORMAT,
            words(unknown)
        ));
    }
    let preset =
        saved.get("preset").and_then(Value::as_str).map_or(Ok(Preset::Tiny), str::parse)?;
    Ok(completed(saved, format, to_table(&C::preset(preset))?, ADDED))
}

/// Names in a list, or that there are none.
pub(crate) fn words<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.map(|name| name.escape_debug().to_string()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn completed(mut saved: Table, format: i64, preset: Table, added: &[(&str, i64, &str)]) -> Table {
    for (key, value) in preset {
        let before = added.iter().find(|(name, since, _)| *name == key && format < *since);
        let before = before.map(|(_, _, text)| toml::from_str::<Table>(&format!("value = {text}")));
        let before = before.map(|table| table.expect("TOML in a table of ours")["value"].clone());
        saved.entry(key).or_insert(before.unwrap_or(value));
    }
    saved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DinoRun, MocoRun, document};

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn every_setting_that_differs_is_named() {
        let saved =
            table("lr = 0.1\nepochs = 3\nseed = 1\nprecision = \"f32\"\nthreads = 2\nold = 7");
        let now =
            table("lr = 0.2\nepochs = 3\nseed = 2\nprecision = \"bf16\"\nthreads = 9\nnew = 8");
        let text = same_run(&saved, &now, &[]).unwrap_err().to_string();
        for part in [
            "cannot resume: lr was 0.1 and is now 0.2, seed was 1 and is now 2",
            "precision was \"f32\" and is now \"bf16\"",
            "new was not set and is now 8, old was 7 and is now not set;",
            "--allow-change lr,seed,precision,new,old ",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let allowed = ["seed", "precision", "new", "old"].map(String::from);
        let text = same_run(&saved, &now, &allowed).unwrap_err().to_string();
        assert!(text.contains("--allow-change lr ") && !text.contains("seed"), "{text}");
        let allowed = [&allowed[..], &["lr".into()]].concat();
        let changed = same_run(&saved, &now, &allowed).unwrap();
        let keys: Vec<&str> = changed.iter().map(|c| &*c.key).collect();
        assert_eq!(keys, ["lr", "seed", "precision", "new", "old"]);
        assert_eq!((&changed[0].was, &changed[0].now), (&Some(0.1.into()), &Some(0.2.into())));
    }

    #[test]
    fn places_are_compared_by_meaning() {
        let folder = tempfile::TempDir::new().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::create_dir(&a).unwrap();
        std::fs::create_dir(&b).unwrap();
        let spelled = |path: &Path| {
            let path = path.display().to_string();
            Table::from_iter([("data".to_owned(), path.into())])
        };
        let here = std::env::current_dir().unwrap();
        let same = [
            (a.clone(), b.join("../a")),
            (a.clone(), folder.path().join("./a/")),
            (here.join("src"), "src".into()),
            ("src/".into(), here.join("src")),
        ];
        for (was, now) in same {
            assert_eq!(same_run(&spelled(&was), &spelled(&now), &[]).unwrap(), []);
        }
        // Another place is another setting, unless the first is gone.
        same_run(&spelled(&a), &spelled(&b), &[]).unwrap_err();
        let moved = same_run(&spelled(&a.join("gone")), &spelled(&b), &[]).unwrap();
        assert_eq!(moved[0].key, "data");
        // Drawn data has no place.
        for (was, now) in
            [("synthetic:8", "synthetic:9"), ("synthetic", "src"), ("src", "synthetic")]
        {
            same_run(&spelled(Path::new(was)), &spelled(Path::new(now)), &[]).unwrap_err();
        }
        let lr = |path: &str| Table::from_iter([("lr".to_owned(), path.into())]);
        same_run(&lr("src"), &lr("./src"), &[]).unwrap_err();
    }

    #[test]
    fn another_device_is_allowed_and_said() {
        for (was, now) in [("auto", "cpu"), ("cpu", "cuda:3"), ("cuda", "cpu")] {
            let of = |place: &str| table(&format!("device = {place:?}"));
            let changed = same_run(&of(was), &of(now), &[]).unwrap();
            let text = changed[0].to_string();
            assert!(text.ends_with("(bits will differ from those of a run that stayed)"), "{text}");
        }
    }

    #[test]
    fn keys_of_later_versions_have_what_was_built_in() {
        let (saved, preset) = (table("lr = 0.1"), table("lr = 0.5\nturn = true\nmore = 3"));
        let added = [("turn", 2, "false")];
        let old = completed(saved.clone(), 1, preset.clone(), &added);
        assert_eq!(old, table("lr = 0.1\nturn = false\nmore = 3"));
        assert_eq!(completed(saved, 2, preset, &added), table("lr = 0.1\nturn = true\nmore = 3"));
    }

    #[test]
    fn a_key_that_was_dropped_is_no_difference() {
        fn check<C: RunConfig>(dropped: &str) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let config = C::preset(Preset::Small);
            let text = document(&config).unwrap();
            std::fs::write(file.path(), format!("{text}{dropped}\n")).unwrap();
            let saved = saved_settings::<C>(file.path(), &mut |_| ()).unwrap();
            assert_eq!(
                same_run(&saved, &to_table(&config).unwrap(), &[]).unwrap(),
                [],
                "{dropped}"
            );
            let mut other = saved.clone();
            other.insert("unknown".into(), 1.into());
            same_run(&other, &to_table(&config).unwrap(), &[]).unwrap_err();
        }
        check::<DinoRun>("ema = 0.0");
        check::<MocoRun>("accumulate = 1");
    }

    #[test]
    fn what_was_built_in_is_toml() {
        for (key, _, text) in ADDED {
            assert!(toml::from_str::<Table>(&format!("{key} = {text}")).is_ok(), "{key}");
        }
    }
}
