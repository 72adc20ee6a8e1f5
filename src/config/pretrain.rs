//! Settings of `beit pretrain`.

use super::Range::{Above, Choice, Device, Flag, Int, Real, Size, Text};
use super::{ImageSize, Place, Preset, run_config};
use crate::error::{Error, Result};
use crate::models::config::BeitConfig;

run_config! {
    /// Settings of one pretraining run (arXiv 2106.08254, table 10, and the original's README).
    PretrainRun, "pretrain" {
        /// Sizes and starting values that the other keys are laid over.
        preset: Preset = Choice(Preset::NAMES);
        /// Where the images come from: a folder, a CIFAR file or folder, or `synthetic[:COUNT]`.
        data: String = Text;
        /// The tokenizer: a run folder or a .safetensors file with its config.json beside it.
        tokenizer: String = Text;
        /// Where it is computed: auto, cpu, cuda or cuda:N. auto takes the first GPU where it can be used,
        /// else the CPU.
        device: Place = Device;
        /// Operands of matrix products and activations inside a branch: f32 or bf16; auto is bf16 on a
        /// GPU, f32 on the CPU.
        precision: String = Choice(&["auto", "f32", "bf16"]);
        /// Number that every random choice follows from.
        seed: u64 = Int(0, i64::MAX);
        /// Passes over the images (800 in the paper).
        epochs: usize = Int(1, 1_000_000);
        /// Images of one optimizer step (2048 in the paper).
        batch: usize = Int(1, 1 << 20);
        /// Parts that a batch is computed in, to save memory; the loss is that of the whole batch, drop
        /// path is drawn for each part.
        accumulate: usize = Int(1, 1 << 20);
        /// Height and width of the encoder's view in pixels.
        image_size: ImageSize = Size;
        /// Side of a patch in pixels.
        patch_size: usize = Int(1, 1 << 10);
        /// Width of the residual stream.
        width: usize = Int(1, 1 << 14);
        /// Number of blocks.
        depth: usize = Int(1, 256);
        /// Attention heads of a block.
        heads: usize = Int(1, 256);
        /// Number of visual tokens; must be the tokenizer's.
        vocab: usize = Int(2, 1 << 20);
        /// Relative-position bias: shared by all blocks (the original), per_block, or none.
        rel_pos: String = Choice(&["shared", "per_block", "none"]);
        /// Learned absolute positions (the paper's plain ViT).
        abs_pos: bool = Flag;
        /// Initial value of gamma_1 and gamma_2; 0 leaves them out (0.1 base, 1e-5 large).
        layer_scale: f64 = Real(0.0, 10.0);
        /// Drop-path rate of the last block (0.1 in the paper).
        drop_path: f64 = Real(0.0, 0.99);
        /// Peak learning rate (1.5e-3 in the paper, at batch 2048).
        lr: f64 = Above(0.0, 10.0);
        /// Learning rate that the cosine ends at (1e-5 in the paper).
        min_lr: f64 = Real(0.0, 10.0);
        /// Epochs of linear warmup (10 in the paper).
        warmup_epochs: usize = Int(0, 1_000_000);
        /// Optimizer steps of linear warmup; when above 0 it replaces warmup_epochs.
        warmup_steps: usize = Int(0, 1 << 40);
        /// First AdamW coefficient.
        beta1: f64 = Real(0.0, 0.9999);
        /// Second AdamW coefficient.
        beta2: f64 = Real(0.0, 0.999999);
        /// AdamW epsilon.
        eps: f64 = Above(0.0, 1.0);
        /// AdamW weight decay at the start (0.05 in the paper).
        weight_decay: f64 = Real(0.0, 10.0);
        /// Weight decay at the end; a cosine leads there.
        weight_decay_end: f64 = Real(0.0, 10.0);
        /// Bound of the global gradient norm; 0 is off (3.0 base, 1.0 large).
        clip: f64 = Real(0.0, 1e6);
        /// Coefficient of the running average of the weights; 0 is off.
        ema: f64 = Real(0.0, 0.999999);
        /// Masks: block (the original, at most masked_patches), block_exact (topped up), random.
        masking: String = Choice(&["block", "block_exact", "random"]);
        /// Patches masked in an image (75 of 196 in the paper).
        masked_patches: usize = Int(1, 1 << 20);
        /// Smallest area of a masked block in patches (16 on a 14x14 grid, 4 on 8x8).
        mask_min_block: usize = Int(1, 1 << 20);
        /// Largest area of a masked block in patches; not set means masked_patches.
        mask_max_block: Option<usize> = Int(1, 1 << 20);
        /// Smallest share of the image's area that a random crop covers (0.08 in the original).
        crop_min: f64 = Above(0.0, 1.0);
        /// Strength of the brightness, contrast and saturation jitter (0.4 in the original).
        jitter: f64 = Real(0.0, 1.0);
        /// Probability of a horizontal flip.
        flip: f64 = Real(0.0, 1.0);
        /// Mean and deviation of the encoder's view: half (0.5, 0.5) or imagenet.
        normalise: String = Choice(&["half", "imagenet"]);
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

impl PretrainRun {
    fn defaults(preset: Preset) -> Self {
        let sizes = match preset {
            Preset::Tiny => BeitConfig::tiny(),
            Preset::Small => BeitConfig::small(),
            Preset::Base => BeitConfig::base_patch16_224(),
            Preset::Large => BeitConfig::large_patch16_224(),
        };
        let original = Self {
            preset,
            data: String::new(),
            tokenizer: String::new(),
            device: Place::Auto,
            // Deviation: the original trains in fp16 with loss scaling; here bf16 or f32, without.
            precision: "auto".into(),
            seed: 0,
            epochs: 800,
            batch: 2048,
            accumulate: 64,
            image_size: sizes.image.into(),
            patch_size: sizes.patch,
            width: sizes.width,
            depth: sizes.depth,
            heads: sizes.heads,
            vocab: sizes.vocab,
            rel_pos: "shared".into(),
            abs_pos: sizes.abs_pos,
            layer_scale: sizes.layer_scale,
            drop_path: sizes.drop_path,
            lr: 1.5e-3,
            min_lr: 1e-5,
            warmup_epochs: 10,
            warmup_steps: 0,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.05,
            weight_decay_end: 0.05,
            clip: if preset == Preset::Large { 1.0 } else { 3.0 },
            ema: 0.0,
            masking: "block".into(),
            masked_patches: 75,
            mask_min_block: 16,
            mask_max_block: None,
            crop_min: 0.08,
            jitter: 0.4,
            flip: 0.5,
            normalise: "imagenet".into(),
            max_bad: 0.01,
            threads: 0,
            checkpoint_every: 0,
            log_every: 10,
        };
        match preset {
            Preset::Base | Preset::Large => original,
            Preset::Tiny | Preset::Small => Self {
                epochs: 20,
                batch: 32,
                accumulate: 1,
                lr: if preset == Preset::Tiny { 2e-3 } else { 1e-3 },
                warmup_epochs: 1,
                masked_patches: 25,
                mask_min_block: 4,
                // Deviation: the original crops from 8 %. Of a 32 px image that is 9 px: nothing the
                // model sees later is that coarse.
                crop_min: 0.3,
                normalise: "half".into(),
                ..original
            },
        }
    }

    /// The model that these settings describe.
    pub fn beit(&self) -> BeitConfig {
        BeitConfig {
            image: (self.image_size.0, self.image_size.1),
            patch: self.patch_size,
            width: self.width,
            depth: self.depth,
            heads: self.heads,
            vocab: self.vocab,
            shared_rel_pos_bias: self.rel_pos == "shared",
            rel_pos_bias: self.rel_pos == "per_block",
            abs_pos: self.abs_pos,
            layer_scale: self.layer_scale,
            drop_path: self.drop_path,
            ..BeitConfig::base_patch16_224()
        }
    }

    fn check(&self) -> Result<()> {
        let beit = self.beit();
        beit.validate()?;
        let err = |message: String| Err(Error::config(message));
        if self.min_lr > self.lr {
            return err(format!("min_lr {} is above lr {}", self.min_lr, self.lr));
        }
        if !self.batch.is_multiple_of(self.accumulate) {
            let (batch, parts) = (self.batch, self.accumulate);
            return err(format!("batch {batch} is not divisible by accumulate {parts}"));
        }
        if self.warmup_steps == 0 && self.warmup_epochs > self.epochs {
            let (warmup, epochs) = (self.warmup_epochs, self.epochs);
            return err(format!("warmup_epochs {warmup} is more than epochs {epochs}"));
        }
        let (masked, (gh, gw)) = (self.masked_patches, beit.grid());
        if masked > beit.patches() {
            return err(format!("masked_patches {masked} is more than the {gh}x{gw} patches"));
        }
        if self.masking == "random" {
            return Ok(());
        }
        // A minimum above the target leaves most masks empty, and with them the loss.
        let (min, max) = (self.mask_min_block, self.mask_max_block.unwrap_or(masked));
        if min > max {
            return err(format!(
                "mask_min_block {min} is above {max}, the largest block that masked_patches and \
                 mask_max_block allow"
            ));
        }
        Ok(())
    }
}
