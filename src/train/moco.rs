//! `beit mocov3`: an encoder that tells the other view of an image from those of other images (arXiv 2104.02057;
//! `main_moco.py`, `moco/builder.py`).
//!
//! `Deviation:` decay is that of every training here: norms and biases are not decayed. The encoder is that of the
//! preset and starts as it does, with learned positions in place of fixed ones.

mod figures;

pub use figures::MocoFigures;

use crate::apply::frozen::{broken_parameter, load_all, spread};
use crate::apply::masked::uploaded;
use crate::config::MocoRun;
use crate::data::contrast_view::ViewLaw;
use crate::data::geometry::RandomCrop;
use crate::data::pixels::{Normalise, PixelMap};
use crate::data::resize::Filter;
use crate::data::{Dataset, Image, Labelled, Source, Split, Subset};
use crate::error::{Error, Result};
use crate::models::encoder::EncoderInput;
use crate::models::kind::ModelConfig;
use crate::models::moco::Moco;
use crate::ops::Backend;
use crate::ops::batch_norm::Statistics;
use crate::ops::convert::to_master;
use crate::optim::state::State;
use crate::params::{Ctx, Grad, Layout, Params};
use crate::real::Float;
use crate::report::page::Page;
use crate::rng::{Philox, Purpose};
use crate::run::not_interrupted;
use crate::storage::Later;
use crate::tensor::Tensor;
use crate::train::drop_path;
use crate::train::follower::{Follower, encoder_alone};
use crate::train::length::Length;
use crate::train::summary::ViewsSummary;
use crate::train::task::{At, Extra, Part, Schedules, Task, Trained, Validation};
use figures::MocoSums;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Views of an image.
const VIEWS: usize = 2;
/// Probabilities of blur and of solarisation of the two.
const BLUR: [f64; VIEWS] = [1.0, 0.1];
const SOLARISE: [f64; VIEWS] = [0.0, 0.2];
/// Images that the figures of a finished run are measured on, and how many are compared with each other.
const EVALUATED: usize = 1024;
const COMPARED: usize = 64;

/// Sums since the last line of metrics; part of a checkpoint, so that a resumed run logs the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MocoWindow {
    loss: f64,
    correct: u64,
    views: u64,
}

/// Two views of an image.
pub type ViewPair = [Image; VIEWS];

/// What the batch of a step saw.
pub struct MocoSeen<B: Backend> {
    losses: Vec<(Later<B::Master>, Later<u32>)>, // by view: [B] and best keys [B]
    statistics: Vec<Arc<Statistics<B>>>,
}

/// The momentum encoder, and what the batch norms saw in the step that is under way.
pub struct Momentum<B: Backend> {
    follower: Follower<B>,
    statistics: Vec<Arc<Statistics<B>>>,
}

impl<B: Backend> Extra<B> for Momentum<B> {
    fn to_host(&self, bk: &B) -> Vec<(String, Vec<f32>)> {
        vec![("momentum_encoder".to_owned(), self.follower.to_host(bk))]
    }

    fn restore(&mut self, bk: &B, find: &dyn Fn(&str) -> Result<Vec<f32>>) -> Result<()> {
        self.statistics.clear();
        self.follower.restore(bk, &find("momentum_encoder")?)
    }
}

/// Model, views and settings of a run on one backend.
pub struct Contrast<B: Backend> {
    config: MocoRun,
    model: Moco<B>,
    laws: [ViewLaw; VIEWS],
}

impl<B: Backend> Contrast<B> {
    /// View number `view` of each image `[B,H,W,3]`.
    fn images(&self, bk: &B, samples: &[ViewPair], view: usize) -> Tensor<B> {
        let images: Vec<&Image> = samples.iter().map(|pair| &pair[view]).collect();
        let (mean, std) = self.config.normalise.moments();
        uploaded(bk, &images, &PixelMap::normalise(mean, std), self.laws[view].size)
    }

    /// How well views of images that no step has seen are told apart.
    fn measure(
        &self,
        bk: &B,
        w: &Params<B>,
        momentum: &Momentum<B>,
        data: &impl Dataset<Item = Labelled>,
    ) -> Result<MocoFigures> {
        let (mut sums, seed) = (MocoSums::default(), self.config.common.seed);
        for chunk in spread(data, EVALUATED).chunks(COMPARED) {
            not_interrupted()?;
            // No training epoch has such a number.
            let samples = load_all(data, chunk, |item| {
                let mut rng = Philox::new(seed, Purpose::Augment, u32::MAX, item.index as u32);
                self.laws.map(|law| law.draw(&item.image, &mut rng))
            });
            if samples.len() < 2 {
                continue;
            }
            let [first, second] = [0, 1].map(|view| self.images(bk, &samples, view));
            let keys = self.model.keys(momentum.follower.ctx(bk), &EncoderInput::of(&second));
            let q = self.model.forward(Ctx::new(bk, w), &EncoderInput::of(&first)).0;
            let at = (&keys, self.config.temperature);
            let losses = self.model.loss(bk, &q, at, 0.0).0;
            let q = bk.unit_rows_forward(&to_master(bk, &q));
            sums.add(&losses.rows.to_f64(bk), &losses.argmax.to_vec(bk));
            sums.compare(&q.to_f64(bk), &keys.to_f64(bk), samples.len());
        }
        sums.figures(self.config.temperature)
            .ok_or_else(|| Error::config("fewer than two of the images to measure on can be read"))
    }
}

impl<B: Backend> Task<B> for Contrast<B> {
    type Config = MocoRun;
    type Data = Source;
    type Sample = ViewPair;
    type Seen = MocoSeen<B>;
    type Window = MocoWindow;
    type Extra = Momentum<B>;
    type Summary = ViewsSummary<MocoFigures>;

    const WHOLE: bool = true;
    const FEWEST: u64 = 100;

    fn new(bk: &B, config: &MocoRun) -> Result<Self> {
        let mut model = Moco::new(bk, &config.moco());
        model.encoder.recompute = config.sizes.recompute;
        let scale = (config.crops.crop_min, 1.0);
        let laws = std::array::from_fn(|view| ViewLaw {
            size: model.config.encoder.image,
            crop: RandomCrop { scale, ..RandomCrop::default() },
            filter: Filter::Bilinear,
            flip: config.recipe.flip,
            blur: BLUR[view],
            solarise: SOLARISE[view],
        });
        Ok(Self { config: config.clone(), model, laws })
    }

    fn layout(&self) -> &Layout {
        &self.model.layout
    }

    fn open(&self, source: &str, split: Split) -> Result<Source> {
        Source::open_aloud(source, &self.config.common.source(split))
    }

    fn lr_scale(&self, parameter: &str) -> f64 {
        let frozen = self.config.freeze_patch_embed && parameter.starts_with("patch_embed.");
        if frozen { 0.0 } else { 1.0 }
    }

    fn extra(&self, bk: &B, w: &Params<B>) -> Momentum<B> {
        Momentum { follower: Follower::new(bk, w), statistics: Vec::new() }
    }

    fn sampler(&self) -> impl Fn(Labelled, u32) -> ViewPair + Send + Sync + 'static {
        let (laws, seed) = (self.laws, self.config.common.seed);
        move |item, epoch| {
            let mut rng = Philox::new(seed, Purpose::Augment, epoch, item.index as u32);
            laws.map(|law| law.draw(&item.image, &mut rng))
        }
    }

    fn bytes(&self, sample: &ViewPair) -> usize {
        sample.iter().map(|view| view.pixels.len()).sum()
    }

    /// Images: the loss is the sum over both views.
    fn terms(&self, samples: &[ViewPair], _: At) -> Result<usize> {
        Ok(samples.len())
    }

    fn gradients(
        &self,
        bk: &B,
        w: &Params<B>,
        momentum: &Momentum<B>,
        part: &Part<ViewPair>,
        g: &mut Params<B>,
    ) -> Option<MocoSeen<B>> {
        let Part { samples, whole, stream, scale, .. } = part;
        let views = [0, 1].map(|view| self.images(bk, samples, view));
        let follower = momentum.follower.ctx(bk);
        let keys = [0, 1].map(|view| self.model.keys(follower, &EncoderInput::of(&views[view])));
        let mut seen = MocoSeen { losses: Vec::new(), statistics: Vec::new() };
        for (view, images) in views.iter().enumerate() {
            let (sizes, seed) = (&self.model.config.encoder, self.config.common.seed);
            let own = view * whole..(view + 1) * whole;
            let keep = drop_path(bk, sizes, VIEWS * whole, &own, seed, *stream);
            let input = EncoderInput { keep: Some(&keep), ..EncoderInput::of(images) };
            let grad = &mut Grad::new(Ctx::new(bk, w), g);
            let keys = (&keys[1 - view], self.config.temperature);
            let (losses, statistics) = self.model.loss_and_gradients(grad, &input, keys, *scale);
            seen.losses.push((losses.rows.read_later(bk), losses.argmax.read_later(bk)));
            seen.statistics.push(Arc::new(statistics));
        }
        Some(seen)
    }

    fn keep(&self, _: &B, momentum: &mut Momentum<B>, seen: &[MocoSeen<B>]) {
        momentum.statistics.extend(seen.iter().flat_map(|part| part.statistics.iter().cloned()));
    }

    /// Moves the running statistics, which lie among the weights, and the momentum encoder, as before the keys of the
    /// next step.
    fn after_step(&self, bk: &B, state: &mut State<B>, momentum: &mut Momentum<B>, at: At) {
        for statistics in momentum.statistics.drain(..) {
            self.model.follow(bk, &statistics, &mut state.w);
        }
        let kept = self.config.momentum(at.length.total).at(at.step + 1);
        momentum.follower.follow(bk, &state.w, kept);
    }

    /// The encoder that was trained.
    fn result(&self, bk: &B, w: &Params<B>, _: &Momentum<B>) -> Option<Params<B>> {
        Some(encoder_alone(bk, &self.model.config.encoder, w))
    }

    fn absorb(&self, seen: MocoSeen<B>, window: &mut MocoWindow) -> bool {
        let mut sum = 0.0;
        for (losses, best) in seen.losses {
            sum += losses.wait().iter().map(|x| x.to_f64()).sum::<f64>();
            let best = best.wait();
            let own = best.iter().enumerate().filter(|(i, best)| **best as usize == *i);
            window.correct += own.count() as u64;
            window.views += best.len() as u64;
        }
        window.loss += sum;
        sum.is_finite()
    }

    fn diagnose(
        &self,
        bk: &B,
        w: &Params<B>,
        momentum: &Momentum<B>,
        part: &Part<ViewPair>,
    ) -> String {
        if let Some(name) = broken_parameter(bk, w) {
            return format!("parameter {name}");
        }
        if let Some(name) = broken_parameter(bk, &momentum.follower.w) {
            return format!("the momentum encoder's {name}");
        }
        let views = self.images(bk, part.samples, 0);
        let keys = self.model.keys(momentum.follower.ctx(bk), &EncoderInput::of(&views));
        let broken = keys.to_f64(bk).iter().any(|x| !x.is_finite());
        if broken { "the keys".into() } else { "the queries".into() }
    }

    fn schedules(&self, length: Length) -> Schedules {
        let c = &self.config;
        Schedules::cosines(c, c.recipe.warmup_steps as u64, c.common.weight_decay, length)
    }

    fn metrics(
        &self,
        _: &B,
        _: &State<B>,
        samples: &[ViewPair],
        window: &MocoWindow,
        _: At,
    ) -> (Vec<(&'static str, f64)>, String) {
        let views = window.views as f64;
        // Both views, and the factor 2 T.
        let factor = 4.0 * self.config.temperature;
        let (loss, accuracy) = (factor * window.loss / views, window.correct as f64 / views);
        let chance = 1.0 / samples.len() as f64;
        let line = vec![("loss", loss), ("accuracy", accuracy), ("chance", chance)];
        (line, format!("loss {loss:.3}, right key {accuracy:.3} (chance {chance:.3})"))
    }

    fn validate(
        &self,
        bk: &B,
        w: &Params<B>,
        momentum: &Momentum<B>,
        data: &Subset<Source>,
    ) -> Result<Validation> {
        let seen = self.measure(bk, w, momentum, data)?;
        let figures = vec![
            ("val_loss", seen.loss),
            ("val_accuracy", seen.accuracy),
            ("val_similarity_of_others", seen.others),
        ];
        Ok(Validation { figures, score: None })
    }

    fn evaluate(&self, bk: &B, trained: &Trained<B, Self>) -> Result<ViewsSummary<MocoFigures>> {
        let figures = self.measure(bk, trained.w, trained.extra, trained.data)?;
        Ok(ViewsSummary::new(trained, figures))
    }

    fn page(&self, summary: &ViewsSummary<MocoFigures>) -> Page {
        summary.page()
    }

    fn model(&self) -> (ModelConfig, Option<Normalise>) {
        let sizes = self.model.config.encoder.clone();
        (ModelConfig::Encoder(sizes), Some(self.config.normalise))
    }
}
