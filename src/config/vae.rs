//! Settings of `beit train-tokenizer --kind vae`.

#[cfg(doc)]
use super::Crops;
use super::Range::{Int, Text};
use super::{Coding, Common, Preset, Recipe, TokenizerRun, TrainConfig, run_config};
use crate::error::Result;
use crate::models::config::VaeConfig;

run_config! {
    /// Settings of one training run of the Gaussian VAE: those of the tokenizer's, as far as it has them.
    VaeRun, "train-tokenizer --kind vae", [common: Common, recipe: Recipe, crops: Crops, coding: Coding] {
        use preset;
        use data;
        use val;
        use verify_data;
        /// Weights to start from: a run folder or a .safetensors file; empty for random ones.
        init: String = Text;
        use device;
        use precision;
        use seed;
        use steps = "Optimizer steps of the run.";
        use epochs;
        use batch;
        use accumulate =
            "Parts that a batch is computed in, one after the other, to save memory; 0 is as few as fit."
            "Noise is drawn for each part; the loss is otherwise that of the batch.";
        use image_size;
        use width;
        use init_width;
        use groups;
        use blocks;
        /// Latent channels of a position.
        latent_channels: usize = Int(1, 1 << 12);
        use lr = "Peak learning rate.";
        use min_lr = "Learning rate at the end of the cosine.";
        use warmup_steps = "Optimizer steps of linear warmup, at most a tenth of the run.";
        use beta1 = "First AdamW coefficient.";
        use beta2 = "Second AdamW coefficient.";
        use eps = "AdamW epsilon.";
        use weight_decay = "AdamW weight decay.";
        use clip = "Bound of the global gradient norm; 0 is off.";
        use recon;
        use kl_weight = "Weight of the KL to the standard normal prior, beta; 1 is the bound itself.";
        use kl_warmup;
        use skip_steps;
        use retreats;
        use ema = "Coefficient of the running average of the weights; 0 is off.";
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

impl VaeRun {
    fn defaults(preset: Preset) -> Self {
        let TokenizerRun { common, recipe, crops, init, coding, .. } =
            TokenizerRun::defaults(preset);
        let sizes = match preset {
            Preset::Tiny => VaeConfig::tiny(),
            Preset::Small => VaeConfig::small(),
            Preset::Base | Preset::Large => VaeConfig::dalle(),
        };
        // The bound itself, from a tenth of the run on: a KL that weighs from the start silences channels.
        let coding = Coding { kl_weight: 1.0, kl_warmup: 0.1, ..coding };
        Self { common, recipe, crops, init, coding, latent_channels: sizes.latent_channels }
    }

    /// The model that these settings describe.
    pub fn vae(&self) -> VaeConfig {
        VaeConfig { trunk: self.coding.trunk(), latent_channels: self.latent_channels }
    }

    fn check(&self) -> Result<()> {
        self.recipe.check(&self.common)?;
        self.vae().validate()
    }
}

impl TrainConfig for VaeRun {
    fn common(&self) -> &Common {
        &self.common
    }

    fn recipe(&self) -> &Recipe {
        &self.recipe
    }
}
