//! The run folder: who may write to it, how it is started and how it is continued.

use super::changes::{record, refuse_edited};
use super::checkpoint::{Checkpoint, load_newest, write_checkpoint};
use super::metrics::{Curve, LINES, Lengths, Metrics, read_curves};
use crate::atomic::layer::{
    make_folders, make_own_folder, open_own, remove, rename, sync_entry, sync_folder,
};
use crate::atomic::{is_leftover, write_atomic};
use crate::config::{
    Changed, FORMAT, FREE_KEYS, RunConfig, document, same_run, saved_settings, to_table, words,
};
use crate::error::{Error, Result};
use crate::progress::note;
use crate::weights::{View, locate_model};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use toml::Table;

const LOCK: &str = ".lock";
/// Marks a finished run.
const SUMMARY: &str = "summary.json";

/// What [`RunDir::open`] found.
#[derive(Debug)]
pub enum Opened {
    /// A run that starts at step 0.
    Fresh(RunDir),
    /// A run that continues from a checkpoint.
    Resume(RunDir, Box<Checkpoint>),
    /// A run that is done; there is nothing to do.
    Finished,
}

/// A run folder that this process alone writes to, until it ends, however it ends.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    settings: Table,
    again: Again,
    metrics: Metrics,
    _lock: Lock,
}

/// What differs between a run and its continuation.
#[derive(Debug)]
struct Again {
    /// Step of the checkpoint that it continues from.
    step: u64,
    /// Whether it was finished.
    finished: bool,
    changes: Vec<Changed>,
    /// The new `config.toml`.
    document: String,
}

/// How a run takes its folder.
#[derive(Clone, Debug, Default)]
pub struct Begin {
    /// Whether to continue the run that is in it; else it must be new or empty.
    pub resume: bool,
    /// Settings that may then differ from those of the run, by key.
    pub allow: Vec<String>,
}

impl Begin {
    /// Continues with the settings as they were.
    pub fn resume() -> Self {
        Self { resume: true, allow: Vec::new() }
    }
}

/// Settings that say how long a run is: a finished one may be made longer.
const LENGTH: [&str; 2] = ["epochs", "steps"];

/// What a checkpoint holds beside tensors.
#[derive(Serialize, Deserialize)]
struct RunState<T> {
    #[serde(default = "first_format")]
    format: i64,
    /// The program that wrote it, for whoever asks.
    #[serde(default)]
    program: String,
    /// Settings of the run, but for those that change no weight.
    #[serde(default)]
    settings: Table,
    #[serde(default)]
    lengths: Lengths,
    trainer: T,
}

/// The fields of [`RunState`].
const FIELDS: [&str; 5] = ["format", "program", "settings", "lengths", "trainer"];
const PROGRAM: &str = concat!("beit ", env!("BEIT_VERSION"));

fn first_format() -> i64 {
    1
}

impl RunDir {
    /// Whether the folder is new or empty; an error where [`RunDir::open`] would refuse what is in it.
    pub fn is_new(path: &Path, begin: &Begin) -> Result<bool> {
        refuse_file(path)?;
        let empty = is_empty(path)?;
        if !empty && !path.join("config.toml").exists() {
            return Err(not_empty(path, "it holds other files; give an empty or new folder"));
        }
        if !empty && !begin.resume {
            // A run that is under way says more than that the folder is not empty.
            drop(lock(path)?);
            return Err(not_empty(path, "give --resume to continue that run, or another folder"));
        }
        Ok(empty)
    }

    /// Opens `path` for a run with these settings.
    ///
    /// Without `resume`, a folder that is not empty is refused. With it, the settings must be those
    /// of the folder but for the keys that are allowed to differ ([`same_run`]), and the length of a finished
    /// run; what differs is recorded by [`RunDir::accept_changes`]. The newest undamaged
    /// checkpoint is loaded, and without any the run starts at step 0. `note` gets lines meant for the user, such as a skipped checkpoint.
    pub fn open<C: RunConfig>(
        path: &Path,
        begin: &Begin,
        config: &C,
        mut note: impl FnMut(String),
    ) -> Result<Opened> {
        Self::is_new(path, begin)?;
        let settings = path.join("config.toml");
        let lock = lock(path)?;
        if settings.exists() && !begin.resume {
            // Somebody else was quicker.
            return Err(not_empty(path, "give --resume to continue that run, or another folder"));
        }
        remove_leftovers(path)?;
        let marked = path.join(SUMMARY).exists();
        let finished = marked && locate_model(path).is_ok();
        let mut allowed = begin.allow.clone();
        allowed.extend(LENGTH.iter().filter(|_| finished).map(|key| (*key).to_owned()));
        let (mut saved, mut changes) = (None, Vec::new());
        if settings.exists() {
            let was = saved_settings::<C>(&settings, &mut note)?;
            changes = same_run(&was, &to_table(config)?, &allowed)?;
            saved = Some(was);
        } else {
            write_atomic(&settings, document(config)?.as_bytes())?;
        }
        let longer = changes.iter().any(|c| LENGTH.contains(&c.key.as_str()));
        if finished && !longer {
            return Ok(Opened::Finished);
        }
        let folder = path.join("checkpoints");
        make_own_folder(&folder)?;
        remove_leftovers(&folder)?;
        let checkpoint = load_newest(&folder, &mut note)?;
        if marked && !finished {
            note(again(path, checkpoint.as_ref())?);
        }
        if let (Some(saved), Some(checkpoint)) = (&saved, &checkpoint) {
            let then = checkpoint.state::<RunState<Value>>()?.settings;
            refuse_edited(path, (checkpoint.step, then), saved, &allowed)?;
        }
        if begin.resume && checkpoint.is_none() {
            note(format!("{} holds no checkpoint: the run starts at step 0", path.display()));
        }
        let (step, lengths) = match &checkpoint {
            None => (0, Lengths::default()),
            Some(found) => (found.step, lengths(found, &mut note)?),
        };
        let metrics = Metrics::open(path, step, lengths, &mut note)?;
        changes.iter().for_each(|c| note(format!("resuming with another setting: {c}")));
        sync_folder(path)?;
        let (settings, document) = (to_table(config)?, document(config)?);
        let again = Again { step, finished, changes, document };
        let run = Self { path: path.to_path_buf(), settings, again, metrics, _lock: lock };
        Ok(match checkpoint {
            None => Opened::Fresh(run),
            Some(checkpoint) => Opened::Resume(run, Box::new(checkpoint)),
        })
    }

    /// True where `path` holds a finished run with these settings and its model; nothing else need exist
    /// any more.
    pub fn is_finished<C: RunConfig>(path: &Path, config: &C, allow: &[String]) -> Result<bool> {
        let settings = path.join("config.toml");
        if !settings.exists() || !path.join(SUMMARY).exists() || locate_model(path).is_err() {
            return Ok(false);
        }
        let saved = saved_settings::<C>(&settings, &mut |line| note(&line))?;
        let allowed: Vec<String> = allow.iter().cloned().chain(LENGTH.map(str::to_owned)).collect();
        let changes = same_run(&saved, &to_table(config)?, &allowed)?;
        Ok(!changes.iter().any(|c| LENGTH.contains(&c.key.as_str())))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a setting has another value than it had when the checkpoint was written.
    pub fn changed(&self, key: &str) -> bool {
        self.again.changes.iter().any(|changed| changed.key == key)
    }

    /// Makes the changes of settings that the run was opened with those of the folder, and a finished run one
    /// that goes on; what was there before is kept. Called when nothing speaks against them any more.
    pub fn accept_changes(&self) -> Result<()> {
        let Again { step, finished, changes, document } = &self.again;
        if !changes.is_empty() {
            record(&self.path, *step, changes)?;
            write_atomic(&self.path.join("config.toml"), document.as_bytes())?;
        }
        if *finished {
            let before = self.path.join(format!("summary-step-{step}.json"));
            rename(&self.path.join(SUMMARY), &before)?;
        }
        Ok(())
    }

    /// Appends a line to `metrics.jsonl` and a record to the TensorBoard events.
    pub fn log(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        self.metrics.log(step, values)
    }

    /// Adds a PNG picture of this width and height to the TensorBoard events.
    pub fn picture(
        &mut self,
        step: u64,
        tag: &str,
        size: (usize, usize),
        png: &[u8],
    ) -> Result<()> {
        self.metrics.picture(step, tag, size, png)
    }

    /// Saves a checkpoint; see [`write_checkpoint`].
    pub fn save(&mut self, step: u64, state: &impl Serialize, tensors: &[View]) -> Result<()> {
        let mut settings = self.settings.clone();
        settings.retain(|key, _| !FREE_KEYS.contains(&key));
        let lengths = self.metrics.sync()?;
        let program = PROGRAM.to_owned();
        let state = RunState { format: FORMAT, program, settings, lengths, trainer: state };
        let folder = self.path.join("checkpoints");
        make_own_folder(&folder)?;
        write_checkpoint(&folder, step, &state, tensors)
    }

    /// The newest undamaged checkpoint, and the logs as they were with it; nothing where there is none, and
    /// the logs are empty.
    pub fn back(&mut self, mut note: impl FnMut(String)) -> Result<Option<Box<Checkpoint>>> {
        let checkpoint = load_newest(&self.path.join("checkpoints"), &mut note)?;
        let (step, lengths) = match &checkpoint {
            None => (0, Lengths::default()),
            Some(found) => (found.step, lengths(found, &mut note)?),
        };
        self.metrics = Metrics::open(&self.path, step, lengths, &mut note)?;
        Ok(checkpoint.map(Box::new))
    }

    /// The trainer's state in a checkpoint of this folder.
    pub fn state<T: serde::de::DeserializeOwned>(&self, checkpoint: &Checkpoint) -> Result<T> {
        Ok(checkpoint.state::<RunState<T>>()?.trainer)
    }

    /// Everything logged so far that can be read, for the report.
    pub fn curves(&self) -> Vec<Curve> {
        read_curves(&self.path.join(LINES), |line| note(&line))
    }

    /// Writes `summary.json`, which marks the run as finished; call it last.
    pub fn finish(mut self, summary: &impl Serialize) -> Result<()> {
        self.metrics.sync()?;
        let summary = serde_json::to_value(summary)
            .map_err(|e| Error::Training(format!("summary cannot be written: {e}")))?;
        let mut fields = Map::from_iter([("format".to_owned(), Value::from(FORMAT))]);
        if let Value::Object(figures) = summary {
            fields.extend(figures);
        }
        let text = format!("{:#}\n", Value::Object(fields));
        write_atomic(&self.path.join(SUMMARY), text.as_bytes())
    }
}

/// How long the logs were at a checkpoint; names what a newer version has put into it.
fn lengths(checkpoint: &Checkpoint, note: &mut impl FnMut(String)) -> Result<Lengths> {
    let fields: Map<String, Value> = checkpoint.state()?;
    let state: RunState<Value> = checkpoint.state()?;
    if state.format > FORMAT {
        let unknown = fields.keys().filter(|key| !FIELDS.contains(&key.as_str()));
        note(format!(
            "{}: written by a newer version (format {}, this one knows up to {FORMAT}); fields that this \
             version does not know: {}",
            checkpoint.tensors.path().display(),
            state.format,
            words(unknown)
        ));
    }
    Ok(state.lengths)
}

/// What to say of a finished run whose model is gone; it can be made again from a checkpoint.
fn again(path: &Path, checkpoint: Option<&Checkpoint>) -> Result<String> {
    let text = format!("{} is marked as finished but holds no model", path.display());
    match checkpoint {
        Some(found) => Ok(format!("{text}; it is made again from step {}", found.step)),
        None => Err(Error::config(format!(
            "{text}, and no checkpoint to make it from; start again in another folder"
        ))),
    }
}

/// Takes a new or empty folder for the results of a command that cannot be continued; it stays locked
/// while the result lives.
pub fn claim(path: &Path) -> Result<Lock> {
    vacant(path)?;
    lock(path)
}

/// Refuses a folder that is not empty, and makes none: for what may yet turn out to be impossible.
pub fn vacant(path: &Path) -> Result<()> {
    refuse_file(path)?;
    if !is_empty(path)? {
        return Err(not_empty(path, "give an empty or new folder"));
    }
    Ok(())
}

fn refuse_file(path: &Path) -> Result<()> {
    if path.exists() && !path.is_dir() {
        let text = format!("{} is a file; --out needs a folder", path.display());
        return Err(Error::config(text));
    }
    Ok(())
}

fn not_empty(path: &Path, hint: &str) -> Error {
    Error::config(format!("{} is not empty: {hint}", path.display()))
}

/// True when nothing but our own lock and our own leftovers is there.
fn is_empty(path: &Path) -> Result<bool> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(e) => return Err(Error::io("cannot read", path)(e)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::io("cannot read", path))?;
        if entry.file_name() != LOCK && !is_leftover(&entry) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The operating system's locks on a folder. They end with the process, whatever ends that.
#[derive(Debug)]
pub struct Lock(Vec<File>);

impl Drop for Lock {
    fn drop(&mut self) {
        for file in &self.0 {
            // Closing the file would not be enough: a child process that another thread is about to start
            // has it open too until then. An error has nowhere to go, and the file is closed anyway.
            let _ = file.unlock();
        }
    }
}

/// Locks `.lock`, which every version does, and on Unix the folder itself, which nobody deletes while a
/// run is in it. Network file systems that lock no folders leave it at `.lock`.
fn lock(path: &Path) -> Result<Lock> {
    make_folders(path)?;
    sync_entry(path)?;
    let used = || Error::config(format!("{} is in use by another process", path.display()));
    let mut lock = Lock(Vec::new());
    if cfg!(unix) {
        let folder = File::open(path).map_err(Error::io("cannot read", path))?;
        match folder.try_lock() {
            Ok(()) => lock.0.push(folder),
            Err(TryLockError::WouldBlock) => return Err(used()),
            Err(TryLockError::Error(_)) => {}
        }
    }
    let name = path.join(LOCK);
    let file = open_own(OpenOptions::new().create(true).truncate(false).write(true), &name)?;
    match file.try_lock() {
        Ok(()) => lock.0.push(file),
        Err(TryLockError::WouldBlock) => return Err(used()),
        Err(TryLockError::Error(e)) => return Err(Error::io("cannot lock", &name)(e)),
    }
    Ok(lock)
}

/// Removes what a killed process left half written.
fn remove_leftovers(path: &Path) -> Result<()> {
    for entry in std::fs::read_dir(path).map_err(Error::io("cannot read", path))? {
        let entry = entry.map_err(Error::io("cannot read", path))?;
        if is_leftover(&entry) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}
