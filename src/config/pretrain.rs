//! Settings of `beit pretrain`.

use super::Range::{Choice, Int, Real, Text};
use super::{
    Common, Crops, EncoderSizes, LossOver, Preset, PretrainTarget, Recipe, Replace, TrainConfig,
    run_config,
};
use crate::data::pixels::Normalise;
use crate::data::{MaskConfig, Masking};
use crate::error::{Error, Result};
use crate::models::config::{BeitConfig, PixelValues};

run_config! {
    /// Settings of one pretraining run (arXiv 2106.08254, table 10, and the original's README).
    PretrainRun, "pretrain", [common: Common, recipe: Recipe, crops: Crops, sizes: EncoderSizes] {
        use preset;
        use data;
        use val;
        use verify_data;
        /// Weights to start from: a run folder or a .safetensors file; empty for random ones.
        init: String = Text;
        /// What is predicted of a patch: tokens (the original), pixels, or normalised_pixels, less their mean
        /// and over their deviation in the patch. The loss over pixels is the squared error.
        target: PretrainTarget = Choice(PretrainTarget::WORDS);
        /// The tokenizer of target=tokens: a run folder or a .safetensors file with its config.json beside it.
        tokenizer: String = Text;
        use device;
        use precision;
        use seed;
        use steps =
            "Optimizer steps of the run (500,000 in the paper); the passes over the images follow from it.";
        use epochs = "Passes over the images (800 in the paper); where above 0 it replaces steps.";
        use batch = "Images of one optimizer step (2048 in the paper).";
        use accumulate =
            "Parts that a batch is computed in, one after the other, to save memory; 0 is as few as fit. The"
            "loss is that of the whole batch; drop path is drawn for each part.";
        use recompute;
        use image_size;
        use patch_size;
        use width;
        use depth;
        use heads;
        /// Number of visual tokens; must be the tokenizer's. Not used with another target than tokens.
        vocab: usize = Int(2, 1 << 20);
        use rel_pos;
        use abs_pos;
        use layer_scale;
        use drop_path;
        use lr = "Peak learning rate (1.5e-3 in the paper, at batch 2048).";
        use min_lr = "Learning rate that the cosine ends at (1e-5 in the paper).";
        /// Epochs of linear warmup (10 in the paper), at most a tenth of the run.
        warmup_epochs: usize = Int(0, 1_000_000);
        use warmup_steps =
            "Optimizer steps of linear warmup, at most a tenth of the run; when above 0 it replaces"
            "warmup_epochs.";
        use beta1;
        use beta2;
        use eps;
        use weight_decay = "AdamW weight decay at the start (0.05 in the paper).";
        /// Weight decay at the end; a cosine leads there.
        weight_decay_end: f64 = Real(0.0, 10.0);
        use clip = "Bound of the global gradient norm; 0 is off (3.0 base, 1.0 large).";
        use skip_steps;
        use retreats;
        use ema;
        /// Masks: block (the original, at most masked_patches), block_exact (topped up), random, or none, which
        /// hides nothing and wants loss_over=all.
        masking: Masking = Choice(Masking::WORDS);
        /// Patches masked in an image (75 of 196 in the paper).
        masked_patches: usize = Int(1, 1 << 20);
        /// Smallest area of a masked block in patches (16 on a 14x14 grid, 4 on 8x8).
        mask_min_block: usize = Int(1, 1 << 20);
        /// Largest area of a masked block in patches; not set means masked_patches.
        mask_max_block: Option<usize> = Int(1, 1 << 20);
        /// What is shown in the place of a masked patch: mask_token (the original), or random_patch, another
        /// patch of the batch.
        replace: Replace = Choice(Replace::WORDS);
        /// Patches that the loss is over: masked (the original) or all.
        loss_over: LossOver = Choice(LossOver::WORDS);
        use crop_min =
            "Smallest share of the image's area that a random crop covers (0.08 in the original).";
        /// Strength of the brightness, contrast and saturation jitter (0.4 in the original).
        jitter: f64 = Real(0.0, 1.0);
        use flip;
        /// Mean and deviation of the encoder's view: half (0.5, 0.5) or imagenet.
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

impl PretrainRun {
    fn defaults(preset: Preset) -> Self {
        let original = Self {
            // Deviation: the original trains in fp16 with loss scaling; here bf16 or f32, without.
            common: Common { batch: 2048, lr: 1.5e-3, weight_decay: 0.05, ..Common::new(preset) },
            // 800 epochs of ImageNet-1k, the first 10 of them to warm up.
            recipe: Recipe {
                steps: 500_000,
                warmup_steps: 6_250,
                min_lr: 1e-5,
                clip: if preset == Preset::Large { 1.0 } else { 3.0 },
                ..Recipe::new()
            },
            crops: Crops { crop_min: 0.08 },
            init: String::new(),
            target: PretrainTarget::Tokens,
            tokenizer: String::new(),
            sizes: EncoderSizes::of(preset),
            vocab: preset.beit().outputs(),
            warmup_epochs: 0,
            weight_decay_end: 0.05,
            masking: Masking::Block,
            masked_patches: 75,
            mask_min_block: 16,
            mask_max_block: None,
            replace: Replace::MaskToken,
            loss_over: LossOver::Masked,
            jitter: 0.4,
            normalise: preset.normalise(),
        };
        match preset {
            Preset::Base | Preset::Large => original,
            Preset::Tiny | Preset::Small => Self {
                common: Common {
                    batch: 32,
                    lr: if preset == Preset::Tiny { 2e-3 } else { 1e-3 },
                    ..original.common
                },
                // Deviation: the original crops from 8 %. Of a 32 px image that is 9 px: nothing the
                // model sees later is that coarse.
                recipe: Recipe {
                    steps: if preset == Preset::Tiny { 2_400 } else { 20_000 },
                    warmup_steps: if preset == Preset::Tiny { 156 } else { 1_000 },
                    ..original.recipe
                },
                crops: Crops { crop_min: 0.3 },
                masked_patches: 25,
                mask_min_block: 4,
                ..original
            },
        }
    }

    /// The model that these settings describe.
    pub fn beit(&self) -> BeitConfig {
        let encoder = self.sizes.encoder();
        match self.pixels() {
            None => encoder.with_vocab(self.vocab),
            Some(values) => encoder.with_pixels(values),
        }
    }

    /// The pixels that are predicted; nothing where tokens are.
    pub fn pixels(&self) -> Option<PixelValues> {
        match self.target {
            PretrainTarget::Tokens => None,
            PretrainTarget::Pixels => Some(PixelValues::Plain),
            PretrainTarget::NormalisedPixels => Some(PixelValues::Normalised),
        }
    }

    /// The law of the masks that these settings describe.
    pub fn masks(&self) -> MaskConfig {
        let (height, width) = self.beit().encoder.grid();
        MaskConfig {
            masking: self.masking,
            max_block: self.mask_max_block,
            ..MaskConfig::block(height, width, self.masked_patches, self.mask_min_block)
        }
    }

    fn check(&self) -> Result<()> {
        let beit = self.beit();
        beit.validate()?;
        self.recipe.check(&self.common)?;
        let err = |message: String| Err(Error::config(message));
        let (warmup, epochs) = (self.warmup_epochs, self.common.epochs);
        if self.recipe.warmup_steps == 0 && epochs > 0 && warmup > epochs {
            return err(format!("warmup_epochs {warmup} is more than epochs {epochs}"));
        }
        if let (Some(_), [_, ..]) = (self.pixels(), self.tokenizer.as_bytes()) {
            return err(format!(
                "target={} is read off the images and needs no tokenizer, but tokenizer is {}; leave it out, \
                 or set target=tokens",
                self.target, self.tokenizer
            ));
        }
        self.check_masks(&beit)
    }

    fn check_masks(&self, beit: &BeitConfig) -> Result<()> {
        let err = |message: String| Err(Error::config(message));
        if self.masking == Masking::None {
            return match (self.loss_over, self.replace) {
                (LossOver::Masked, _) => {
                    err("masking=none hides no patch, so that there is no loss over masked \
                     ones; set loss_over=all"
                        .into())
                }
                (LossOver::All, Replace::RandomPatch) => {
                    err("masking=none hides no patch that replace=random_patch \
                     could put another into; leave out one of the two"
                        .into())
                }
                (LossOver::All, Replace::MaskToken) => Ok(()),
            };
        }
        let (masked, (gh, gw)) = (self.masked_patches, beit.encoder.grid());
        match beit.encoder.patches() {
            1 => {
                return err(format!(
                    "an image is one patch, which cannot be hidden and seen; set patch_size below {}",
                    self.sizes.patch_size
                ));
            }
            patches if masked >= patches => {
                return err(format!(
                    "masked_patches {masked} leaves none of the {gh}x{gw} patches to be seen; set it to at \
                     most {}",
                    patches - 1
                ));
            }
            _ => {}
        }
        if self.masking == Masking::Random {
            return Ok(());
        }
        // A minimum above the target leaves most masks empty, and with them the loss.
        let (min, max) = (self.mask_min_block, self.mask_max_block.unwrap_or(masked).min(masked));
        if min > max {
            return err(format!(
                "mask_min_block {min} is above {max}, the largest block that masked_patches and \
                 mask_max_block allow; set it to at most {max}"
            ));
        }
        Ok(())
    }
}

impl TrainConfig for PretrainRun {
    fn common(&self) -> &Common {
        &self.common
    }

    fn recipe(&self) -> &Recipe {
        &self.recipe
    }
}
