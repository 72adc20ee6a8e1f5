//! `beit segment-train`: an encoder trained on as a segmenter (arXiv 2106.08254, §3.2;
//! `semantic_segmentation/mmcv_custom/train_api.py`).

mod start;

use crate::apply::frozen::broken_parameter;
use crate::apply::segment::{
    SegmentFigures, Windows, confusion_over, expect_classes, segment_examples,
};
use crate::config::{LossDivisor, SegmentRun};
use crate::data::pairs::{Pair, Pairs};
use crate::data::pixels::Normalise;
use crate::data::segment_view::{SegmentViewConfig, train_view};
use crate::data::{Split, Subset};
use crate::error::Result;
use crate::models::encoder::EncoderInput;
use crate::models::kind::ModelConfig;
use crate::models::segmenter::{IGNORED, SegmentSeen, Segmenter, SegmenterInput};
use crate::ops::Backend;
use crate::ops::batch_norm::Statistics;
use crate::optim::state::State;
use crate::optim::{Cosine, Poly, Rate, layer_id, layer_scale};
use crate::params::{Ctx, Grad, Layout, Params};
use crate::real::Float;
use crate::report::page::Page;
use crate::rng::{Philox, Purpose};
use crate::storage::Later;
use crate::tensor::{Ids, Master, Tensor};
use crate::train::drop_path;
use crate::train::length::Length;
use crate::train::start::StartModel;
use crate::train::summary::SegmentSummary;
use crate::train::task::{At, Extra, Part, Schedules, Task, Trained, Validation};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Sums since the last line of metrics; part of a checkpoint, so that a resumed run logs the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SegmentWindow {
    loss: f64,
    correct: u64,
    labelled: u64,
}

/// A crop and the classes of its pixels.
pub struct SegmentSample {
    /// `[Ih,Iw,3]`, normalised.
    pub view: Vec<f32>,
    /// `[Ih,Iw]`, 255 where there is none.
    pub labels: Vec<u8>,
}

/// Losses and best classes of the pixels of a part, on their way to the host, and what the batch norms saw.
pub struct PixelsSeen<B: Backend> {
    losses: Later<B::Master>, // [R], of the main head
    argmax: Later<u32>,       // [R]
    labels: Vec<u8>,          // [R]
    statistics: Arc<Statistics<B>>,
}

/// What the batch norms saw of the parts of the step that is under way.
pub struct StatisticsSeen<B: Backend>(Vec<Arc<Statistics<B>>>);

/// Nothing waits between two steps.
impl<B: Backend> Extra<B> for StatisticsSeen<B> {
    fn to_host(&self, _: &B) -> Vec<(String, Vec<f32>)> {
        Vec::new()
    }

    fn restore(&mut self, _: &B, _: &dyn Fn(&str) -> Result<Vec<f32>>) -> Result<()> {
        self.0.clear();
        Ok(())
    }
}

/// Model, views and settings of a run on one backend.
pub struct Segmentation<B: Backend> {
    config: SegmentRun,
    model: Segmenter<B>,
    start: StartModel,
    views: SegmentViewConfig,
    windows: Windows,
    /// What is trained on, opened to learn its classes.
    data: Arc<Pairs>,
}

impl<B: Backend> Segmentation<B> {
    /// Images `[B,Ih,Iw,3]` of a part.
    fn images(&self, bk: &B, samples: &[SegmentSample]) -> Tensor<B> {
        let (h, w) = self.model.config.encoder.image;
        let pixels = samples.iter().flat_map(|s| s.view.iter().copied()).collect();
        Tensor::from_f32(bk, pixels, &[samples.len(), h, w, 3])
    }

    /// Classes `[B,Ih,Iw]` of a part.
    fn labels(&self, bk: &B, samples: &[SegmentSample]) -> Ids<B> {
        let (h, w) = self.model.config.encoder.image;
        let labels = samples.iter().flat_map(|s| s.labels.iter().map(|&l| u32::from(l))).collect();
        Ids::from_vec(bk, labels, &[samples.len(), h, w])
    }

    /// Factors on the channels before the last layers of both heads.
    fn dropout(&self, bk: &B, part: &Part<SegmentSample>) -> Option<[Master<B>; 2]> {
        let (p, seed) = (self.config.dropout, self.config.common.seed);
        let (lo, hi) = (part.stream as u32, (part.stream >> 32) as u32);
        let mut rng = Philox::new(seed, Purpose::Dropout, lo, hi);
        let mut draw = |channels: usize| {
            let n = part.samples.len();
            let factor = |_| if rng.unit() < p { 0.0 } else { 1.0 / (1.0 - p) };
            let keep: Vec<f64> = (0..n * channels).map(factor).collect();
            Master::from_f64(bk, &keep, &[n, channels])
        };
        let sizes = &self.model.config;
        (p > 0.0).then(|| [draw(sizes.channels), draw(sizes.auxiliary)])
    }
}

impl<B: Backend> Task<B> for Segmentation<B> {
    type Config = SegmentRun;
    type Data = Arc<Pairs>;
    type Sample = SegmentSample;
    type Seen = PixelsSeen<B>;
    type Window = SegmentWindow;
    type Extra = StatisticsSeen<B>;
    type Summary = SegmentSummary;

    /// Batch norms look at all samples of a micro-batch.
    const WHOLE: bool = true;
    const FEWEST: u64 = 100;

    /// Learns the classes from the images to train on, and the sizes from the model to start from.
    fn new(bk: &B, config: &SegmentRun) -> Result<Self> {
        let data = Pairs::open_aloud(&config.recipe.data, &config.common.source(Split::Train))?;
        let (start, sizes) = start::starting(config, data.classes())?;
        let mut model = Segmenter::new(bk, &sizes);
        model.encoder.recompute = config.downstream.recompute;
        let normalise = start.normalise(config.downstream.normalise);
        let views = start::views(config, normalise, sizes.encoder.image)?;
        let windows = Windows::new(&sizes, config.stride)?;
        Ok(Self { config: config.clone(), model, start, views, windows, data: Arc::new(data) })
    }

    fn layout(&self) -> &Layout {
        &self.model.layout
    }

    fn open(&self, source: &str, split: Split) -> Result<Arc<Pairs>> {
        match split {
            Split::Train => Ok(self.data.clone()),
            Split::Test => {
                let pairs = Pairs::open_aloud(source, &self.config.common.source(split))?;
                expect_classes(source, pairs.classes(), &self.model.config.classes)?;
                Ok(Arc::new(pairs))
            }
        }
    }

    fn inputs(&self) -> Vec<(&'static str, u32)> {
        self.start.checksum().map(|sum| ("model", sum)).into_iter().collect()
    }

    fn start(&self, random: Vec<f32>) -> Result<Vec<f32>> {
        self.start.weights(random, |model| start::plan(model, &self.model))
    }

    /// Layer-wise decay; pyramid and heads are above all layers.
    fn lr_scale(&self, parameter: &str) -> f64 {
        let depth = self.model.config.encoder.depth;
        layer_scale(self.config.downstream.layer_decay, depth, layer_id(parameter, depth))
    }

    fn extra(&self, _: &B, _: &Params<B>) -> StatisticsSeen<B> {
        StatisticsSeen(Vec::new())
    }

    /// A varied crop and its classes.
    fn sampler(&self) -> impl Fn(Pair, u32) -> SegmentSample + Send + Sync + 'static {
        let (views, seed) = (self.views.clone(), self.config.common.seed);
        move |pair, epoch| {
            let mut rng = Philox::new(seed, Purpose::Augment, epoch, pair.index as u32);
            let (view, labels) = train_view(&views, &pair.image, &pair.labels, &mut rng);
            SegmentSample { view, labels }
        }
    }

    fn bytes(&self, sample: &SegmentSample) -> usize {
        4 * sample.view.len() + sample.labels.len()
    }

    /// Pixels; at least one, so that a step without any has a loss of 0.
    fn terms(&self, samples: &[SegmentSample], _: At) -> Result<usize> {
        let labels = samples.iter().flat_map(|s| &s.labels);
        let pixels = match self.config.divisor {
            LossDivisor::Labelled => labels.filter(|&&l| u32::from(l) != IGNORED).count(),
            LossDivisor::All => labels.count(),
        };
        Ok(pixels.max(1))
    }

    fn gradients(
        &self,
        bk: &B,
        w: &Params<B>,
        _: &StatisticsSeen<B>,
        part: &Part<SegmentSample>,
        g: &mut Params<B>,
    ) -> Option<PixelsSeen<B>> {
        let (images, labels) = (self.images(bk, part.samples), self.labels(bk, part.samples));
        let Part { range, whole, stream, scale, .. } = part;
        let (sizes, seed) = (&self.model.config.encoder, self.config.common.seed);
        let keep = drop_path(bk, sizes, *whole, range, seed, *stream);
        let dropout = self.dropout(bk, part);
        let encoder = EncoderInput { keep: Some(&keep), ..EncoderInput::of(&images) };
        let input = SegmenterInput { encoder, dropout: dropout.as_ref(), train: true };
        let scales = [*scale, self.config.auxiliary_weight * *scale];
        let grad = &mut Grad::new(Ctx::new(bk, w), g);
        let SegmentSeen { main, statistics, .. } =
            self.model.loss_and_gradients(grad, &input, &labels, scales);
        let labels = part.samples.iter().flat_map(|s| s.labels.iter().copied()).collect();
        let (losses, argmax) = (main.rows.read_later(bk), main.argmax.read_later(bk));
        Some(PixelsSeen { losses, argmax, labels, statistics: Arc::new(statistics) })
    }

    fn keep(&self, _: &B, extra: &mut StatisticsSeen<B>, seen: &[PixelsSeen<B>]) {
        extra.0.extend(seen.iter().map(|part| part.statistics.clone()));
    }

    /// Moves the running statistics, which lie among the weights.
    fn after_step(&self, bk: &B, state: &mut State<B>, extra: &mut StatisticsSeen<B>, _: At) {
        for statistics in extra.0.drain(..) {
            self.model.follow(bk, &statistics, &mut state.w);
        }
    }

    fn absorb(&self, seen: PixelsSeen<B>, window: &mut SegmentWindow) -> bool {
        let PixelsSeen { losses, argmax, labels, .. } = seen;
        let loss: f64 = losses.wait().iter().map(|x| x.to_f64()).sum();
        let labelled = |&(_, &label): &(_, &u8)| u32::from(label) != IGNORED;
        let argmax = argmax.wait();
        for (found, &label) in argmax.iter().zip(&labels).filter(labelled) {
            window.labelled += 1;
            window.correct += u64::from(*found == u32::from(label));
        }
        window.loss += loss;
        loss.is_finite()
    }

    fn diagnose(
        &self,
        bk: &B,
        w: &Params<B>,
        _: &StatisticsSeen<B>,
        part: &Part<SegmentSample>,
    ) -> String {
        let broken = |values: &[f64]| values.iter().any(|x| !x.is_finite());
        if let Some(name) = broken_parameter(bk, w) {
            return format!("parameter {name}");
        }
        let images = self.images(bk, part.samples);
        if broken(&images.to_f64(bk)) {
            return "the images".into();
        }
        let encoder = EncoderInput::of(&images);
        let input = SegmenterInput { encoder, dropout: None, train: true };
        let (levels, streams) = self.model.levels(Ctx::new(bk, w), &input);
        let taps = self.model.config.taps;
        if let Some(i) = streams.iter().position(|s| broken(&s.to_f64(bk))) {
            return format!("the residual stream at tap {}", taps[i]);
        }
        match levels.iter().position(|level| broken(&level.to_f64(bk))) {
            Some(i) => format!("level {i} of the pyramid"),
            None => "the logits".into(),
        }
    }

    fn schedules(&self, Length { total, .. }: Length) -> Schedules {
        let c = &self.config;
        let warmup = (c.recipe.warmup_steps as u64).min(total / 10);
        let (base, end, power) = (c.common.lr, c.recipe.min_lr, c.power);
        let lr = Rate::Poly(Poly { base, end, power, warmup, ratio: 1e-6, total });
        let decay = c.common.weight_decay;
        let weight_decay = Cosine { base: decay, end: decay, start: 0.0, warmup: 0, total };
        Schedules { lr, weight_decay }
    }

    fn metrics(
        &self,
        _: &B,
        _: &State<B>,
        _: &[SegmentSample],
        window: &SegmentWindow,
        _: At,
    ) -> (Vec<(&'static str, f64)>, String) {
        let pixels = window.labelled.max(1) as f64;
        let (loss, accuracy) = (window.loss / pixels, window.correct as f64 / pixels);
        let line = vec![("loss", loss), ("pixel_accuracy", accuracy)];
        (line, format!("loss {loss:.3}, pixel accuracy {accuracy:.3}"))
    }

    /// The score is mIoU.
    fn validate(
        &self,
        bk: &B,
        w: &Params<B>,
        _: &StatisticsSeen<B>,
        data: &Subset<Arc<Pairs>>,
    ) -> Result<Validation> {
        let of = (&self.model, w);
        let found = confusion_over(bk, of, &self.windows, &self.views, data, "validation")?.0;
        let seen = SegmentFigures::of(&found, &self.model.config.class_names())?;
        let figures =
            vec![("val_miou", seen.miou), ("val_macc", seen.macc), ("val_aacc", seen.aacc)];
        Ok(Validation { figures, score: Some(seen.miou) })
    }

    fn evaluate(&self, bk: &B, trained: &Trained<B, Self>) -> Result<SegmentSummary> {
        let of = (&self.model, trained.w);
        let (found, _) =
            confusion_over(bk, of, &self.windows, &self.views, trained.data, "evaluation")?;
        let figures = SegmentFigures::of(&found, &self.model.config.class_names())?;
        let name = |pair: &Pair| trained.data.all().name(pair.index);
        let examples = segment_examples(bk, of, &self.windows, &self.views, trained.data, name);
        let examples = (examples, self.model.config.classes.as_slice());
        Ok(SegmentSummary::new(trained, &self.config.downstream.model, figures, examples))
    }

    fn page(&self, summary: &SegmentSummary) -> Page {
        summary.page()
    }

    fn model(&self) -> (ModelConfig, Option<Normalise>) {
        let sizes = self.model.config.clone();
        (
            ModelConfig::Segmenter(sizes),
            Some(self.start.normalise(self.config.downstream.normalise)),
        )
    }
}
