//! Training steps: by section, on several numbers of threads, at several batch sizes.

use super::content::{Accuracy, Plan, ScalingRow, Section, StepRow, SweepRow, sizes};
use super::errors::{distance, of_step, worst};
use super::memory::predicted_bytes;
use crate::bench::columns::{Column, Columns, EachColumn};
use crate::bench::step::{StepBench, Stepper, WARM_UP, step_flops, timed};
use crate::bench::{FEWEST, Times};
use crate::config::{PretrainRun, RunConfig};
use crate::cpu::Cpu;
use crate::data::masking::MaskConfig;
use crate::data::{AugmentConfig, Dataset, Source, Split, two_views};
use crate::error::Result;
use crate::models::config::DvaeConfig;
use crate::models::dvae::Dvae;
use crate::ops::Backend;
use crate::params::Ctx;
use crate::params::{Params, initial_values};
use crate::rng::{Philox, Purpose};
use crate::run::note;
use crate::tensor::{Master, Tensor};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

fn step_bench(preset: &str, batch: usize, steps: usize) -> Result<StepBench> {
    let (config, _, masked) = sizes(preset)?;
    Ok(StepBench { config, masked, batch, steps, recompute: false, tokenizer: None })
}

/// Euclidean distance of two vectors relative to the length of the second.
fn relative(got: &[f64], want: &[f64]) -> f64 {
    let squares = got.iter().zip(want).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    (squares / want.iter().map(|x| x * x).sum::<f64>()).sqrt()
}

/// Every preset of the plan in every column.
pub fn measure(plan: &Plan, columns: &Columns) -> Result<Vec<StepRow>> {
    let mut rows = Vec::new();
    for (preset, batch) in &plan.steps {
        note(&format!("step {preset} at batch {batch}"));
        let bench = step_bench(preset, *batch, plan.count)?;
        let want = Stepper::new(&Cpu::<f64>::new(), &bench, false)?.first_gradients();
        let data = data_times(preset, *batch, plan.count)?;
        let (_, tokenizer, _) = sizes(preset)?;
        let (want, rows) = (&want, &mut rows);
        let mut each = StepInColumn { preset, bench, want, data, tokenizer, rows };
        columns.each(&mut each)?;
    }
    Ok(rows)
}

struct StepInColumn<'a> {
    preset: &'a str,
    bench: StepBench,
    want: &'a (f64, Vec<f64>),
    data: Times,
    tokenizer: DvaeConfig,
    rows: &'a mut Vec<StepRow>,
}

impl EachColumn for StepInColumn<'_> {
    fn on<B: Backend>(&mut self, column: &Column, bk: &B) -> Result<()> {
        let StepBench { config, masked, batch, .. } = &self.bench;
        let predicted = predicted_bytes::<B>(config, *masked, *batch);
        bk.forget_peak();
        let mut stepper = Stepper::new(bk, &self.bench, false)?;
        let (loss, gradients) = stepper.first_gradients();
        let allowed = of_step(config, batch * config.encoder.tokens(), column.bf16);
        let accuracy = worst([
            Accuracy { error: distance(&[loss], &[self.want.0]), allowed, tensor: "loss".into() },
            Accuracy {
                error: relative(&gradients, &self.want.1),
                allowed,
                tensor: "all gradients".into(),
            },
        ]);
        drop(gradients);
        let (mut timing, mut sections) = (None, Vec::new());
        if column.timed {
            let (steps, parts) = timed(&mut stepper, self.bench.steps)?;
            timing = Some(Times::new(steps).timing());
            sections = parts.into_iter().map(|(name, s)| section(name, Times::new(s))).collect();
        } else {
            stepper.step(false)?;
        }
        let measured_bytes = bk.peak_bytes().map(|bytes| bytes as f64);
        let (params, flops) = (stepper.parameters(), step_flops(&self.bench));
        drop(stepper);
        if column.timed {
            let tokens = tokenizer_times(bk, &self.tokenizer, *batch, self.bench.steps);
            sections.insert(0, section("tokenizer", tokens));
            sections.insert(0, section("data", self.data.clone()));
        }
        self.rows.push(StepRow {
            preset: self.preset.into(),
            batch: *batch,
            column: column.name.into(),
            params,
            flops,
            timing,
            sections,
            mfu: None,
            predicted_bytes: predicted,
            measured_bytes,
            loss,
            accuracy: accuracy.expect("two of them"),
        });
        Ok(())
    }
}

fn section(name: &str, times: Times) -> Section {
    Section { name: name.into(), timing: times.timing() }
}

/// Seconds in which all threads make both views and the masks of a batch from images in memory, as the
/// loader does; decoding is `beit bench data`'s.
fn data_times(preset: &str, batch: usize, count: usize) -> Result<Times> {
    let (config, dvae, masked) = sizes(preset)?;
    let ((ih, iw), (th, tw), (gh, gw)) = (config.encoder.image, dvae.image, config.encoder.grid());
    let run = PretrainRun::preset(preset.parse()?);
    let augment = AugmentConfig::original(ih, iw, th, tw);
    let masks = MaskConfig::block(gh, gw, masked, run.mask_min_block);
    let source = Source::synthetic(batch.min(32), ih.max(iw) * 5 / 4, Split::Train, 0);
    let images = (0..source.len()).map(|i| source.load(i)).collect::<Result<Vec<_>>>()?;
    Ok(Times::measure(count, 0.0, || {
        (0..batch).into_par_iter().with_max_len(1).for_each(|i| {
            let mut rng = Philox::new(0, Purpose::Bench, 3, i as u32);
            let views = two_views(&augment, &images[i % images.len()], &mut rng);
            std::hint::black_box((views, masks.draw(&mut rng)));
        });
    }))
}

/// Seconds in which a batch is turned into tokens, parts at the same time as in training.
fn tokenizer_times<B: Backend>(bk: &B, config: &DvaeConfig, batch: usize, count: usize) -> Times {
    let dvae = Dvae::new(config);
    let w = Params::from_host(bk, &dvae.layout, &initial_values(&dvae.layout, 1));
    let (ih, iw) = config.image;
    let mut rng = Philox::new(0, Purpose::Bench, 4, 0);
    let pixels: Vec<f32> = (0..batch * ih * iw * 3).map(|_| rng.unit() as f32).collect();
    // Nothing is added to these; the parts of a batch come with gradients.
    let mut none = Params::zeros(bk, &crate::params::Registry::new().finish());
    let (times, px) = (WARM_UP.max(1) - 1, ih * iw * 3);
    let mut once = || {
        bk.in_parts(batch, &mut none, |part, _| {
            let shape = [part.len(), ih, iw, 3];
            let own = pixels[part.start * px..part.end * px].to_vec();
            let own = Master::from_f32(bk, own, &shape);
            let views: Tensor<B> = bk.to_elem(&own, 1.0);
            dvae.tokens(Ctx::new(bk, &w), &views);
        });
        bk.synchronize();
    };
    (0..times).for_each(|_| once());
    Times::measure(count, 0.0, once)
}

/// Steps on each number of threads.
pub fn scaling(plan: &Plan) -> Result<Vec<ScalingRow>> {
    let mut rows = Vec::new();
    for (preset, batch) in &plan.scaled {
        for &threads in &plan.threads {
            note(&format!("step {preset} at batch {batch} on {threads} threads"));
            let bench = step_bench(preset, *batch, runs(plan))?;
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let steps = pool.install(|| {
                let bk = Cpu::<f32>::new();
                timed(&mut Stepper::new(&bk, &bench, false)?, bench.steps)
            })?;
            let (preset, batch, timing) = (preset.clone(), *batch, Times::new(steps.0).timing());
            rows.push(ScalingRow { preset, batch, threads, timing });
        }
    }
    Ok(rows)
}

fn runs(plan: &Plan) -> usize {
    if plan.quick { plan.count } else { FEWEST }
}

/// Steps at each batch size in each column whose times mean anything.
pub fn sweep(plan: &Plan, columns: &Columns) -> Result<Vec<SweepRow>> {
    struct Sweep<'a> {
        preset: &'a str,
        bench: StepBench,
        rows: &'a mut Vec<SweepRow>,
    }
    impl EachColumn for Sweep<'_> {
        fn on<B: Backend>(&mut self, column: &Column, bk: &B) -> Result<()> {
            if !column.timed {
                return Ok(());
            }
            let mut stepper = Stepper::new(bk, &self.bench, false)?;
            let (steps, _) = timed(&mut stepper, self.bench.steps)?;
            self.rows.push(SweepRow {
                preset: self.preset.into(),
                batch: self.bench.batch,
                column: column.name.into(),
                timing: Times::new(steps).timing(),
            });
            Ok(())
        }
    }
    let mut rows = Vec::new();
    for &batch in &plan.batches {
        note(&format!("step {} at batch {batch}", plan.swept));
        let bench = step_bench(&plan.swept, batch, runs(plan))?;
        columns.each(&mut Sweep { preset: &plan.swept, bench, rows: &mut rows })?;
    }
    Ok(rows)
}
