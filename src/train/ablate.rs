//! `beit ablate`: which of BEiT's choices matter on data of one's own, a row per choice in the shape of the
//! paper's table 4 (arXiv 2106.08254).
//!
//! A row is a run of pretraining whose settings differ in one thing, then fine-tuning or a probe, each under the same
//! budget for every row, for several seeds. All of them are runs in folders below the one of the ablation, so that
//! what was stopped goes on where it was, and what is finished is read.

mod rows;
mod table;

pub use rows::{AblationChange, AblationMeasure, AblationRow, ROWS, chosen};
pub use table::{AblationCell, AblationLine, AblationSummary};

use crate::apply::classify::evaluate;
use crate::apply::opened::OpenedClassifier;
use crate::apply::probe::{Probed, probe};
use crate::config::{
    Downstream, FREE_KEYS, FinetuneRun, Layers, Preset, PretrainRun, ProbeRun, RunConfig,
    TokenizerRun, TrainConfig, to_table,
};
use crate::error::{Error, Result};
use crate::models::beit::MaskedImageModel;
use crate::models::kind::ModelConfig;
use crate::ops::Backend;
use crate::params::{Params, initial_values};
use crate::run::{Begin, note, write_json};
use crate::train::driver::train;
use crate::train::finetune::Finetuning;
use crate::train::pretrain::Pretraining;
use crate::train::tokenizer::TokenizerTraining;
use crate::weights::save_weights;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is compared, and on what.
pub struct Ablation {
    /// Rows, in the order of the table.
    pub rows: Vec<&'static AblationRow>,
    /// Seeds, each of which makes a run of every row.
    pub seeds: Vec<u64>,
    /// What a row is measured by.
    pub measure: AblationMeasure,
    /// Images to pretrain on.
    pub data: String,
    /// Labelled images to fine-tune or to probe on.
    pub train: String,
    /// Labelled images to measure on.
    pub test: String,
    /// The tokenizer of all rows; where there is none, one is trained on `data`.
    pub tokenizer: Option<String>,
    /// Settings of all pretraining runs.
    pub pretrain: Layers,
    /// Settings of all fine-tuning runs.
    pub finetune: Layers,
    /// Settings of all probes.
    pub probe: Layers,
    /// Settings of the tokenizer's run.
    pub tokenizer_run: Layers,
    /// The folder.
    pub out: PathBuf,
}

impl Ablation {
    /// Refuses settings of any row before the first runs.
    pub fn check(&self) -> Result<()> {
        for row in &self.rows {
            let folder = self.out.join("seed0").join(row.name);
            self.pretraining(row, 0, "tokenizer", &folder.join("beit"))?;
            self.fine_tuning(row, 0, &folder)?;
        }
        self.probing(0, &self.out).map(drop)
    }

    /// Runs what is not finished yet; `say` is told the table as it grows.
    pub fn run<B: Backend>(
        &self,
        bk: &B,
        say: &mut dyn FnMut(&AblationSummary) -> Result<()>,
    ) -> Result<AblationSummary> {
        let tokenizer = self.tokenizer(bk)?;
        let sources = [&self.data, &self.train, &self.test].map(Clone::clone);
        let mut summary = AblationSummary::new(self.measure, sources, &self.rows);
        for &seed in &self.seeds {
            for (line, row) in self.rows.iter().enumerate() {
                let cell = self.cell(bk, row, seed, &tokenizer)?;
                summary.lines[line].cells.push(cell);
                say(&summary)?;
            }
        }
        Ok(summary)
    }

    /// The folder of the tokenizer that all rows share.
    fn tokenizer<B: Backend>(&self, bk: &B) -> Result<String> {
        if let Some(given) = &self.tokenizer {
            return Ok(given.clone());
        }
        let out = self.out.join("tokenizer");
        let flags = [("data", self.data.as_str())];
        let config: TokenizerRun = with(&self.tokenizer_run, &flags, []).resolve_in(&out)?;
        train::<B, TokenizerTraining>(bk, &config, &out, &going_on())?;
        Ok(text(&out))
    }

    /// One row with one seed: read where it is finished, else run.
    fn cell<B: Backend>(
        &self,
        bk: &B,
        row: &AblationRow,
        seed: u64,
        tokenizer: &str,
    ) -> Result<AblationCell> {
        let folder = self.out.join(format!("seed{seed}")).join(row.name);
        let (beit, classifier) = (folder.join("beit"), folder.join("classifier"));
        let pretraining = self.pretraining(row, seed, tokenizer, &beit)?;
        let (fine_tuning, probing) =
            (self.fine_tuning(row, seed, &folder)?, self.probing(seed, &folder)?);
        let measure = match self.measure {
            AblationMeasure::Finetune => format!("{}{:?}", lasting(&fine_tuning)?, self.test),
            AblationMeasure::Probe => lasting(&probing)?,
        };
        let settings = crc32c::crc32c(format!("{}{measure}", lasting(&pretraining)?).as_bytes());
        let done = folder.join("result.json");
        if let Some(cell) = finished(&done, settings)? {
            return Ok(cell);
        }
        note(&format!("row {} with seed {seed}: {}", row.name, row.what));
        let started = Instant::now();
        if row.pretrained {
            train::<B, Pretraining<B>>(bk, &pretraining, &beit, &going_on())?;
        } else {
            untrained(bk, &pretraining, &beit)?;
        }
        let (accuracy, measured) = match self.measure {
            AblationMeasure::Finetune => {
                train::<B, Finetuning<B>>(bk, &fine_tuning, &classifier, &going_on())?;
                let opened = OpenedClassifier::open(bk, &classifier)?;
                let max_bad = fine_tuning.common.max_bad;
                let seen = evaluate(bk, &opened, &text(&classifier), &self.test, max_bad)?;
                (seen.figures.top1, seen.figures.images)
            }
            AblationMeasure::Probe => {
                let probed = Probed::open(bk, &probing.model, Preset::Tiny, seed)?;
                let summary = probe(bk, &probed, &probing)?;
                (summary.best_linear.0, summary.images.1)
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        let cell = AblationCell { seed, accuracy, measured, seconds, settings };
        write_json(&done, &cell)?;
        Ok(cell)
    }

    /// Settings of the pretraining of a row.
    fn pretraining(
        &self,
        row: &AblationRow,
        seed: u64,
        tokenizer: &str,
        out: &Path,
    ) -> Result<PretrainRun> {
        let usual: PretrainRun = self.pretrain.resolve()?;
        let set = row.changes.iter().map(|change| change.setting(&usual));
        let mut flags = vec![("data", self.data.as_str())];
        if row.needs_tokenizer() {
            flags.push(("tokenizer", tokenizer));
        }
        let mut layers = with(&self.pretrain, &flags, set);
        layers.flags.push(("seed", (seed as i64).into()));
        if row.pretrained { layers.resolve_in(out) } else { layers.resolve() }
    }

    /// Settings of the fine-tuning of a row.
    fn fine_tuning(&self, row: &AblationRow, seed: u64, folder: &Path) -> Result<FinetuneRun> {
        let encoder = text(&folder.join("beit"));
        let mut flags = vec![("data", self.train.as_str())];
        if row.pretrained {
            flags.push(("model", &encoder));
        } else {
            flags.extend([("model", Downstream::SCRATCH), ("like", &encoder)]);
        }
        let set = row.finetune.iter().map(|setting| (*setting).to_owned());
        let mut layers = with(&self.finetune, &flags, set);
        layers.flags.push(("seed", (seed as i64).into()));
        layers.resolve_in(&folder.join("classifier"))
    }

    /// Settings of the probe of a row.
    fn probing(&self, seed: u64, folder: &Path) -> Result<ProbeRun> {
        let encoder = text(&folder.join("beit"));
        let flags = [("model", encoder.as_str()), ("train", &self.train), ("test", &self.test)];
        let mut layers = with(&self.probe, &flags, []);
        layers.flags.push(("seed", (seed as i64).into()));
        layers.resolve()
    }
}

/// The settings that a result depends on.
fn lasting<C: RunConfig>(config: &C) -> Result<String> {
    let mut table = to_table(config)?;
    table.retain(|key, _| !FREE_KEYS.contains(&key) && key != "device");
    Ok(table.to_string())
}

/// What a row came to, where it is finished under the same settings.
fn finished(path: &Path, settings: u32) -> Result<Option<AblationCell>> {
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(None) };
    let cell: AblationCell = serde_json::from_str(&text)
        .map_err(|e| Error::format(path, format!("not a result of ablate: {e}")))?;
    if cell.settings != settings {
        let text = "made with other settings than these; give those again, or another --out";
        return Err(Error::format(path, text));
    }
    Ok(Some(cell))
}

/// The encoder of these settings at its initial weights, saved as a run saves it.
fn untrained<B: Backend>(bk: &B, config: &PretrainRun, out: &Path) -> Result<()> {
    let sizes = config.beit();
    let model = MaskedImageModel::new(bk, &sizes);
    let random = initial_values(&model.layout, config.common().seed);
    let w = Params::from_host(bk, &model.layout, &random);
    std::fs::create_dir_all(out).map_err(Error::io("cannot make", out))?;
    save_weights(bk, out, &ModelConfig::Beit(sizes), Some(config.normalise), &w)
}

/// `layers` with some text settings as flags, and with settings that stand over those of `--set`.
fn with(
    layers: &Layers,
    flags: &[(&'static str, &str)],
    set: impl IntoIterator<Item = String>,
) -> Layers {
    let mut layers = layers.clone();
    layers.flags.extend(flags.iter().map(|&(key, value)| (key, value.into())));
    layers.set.extend(set);
    layers
}

fn going_on() -> Begin {
    Begin { resume: true, ..Begin::default() }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
