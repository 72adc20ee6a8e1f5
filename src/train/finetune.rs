//! `beit finetune`: an encoder trained on as a classifier (arXiv 2106.08254, §2.6; `run_class_finetuning.py`).

mod start;

use crate::apply::classify::{ClassifierFigures, Judgement, judge, mistakes};
use crate::apply::frozen::broken_parameter;
use crate::config::{FinetuneRun, Freeze};
use crate::data::class_view::{ClassViewConfig, eval_view, train_view};
use crate::data::mixing::{ImageMix, mix_images, soft_targets};
use crate::data::pixels::Normalise;
use crate::data::{Classified, Image, Labelled, MixConfig, Source, Split, Subset};
use crate::error::{Error, Result};
use crate::models::classifier::Classifier;
use crate::models::encoder::EncoderInput;
use crate::models::kind::ModelConfig;
use crate::ops::Backend;
use crate::ops::cross_entropy::Target;
use crate::optim::state::State;
use crate::optim::{layer_id, layer_scale};
use crate::params::{Ctx, Grad, Layout, Params};
use crate::real::Float;
use crate::report::page::Page;
use crate::report::picture::Picture;
use crate::rng::{Philox, Purpose};
use crate::storage::Later;
use crate::tensor::{Master, Tensor};
use crate::train::drop_path;
use crate::train::length::Length;
use crate::train::start::StartModel;
use crate::train::summary::FinetuneSummary;
use crate::train::task::{At, Part, Schedules, Task, Trained, Validation};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Sums since the last line of metrics; part of a checkpoint, so that a resumed run logs the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FinetuneWindow {
    loss: f64,
    correct: u64,
    images: u64,
}

/// A view and what it shows.
#[derive(Clone)]
pub struct ClassSample {
    /// `[Ih,Iw,3]`, normalised.
    pub view: Vec<f32>,
    /// Its class.
    pub label: u32,
    /// What the head is to say, `[K]`: the class, smoothed, and mixed where images are.
    pub target: Vec<f32>,
}

/// Losses and best classes of some images, on their way to the host, and their classes.
pub struct ClassesSeen<B: Backend> {
    losses: Later<B::Master>, // [B]
    argmax: Later<u32>,       // [B]
    labels: Vec<u32>,
}

/// Model, views and settings of a run on one backend.
pub struct Finetuning<B: Backend> {
    config: FinetuneRun,
    model: Classifier<B>,
    start: StartModel,
    views: ClassViewConfig,
    mixing: Option<MixConfig>,
    /// What is trained on, opened to learn its classes.
    data: Arc<Source>,
}

impl<B: Backend> Finetuning<B> {
    /// Tensors of a part: images `[B,Ih,Iw,3]` and targets `[B,K]`.
    fn batch(&self, bk: &B, samples: &[ClassSample]) -> (Tensor<B>, Master<B>) {
        let (b, (h, w)) = (samples.len(), self.model.config.encoder.image);
        let pixels = samples.iter().flat_map(|s| s.view.iter().copied()).collect();
        let targets = samples.iter().flat_map(|s| s.target.iter().copied()).collect();
        let classes = self.model.config.classes.len();
        (Tensor::from_f32(bk, pixels, &[b, h, w, 3]), Master::from_f32(bk, targets, &[b, classes]))
    }

    /// Judgements of all images of `data` by `w`, and how many cannot be read.
    fn judge(
        &self,
        bk: &B,
        w: &Params<B>,
        data: &Subset<Classified>,
    ) -> Result<(Vec<Judgement>, usize)> {
        let view = |image: &Image| eval_view(&self.views, image);
        let (found, bad) = judge(bk, (&self.model, w), data, view, "validation")?;
        if found.is_empty() {
            return Err(Error::config("none of the images to measure on can be read"));
        }
        Ok((found, bad.len()))
    }
}

impl<B: Backend> Task<B> for Finetuning<B> {
    type Config = FinetuneRun;
    type Data = Classified;
    type Sample = ClassSample;
    type Seen = ClassesSeen<B>;
    type Window = FinetuneWindow;
    type Extra = ();
    type Summary = FinetuneSummary;

    const FEWEST: u64 = 100;

    /// Learns the classes from the images to train on, and the sizes from the model to start from.
    fn new(bk: &B, config: &FinetuneRun) -> Result<Self> {
        let data = Source::open_aloud(&config.recipe.data, &config.common.source(Split::Train))?;
        let (start, sizes) = start::starting(config, data.classes())?;
        let mut model = Classifier::new(bk, &sizes);
        model.encoder.recompute = config.downstream.recompute;
        model.frozen = config.freeze == Freeze::Encoder;
        let views = start::views(
            config,
            start.normalise(config.downstream.normalise),
            sizes.encoder.image,
        )?;
        let mixing = config.mixing();
        Ok(Self { config: config.clone(), model, start, views, mixing, data: Arc::new(data) })
    }

    fn layout(&self) -> &Layout {
        &self.model.layout
    }

    fn open(&self, source: &str, split: Split) -> Result<Classified> {
        let source = match split {
            Split::Train => self.data.clone(),
            Split::Test => Arc::new(Source::open_aloud(source, &self.config.common.source(split))?),
        };
        Classified::new(source, &self.model.config.classes)
    }

    fn inputs(&self) -> Vec<(&'static str, u32)> {
        self.start.checksum().map(|sum| ("model", sum)).into_iter().collect()
    }

    fn start(&self, random: Vec<f32>) -> Result<Vec<f32>> {
        self.start.weights(random, |model| start::plan(model, &self.model))
    }

    /// Layer-wise decay; nothing of a frozen encoder moves.
    fn lr_scale(&self, parameter: &str) -> f64 {
        let depth = self.model.config.encoder.depth;
        let id = layer_id(parameter, depth);
        if self.model.frozen && !self.model.is_above_encoder(parameter) {
            return 0.0;
        }
        layer_scale(self.config.downstream.layer_decay, depth, id)
    }

    fn extra(&self, _: &B, _: &Params<B>) {}

    /// A varied view and its smoothed class.
    fn sampler(&self) -> impl Fn(Labelled, u32) -> ClassSample + Send + Sync + 'static {
        let (views, seed) = (self.views.clone(), self.config.common.seed);
        let (classes, smoothing) = (self.model.config.classes.len(), self.config.smoothing);
        move |item, epoch| {
            let mut rng = Philox::new(seed, Purpose::Augment, epoch, item.index as u32);
            let label = item.label.expect("a labelled source");
            let view = train_view(&views, &item.image, &mut rng);
            let target = soft_targets(&[ImageMix::UNMIXED], &[label], classes, smoothing);
            ClassSample { view, label, target }
        }
    }

    fn repeats(&self) -> usize {
        self.config.repeats
    }

    fn bytes(&self, sample: &ClassSample) -> usize {
        4 * (sample.view.len() + sample.target.len())
    }

    /// Mixes images and their targets.
    fn collate(&self, mut samples: Vec<ClassSample>, at: At) -> Vec<ClassSample> {
        if let Some(mixing) = &self.mixing {
            let (lo, hi) = (at.step as u32, (at.step >> 32) as u32);
            let mut rng = Philox::new(self.config.common.seed, Purpose::Mix, lo, hi);
            let ((h, w), classes) =
                (self.model.config.encoder.image, self.model.config.classes.len());
            let mixes = mixing.draw(samples.len(), h, w, &mut rng);
            let labels: Vec<u32> = samples.iter().map(|s| s.label).collect();
            let targets = soft_targets(&mixes, &labels, classes, self.config.smoothing);
            let mut views: Vec<_> =
                samples.iter_mut().map(|s| std::mem::take(&mut s.view)).collect();
            mix_images(&mixes, &mut views, w);
            let mixed = views.into_iter().zip(targets.chunks_exact(classes));
            for (sample, (view, target)) in samples.iter_mut().zip(mixed) {
                (sample.view, sample.target) = (view, target.to_vec());
            }
        }
        samples
    }

    /// Images.
    fn terms(&self, samples: &[ClassSample], _: At) -> Result<usize> {
        Ok(samples.len())
    }

    fn gradients(
        &self,
        bk: &B,
        w: &Params<B>,
        (): &(),
        part: &Part<ClassSample>,
        g: &mut Params<B>,
    ) -> Option<ClassesSeen<B>> {
        let (images, target) = self.batch(bk, part.samples);
        let Part { range, whole, stream, scale, .. } = part;
        let (sizes, seed) = (&self.model.config.encoder, self.config.common.seed);
        // A frozen encoder is used as it is in the end.
        let keep = (!self.model.frozen).then(|| drop_path(bk, sizes, *whole, range, seed, *stream));
        let input = EncoderInput { keep: keep.as_ref(), ..EncoderInput::of(&images) };
        let grad = &mut Grad::new(Ctx::new(bk, w), g);
        let losses = self.model.loss_and_gradients(grad, &input, &Target::Soft(&target), *scale);
        let labels = part.samples.iter().map(|s| s.label).collect();
        let (rows, argmax) = (losses.rows.read_later(bk), losses.argmax.read_later(bk));
        Some(ClassesSeen { losses: rows, argmax, labels })
    }

    fn absorb(&self, seen: ClassesSeen<B>, window: &mut FinetuneWindow) -> bool {
        let ClassesSeen { losses, argmax, labels } = seen;
        let loss: f64 = losses.wait().iter().map(|x| x.to_f64()).sum();
        let right = argmax.wait().iter().zip(&labels).filter(|(a, b)| a == b).count();
        window.loss += loss;
        window.correct += right as u64;
        window.images += labels.len() as u64;
        loss.is_finite()
    }

    fn diagnose(&self, bk: &B, w: &Params<B>, (): &(), part: &Part<ClassSample>) -> String {
        let broken = |values: &[f64]| values.iter().any(|x| !x.is_finite());
        if let Some(name) = broken_parameter(bk, w) {
            return format!("parameter {name}");
        }
        let (images, _) = self.batch(bk, part.samples);
        let (encoder, ctx) = (&self.model.encoder, Ctx::new(bk, w));
        let taps: Vec<usize> = (0..=encoder.depth()).collect();
        let streams = encoder.features(ctx, &EncoderInput::of(&images), &taps).taps;
        match streams.iter().position(|s| broken(&s.to_f64(bk))) {
            _ if broken(&images.to_f64(bk)) => "the images".into(),
            Some(0) => "the patch embedding".into(),
            Some(l) => format!("the residual stream after blocks.{}", l - 1),
            None => "the logits".into(),
        }
    }

    fn schedules(&self, length: Length) -> Schedules {
        let c = &self.config;
        Schedules::cosines(c, c.recipe.warmup_steps as u64, c.common.weight_decay, length)
    }

    /// The accuracy on training images is left out where they are mixed: then it is of no class.
    fn metrics(
        &self,
        _: &B,
        _: &State<B>,
        _: &[ClassSample],
        window: &FinetuneWindow,
        _: At,
    ) -> (Vec<(&'static str, f64)>, String) {
        let images = window.images as f64;
        let (loss, accuracy) = (window.loss / images, window.correct as f64 / images);
        if self.mixing.is_some() {
            return (vec![("loss", loss)], format!("loss {loss:.3}"));
        }
        let line = vec![("loss", loss), ("accuracy", accuracy)];
        (line, format!("loss {loss:.3}, accuracy {accuracy:.3}"))
    }

    /// The score is top-1.
    fn validate(
        &self,
        bk: &B,
        w: &Params<B>,
        (): &(),
        data: &Subset<Classified>,
    ) -> Result<Validation> {
        let found = self.judge(bk, w, data)?.0;
        let seen = ClassifierFigures::new(&found, &self.model.config.classes);
        let figures =
            vec![("val_loss", seen.nll), ("val_top1", seen.top1), ("val_top5", seen.top5)];
        Ok(Validation { figures, score: Some(seen.top1) })
    }

    fn evaluate(&self, bk: &B, trained: &Trained<B, Self>) -> Result<FinetuneSummary> {
        let (found, _) = self.judge(bk, trained.w, trained.data)?;
        let classes = &self.model.config.classes;
        let figures = ClassifierFigures::new(&found, classes);
        let name = |item: &Labelled| trained.data.all().source().name(item.index);
        let show = |image: &Image| {
            let view = eval_view(&self.views, image);
            let (h, w) = self.model.config.encoder.image;
            Picture::from_unit(&self.views.shown(&view), h, w)
        };
        let mistakes = mistakes(&found, classes, trained.data, name, show);
        Ok(FinetuneSummary::new(trained, &self.config.downstream.model, figures, mistakes))
    }

    fn page(&self, summary: &FinetuneSummary) -> Page {
        summary.page()
    }

    fn model(&self) -> (ModelConfig, Option<Normalise>) {
        let sizes = self.model.config.clone();
        (
            ModelConfig::Classifier(sizes),
            Some(self.start.normalise(self.config.downstream.normalise)),
        )
    }
}
