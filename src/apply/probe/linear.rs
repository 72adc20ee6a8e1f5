//! The linear classifiers of a probe.

use crate::apply::knn::FeatureTable;
use crate::config::ProbeRun;
use crate::cpu::Cpu;
use crate::data::loader::shuffled;
use crate::error::{Error, Result};
use crate::ops::adamw::{AdamW, Segment};
use crate::ops::cross_entropy::{CrossEntropyOp, Target};
use crate::ops::gather_rows::GatherRowsOp;
use crate::ops::gumbel_softmax::GumbelSoftmaxOp;
use crate::ops::linear::Linear;
use crate::optim::Cosine;
use crate::optim::state::State;
use crate::params::{Ctx, Grad, Init, Registry, initial_values};
use crate::rng::{Philox, Purpose};
use crate::run::{Progress, interrupted};
use crate::tensor::{Ids, Tensor};
use rayon::prelude::*;

/// What is said when the user stops a probe.
pub(super) fn stopped() -> Error {
    Error::Interrupted("stopped; a probe cannot be continued, only started again".into())
}

/// The linear classifier of one block; no norm of any kind on the features.
struct Classifier {
    head: Linear,
    state: State<Cpu<f32>>,
}

impl Classifier {
    fn new(bk: &Cpu<f32>, width: usize, classes: usize, seed: u64) -> Self {
        let mut reg = Registry::new();
        let head = Linear::new(&mut reg, "layer", width, classes, Init::Normal(0.01));
        let layout = reg.finish();
        Self { head, state: State::new(bk, &layout, &initial_values(&layout, seed), 0.0) }
    }

    /// One step on `rows` of the features, whose classes are `labels`.
    fn step(
        &mut self,
        bk: &Cpu<f32>,
        features: &Tensor<Cpu<f32>>,
        rows: &Ids<Cpu<f32>>,
        labels: &Ids<Cpu<f32>>,
        lr: f64,
        decay: f64,
    ) -> Result<()> {
        let State { w, g, .. } = &mut self.state;
        let x = bk.gather_rows_forward(features, rows);
        let logits = self.head.forward(Ctx::new(bk, w), &x);
        let target = Target::Hard { labels, ignore: None };
        let (_, dlogits) = bk.cross_entropy_backward(logits, &target, 1.0 / rows.len() as f64);
        self.head.backward(&mut Grad::new(Ctx::new(bk, w), g), &x, &dlogits);
        // The original decays every parameter of the probe, biases included.
        let segments = [Segment { end: usize::MAX, lr_scale: 1.0, decay }];
        let step = self.state.step + 1;
        let adamw = AdamW { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, step, max_norm: None };
        self.state.update(bk, &segments, &adamw).map_err(|place| {
            Error::Training(format!(
                "the probe is not finite; the first tensor is {place}; lower lr"
            ))
        })?;
        Ok(())
    }

    fn predictions(&self, bk: &Cpu<f32>, features: &Tensor<Cpu<f32>>) -> Vec<u32> {
        bk.argmax(&self.head.forward(Ctx::new(bk, &self.state.w), features)).to_vec(bk)
    }
}

/// What each block's classifier says about the test images. They share the order of images and nothing else, so
/// that training them side by side minimises the sum of their losses, as the original does.
///
/// This is not the loop of the trainings, of which it has the schedule and the shuffling: its rate
/// changes by epoch, the last batch of an epoch may be a short one, and each classifier goes through
/// the epoch on a thread of its own.
pub(super) fn linear_predictions(
    train: &FeatureTable,
    test: &FeatureTable,
    classes: usize,
    config: &ProbeRun,
) -> Result<Vec<Vec<u32>>> {
    let bk = Cpu::<f32>::new();
    let tensor = |rows: &Vec<f32>| {
        Tensor::from_vec(&bk, rows.clone(), &[rows.len() / train.width, train.width])
    };
    let features: Vec<_> = train.blocks.iter().map(tensor).collect();
    let new = |_| Classifier::new(&bk, train.width, classes, config.common.seed);
    let mut classifiers: Vec<_> = features.iter().map(new).collect();
    let total = config.common.epochs as u64;
    // One value per epoch.
    let schedule = Cosine { base: config.common.lr, end: 0.0, start: 0.0, warmup: 0, total };
    let mut progress = Progress::new("linear probe", total, 0, "epochs");
    for epoch in 0..total {
        let lr = schedule.at(epoch);
        let mut rng = Philox::new(config.common.seed, Purpose::Probe, epoch as u32, 0);
        let order = shuffled(train.images(), &mut rng);
        let ids = |ids: Vec<u32>| {
            let count = ids.len();
            Ids::from_vec(&bk, ids, &[count])
        };
        let label = |rows: &[u32]| rows.iter().map(|&r| train.labels[r as usize]).collect();
        let batches: Vec<_> = order
            .chunks(config.common.batch)
            .map(|rows| (ids(rows.to_vec()), ids(label(rows))))
            .collect();
        let blocks = classifiers.par_iter_mut().zip(&features).with_max_len(1);
        blocks.try_for_each(|(classifier, features)| {
            batches.iter().try_for_each(|(rows, labels)| {
                classifier.step(&bk, features, rows, labels, lr, config.common.weight_decay)
            })
        })?;
        progress.advance(1, "");
        if interrupted() {
            return Err(stopped());
        }
    }
    progress.finish();
    let blocks = classifiers.iter().zip(&test.blocks);
    Ok(blocks.map(|(c, block)| c.predictions(&bk, &tensor(block))).collect())
}
