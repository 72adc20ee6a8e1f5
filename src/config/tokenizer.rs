//! Settings of `beit train-tokenizer`.

use super::Range::{Above, Flag, Int, Real, Text};
use super::{Coding, Common, Crops, Preset, Recipe, Recon, TrainConfig, run_config};
use crate::error::{Error, Result};
use crate::models::config::DvaeConfig;

run_config! {
    /// Settings of one tokenizer training run (arXiv 2102.12092, A.2, scaled to the run's length).
    TokenizerRun, "train-tokenizer", [common: Common, recipe: Recipe, crops: Crops, coding: Coding] {
        use preset;
        use data;
        use val;
        use verify_data;
        /// Weights to start from: a run folder or a .safetensors file; empty for random ones.
        init: String = Text;
        use device;
        use precision;
        use seed;
        use steps = "Optimizer steps of the run (3,000,000 in DALL-E A.2).";
        use epochs;
        use batch;
        use accumulate =
            "Parts that a batch is computed in, one after the other, to save memory; 0 is as few as fit."
            "Noise is drawn for each part, and the usage term sees the codes of one part at a time; the"
            "loss is otherwise that of the batch.";
        use image_size;
        use width;
        use init_width;
        use groups;
        use blocks;
        /// Number of visual tokens.
        vocab: usize = Int(2, 1 << 20);
        use lr = "Peak learning rate (1e-4 in DALL-E A.2, at width 256 and batch 512).";
        use min_lr = "Learning rate at the end of the cosine (1.25e-6 in DALL-E A.2).";
        use warmup_steps =
            "Optimizer steps of linear warmup, at most a tenth of the run (none in DALL-E A.2).";
        use beta1 = "First AdamW coefficient (DALL-E A.2).";
        use beta2 = "Second AdamW coefficient (DALL-E A.2).";
        use eps = "AdamW epsilon (DALL-E A.2).";
        use weight_decay = "AdamW weight decay (DALL-E A.2).";
        use clip = "Bound of the global gradient norm; 0 is off (DALL-E has none).";
        use recon;
        use kl_weight;
        /// KL weight at the end; it falls once the temperature is down (constant in DALL-E A.2).
        kl_weight_end: f64 = Real(0.0, 1e4);
        /// Weight of the KL of the codes' mean distribution, which keeps codes in use (0 in DALL-E).
        usage_weight: f64 = Real(0.0, 1e4);
        use kl_warmup;
        /// Gumbel-softmax temperature at the start (DALL-E A.2).
        temperature_start: f64 = Above(0.0, 100.0);
        /// Gumbel-softmax temperature at the end (1/16 in DALL-E A.2).
        temperature_end: f64 = Above(0.0, 100.0);
        /// Share of the run over which the temperature falls (a half cosine).
        temperature_fraction: f64 = Real(0.0, 1.0);
        /// Straight-through samples: one-hot forward, relaxed backward (off in DALL-E).
        straight_through: bool = Flag;
        use skip_steps;
        use retreats;
        use ema =
            "Coefficient of the running average of the weights; 0 is off (0.999 in DALL-E A.2).";
        use crop_min;
        use flip;
        use max_bad;
        use orientation;
        use decode_memory;
        use threads;
        use loader_threads;
        use validate_every;
        use checkpoint_every;
        use disk_full;
        use log_every;
    }
}

impl TokenizerRun {
    pub(super) fn defaults(preset: Preset) -> Self {
        let sizes = match preset {
            Preset::Tiny => DvaeConfig::tiny(),
            Preset::Small => DvaeConfig::small(),
            Preset::Base | Preset::Large => DvaeConfig::dalle(),
        };
        let original = Self {
            common: Common { batch: 512, lr: 1e-4, weight_decay: 1e-4, ..Common::new(preset) },
            // 100 epochs of ImageNet-1k.
            recipe: Recipe { steps: 250_000, min_lr: 1.25e-6, ema: 0.999, ..Recipe::new() },
            crops: Crops { crop_min: 0.5 },
            init: String::new(),
            coding: Coding {
                image_size: sizes.image.into(),
                width: sizes.width,
                init_width: sizes.init_width,
                groups: sizes.groups,
                blocks: sizes.blocks_per_group,
                recon: Recon::LogitLaplace,
                kl_weight: 6.6,
                kl_warmup: 5_000.0 / 3_000_000.0,
            },
            vocab: sizes.vocab,
            kl_weight_end: 6.6,
            usage_weight: 0.0,
            temperature_start: 1.0,
            temperature_end: 1.0 / 16.0,
            temperature_fraction: 150_000.0 / 3_000_000.0,
            straight_through: false,
        };
        // Short runs need larger steps, and schedules that fill the run instead of its first 5 %.
        match preset {
            Preset::Base | Preset::Large => original,
            // Deviation: the paper weighs the whole KL by one β, of which it holds 6.6 to the end; here
            // β is small and falls to 0, and what it does for the use of codes has its own weight.
            // Deviation: the paper cools to 1/16, here to 0.2: that is what so few steps can follow.
            Preset::Tiny | Preset::Small => Self {
                common: Common { batch: 32, lr: 2e-3, ..original.common },
                recipe: Recipe {
                    steps: if preset == Preset::Tiny { 2_000 } else { 10_000 },
                    min_lr: 2e-5,
                    warmup_steps: 50,
                    clip: 1.0,
                    ema: 0.99,
                    ..original.recipe
                },
                coding: Coding { kl_weight: 0.2, kl_warmup: 0.02, ..original.coding },
                kl_weight_end: 0.0,
                usage_weight: 5.0,
                temperature_end: 0.2,
                temperature_fraction: 0.8,
                ..original
            },
        }
    }

    /// The model that these settings describe.
    pub fn dvae(&self) -> DvaeConfig {
        let trunk = self.coding.trunk();
        DvaeConfig {
            width: trunk.width,
            init_width: trunk.init_width,
            groups: trunk.groups,
            blocks_per_group: trunk.blocks_per_group,
            vocab: self.vocab,
            image: trunk.image,
        }
    }

    fn check(&self) -> Result<()> {
        self.recipe.check(&self.common)?;
        if self.temperature_end > self.temperature_start {
            return Err(Error::config(format!(
                "temperature_end {} is above temperature_start {}",
                self.temperature_end, self.temperature_start
            )));
        }
        self.dvae().validate()
    }
}

impl TrainConfig for TokenizerRun {
    fn common(&self) -> &Common {
        &self.common
    }

    fn recipe(&self) -> &Recipe {
        &self.recipe
    }
}
