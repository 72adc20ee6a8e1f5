//! `beit dino`: an encoder that says of a view what a teacher says of other views of the same image (arXiv
//! 2104.14294; `main_dino.py`).
//!
//! The teacher has the student's weights averaged over steps. It is what a run ends with.
//!
//! `Deviation:` clip and decay are those of every training here: of the global norm, where the original clips each
//! tensor by itself; class token and positions are not decayed. The encoder is that of the preset.

mod figures;

pub use figures::DinoFigures;

use crate::apply::frozen::{broken_parameter, load_all, spread};
use crate::apply::masked::uploaded;
use crate::config::DinoRun;
use crate::data::contrast_view::ViewLaw;
use crate::data::geometry::RandomCrop;
use crate::data::pixels::{Normalise, PixelMap};
use crate::data::resize::Filter;
use crate::data::{Dataset, Image, Labelled, Source, Split, Subset};
use crate::error::{Error, Result};
use crate::models::dino::Dino;
use crate::models::encoder::EncoderInput;
use crate::models::kind::ModelConfig;
use crate::ops::Backend;
use crate::optim::state::State;
use crate::params::{Ctx, Grad, Layout, Params};
use crate::real::Float;
use crate::report::page::Page;
use crate::rng::{Philox, Purpose};
use crate::run::not_interrupted;
use crate::storage::Later;
use crate::tensor::{Master, Tensor};
use crate::train::drop_path;
use crate::train::follower::{Follower, encoder_alone};
use crate::train::length::Length;
use crate::train::summary::ViewsSummary;
use crate::train::task::{At, Extra, Part, Schedules, Task, Trained, Validation};
use figures::DinoSums;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Views that the teacher sees.
const GLOBAL: usize = 2;
/// Probabilities of blur and of solarisation of the two global views and of the local ones.
const BLUR: [f64; 3] = [1.0, 0.1, 0.5];
const SOLARISE: [f64; 3] = [0.0, 0.2, 0.0];
/// Images that the figures of a finished run are measured on.
const EVALUATED: usize = 1024;

/// Sums since the last line of metrics; part of a checkpoint, so that a resumed run logs the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DinoWindow {
    loss: f64,
    pairs: u64,
    entropy: f64,
    targets: u64,
}

/// Views of an image, those of the teacher first.
pub type ViewSample = Vec<Image>;

/// What the student and the teacher said of some images.
pub struct DinoSeen<B: Backend> {
    losses: Vec<Later<B::Master>>,
    entropies: Later<B::Master>, // [B,G]
    outputs: Master<B>,          // [B,G,K], the teacher's
}

/// The teacher.
pub struct DinoTeacher<B: Backend> {
    follower: Follower<B>,
    center: Master<B>, // [K]
}

impl<B: Backend> Extra<B> for DinoTeacher<B> {
    fn to_host(&self, bk: &B) -> Vec<(String, Vec<f32>)> {
        let center = Float::into_f32s(self.center.to_vec(bk));
        vec![("teacher".to_owned(), self.follower.to_host(bk)), ("center".to_owned(), center)]
    }

    fn restore(&mut self, bk: &B, find: &dyn Fn(&str) -> Result<Vec<f32>>) -> Result<()> {
        self.follower.restore(bk, &find("teacher")?)?;
        let (center, want) = (find("center")?, self.center.len());
        if center.len() != want {
            let text =
                format!("the checkpoint's center holds {} numbers, not {want}", center.len());
            return Err(Error::config(text));
        }
        self.center = Master::from_f32(bk, center, &[want]);
        Ok(())
    }
}

/// Model, views and settings of a run on one backend.
pub struct SelfDistillation<B: Backend> {
    config: DinoRun,
    model: Dino<B>,
    laws: [ViewLaw; 3],
}

impl<B: Backend> SelfDistillation<B> {
    fn views(&self) -> usize {
        GLOBAL + self.config.local_views
    }

    /// Pairs of a teacher's and another view of an image.
    fn pairs(&self) -> usize {
        GLOBAL * (self.views() - 1)
    }

    /// The views of an image, drawn from a stream.
    fn draw(laws: &[ViewLaw; 3], local: usize, image: &Image, rng: &mut Philox) -> ViewSample {
        let law = |view: usize| &laws[view.min(GLOBAL)];
        (0..GLOBAL + local).map(|view| law(view).draw(image, rng)).collect()
    }

    /// Some views of each image `[B·R,H,W,3]`, image by image.
    fn images(&self, bk: &B, samples: &[ViewSample], views: &Range<usize>) -> Tensor<B> {
        let images: Vec<&Image> = samples.iter().flat_map(|s| &s[views.clone()]).collect();
        let (mean, std) = self.config.normalise.moments();
        let size = self.laws[views.start.min(GLOBAL)].size;
        uploaded(bk, &images, &PixelMap::normalise(mean, std), size)
    }

    /// Views that share a size: global and local.
    fn groups(&self) -> impl Iterator<Item = Range<usize>> {
        [0..GLOBAL, GLOBAL..self.views()].into_iter().filter(|views| !views.is_empty())
    }

    /// Outputs of the teacher `[B,G,K]`.
    fn taught(&self, bk: &B, teacher: &DinoTeacher<B>, globals: &Tensor<B>) -> Master<B> {
        let t = self.model.outputs(teacher.follower.ctx(bk), &EncoderInput::of(globals));
        let shape = [t.rows() / GLOBAL, GLOBAL, t.cols()];
        t.reshape(&shape)
    }

    /// How the student follows the teacher on views that no step has seen.
    fn measure(
        &self,
        bk: &B,
        w: &Params<B>,
        teacher: &DinoTeacher<B>,
        data: &impl Dataset<Item = Labelled>,
    ) -> Result<DinoFigures> {
        let mut sums = DinoSums::new(self.config.head_outputs);
        for chunk in spread(data, EVALUATED).chunks(64) {
            not_interrupted()?;
            // No training epoch has such a number.
            let samples = load_all(data, chunk, |item| {
                let seed = self.config.common.seed;
                let mut rng = Philox::new(seed, Purpose::Augment, u32::MAX, item.index as u32);
                Self::draw(&self.laws, 0, &item.image, &mut rng)
            });
            if samples.is_empty() {
                continue;
            }
            let globals = self.images(bk, &samples, &(0..GLOBAL));
            let t = self.taught(bk, teacher, &globals);
            let (temperature, k) = (self.config.teacher_temperature, t.cols());
            let (q, entropies) = bk.teacher_distributions(&t, &teacher.center, temperature);
            let targets = bk.teacher_targets(&q, 0..GLOBAL).reshape(&[samples.len() * GLOBAL, k]);
            let s = self.model.forward(Ctx::new(bk, w), &EncoderInput::of(&globals)).0;
            let targets = (&targets, self.config.student_temperature);
            let losses = self.model.loss(bk, &s, targets, 0.0).0;
            sums.add(&losses.rows.to_f64(bk), &entropies.to_f64(bk), &q.to_f64(bk));
        }
        sums.figures().ok_or_else(|| Error::config("none of the images to measure on can be read"))
    }
}

impl<B: Backend> Task<B> for SelfDistillation<B> {
    type Config = DinoRun;
    type Data = Source;
    type Sample = ViewSample;
    type Seen = DinoSeen<B>;
    type Window = DinoWindow;
    type Extra = DinoTeacher<B>;
    type Summary = ViewsSummary<DinoFigures>;

    const FEWEST: u64 = 100;

    fn new(bk: &B, config: &DinoRun) -> Result<Self> {
        let mut model = Dino::new(bk, &config.dino());
        model.encoder.recompute = config.sizes.recompute;
        let DinoRun { local_min, crop_between, local_size, .. } = *config;
        let law = |kind: usize| ViewLaw {
            size: if kind < GLOBAL {
                model.config.encoder.image
            } else {
                (local_size.0, local_size.1)
            },
            crop: RandomCrop {
                scale: if kind < GLOBAL { (crop_between, 1.0) } else { (local_min, crop_between) },
                ..RandomCrop::default()
            },
            filter: Filter::Bicubic,
            flip: config.recipe.flip,
            blur: BLUR[kind],
            solarise: SOLARISE[kind],
        };
        let laws = [law(0), law(1), law(2)];
        Ok(Self { config: config.clone(), model, laws })
    }

    fn layout(&self) -> &Layout {
        &self.model.layout
    }

    fn open(&self, source: &str, split: Split) -> Result<Source> {
        Source::open_aloud(source, &self.config.common.source(split))
    }

    /// The teacher starts as the student does.
    fn extra(&self, bk: &B, w: &Params<B>) -> DinoTeacher<B> {
        let center = Master::zeros(bk, &[self.config.head_outputs]);
        DinoTeacher { follower: Follower::new(bk, w), center }
    }

    fn sampler(&self) -> impl Fn(Labelled, u32) -> ViewSample + Send + Sync + 'static {
        let (laws, local, seed) = (self.laws, self.config.local_views, self.config.common.seed);
        move |item, epoch| {
            let mut rng = Philox::new(seed, Purpose::Augment, epoch, item.index as u32);
            Self::draw(&laws, local, &item.image, &mut rng)
        }
    }

    fn bytes(&self, sample: &ViewSample) -> usize {
        sample.iter().map(|view| view.pixels.len()).sum()
    }

    /// Pairs of views.
    fn terms(&self, samples: &[ViewSample], _: At) -> Result<usize> {
        Ok(samples.len() * self.pairs())
    }

    fn gradients(
        &self,
        bk: &B,
        w: &Params<B>,
        teacher: &DinoTeacher<B>,
        part: &Part<ViewSample>,
        g: &mut Params<B>,
    ) -> Option<DinoSeen<B>> {
        let Part { samples, range, whole, stream, scale, at } = part;
        let globals = self.images(bk, samples, &(0..GLOBAL));
        let outputs = self.taught(bk, teacher, &globals);
        let (q, entropies) = bk.teacher_distributions(
            &outputs,
            &teacher.center,
            self.config.teacher_temperature_at(at.step),
        );
        let (sizes, seed, k) = (&self.model.config.encoder, self.config.common.seed, q.cols());
        let (mut losses, mut globals) = (Vec::new(), Some(globals));
        for views in self.groups() {
            let images = globals.take().unwrap_or_else(|| self.images(bk, samples, &views));
            let targets = bk.teacher_targets(&q, views.clone());
            let targets = targets.reshape(&[samples.len() * views.len(), k]);
            // All global views of the micro-batch lie before all local ones.
            let before = views.start * whole;
            let own = before + range.start * views.len()..before + range.end * views.len();
            let keep = drop_path(bk, sizes, self.views() * whole, &own, seed, *stream);
            let input = EncoderInput { keep: Some(&keep), ..EncoderInput::of(&images) };
            let grad = &mut Grad::new(Ctx::new(bk, w), g);
            let targets = (&targets, self.config.student_temperature);
            let seen = self.model.loss_and_gradients(grad, &input, targets, *scale);
            losses.push(seen.rows.read_later(bk));
        }
        if at.step < at.length.per_epoch * self.config.freeze_last_epochs as u64 {
            self.model.forget_last_layer(bk, g);
        }
        Some(DinoSeen { losses, entropies: entropies.read_later(bk), outputs })
    }

    /// Moves the centre.
    fn keep(&self, bk: &B, teacher: &mut DinoTeacher<B>, seen: &[DinoSeen<B>]) {
        let rows: usize = seen.iter().map(|part| part.outputs.rows()).sum();
        let momentum = self.config.center_momentum;
        let (mut keep, share) = (momentum, (1.0 - momentum) / rows.max(1) as f64);
        for part in seen {
            teacher.center = bk.follow_center(&teacher.center, &part.outputs, keep, share);
            keep = 1.0;
        }
    }

    /// Moves the teacher.
    fn after_step(&self, bk: &B, state: &mut State<B>, teacher: &mut DinoTeacher<B>, at: At) {
        let momentum = self.config.teacher_momentum(at.length.total).at(at.step);
        teacher.follower.follow(bk, &state.w, momentum);
    }

    /// The teacher's encoder.
    fn result(&self, bk: &B, _: &Params<B>, teacher: &DinoTeacher<B>) -> Option<Params<B>> {
        Some(encoder_alone(bk, &self.model.config.encoder, &teacher.follower.w))
    }

    fn absorb(&self, seen: DinoSeen<B>, window: &mut DinoWindow) -> bool {
        let sum = |later: Later<B::Master>| later.wait().iter().map(|x| x.to_f64()).sum::<f64>();
        let loss: f64 = seen.losses.into_iter().map(sum).sum();
        let images = seen.outputs.shape()[0];
        window.loss += loss;
        window.pairs += (images * self.pairs()) as u64;
        window.entropy += sum(seen.entropies);
        window.targets += (images * GLOBAL) as u64;
        loss.is_finite()
    }

    fn diagnose(
        &self,
        bk: &B,
        w: &Params<B>,
        teacher: &DinoTeacher<B>,
        part: &Part<ViewSample>,
    ) -> String {
        let broken = |values: &[f64]| values.iter().any(|x| !x.is_finite());
        if let Some(name) = broken_parameter(bk, w) {
            return format!("parameter {name}");
        }
        if let Some(name) = broken_parameter(bk, &teacher.follower.w) {
            return format!("the teacher's {name}");
        }
        let globals = self.images(bk, part.samples, &(0..GLOBAL));
        if broken(&self.taught(bk, teacher, &globals).to_f64(bk)) {
            return "the teacher's outputs".into();
        }
        "the student's outputs".into()
    }

    fn schedules(&self, length: Length) -> Schedules {
        let c = &self.config;
        Schedules::cosines(c, c.recipe.warmup_steps as u64, c.weight_decay_end, length)
    }

    fn metrics(
        &self,
        _: &B,
        _: &State<B>,
        _: &[ViewSample],
        window: &DinoWindow,
        _: At,
    ) -> (Vec<(&'static str, f64)>, String) {
        let loss = window.loss / window.pairs as f64;
        let entropy = window.entropy / window.targets as f64;
        let line = vec![
            ("loss", loss),
            ("teacher_entropy", entropy),
            ("chance", (self.config.head_outputs as f64).ln()),
        ];
        (line, format!("loss {loss:.3}, teacher's entropy {entropy:.3}"))
    }

    fn validate(
        &self,
        bk: &B,
        w: &Params<B>,
        teacher: &DinoTeacher<B>,
        data: &Subset<Source>,
    ) -> Result<Validation> {
        let seen = self.measure(bk, w, teacher, data)?;
        let figures = vec![
            ("val_loss", seen.loss),
            ("val_teacher_entropy", seen.entropy),
            ("val_outputs_entropy", seen.outputs_entropy),
        ];
        Ok(Validation { figures, score: None })
    }

    fn evaluate(&self, bk: &B, trained: &Trained<B, Self>) -> Result<ViewsSummary<DinoFigures>> {
        let figures = self.measure(bk, trained.w, trained.extra, trained.data)?;
        Ok(ViewsSummary::new(trained, figures))
    }

    fn page(&self, summary: &ViewsSummary<DinoFigures>) -> Page {
        summary.page()
    }

    fn model(&self) -> (ModelConfig, Option<Normalise>) {
        let sizes = self.model.config.encoder.clone();
        (ModelConfig::Encoder(sizes), Some(self.config.normalise))
    }
}
