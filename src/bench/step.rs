//! `beit bench step`: whole masked-image-modelling steps on data that lies in memory: forward,
//! backward, clipping, AdamW. `benches/peers/torch_step.py` times the same work in PyTorch.

use crate::backend::Backend;
use crate::bench::{Times, peak_memory_mib};
use crate::cpu::gemm;
use crate::error::Result;
use crate::models::beit::{MaskedBatch, MaskedImageModel, forward_flops, masked_rows};
use crate::models::config::{BeitConfig, DvaeConfig};
use crate::models::dvae::Dvae;
use crate::ops::adamw::{AdamW, Segment};
use crate::ops::cross_entropy::{Losses, Target};
use crate::optim::state::State;
use crate::params::{Params, initial_values, parameter_count};
use crate::rng::{Philox, Purpose};
use crate::tensor::{Ids, Master};
use crate::train::drop_path;
use ndarray::Array2;
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

/// Times whole steps on `bk`, on which a plain matrix product reaches `matmul_gflops`. Where the device
/// works by itself (`asynchronous`), steps are timed without waiting inside them, and the sections in
/// as many further steps with a wait after each section.
pub fn run<B: Backend>(
    bk: &B,
    bench: &StepBench,
    matmul_gflops: f64,
    asynchronous: bool,
) -> Result<StepResult> {
    let (config, b) = (&bench.config, bench.batch);
    config.validate()?;
    let (np, (ih, iw)) = (config.patches(), config.image);
    let model = MaskedImageModel::new(bk, config);
    let mut state = State::new(bk, &model.layout, &initial_values(&model.layout, 0), 0.0);
    let segments = [Segment { end: usize::MAX, lr_scale: 1.0, decay: 0.05 }];
    let mut rng = Philox::new(0, Purpose::Bench, 0, 0);
    let normal = |rng: &mut Philox, n: usize| -> Vec<f32> {
        (0..n).map(|_| StandardNormal.sample(&mut *rng)).collect()
    };
    let images = normal(&mut rng, b * ih * iw * 3);
    let mut mask = vec![false; b * np];
    for image in mask.chunks_mut(np) {
        image[..bench.masked].fill(true);
        for i in (1..np).rev() {
            image.swap(i, rng.integer(i));
        }
    }
    let rows = masked_rows(&mask, np);
    let labels: Vec<u32> = rows.iter().map(|_| rng.integer(config.vocab - 1) as u32).collect();
    let scale = 1.0 / rows.len() as f64;
    let tokenizer = bench.tokenizer.as_ref().map(|config| {
        let dvae = Dvae::new(config);
        let w = Params::from_host(bk, &dvae.layout, &initial_values(&dvae.layout, 1));
        (dvae, w)
    });

    // Where the device works by itself, its images lie there already, as the peer's do.
    let elem =
        |pixels: &[f32], shape: [usize; 4]| bk.to_elem(&Master::from_f32(bk, pixels, &shape), 1.0);
    let resident = asynchronous.then(|| elem(&images, [b, ih, iw, 3]));
    let views = tokenizer.as_ref().map(|(dvae, _)| {
        let (ih, iw) = dvae.config.image;
        let pixels = images.iter().cycle().take(b * ih * iw * 3).copied();
        elem(&pixels.collect::<Vec<_>>(), [b, ih, iw, 3])
    });
    let px = ih * iw * 3;
    let part = |w: &Params<B>, part: Range<usize>, step: u64, wait: bool, g: &mut Params<B>| {
        let mark = || {
            if wait {
                bk.synchronize();
            }
            Instant::now()
        };
        let start = Instant::now();
        if let (Some((dvae, w)), Some(views)) = (&tokenizer, &views) {
            let rows: Vec<u32> = part.clone().map(|i| i as u32).collect();
            let flat = views.len() / b;
            let (count, (ih, iw)) = (rows.len(), dvae.config.image);
            let own = views.duplicate(bk).reshape(&[b, flat]);
            let own = bk.gather_rows_forward(&own, &Ids::from_vec(bk, rows, &[count]));
            dvae.tokens(bk, w, &own.reshape(&[count, ih, iw, 3]));
        }
        let tokenized = mark();
        let hidden = part.start * bench.masked..part.end * bench.masked;
        let mask = &mask[part.start * np..part.end * np];
        let rows = masked_rows(mask, np);
        let m = rows.len();
        let batch = MaskedBatch {
            images: match &resident {
                Some(all) => all.duplicate(bk),
                None => elem(&images[part.start * px..part.end * px], [part.len(), ih, iw, 3]),
            },
            mask: Ids::from_vec(
                bk,
                mask.iter().map(|&m| u32::from(m)).collect(),
                &[part.len(), np],
            ),
            rows: Ids::from_vec(bk, rows, &[m]),
            drop_path: drop_path(bk, config, b, &part, 0, step),
        };
        let labels = Ids::from_vec(bk, labels[hidden].to_vec(), &[m]);
        let (logits, cache) = model.forward(bk, w, &batch, true, &mut |_, _, _| {});
        let forward = mark();
        let target = Target::Hard { labels: &labels, ignore: None };
        let (losses, dlogits) = bk.cross_entropy_backward(logits, &target, scale);
        model.backward(bk, w, &batch, cache, dlogits, g, false, &mut |_| {});
        let marks = [start, tokenized, forward, mark()];
        (losses, [0, 1, 2].map(|i| (marks[i + 1] - marks[i]).as_secs_f64()))
    };
    let (mut steps, mut sections) = (Vec::new(), vec![Vec::new(); 4]);
    let mut loss = 0.0;
    // Two steps of warm-up, as the peer has.
    let further = if asynchronous { bench.steps } else { 0 };
    for step in 0..bench.steps + 2 + further {
        let wait = step >= bench.steps + 2;
        let start = Instant::now();
        let w = &state.w;
        let parts = bk.in_parts(b, &mut state.g, |range, g| part(w, range, step as u64, wait, g));
        let backward = Instant::now();
        let adamw = AdamW {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            step: step as u64 + 1,
            max_norm: Some(3.0),
        };
        state.update(bk, &segments, &adamw)?;
        bk.synchronize();
        let end = Instant::now();
        let sum = |losses: &Losses<B>| losses.rows.to_f64(bk).iter().sum::<f64>();
        loss = parts.iter().map(|(losses, _)| sum(losses)).sum::<f64>() * scale;
        if step < 2 {
            continue;
        }
        if !wait {
            steps.push((end - start).as_secs_f64());
        }
        if asynchronous && !wait {
            continue;
        }
        // Parts run at the same time: their seconds are scaled to what the clock saw.
        let sums = [0, 1, 2].map(|i| parts.iter().map(|(_, seconds)| seconds[i]).sum::<f64>());
        let clock = (backward - start).as_secs_f64() / sums.iter().sum::<f64>();
        for (section, seconds) in sections.iter_mut().zip(sums) {
            section.push(seconds * clock);
        }
        sections[3].push((end - backward).as_secs_f64());
    }
    let times = Times::new(steps);
    let names = ["tokenizer", "forward", "loss and backward", "clip and AdamW"];
    let sections_ms = names.into_iter().zip(sections);
    let sections_ms = sections_ms.map(|(n, s)| (n, 1e3 * Times::new(s).median())).collect();
    let gflops = 3e-9 * b as f64 * forward_flops(config, bench.masked) / times.median();
    Ok(StepResult {
        batch: b,
        params: parameter_count(&model.layout),
        threads: rayon::current_num_threads(),
        step_ms: 1e3 * times.median(),
        step_ms_range: [1e3 * times.min(), 1e3 * times.max()],
        images_per_s: b as f64 / times.median(),
        gflops,
        matmul_gflops,
        fraction_of_matmul: gflops / matmul_gflops,
        peak_mem_mib: peak_memory_mib(),
        sections_ms,
        loss,
    })
}

/// Best GFLOP/s of plain products of the sizes of this model's layers, on all threads.
pub fn best_sgemm(config: &BeitConfig, batch: usize, masked: usize) -> f64 {
    let (rows, c, h) = (batch * config.tokens(), config.width, config.mlp_width());
    let shapes = [
        (rows, c, 3 * c),
        (rows, c, c),
        (rows, c, h),
        (rows, h, c),
        (3 * c, rows, c),
        (h, rows, c),
        (batch * masked, c, config.vocab),
    ];
    let rate = |(m, k, n): (usize, usize, usize)| {
        let a = Array2::from_shape_fn((m, k), |(i, j)| ((i * 31 + j * 17) % 23) as f32 * 0.1 - 1.0);
        let b = Array2::from_shape_fn((k, n), |(i, j)| ((i * 13 + j * 29) % 19) as f32 * 0.1 - 0.9);
        let mut c = Array2::zeros((m, n));
        let times = Times::measure(3, 0.15, || gemm(1.0, a.view(), b.view(), 0.0, c.view_mut()));
        2e-9 * (m * k * n) as f64 / times.min()
    };
    shapes.into_iter().map(rate).fold(0.0, f64::max)
}
