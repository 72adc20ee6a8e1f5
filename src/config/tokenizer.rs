//! Settings of `beit train-tokenizer`.

use super::Range::{Above, Choice, Device, Flag, Int, Real, Size, Text};
use super::{ImageSize, Place, Preset, run_config};
use crate::error::{Error, Result};
use crate::models::config::DvaeConfig;

run_config! {
    /// Settings of one tokenizer training run (arXiv 2102.12092, A.2, scaled to the run's length).
    TokenizerRun, "train-tokenizer" {
        /// Sizes and starting values that the other keys are laid over.
        preset: Preset = Choice(Preset::NAMES);
        /// Where the images come from: a folder, a CIFAR file or folder, or `synthetic[:COUNT]`.
        data: String = Text;
        /// Where it is computed: auto, cpu, cuda or cuda:N. auto takes the first GPU where it can be used,
        /// else the CPU.
        device: Place = Device;
        /// Operands of matrix products and activations inside a branch: f32 or bf16; auto is bf16 on a
        /// GPU, f32 on the CPU.
        precision: String = Choice(&["auto", "f32", "bf16"]);
        /// Number that every random choice follows from.
        seed: u64 = Int(0, i64::MAX);
        /// Passes over the images.
        epochs: usize = Int(1, 1_000_000);
        /// Images of one optimizer step.
        batch: usize = Int(1, 1 << 20);
        /// Parts that a batch is computed in, to save memory. Noise is drawn for each part, and the
        /// usage term sees the codes of one part at a time; the loss is otherwise that of the batch.
        accumulate: usize = Int(1, 1 << 20);
        /// Height and width of the training view in pixels.
        image_size: ImageSize = Size;
        /// Channels after the first convolution of the encoder (n_hid, 256 in the original).
        width: usize = Int(4, 1 << 14);
        /// Channels after the first convolution of the decoder (n_init, 128 in the original).
        init_width: usize = Int(1, 1 << 14);
        /// Groups of residual blocks; the token grid is 2^(groups-1) times smaller than the image.
        groups: usize = Int(1, 6);
        /// Residual blocks in each group.
        blocks: usize = Int(1, 64);
        /// Number of visual tokens.
        vocab: usize = Int(2, 1 << 20);
        /// Peak learning rate (1e-4 in DALL-E A.2, at width 256 and batch 512).
        lr: f64 = Above(0.0, 10.0);
        /// Learning rate at the end of the cosine (1.25e-6 in DALL-E A.2).
        min_lr: f64 = Real(0.0, 10.0);
        /// Optimizer steps of linear warmup (none in DALL-E A.2).
        warmup_steps: usize = Int(0, 1 << 40);
        /// First AdamW coefficient (DALL-E A.2).
        beta1: f64 = Real(0.0, 0.9999);
        /// Second AdamW coefficient (DALL-E A.2).
        beta2: f64 = Real(0.0, 0.999999);
        /// AdamW epsilon (DALL-E A.2).
        eps: f64 = Above(0.0, 1.0);
        /// AdamW weight decay (DALL-E A.2).
        weight_decay: f64 = Real(0.0, 10.0);
        /// Bound of the global gradient norm; 0 is off (DALL-E has none).
        clip: f64 = Real(0.0, 1e6);
        /// Reconstruction term: logit_laplace (DALL-E A.3) or mse.
        recon: String = Choice(&["logit_laplace", "mse"]);
        /// Weight of the KL to the uniform prior, beta (6.6 in DALL-E A.2).
        kl_weight: f64 = Real(0.0, 1e4);
        /// KL weight at the end; it falls once the temperature is down (constant in DALL-E A.2).
        kl_weight_end: f64 = Real(0.0, 1e4);
        /// Weight of the KL of the codes' mean distribution, which keeps codes in use (0 in DALL-E).
        usage_weight: f64 = Real(0.0, 1e4);
        /// Share of the run over which the KL weight rises from 0 (a half cosine).
        kl_warmup: f64 = Real(0.0, 1.0);
        /// Gumbel-softmax temperature at the start (DALL-E A.2).
        temperature_start: f64 = Above(0.0, 100.0);
        /// Gumbel-softmax temperature at the end (1/16 in DALL-E A.2).
        temperature_end: f64 = Above(0.0, 100.0);
        /// Share of the run over which the temperature falls (a half cosine).
        temperature_fraction: f64 = Real(0.0, 1.0);
        /// Straight-through samples: one-hot forward, relaxed backward (off in DALL-E).
        straight_through: bool = Flag;
        /// Coefficient of the running average of the weights; 0 is off (0.999 in DALL-E A.2).
        ema: f64 = Real(0.0, 0.999999);
        /// Smallest share of the image's area that a random crop covers.
        crop_min: f64 = Above(0.0, 1.0);
        /// Probability of a horizontal flip.
        flip: f64 = Real(0.0, 1.0);
        /// Largest share of unreadable images before the run stops.
        max_bad: f64 = Real(0.0, 1.0);
        /// Threads; 0 is one per core. Never changes a result.
        threads: usize = Int(0, 4096);
        /// Optimizer steps between checkpoints; 0 is one per epoch.
        checkpoint_every: usize = Int(0, 1 << 40);
        /// Optimizer steps between lines of metrics.jsonl.
        log_every: usize = Int(1, 1 << 40);
    }
}

impl TokenizerRun {
    fn defaults(preset: Preset) -> Self {
        let sizes = match preset {
            Preset::Tiny => DvaeConfig::tiny(),
            Preset::Small => DvaeConfig::small(),
            Preset::Base | Preset::Large => DvaeConfig::dalle(),
        };
        let original = Self {
            preset,
            data: String::new(),
            device: Place::Auto,
            precision: "auto".into(),
            seed: 0,
            epochs: 100,
            batch: 512,
            accumulate: 64,
            image_size: sizes.image.into(),
            width: sizes.width,
            init_width: sizes.init_width,
            groups: sizes.groups,
            blocks: sizes.blocks_per_group,
            vocab: sizes.vocab,
            lr: 1e-4,
            min_lr: 1.25e-6,
            warmup_steps: 0,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 1e-4,
            clip: 0.0,
            recon: "logit_laplace".into(),
            kl_weight: 6.6,
            kl_weight_end: 6.6,
            usage_weight: 0.0,
            kl_warmup: 5_000.0 / 3_000_000.0,
            temperature_start: 1.0,
            temperature_end: 1.0 / 16.0,
            temperature_fraction: 150_000.0 / 3_000_000.0,
            straight_through: false,
            ema: 0.999,
            crop_min: 0.5,
            flip: 0.5,
            max_bad: 0.01,
            threads: 0,
            checkpoint_every: 0,
            log_every: 10,
        };
        // Short runs need larger steps, and schedules that fill the run instead of its first 5 %.
        match preset {
            Preset::Base | Preset::Large => original,
            // Deviation: the paper weighs the whole KL by one β, of which it holds 6.6 to the end; here
            // β is small and falls to 0, and what it does for the use of codes has its own weight.
            // Deviation: the paper cools to 1/16, here to 0.2: that is what so few steps can follow.
            Preset::Tiny | Preset::Small => Self {
                epochs: 14,
                batch: 32,
                accumulate: 1,
                lr: 2e-3,
                min_lr: 2e-5,
                warmup_steps: 50,
                clip: 1.0,
                kl_weight: 0.2,
                kl_weight_end: 0.0,
                usage_weight: 5.0,
                kl_warmup: 0.02,
                temperature_end: 0.2,
                temperature_fraction: 0.8,
                ema: 0.99,
                ..original
            },
        }
    }

    /// The model that these settings describe.
    pub fn dvae(&self) -> DvaeConfig {
        DvaeConfig {
            width: self.width,
            init_width: self.init_width,
            groups: self.groups,
            blocks_per_group: self.blocks,
            vocab: self.vocab,
            image: (self.image_size.0, self.image_size.1),
        }
    }

    fn check(&self) -> Result<()> {
        if self.min_lr > self.lr {
            return Err(Error::config(format!("min_lr {} is above lr {}", self.min_lr, self.lr)));
        }
        if !self.batch.is_multiple_of(self.accumulate) {
            return Err(Error::config(format!(
                "batch {} is not divisible by accumulate {}",
                self.batch, self.accumulate
            )));
        }
        if self.temperature_end > self.temperature_start {
            return Err(Error::config(format!(
                "temperature_end {} is above temperature_start {}",
                self.temperature_end, self.temperature_start
            )));
        }
        self.dvae().validate()
    }
}
