//! `beit bert`: masked language modelling on bytes (arXiv 1810.04805, §3.1), with the encoder and the loop that images
//! have.
//!
//! `Deviation:` bytes in place of word pieces, one text at a time, no prediction of the next sentence; the head is one
//! linear layer of its own.

use crate::apply::frozen::broken_parameter;
use crate::apply::language::{
    ByteCounts, FilledText, Marked, TextFigures, evaluated, fill, measure, measure_counts,
    readable, text_batch,
};
use crate::config::BertRun;
use crate::data::pixels::Normalise;
use crate::data::text::{HiddenPiece, Piece};
use crate::data::{Split, Subset, Text};
use crate::error::{Error, Result};
use crate::models::bert::Bert;
use crate::models::config::BertConfig;
use crate::models::kind::ModelConfig;
use crate::ops::Backend;
use crate::optim::state::State;
use crate::params::{Ctx, Grad, Layout, Params};
use crate::real::Float;
use crate::report::page::{Page, Table};
use crate::storage::Later;
use crate::train::driver::sources;
use crate::train::drop_path;
use crate::train::length::Length;
use crate::train::task::{At, Part, Schedules, Task, Trained, Validation};
use serde::{Deserialize, Serialize};

/// Pieces that a report shows filled.
const FILLED: usize = 4;

/// Sums since the last line of metrics; part of a checkpoint, so that a resumed run logs the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BertWindow {
    loss: f64,
    correct: u64,
    chosen: u64,
}

/// What the model said of the chosen bytes of some pieces, on its way to the host.
pub struct SaidBytes<B: Backend> {
    losses: Later<B::Master>, // [M]
    argmax: Later<u32>,       // [M]
    bytes: Vec<u32>,          // [M]
}

/// What a finished run of `bert` reports; goes to `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BertSummary {
    /// Optimizer steps.
    pub steps: u64,
    /// How well the model predicts chosen bytes.
    #[serde(flatten)]
    pub figures: TextFigures,
    /// The same of counts of triples of the training text.
    pub trigram: TextFigures,
    /// Entropy in nats of the frequencies of the training text's bytes: what a guess knows that knows no neighbour.
    pub unigram_entropy: f64,
    /// ln 256: what one knows who knows nothing.
    pub uniform: f64,
    /// Pieces of text, as hidden, as filled, and as they are.
    pub completions: Vec<[String; 3]>,
    /// Pieces that were measured on.
    pub pieces: usize,
    /// Whether these were kept out of training.
    pub held_out: bool,
    /// Wall-clock seconds of the process that finished the run.
    pub seconds: f64,
}

impl BertSummary {
    /// Names, values of the model and of the counts, and units.
    pub fn in_words(&self) -> Vec<[String; 4]> {
        let (own, counts) = (&self.figures, &self.trigram);
        let row = |name: &str, own: f64, counts: f64, unit: &str| {
            [name.into(), format!("{own:.3}"), format!("{counts:.3}"), unit.into()]
        };
        vec![
            row("masked accuracy", own.masked_accuracy, counts.masked_accuracy, ""),
            row("loss", own.loss, counts.loss, "nats"),
            row("perplexity", own.perplexity, counts.perplexity, "of 256"),
        ]
    }

    fn page(&self) -> Page {
        let of = if self.held_out { "kept out of training" } else { "trained on" };
        let heading = format!("{} chosen bytes of {} pieces {of}", self.figures.bytes, self.pieces);
        let entropy = format!(
            "Single bytes of the training text have an entropy of {:.3} nats, perplexity {:.1}. The trigrams are counts of \
             that text, interpolated; they see what the model is shown in the place and in the two before it, and \
             nothing behind it.",
            self.unigram_entropy,
            self.unigram_entropy.exp()
        );
        let mut page = Page::new("BERT on bytes")
            .section(&heading)
            .table(Table::new(&["figure", "model", "trigrams", "unit"], 1).rows(self.in_words()))
            .text(&entropy)
            .section("Filled texts")
            .text("Hidden bytes are filled one by one, the surest first. Each text as hidden, as filled, and as it is:");
        for parts in &self.completions {
            page = parts.iter().fold(page, |page, part| page.code(part));
        }
        page
    }
}

/// Model and settings of a run on one backend.
pub struct LanguageTraining<B: Backend> {
    config: BertRun,
    model: Bert<B>,
}

impl<B: Backend> LanguageTraining<B> {
    /// A piece with its chosen bytes hidden, all of them, and filled.
    fn completion(&self, bk: &B, w: &Params<B>, sample: &HiddenPiece) -> Result<[String; 3]> {
        let mut symbols: Vec<u32> = sample.bytes.iter().map(|&byte| byte.into()).collect();
        sample.chosen.iter().for_each(|&place| symbols[place as usize] = BertConfig::MASK);
        let hidden = readable(&symbols);
        let FilledText { bytes, .. } = fill(bk, (&self.model, w), &Marked { symbols }, 1)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok([hidden, text(&bytes), text(&sample.bytes)])
    }
}

impl<B: Backend> Task<B> for LanguageTraining<B> {
    type Config = BertRun;
    type Data = Text;
    type Sample = HiddenPiece;
    type Seen = SaidBytes<B>;
    type Window = BertWindow;
    type Extra = ();
    type Summary = BertSummary;

    const FEWEST: u64 = 500;

    fn new(bk: &B, config: &BertRun) -> Result<Self> {
        let mut model = Bert::new(bk, &config.bert());
        model.encoder.recompute = config.sizes.recompute;
        Ok(Self { config: config.clone(), model })
    }

    fn layout(&self) -> &Layout {
        &self.model.layout
    }

    fn open(&self, source: &str, _: Split) -> Result<Text> {
        Text::open(source, self.config.length)
    }

    fn extra(&self, _: &B, _: &Params<B>) {}

    fn sampler(&self) -> impl Fn(Piece, u32) -> HiddenPiece + Send + Sync + 'static {
        let seed = self.config.common.seed;
        move |piece, epoch| piece.hide_in(seed, epoch)
    }

    fn bytes(&self, sample: &HiddenPiece) -> usize {
        sample.bytes.len() + size_of::<u32>() * (sample.shown.len() + sample.chosen.len())
    }

    /// Chosen bytes.
    fn terms(&self, samples: &[HiddenPiece], at: At) -> Result<usize> {
        match samples.iter().map(|sample| sample.chosen.len()).sum() {
            0 => Err(Error::Training(format!(
                "step {}: no byte of the batch is chosen, so there is no loss; give a larger --batch or length",
                at.step + 1
            ))),
            count => Ok(count),
        }
    }

    fn gradients(
        &self,
        bk: &B,
        w: &Params<B>,
        (): &(),
        part: &Part<HiddenPiece>,
        g: &mut Params<B>,
    ) -> Option<SaidBytes<B>> {
        let (mut batch, answers) = text_batch(bk, &self.model, part.samples);
        if answers.is_empty() {
            return None;
        }
        let Part { samples, range, whole, stream, scale, .. } = part;
        let (sizes, seed) = (&self.model.config.encoder, self.config.common.seed);
        batch.keep = Some(drop_path(bk, sizes, *whole, range, seed, *stream));
        let grad = &mut Grad::new(Ctx::new(bk, w), g);
        let losses = self.model.loss_and_gradients(grad, &batch, &answers, *scale);
        Some(SaidBytes {
            losses: losses.rows.read_later(bk),
            argmax: losses.argmax.read_later(bk),
            bytes: samples.iter().flat_map(HiddenPiece::answers).map(u32::from).collect(),
        })
    }

    fn absorb(&self, seen: SaidBytes<B>, window: &mut BertWindow) -> bool {
        let SaidBytes { losses, argmax, bytes } = seen;
        let loss: f64 = losses.wait().into_iter().map(Float::to_f64).sum();
        let right = argmax.wait().iter().zip(&bytes).filter(|(said, byte)| said == byte).count();
        window.loss += loss;
        window.correct += right as u64;
        window.chosen += bytes.len() as u64;
        loss.is_finite()
    }

    fn diagnose(&self, bk: &B, w: &Params<B>, (): &(), _: &Part<HiddenPiece>) -> String {
        broken_parameter(bk, w).map_or("the logits".into(), |name| format!("parameter {name}"))
    }

    fn schedules(&self, length: Length) -> Schedules {
        let c = &self.config;
        let warmup = c.recipe.warmup_steps as u64;
        Schedules::cosines(c, warmup, c.common.weight_decay, length)
    }

    fn metrics(
        &self,
        _: &B,
        _: &State<B>,
        _: &[HiddenPiece],
        window: &BertWindow,
        _: At,
    ) -> (Vec<(&'static str, f64)>, String) {
        let chosen = window.chosen as f64;
        let (loss, accuracy) = (window.loss / chosen, window.correct as f64 / chosen);
        let line = vec![("loss", loss), ("masked_accuracy", accuracy), ("perplexity", loss.exp())];
        (line, format!("loss {loss:.3}, accuracy {accuracy:.3}"))
    }

    fn validate(&self, bk: &B, w: &Params<B>, (): &(), data: &Subset<Text>) -> Result<Validation> {
        let samples = evaluated(data, self.config.common.seed);
        let seen = measure(bk, &self.model, w, &samples)?;
        let figures = vec![
            ("val_loss", seen.loss),
            ("val_masked_accuracy", seen.masked_accuracy),
            ("val_perplexity", seen.perplexity),
        ];
        Ok(Validation { figures, score: None })
    }

    fn evaluate(&self, bk: &B, trained: &Trained<B, Self>) -> Result<BertSummary> {
        let samples = evaluated(trained.data, self.config.common.seed);
        let figures = measure(bk, &self.model, trained.w, &samples)?;
        // What is measured on is not counted.
        let (text, _) = sources::<B, Self>(self, &self.config)?;
        let counts = ByteCounts::of(&text)?;
        let shown = samples.iter().filter(|sample| !sample.chosen.is_empty()).take(FILLED);
        let completions = shown.map(|sample| self.completion(bk, trained.w, sample));
        Ok(BertSummary {
            steps: trained.steps,
            figures,
            trigram: measure_counts(&counts, &samples),
            unigram_entropy: counts.entropy(),
            uniform: (BertConfig::BYTES as f64).ln(),
            completions: completions.collect::<Result<_>>()?,
            pieces: samples.len(),
            held_out: trained.held_out,
            seconds: trained.started.elapsed().as_secs_f64(),
        })
    }

    fn page(&self, summary: &BertSummary) -> Page {
        summary.page()
    }

    fn model(&self) -> (ModelConfig, Option<Normalise>) {
        (ModelConfig::Bert(self.model.config.clone()), None)
    }
}
