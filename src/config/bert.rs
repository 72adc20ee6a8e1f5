//! Settings of `beit bert`.

use super::Range::Int;
use super::{Common, EncoderSizes, Preset, Recipe, TrainConfig, run_config};
use crate::error::Result;
use crate::models::config::{BertConfig, EncoderConfig};

run_config! {
    /// Settings of one run of masked language modelling on bytes (BERT, arXiv 1810.04805).
    BertRun, "bert", [common: Common, recipe: Recipe, sizes: EncoderSizes] {
        use preset;
        use data = "The text: a file, or a folder of files, in any encoding.";
        use val =
            "Text to measure on while training: one like `data`, or none, or auto, which keeps some pieces of `data` out"
            "of training: 2 % of it, at most 1,024 pieces and, of a short text, at least 16 or an eighth. Which ones"
            "follows from their number alone.";
        use device;
        use precision;
        use seed;
        use steps = "Optimizer steps of the run (1,000,000 in the paper); the passes over the text follow from it.";
        use epochs = "Passes over the text (about 40 in the paper); where above 0 it replaces steps.";
        use batch = "Pieces of one optimizer step (256 in the paper).";
        use accumulate;
        use recompute;
        /// Bytes of a piece of text, which the model sees at once (512 word pieces in the paper).
        length: usize = Int(2, 1 << 12);
        use width;
        use depth;
        use heads;
        use rel_pos = "Relative-position bias: shared by all blocks, as in the encoder of images, per_block, or none (the paper).";
        use abs_pos = "Learned absolute positions (the paper).";
        use layer_scale = "Initial value of gamma_1 and gamma_2; 0 leaves them out (the paper).";
        use drop_path = "Drop-path rate of the last block (the paper has dropout of single numbers instead).";
        use lr = "Peak learning rate (1e-4 in the paper).";
        use min_lr = "Learning rate that the cosine ends at (the paper's falls in a line to 0).";
        use warmup_steps = "Optimizer steps of linear warmup (10,000 in the paper), at most a tenth of the run.";
        use beta1;
        use beta2;
        use eps;
        use weight_decay = "AdamW weight decay (0.01 in the paper).";
        use clip;
        use skip_steps;
        use retreats;
        use ema;
        use threads;
        use loader_threads;
        use validate_every;
        use checkpoint_every;
        use disk_full;
        use log_every;
    }
}

impl BertRun {
    fn defaults(preset: Preset) -> Self {
        // Deviation: the encoder of images and its drop path, a cosine in place of a line, a clip.
        let original = Self {
            common: Common { batch: 256, lr: 1e-4, weight_decay: 0.01, ..Common::new(preset) },
            recipe: Recipe { steps: 1_000_000, warmup_steps: 10_000, clip: 3.0, ..Recipe::new() },
            sizes: EncoderSizes::of(preset),
            length: 512,
        };
        match preset {
            Preset::Base | Preset::Large => original,
            Preset::Tiny | Preset::Small => {
                let tiny = preset == Preset::Tiny;
                Self {
                    common: Common {
                        batch: 32,
                        lr: if tiny { 2e-3 } else { 1e-3 },
                        ..original.common
                    },
                    recipe: Recipe {
                        steps: if tiny { 3_000 } else { 30_000 },
                        warmup_steps: if tiny { 200 } else { 1_000 },
                        ..original.recipe
                    },
                    length: if tiny { 128 } else { 256 },
                    ..original
                }
            }
        }
    }

    /// The model that these settings describe.
    pub fn bert(&self) -> BertConfig {
        let encoder: EncoderConfig = self.sizes.encoder();
        BertConfig::over(encoder, self.length)
    }

    fn check(&self) -> Result<()> {
        self.recipe.check(&self.common)?;
        self.bert().validate()
    }
}

impl TrainConfig for BertRun {
    fn common(&self) -> &Common {
        &self.common
    }

    fn recipe(&self) -> &Recipe {
        &self.recipe
    }
}
