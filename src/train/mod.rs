//! Training: a run ([`driver`]), what it asks of a kind of training ([`task`]), and what the
//! tokenizer and the encoder compute in a step of it.

pub mod ablate;
mod annealing;
pub mod bert;
mod carried;
mod cut;
pub mod dino;
pub mod driver;
pub mod finetune;
mod follower;
pub mod length;
mod memory;
pub mod moco;
pub mod pretrain;
pub mod segment;
mod start;
mod steps;
pub mod summary;
pub mod task;
pub mod tokenizer;
mod trend;
pub mod vae;

use crate::error::Result;
use crate::models::config::EncoderConfig;
use crate::models::encoder::DropPath;
use crate::ops::Backend;
use crate::params::Layout;
use crate::rng::{Philox, Purpose};
use crate::run::note;
use crate::tensor::Master;
use crate::weights::{LoadPlan, start_from};
use std::ops::Range;
use std::path::Path;

/// The weights of the file `init`, where one is named, over `random` ones.
fn from_file(init: &str, layout: &Layout, random: Vec<f32>) -> Result<Vec<f32>> {
    if init.is_empty() {
        return Ok(random);
    }
    let (values, plan) = start_from(Path::new(init), layout, random)?;
    say_plan(init, &plan);
    Ok(values)
}

/// What becomes of the tensors of the file that a run starts from.
fn say_plan(from: &str, plan: &LoadPlan) {
    note(&format!("starting from {from}:"));
    plan.lines().iter().for_each(|line| note(line));
}

/// Drop-path factors of `part` of a micro-batch of `batch` samples: 0 with the block's rate p, else
/// 1/(1 − p), drawn for every sample and branch from the stream (seed, step). Blocks with rate 0 draw
/// nothing.
pub fn drop_path<B: Backend>(
    bk: &B,
    config: &EncoderConfig,
    batch: usize,
    part: &Range<usize>,
    seed: u64,
    step: u64,
) -> DropPath<B> {
    let mut rng = Philox::new(seed, Purpose::DropPath, step as u32, (step >> 32) as u32);
    let mut branch = |p: f64| {
        (p > 0.0).then(|| {
            let keep: Vec<f64> =
                (0..batch).map(|_| if rng.unit() < p { 0.0 } else { 1.0 / (1.0 - p) }).collect();
            Master::from_f64(bk, &keep[part.clone()], &[part.len()])
        })
    };
    (0..config.depth)
        .map(|l| {
            let p = config.drop_path_of(l);
            [branch(p), branch(p)]
        })
        .collect()
}
