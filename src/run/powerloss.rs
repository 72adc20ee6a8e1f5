//! Power loss at every operation of a run that saves three checkpoints and finishes.
//!
//! The run is real and its operations are recorded. A model of the disk knows what of them is durable; at
//! every point, what is not is dropped, kept, torn or drawn by lot, the folder is laid out as the disk
//! would then show it, and must open with what the caller relied on.

use super::folder::Begin;
use super::{Opened, RunDir};
use crate::atomic::record::{FileOp, done, take};
use crate::config::{Preset, PretrainRun, RunConfig};
use crate::models::config::DvaeConfig;
use crate::models::kind::ModelConfig;
use crate::rng::{Philox, Purpose};
use crate::weights::{Slice, View, save_model};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tempfile::TempDir;

const RUN: &str = "above/run";
const STEPS: u64 = 3;

#[derive(Default)]
struct Node {
    /// Content of a file, and what a power loss leaves of it at least.
    content: Vec<u8>,
    durable: Vec<u8>,
    /// Entries of a folder, and changes to them that are not durable yet, each whole or not at all.
    folder: Option<BTreeMap<String, usize>>,
    changes: Vec<Vec<(String, Option<usize>)>>,
}

/// The disk below `root`; node 0 is `root` itself.
struct Disk<'a> {
    root: &'a Path,
    nodes: Vec<Node>,
}

/// A file's content, or nothing for a folder, by path.
type Remains = BTreeMap<String, Option<Vec<u8>>>;

fn change(entries: &mut BTreeMap<String, usize>, changes: &[(String, Option<usize>)]) {
    for (name, node) in changes {
        match node {
            Some(node) => entries.insert(name.clone(), *node),
            None => entries.remove(name),
        };
    }
}

impl<'a> Disk<'a> {
    fn new(root: &'a Path) -> Self {
        Self { root, nodes: vec![Node { folder: Some(BTreeMap::new()), ..Node::default() }] }
    }

    /// Entries of a folder as the running system sees them.
    fn entries(&self, folder: usize) -> BTreeMap<String, usize> {
        let mut entries = self.nodes[folder].folder.clone().expect("a folder");
        self.nodes[folder].changes.iter().for_each(|changes| change(&mut entries, changes));
        entries
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let inside = path.strip_prefix(self.root).expect("below the root");
        inside.iter().try_fold(0, |at, name| self.entries(at).get(name.to_str()?).copied())
    }

    /// The folder of `path` and its name there.
    fn place(&self, path: &Path) -> (usize, String) {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        (self.find(path.parent().expect("a folder")).expect("a folder"), name.to_owned())
    }

    fn create(&mut self, path: &Path, folder: Option<BTreeMap<String, usize>>) {
        if self.find(path).is_some() {
            return;
        }
        let (place, name) = self.place(path);
        self.nodes.push(Node { folder, ..Node::default() });
        let node = self.nodes.len() - 1;
        self.nodes[place].changes.push(vec![(name, Some(node))]);
    }

    fn file(&mut self, path: &Path) -> &mut Node {
        let node = self.find(path).unwrap_or_else(|| panic!("no {}", path.display()));
        &mut self.nodes[node]
    }

    fn apply(&mut self, op: &FileOp) {
        match op {
            FileOp::MakeFolder(path) => self.create(path, Some(BTreeMap::new())),
            FileOp::Create(path) => self.create(path, None),
            FileOp::Write(path, bytes) => self.file(path).content.extend(bytes),
            FileOp::Cut(path, length) => self.file(path).content.truncate(*length as usize),
            FileOp::Sync(path) => {
                let file = self.file(path);
                file.durable = file.content.clone();
            }
            FileOp::SyncFolder(path) => {
                let node = self.find(path).expect("a folder");
                let entries = self.entries(node);
                self.nodes[node].folder = Some(entries);
                self.nodes[node].changes.clear();
            }
            FileOp::Rename(from, to) => {
                let node = self.find(from).expect("a file");
                let ((place, old), (_, new)) = (self.place(from), self.place(to));
                self.nodes[place].changes.push(vec![(old, None), (new, Some(node))]);
            }
            FileOp::Remove(path) => {
                let (place, name) = self.place(path);
                self.nodes[place].changes.push(vec![(name, None)]);
            }
            FileOp::Saved(_) | FileOp::Finished => {}
        }
    }

    /// What is there after a power loss in which `entry` says whether a change of a folder lasts, and
    /// `data` how many quarters of what was written to a file do.
    fn after(&self, mut entry: impl FnMut() -> bool, mut data: impl FnMut() -> usize) -> Remains {
        let (mut remains, mut open) = (Remains::new(), vec![(0, String::new())]);
        while let Some((node, path)) = open.pop() {
            let Some(mut entries) = self.nodes[node].folder.clone() else {
                let Node { content, durable, .. } = &self.nodes[node];
                let kept = content.len().saturating_sub(durable.len()) * data() / 4;
                let torn = content.starts_with(durable).then(|| &content[..durable.len() + kept]);
                remains.insert(path, Some(torn.unwrap_or(durable).to_vec()));
                continue;
            };
            let lasting = self.nodes[node].changes.iter().filter(|_| entry());
            lasting.for_each(|changes| change(&mut entries, changes));
            open.extend(entries.into_iter().map(|(name, node)| (node, format!("{path}/{name}"))));
            remains.insert(path, None);
        }
        remains
    }
}

fn settings() -> PretrainRun {
    PretrainRun::preset(Preset::Tiny)
}

fn weights(step: u64) -> [f32; 3] {
    [step as f32, 0.5, -1.0]
}

fn save(run: &mut RunDir, step: u64) {
    run.log(step, &[("loss", step as f64)]).unwrap();
    let w = weights(step);
    run.save(step, &step, &[View::new("w", &[w.len()], Slice::F32(&w))]).unwrap();
}

/// Everything that a run does to files below `root`.
fn recorded(root: &Path) -> Vec<FileOp> {
    take();
    let out = root.join(RUN);
    let opened =
        RunDir::open(&out, &Begin::default(), &settings(), |line| panic!("{line}")).unwrap();
    let Opened::Fresh(mut run) = opened else { panic!("not fresh") };
    for step in 1..=STEPS {
        save(&mut run, step);
        done(FileOp::Saved(step));
    }
    let values = vec![0.5; DvaeConfig::test().parameters() as usize];
    let tensors = [View::new("w", &[values.len()], Slice::F32(&values))];
    save_model(&out, &ModelConfig::Dvae(DvaeConfig::test()), None, &tensors).unwrap();
    run.finish(&()).unwrap();
    done(FileOp::Finished);
    take()
}

/// Opens what a power loss left, which must be at least `step`, and goes on.
fn check(remains: &Remains, step: u64, finished: bool) -> Result<(), String> {
    let root = TempDir::new().unwrap();
    for (path, content) in remains {
        let path = root.path().join(path.trim_start_matches('/'));
        match content {
            None => std::fs::create_dir_all(path).unwrap(),
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
        }
    }
    let opened = RunDir::open(&root.path().join(RUN), &Begin::resume(), &settings(), |_| ());
    match opened.map_err(|e| e.to_string())? {
        Opened::Finished => return Ok(()),
        _ if finished => return Err("a finished run is not".into()),
        Opened::Fresh(_) if step > 0 => return Err(format!("step {step} is lost, all is")),
        Opened::Fresh(mut run) => save(&mut run, 1),
        Opened::Resume(_, found) if found.step < step => {
            return Err(format!("step {step} is lost, {} is there", found.step));
        }
        Opened::Resume(mut run, found) => {
            assert_eq!(found.tensors.f32s("w").unwrap().1, weights(found.step));
            save(&mut run, found.step + 1);
        }
    }
    Ok(())
}

#[test]
fn no_power_loss_takes_a_saved_step() {
    let root = TempDir::new().unwrap();
    let ops = recorded(root.path());
    let (mut disk, mut seen) = (Disk::new(root.path()), BTreeSet::new());
    let (mut step, mut finished, mut lost) = (0, false, Vec::new());
    for (number, op) in ops.iter().enumerate() {
        disk.apply(op);
        match op {
            FileOp::Saved(saved) => step = *saved,
            FileOp::Finished => finished = true,
            _ => {}
        }
        let mut all = vec![
            disk.after(|| false, || 0),
            disk.after(|| true, || 0),
            disk.after(|| true, || 2),
            disk.after(|| true, || 4),
        ];
        all.extend((0..8).map(|draw| {
            let (mut a, mut b) = (
                Philox::new(draw, Purpose::Check, number as u32, 0),
                Philox::new(draw, Purpose::Check, number as u32, 1),
            );
            disk.after(|| a.integer(1) == 0, || b.integer(4))
        }));
        for remains in all {
            if seen.insert((remains.clone(), step, finished)) {
                let result = check(&remains, step, finished);
                lost.extend(result.err().map(|text| format!("after {op:.80?}: {text}")));
            }
        }
    }
    take();
    assert!(ops.len() > 60 && seen.len() > 80, "{} operations, {} states", ops.len(), seen.len());
    assert!(lost.is_empty(), "{} of {} states:\n{}", lost.len(), seen.len(), lost.join("\n"));
}
