//! `beit bench step`: whole masked-image-modelling steps on data that lies in memory: forward,
//! backward, clipping, AdamW. `benches/peers/torch_step.py` times the same work in PyTorch.

use crate::bench::{Times, peak_memory_mib, processor_seconds};
use crate::error::Result;
use crate::models::beit::{MaskedBatch, MaskedImageModel, forward_flops, masked_rows};
use crate::models::config::{BeitConfig, DvaeConfig};
use crate::models::dvae::Dvae;
use crate::ops::Backend;
use crate::ops::adamw::{AdamW, Segment};
use crate::ops::cross_entropy::{Losses, Target};
use crate::optim::state::State;
use crate::params::{Ctx, Grad, Params, compact, initial_values, parameter_count};
use crate::real::Float;
use crate::rng::{Philox, Purpose};
use crate::tensor::{Ids, Master, Tensor};
use crate::train::drop_path;
use rand_distr::{Distribution, StandardNormal};
use serde::Serialize;
use std::ops::Range;
use std::time::Instant;

/// What is timed.
pub struct StepBench {
    /// Sizes of the encoder.
    pub config: BeitConfig,
    /// Hidden patches of each image.
    pub masked: usize,
    /// Images of a step.
    pub batch: usize,
    /// Timed steps.
    pub steps: usize,
    /// Whether blocks are computed again in backward.
    pub recompute: bool,
    /// Also turn images into tokens in every step.
    pub tokenizer: Option<DvaeConfig>,
}

/// What was measured.
#[derive(Serialize)]
pub struct StepResult {
    /// Images of a step.
    pub batch: usize,
    /// Trainable numbers.
    pub params: usize,
    /// Threads that worked.
    pub threads: usize,
    /// Median step.
    pub step_ms: f64,
    /// Shortest and longest step.
    pub step_ms_range: [f64; 2],
    /// From the median step.
    pub images_per_s: f64,
    /// Matrix products of forward and backward over the median step.
    pub gflops: f64,
    /// Best rate of plain matrix products on the same device in this process.
    pub matmul_gflops: f64,
    /// `gflops / matmul_gflops`.
    pub fraction_of_matmul: f64,
    /// Largest resident size of the process.
    pub peak_mem_mib: Option<f64>,
    /// Median milliseconds of each section; where parts of a batch run at the same time, their share
    /// of the clock.
    pub sections_ms: Vec<(&'static str, f64)>,
    /// Mean loss of the last step.
    pub loss: f64,
}

/// Sections of a step, in the order of [`Marks::sections`].
pub const SECTIONS: [&str; 6] =
    ["tokenizer", "copies", "forward", "loss and backward", "clip and AdamW", "idle"];

/// Seconds of one step.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// On the clock.
    pub whole: f64,
    /// Of each of [`SECTIONS`]; they add up to the whole. Where parts of a batch run at the same time,
    /// their shares of the clock. Idle are threads that the processor did not run between the start and
    /// the end of all parts: they waited for each other, or other programs had their cores.
    pub sections: [f64; 6],
}

/// What steps are made of: the same numbers on every backend, from the sizes alone.
struct Work<'a, B: Backend> {
    bk: &'a B,
    bench: &'a StepBench,
    model: MaskedImageModel<B>,
    tokenizer: Option<(Dvae, Params<B>, Tensor<B>)>,
    images: Vec<f32>,
    /// The images on the device, where they are not copied in every step.
    resident: Option<Tensor<B>>,
    mask: Vec<bool>,
    labels: Vec<u32>,
    /// 1 over the number of hidden patches.
    scale: f64,
}

/// Training steps on one backend.
pub struct Stepper<'a, B: Backend> {
    work: Work<'a, B>,
    state: State<B>,
    step: u64,
    /// Mean loss of the last step.
    pub loss: f64,
}

/// Numbers rounded to `Elem` on the device.
fn elem<B: Backend>(bk: &B, pixels: &[f32], shape: [usize; 4]) -> Tensor<B> {
    bk.to_elem(&Master::from_f32(bk, pixels.to_vec(), &shape), 1.0)
}

impl<'a, B: Backend> Work<'a, B> {
    fn new(bk: &'a B, bench: &'a StepBench, resident: bool) -> Result<Self> {
        let (config, b) = (&bench.config, bench.batch);
        config.validate()?;
        let (np, (ih, iw)) = (config.encoder.patches(), config.encoder.image);
        let mut model = MaskedImageModel::new(bk, config);
        model.encoder.recompute = bench.recompute;
        let mut rng = Philox::new(0, Purpose::Bench, 0, 0);
        let normal = |_| StandardNormal.sample(&mut rng);
        let images: Vec<f32> = (0..b * ih * iw * 3).map(normal).collect();
        let mut mask = vec![false; b * np];
        for image in mask.chunks_mut(np) {
            image[..bench.masked].fill(true);
            for i in (1..np).rev() {
                image.swap(i, rng.integer(i));
            }
        }
        let count = b * bench.masked;
        let labels = (0..count).map(|_| rng.integer(config.outputs() - 1) as u32).collect();
        let tokenizer = bench.tokenizer.as_ref().map(|config| {
            let dvae = Dvae::new(config);
            let w = Params::from_host(bk, &dvae.layout, &initial_values(&dvae.layout, 1));
            let (ih, iw) = config.image;
            let pixels = images.iter().cycle().take(b * ih * iw * 3).copied();
            let views = elem(bk, &pixels.collect::<Vec<_>>(), [b, ih, iw, 3]);
            (dvae, w, views)
        });
        let resident = resident.then(|| elem(bk, &images, [b, ih, iw, 3]));
        let scale = 1.0 / count as f64;
        Ok(Self { bk, bench, model, tokenizer, images, resident, mask, labels, scale })
    }

    /// Turns images into tokens, which nobody reads.
    fn tokens(&self, part: &Range<usize>) {
        let Some((dvae, w, views)) = &self.tokenizer else { return };
        let (bk, b) = (self.bk, self.bench.batch);
        let rows: Vec<u32> = part.clone().map(|i| i as u32).collect();
        let (flat, count, (ih, iw)) = (views.len() / b, rows.len(), dvae.config.image);
        let own = views.duplicate(bk).reshape(&[b, flat]);
        let own = bk.gather_rows_forward(&own, &Ids::from_vec(bk, rows, &[count]));
        dvae.tokens(Ctx::new(bk, w), &own.reshape(&[count, ih, iw, 3]));
    }

    /// Images, masks, drop-path factors and labels of a part on the device.
    fn copies(&self, part: &Range<usize>, step: u64) -> (MaskedBatch<B>, Ids<B>) {
        let (bk, StepBench { config, masked, batch, .. }) = (self.bk, self.bench);
        let (np, (ih, iw), count) = (config.encoder.patches(), config.encoder.image, part.len());
        let px = ih * iw * 3;
        let mask = &self.mask[part.start * np..part.end * np];
        let rows = masked_rows(mask, np);
        let m = rows.len();
        let mask = mask.iter().map(|&m| u32::from(m)).collect();
        let labels = self.labels[part.start * masked..part.end * masked].to_vec();
        let images = match &self.resident {
            Some(all) => all.duplicate(bk),
            None => elem(bk, &self.images[part.start * px..part.end * px], [count, ih, iw, 3]),
        };
        let batch = MaskedBatch {
            images,
            mask: Ids::from_vec(bk, mask, &[count, np]),
            rows: Ids::from_vec(bk, rows, &[m]),
            keep: Some(drop_path(bk, &config.encoder, *batch, part, 0, step)),
        };
        (batch, Ids::from_vec(bk, labels, &[m]))
    }

    /// Adds the gradients of a part to `g`; returns its losses and the seconds of the first four
    /// sections. With `wait`, a section ends when the device has done its work.
    fn part(
        &self,
        w: &Params<B>,
        part: Range<usize>,
        step: u64,
        wait: bool,
        g: &mut Params<B>,
    ) -> (Losses<B>, [f64; 4]) {
        let bk = self.bk;
        let mark = || {
            if wait {
                bk.synchronize();
            }
            Instant::now()
        };
        let start = Instant::now();
        self.tokens(&part);
        let tokenized = mark();
        let (batch, labels) = self.copies(&part, step);
        let copied = mark();
        let (logits, cache) = self.model.forward(Ctx::new(bk, w), &batch);
        let forward = mark();
        let target = Target::Hard { labels: &labels, ignore: None };
        let (losses, dlogits) = bk.cross_entropy_backward(logits, &target, self.scale);
        self.model.backward(&mut Grad::new(Ctx::new(bk, w), g), &batch, cache, dlogits, false);
        let marks = [start, tokenized, copied, forward, mark()];
        (losses, [0, 1, 2, 3].map(|i| (marks[i + 1] - marks[i]).as_secs_f64()))
    }

    fn loss(&self, losses: &Losses<B>) -> f64 {
        self.scale * losses.rows.to_f64(self.bk).iter().sum::<f64>()
    }
}

impl<'a, B: Backend> Stepper<'a, B> {
    /// Builds model, optimizer and inputs. `resident` images lie on the device before the step.
    pub fn new(bk: &'a B, bench: &'a StepBench, resident: bool) -> Result<Self> {
        let work = Work::new(bk, bench, resident)?;
        let layout = &work.model.layout;
        let state = State::new(bk, layout, &initial_values(layout, 0), 0.0);
        Ok(Self { work, state, step: 0, loss: f64::NAN })
    }

    /// Trainable numbers.
    pub fn parameters(&self) -> usize {
        parameter_count(&self.work.model.layout)
    }

    /// Loss and gradients of the first step, without the update.
    pub fn first_gradients(&mut self) -> (f64, Vec<f64>) {
        let Self { work, state, .. } = self;
        let (bk, w) = (work.bk, &state.w);
        let each = |range, g: &mut Params<B>| work.part(w, range, 0, false, g).0;
        let parts = bk.in_parts(work.bench.batch, &mut state.g, each);
        let loss = parts.iter().map(|losses| work.loss(losses)).sum();
        let gradients = compact(&state.g.layout, &state.g.to_host(bk));
        let gradients = gradients.into_iter().map(Float::to_f64).collect();
        state.g.clear(bk);
        (loss, gradients)
    }

    /// One step. With `wait`, each section ends when the device has done its work.
    pub fn step(&mut self, wait: bool) -> Result<Marks> {
        let Self { work, state, step, .. } = self;
        let (bk, number) = (work.bk, *step);
        let threads = rayon::current_num_threads() as f64;
        let (start, begun) = (Instant::now(), processor_seconds());
        let w = &state.w;
        let each = |range, g: &mut Params<B>| work.part(w, range, number, wait, g);
        let parts = bk.in_parts(work.bench.batch, &mut state.g, each);
        let (backward, worked) = (Instant::now(), processor_seconds());
        let adamw = AdamW {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            step: number + 1,
            max_norm: Some(3.0),
        };
        let segments = [Segment { end: usize::MAX, lr_scale: 1.0, decay: 0.05 }];
        state.update(bk, &segments, &adamw).map_err(crate::Error::Training)?;
        bk.synchronize();
        let end = Instant::now();
        self.loss = parts.iter().map(|(losses, _)| work.loss(losses)).sum();
        self.step += 1;
        // Parts run at the same time: their seconds are scaled to what the clock saw.
        let clock = (backward - start).as_secs_f64();
        let idle = match (begun, worked) {
            (Some(begun), Some(worked)) if !B::ASYNCHRONOUS => {
                (clock - (worked - begun) / threads).clamp(0.0, clock)
            }
            _ => 0.0,
        };
        let sums = [0, 1, 2, 3].map(|i| parts.iter().map(|(_, seconds)| seconds[i]).sum::<f64>());
        let scale = (clock - idle) / sums.iter().sum::<f64>();
        let [tokenizer, copies, forward, loss] = sums.map(|seconds| seconds * scale);
        let update = (end - backward).as_secs_f64();
        let sections = [tokenizer, copies, forward, loss, update, idle];
        Ok(Marks { whole: (end - start).as_secs_f64(), sections })
    }
}

/// Steps before the timed ones, as many as the peer has.
pub const WARM_UP: usize = 2;

/// Times whole steps on `bk`, on which a plain matrix product reaches `matmul_gflops`. Where the device
/// works by itself, its images lie there already, as the peer's do; steps are timed without waiting
/// inside them, and the sections in as many further steps with a wait after each section.
pub fn run<B: Backend>(bk: &B, bench: &StepBench, matmul_gflops: f64) -> Result<StepResult> {
    let mut stepper = Stepper::new(bk, bench, B::ASYNCHRONOUS)?;
    let (steps, sections) = timed(&mut stepper, bench.steps)?;
    let times = Times::new(steps);
    let sections_ms = sections.into_iter().map(|(n, s)| (n, 1e3 * Times::new(s).median()));
    let gflops = 1e-9 * step_flops(bench) / times.median();
    Ok(StepResult {
        batch: bench.batch,
        params: stepper.parameters(),
        threads: rayon::current_num_threads(),
        step_ms: 1e3 * times.median(),
        step_ms_range: [1e3 * times.min(), 1e3 * times.max()],
        images_per_s: bench.batch as f64 / times.median(),
        gflops,
        matmul_gflops,
        fraction_of_matmul: gflops / matmul_gflops,
        peak_mem_mib: peak_memory_mib(),
        sections_ms: sections_ms.collect(),
        loss: stepper.loss,
    })
}

/// Operations of the matrix products of a step: backward does twice the work of forward.
pub fn step_flops(bench: &StepBench) -> f64 {
    3.0 * bench.batch as f64 * forward_flops(&bench.config, bench.masked)
}

/// Seconds of each section of [`SECTIONS`] in each step; those that the backend has.
pub type Sections = Vec<(&'static str, Vec<f64>)>;

/// Warms up, then times `count` steps: their seconds, and those of their sections.
pub fn timed<B: Backend>(stepper: &mut Stepper<B>, count: usize) -> Result<(Vec<f64>, Sections)> {
    for _ in 0..WARM_UP {
        stepper.step(false)?;
    }
    let mut marks = Vec::new();
    for _ in 0..count {
        marks.push(stepper.step(false)?);
    }
    let steps = marks.iter().map(|m| m.whole).collect();
    if B::ASYNCHRONOUS {
        marks.clear();
        for _ in 0..count {
            marks.push(stepper.step(true)?);
        }
    }
    let tokenizer = stepper.work.tokenizer.is_some();
    let has = |name: &str| match name {
        "tokenizer" => tokenizer,
        "idle" => !B::ASYNCHRONOUS && processor_seconds().is_some(),
        _ => true,
    };
    let sections = SECTIONS.into_iter().enumerate().filter(|(_, name)| has(name));
    let sections = sections.map(|(i, name)| (name, marks.iter().map(|m| m.sections[i]).collect()));
    Ok((steps, sections.collect()))
}
