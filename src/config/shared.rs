//! Settings that commands share.

use super::Range::{Above, Choice, Device, Int, Real, Size, Text};
use super::{ImageSize, Place, PrecisionChoice, Preset, RunConfig, shared_settings};
use crate::data::decode::{DecodeOptions, Orientation};
use crate::data::{SourceOptions, Split};
use crate::error::{Error, Result};

shared_settings! {
    /// Settings of every command that has any.
    Common {
        /// Sizes and starting values that the other keys are laid over.
        preset: Preset = Choice(Preset::NAMES);
        /// Where it is computed: auto, cpu, cuda or cuda:N. auto takes the first GPU where it can be used,
        /// else the CPU.
        device: Place = Device;
        /// Operands of matrix products and activations inside a branch: f32 or bf16; auto is bf16 on a
        /// GPU, f32 on the CPU.
        precision: PrecisionChoice = Choice(PrecisionChoice::WORDS);
        /// Number that every random choice follows from.
        seed: u64 = Int(0, i64::MAX);
        /// Passes over the images.
        epochs: usize = Int(1, 1_000_000);
        /// Images of one optimizer step.
        batch: usize = Int(1, 1 << 20);
        /// Peak learning rate.
        lr: f64 = Above(0.0, 10.0);
        /// AdamW weight decay.
        weight_decay: f64 = Real(0.0, 10.0);
        /// Largest share of unreadable images before the run stops.
        max_bad: f64 = Real(0.0, 1.0);
        /// Which way up images are decoded: upright, as their EXIF orientation says, or stored, as their
        /// pixels lie in the file (torchvision's ImageFolder).
        orientation: Orientation = Choice(Orientation::WORDS);
        /// Megabytes that decoding may take, all threads together; 0 is a quarter of the machine's memory. A
        /// JPEG that needs more by itself is decoded at a half, a quarter or an eighth of its size, another
        /// image is unreadable.
        decode_memory: usize = Int(0, 1 << 40);
        /// Threads; 0 is one per core. Never changes a result.
        threads: usize = Int(0, 4096);
    }
}

shared_settings! {
    /// Settings of every run that trains a model in a folder of its own.
    Recipe {
        /// Where the images come from: a folder, a CIFAR file or folder, or `synthetic[:COUNT]`.
        data: String = Text;
        /// Parts that a batch is computed in, to save memory.
        accumulate: usize = Int(1, 1 << 20);
        /// Height and width of the view in pixels.
        image_size: ImageSize = Size;
        /// Learning rate at the end of the cosine.
        min_lr: f64 = Real(0.0, 10.0);
        /// Optimizer steps of linear warmup.
        warmup_steps: usize = Int(0, 1 << 40);
        /// First AdamW coefficient.
        beta1: f64 = Real(0.0, 0.9999);
        /// Second AdamW coefficient.
        beta2: f64 = Real(0.0, 0.999999);
        /// AdamW epsilon.
        eps: f64 = Above(0.0, 1.0);
        /// Bound of the global gradient norm; 0 is off.
        clip: f64 = Real(0.0, 1e6);
        /// Coefficient of the running average of the weights; 0 is off.
        ema: f64 = Real(0.0, 0.999999);
        /// Smallest share of the image's area that a random crop covers.
        crop_min: f64 = Above(0.0, 1.0);
        /// Probability of a horizontal flip.
        flip: f64 = Real(0.0, 1.0);
        /// Optimizer steps between checkpoints; 0 is one per epoch.
        checkpoint_every: usize = Int(0, 1 << 40);
        /// Optimizer steps between lines of metrics.jsonl.
        log_every: usize = Int(1, 1 << 40);
    }
}

/// The settings of a run that trains.
pub trait TrainConfig: RunConfig {
    /// Those that every command has.
    fn common(&self) -> &Common;
    /// Those that every training has.
    fn recipe(&self) -> &Recipe;
}

impl Common {
    /// Starting values that no command has others of, and pace and optimizer still to be set.
    pub(super) fn new(preset: Preset) -> Self {
        Self {
            preset,
            device: Place::Auto,
            precision: PrecisionChoice::Auto,
            seed: 0,
            epochs: 1,
            batch: 1,
            lr: 1e-3,
            weight_decay: 0.0,
            max_bad: 0.01,
            orientation: Orientation::Upright,
            decode_memory: 0,
            threads: 0,
        }
    }

    /// How a source of images is opened.
    pub fn source(&self, split: Split) -> SourceOptions {
        let decode = DecodeOptions { orientation: self.orientation, memory: self.decode_memory };
        SourceOptions { split, seed: self.seed, decode }
    }
}

impl Recipe {
    /// Starting values of the originals' long runs on images of this height and width.
    pub(super) fn new(image: (usize, usize)) -> Self {
        Self {
            data: String::new(),
            accumulate: 64,
            image_size: image.into(),
            min_lr: 0.0,
            warmup_steps: 0,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            clip: 0.0,
            ema: 0.0,
            crop_min: 1.0,
            flip: 0.5,
            checkpoint_every: 0,
            log_every: 10,
        }
    }

    /// Refuses a rate that rises at the end and a batch that cannot be cut evenly.
    pub(super) fn check(&self, common: &Common) -> Result<()> {
        let (min_lr, lr, batch, parts) = (self.min_lr, common.lr, common.batch, self.accumulate);
        if min_lr > lr {
            return Err(Error::config(format!("min_lr {min_lr} is above lr {lr}")));
        }
        if !batch.is_multiple_of(parts) {
            let text = format!("batch {batch} is not divisible by accumulate {parts}");
            return Err(Error::config(text));
        }
        Ok(())
    }
}
