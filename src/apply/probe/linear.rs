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
struct BlockProbe {
    head: Linear,
    state: State<Cpu<f32>>,
}

impl BlockProbe {
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
    let new = |_| BlockProbe::new(&bk, train.width, classes, config.common.seed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Preset, RunConfig};

    const CLASSES: usize = 3;

    /// Features that no line parts, in f32 as they are kept.
    fn table(images: usize, width: usize) -> FeatureTable {
        let mut rng = Philox::new(1, Purpose::Check, 0, 0);
        let features = (0..images * width).map(|_| rng.unit() as f32 - 0.4).collect();
        let labels = (0..images as u32).map(|i| i * i % 7 % 3).collect();
        FeatureTable { blocks: vec![features], labels, width }
    }

    /// A classifier as weights `[classes][width + 1]`, the bias last, by a loop in f64: AdamW on all of them, the
    /// mean over each batch, a rate per epoch.
    fn plain(train: &FeatureTable, start: &[Vec<f64>], config: &ProbeRun) -> Vec<Vec<f64>> {
        let (n, d, common) = (train.images(), train.width, &config.common);
        let (mut w, zeros) = (start.to_vec(), vec![vec![0.0; d + 1]; CLASSES]);
        let (mut m, mut v, mut t) = (zeros.clone(), zeros.clone(), 0);
        for epoch in 0..common.epochs {
            let share = epoch as f64 / common.epochs as f64;
            let lr = 0.5 * common.lr * (1.0 + (std::f64::consts::PI * share).cos());
            let mut rng = Philox::new(common.seed, Purpose::Probe, epoch as u32, 0);
            for batch in shuffled(n, &mut rng).chunks(common.batch) {
                let mut g = zeros.clone();
                for &row in batch {
                    let x = &train.blocks[0][row as usize * d..(row as usize + 1) * d];
                    let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).chain([1.0]).collect();
                    let logit =
                        |w: &Vec<f64>| w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>().exp();
                    let p: Vec<f64> = w.iter().map(logit).collect();
                    let total: f64 = p.iter().sum();
                    for c in 0..CLASSES {
                        let own = f64::from(u8::from(train.labels[row as usize] as usize == c));
                        let slope = (p[c] / total - own) / batch.len() as f64;
                        g[c].iter_mut().zip(&x).for_each(|(g, x)| *g += slope * x);
                    }
                }
                t += 1;
                for (c, i) in (0..CLASSES).flat_map(|c| (0..=d).map(move |i| (c, i))) {
                    m[c][i] = 0.9 * m[c][i] + 0.1 * g[c][i];
                    v[c][i] = 0.999 * v[c][i] + 0.001 * g[c][i] * g[c][i];
                    let (m, v) =
                        (m[c][i] / (1.0 - 0.9f64.powi(t)), v[c][i] / (1.0 - 0.999f64.powi(t)));
                    w[c][i] -= lr * common.weight_decay * w[c][i] + lr * m / (v.sqrt() + 1e-8);
                }
            }
        }
        w
    }

    /// Points on both sides of the line between two classes, as near to it as `near`, and the class that wins.
    fn about_the_line(w: &[Vec<f64>], width: usize, near: f64) -> (FeatureTable, Vec<u32>) {
        let mut rng = Philox::new(2, Purpose::Check, 0, 0);
        let (mut rows, mut wins) = (Vec::new(), Vec::new());
        while wins.len() < 400 {
            let x: Vec<f64> = (0..width).map(|_| 4.0 * rng.unit() - 2.0).collect();
            let logit = |c: usize, x: &[f64]| {
                x.iter().zip(&w[c]).map(|(x, w)| x * w).sum::<f64>() + w[c][width]
            };
            let mut order = [0, 1, 2];
            order.sort_by(|&a, &b| logit(b, &x).total_cmp(&logit(a, &x)));
            let [a, b, _] = order;
            let normal: Vec<f64> = (0..width).map(|i| w[a][i] - w[b][i]).collect();
            let square: f64 = normal.iter().map(|n| n * n).sum();
            let (gap, side) =
                (logit(a, &x) - logit(b, &x), if wins.len() % 2 == 0 { 1.0 } else { -1.0 });
            let shift = side * near - gap;
            let moved: Vec<f64> =
                x.iter().zip(&normal).map(|(x, n)| x + shift * n / square).collect();
            // The third class must not win there.
            if logit(order[2], &moved) + 0.1 < logit(a, &moved) {
                rows.extend(moved.iter().map(|&x| x as f32));
                wins.push(if side > 0.0 { a } else { b } as u32);
            }
        }
        (FeatureTable { blocks: vec![rows], labels: vec![0; 400], width }, wins)
    }

    #[test]
    fn a_probe_is_the_plain_loop() {
        let mut config = ProbeRun::preset(Preset::Tiny);
        let common = &mut config.common;
        (common.epochs, common.batch, common.lr, common.weight_decay, common.seed) =
            (6, 8, 0.05, 0.8, 3);
        // Batches of 8, 8, 8 and 2.
        let (train, width) = (table(26, 5), 5);
        let bk = Cpu::<f32>::new();
        let fresh = BlockProbe::new(&bk, width, CLASSES, common.seed);
        let (weight, bias) =
            (fresh.state.w.get(&fresh.head.weight), fresh.head.expect_bias("probe"));
        let bias = fresh.state.w.get(bias);
        let start: Vec<Vec<f64>> = weight
            .chunks_exact(width)
            .zip(bias)
            .map(|(row, bias)| row.iter().chain([bias]).map(|&x| f64::from(x)).collect())
            .collect();
        let w = plain(&train, &start, &config);
        let (test, wins) = about_the_line(&w, width, 1e-4);
        let got = linear_predictions(&train, &test, CLASSES, &config).unwrap();
        let wrong = got[0].iter().zip(&wins).filter(|(a, b)| a != b).count();
        assert_eq!(wrong, 0, "of 400 points about the lines between classes");
    }
}
