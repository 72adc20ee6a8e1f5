//! Settings of `beit mocov3`.

use super::Range::{Above, Choice, Flag, Int, Real};
use super::{Common, Crops, EncoderSizes, Preset, Recipe, TrainConfig, run_config};
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::config::MocoConfig;
use crate::optim::Cosine;

run_config! {
    /// Settings of one run of MoCo v3 (arXiv 2104.02057, and `main_moco.py`).
    MocoRun, "mocov3", [common: Common, recipe: Recipe, crops: Crops, sizes: EncoderSizes] {
        use preset;
        use data;
        use val;
        use verify_data;
        use device;
        use precision;
        use seed;
        use steps = "Optimizer steps of the run; the passes over the images follow from it.";
        use epochs = "Passes over the images (300 in the original); where above 0 it replaces steps.";
        use batch =
            "Images of one optimizer step (4096 in the original). All are computed at once, because each view is told"
            "from those of all other images.";
        use recompute;
        use image_size = "Height and width of the views in pixels.";
        use patch_size;
        use width;
        use depth;
        use heads;
        use rel_pos = "Relative-position bias: shared by all blocks, per_block, or none (the original's ViT).";
        use abs_pos = "Learned absolute positions (the original's ViT has fixed ones of sines and cosines).";
        use layer_scale;
        use drop_path = "Drop-path rate of the last block (0 in the original).";
        /// Width of the hidden layers of both heads (4096 in the original).
        head_hidden: usize = Int(1, 1 << 14);
        /// Width of what is compared (256 in the original).
        head_outputs: usize = Int(2, 1 << 14);
        /// Temperature of the comparison (0.2 in the original).
        temperature: f64 = Above(0.0, 10.0);
        /// What the momentum encoder keeps of its weights in a step at the start; a cosine leads to 1 (0.99 in the
        /// original).
        momentum: f64 = Real(0.0, 1.0);
        /// Whether the patch embedding stays as it starts, which keeps training stable (the original).
        freeze_patch_embed: bool = Flag;
        use lr = "Peak learning rate (1.5e-4 for 256 images in the original).";
        use min_lr = "Learning rate that the cosine ends at (0 in the original).";
        use warmup_steps = "Optimizer steps of linear warmup (40 epochs in the original), at most a tenth of the run.";
        use beta1;
        use beta2;
        use eps;
        use weight_decay = "AdamW weight decay (0.1 in the original).";
        use clip = "Bound of the global gradient norm; 0 is off (off in the original).";
        use skip_steps;
        use retreats;
        use ema;
        use crop_min = "Smallest share of the image's area that a view covers (0.08 in the original).";
        use flip;
        /// Mean and deviation of the views: half (0.5, 0.5) or imagenet (the original).
        normalise: Normalise = Choice(Normalise::WORDS);
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

impl MocoRun {
    fn defaults(preset: Preset) -> Self {
        // Of ImageNet-1k: 300 epochs of 4096 images, 40 to warm up.
        let original = Self {
            common: Common { batch: 4096, lr: 2.4e-3, weight_decay: 0.1, ..Common::new(preset) },
            recipe: Recipe { steps: 93_600, warmup_steps: 12_480, accumulate: 1, ..Recipe::new() },
            crops: Crops { crop_min: 0.08 },
            sizes: EncoderSizes { drop_path: 0.0, ..EncoderSizes::of(preset) },
            head_hidden: 4096,
            head_outputs: 256,
            temperature: 0.2,
            momentum: 0.99,
            freeze_patch_embed: true,
            normalise: Normalise::Imagenet,
        };
        match preset {
            Preset::Base | Preset::Large => original,
            // Deviation: sizes, lengths and rates for a small encoder, few images and two cores; a view covers a fifth
            // at least, because less of 32 pixels is nothing to see.
            Preset::Tiny | Preset::Small => {
                let tiny = preset == Preset::Tiny;
                Self {
                    common: Common {
                        batch: 128,
                        lr: if tiny { 1e-3 } else { 5e-4 },
                        ..original.common
                    },
                    recipe: Recipe {
                        steps: if tiny { 1_000 } else { 20_000 },
                        warmup_steps: if tiny { 100 } else { 1_000 },
                        ..original.recipe
                    },
                    crops: Crops { crop_min: 0.2 },
                    head_hidden: 512,
                    head_outputs: 64,
                    momentum: 0.98,
                    normalise: preset.normalise(),
                    ..original
                }
            }
        }
    }

    /// The model that these settings describe.
    pub fn moco(&self) -> MocoConfig {
        let (hidden, outputs) = (self.head_hidden, self.head_outputs);
        MocoConfig { encoder: self.sizes.encoder(), hidden, outputs }
    }

    /// What the momentum encoder keeps of its weights before each step of a run of so many.
    pub fn momentum(&self, total: u64) -> Cosine {
        let base = self.momentum;
        Cosine { base, end: 1.0, start: base, warmup: 0, total }
    }

    fn check(&self) -> Result<()> {
        self.recipe.check(&self.common)?;
        self.moco().validate()?;
        if self.common.batch < 2 {
            return Err(Error::config(
                "batch 1 has no other image to tell a view from; give --batch 2 or more",
            ));
        }
        Ok(())
    }
}

impl TrainConfig for MocoRun {
    fn common(&self) -> &Common {
        &self.common
    }

    fn recipe(&self) -> &Recipe {
        &self.recipe
    }
}
