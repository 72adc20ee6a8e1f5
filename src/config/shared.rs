//! Settings that commands share.

use super::Range::{Above, Choice, Device, Flag, Int, Real, Size, Text};
use super::{
    DiskFull, ImageSize, Place, PrecisionChoice, Preset, Recon, RelPos, RunConfig, ViewNormalise,
    shared_settings,
};
use crate::data::decode::{DecodeOptions, Orientation};
use crate::data::{SourceOptions, Split};
use crate::error::{Error, Result};
use crate::models::config::{EncoderConfig, TrunkConfig};

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
        /// Passes over the images; where above 0 it replaces `steps`.
        epochs: usize = Int(0, 1_000_000);
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
        /// Images to measure on while training: a source like `data`, or none, or auto, which keeps some of
        /// `data` out of training: 2 % of it, at most 1,024 images and, of a small set, at least 16 or an
        /// eighth. Which ones follows from their number alone.
        val: String = Text;
        /// Whether a resumed run knows its images again by all their bytes, which are read for that; else by
        /// the sizes of all files and the contents of 64.
        verify_data: bool = Flag;
        /// Optimizer steps of the run; the passes over the images follow from it.
        steps: usize = Int(1, 1 << 40);
        /// Parts that a batch is computed in, one after the other, to save memory; 0 is as few as fit.
        accumulate: usize = Int(0, 1 << 20);
        /// Learning rate at the end of the cosine.
        min_lr: f64 = Real(0.0, 10.0);
        /// Optimizer steps of linear warmup, at most a tenth of the run.
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
        /// Steps in a row that are skipped where loss or gradient is not finite; one more, and the run goes
        /// back to its last checkpoint with half the learning rate.
        skip_steps: usize = Int(0, 1 << 20);
        /// Times that a run goes back before it stops.
        retreats: usize = Int(0, 64);
        /// What a full disk means for a checkpoint: stop, or wait until there is space.
        disk_full: DiskFull = Choice(DiskFull::WORDS);
        /// Threads that make samples ahead; 0 is one per core. Never changes a result.
        loader_threads: usize = Int(0, 4096);
        /// Probability of a horizontal flip.
        flip: f64 = Real(0.0, 1.0);
        /// Optimizer steps between validations; 0 is one per epoch, and at least 50 steps apart.
        validate_every: usize = Int(0, 1 << 40);
        /// Optimizer steps between checkpoints; 0 is one per epoch, and at least 50 steps apart.
        checkpoint_every: usize = Int(0, 1 << 40);
        /// Optimizer steps between lines of metrics.jsonl.
        log_every: usize = Int(1, 1 << 40);
    }
}

shared_settings! {
    /// Settings of runs whose views are random resized crops.
    Crops {
        /// Smallest share of the image's area that a random crop covers.
        crop_min: f64 = Above(0.0, 1.0);
    }
}

shared_settings! {
    /// Settings of runs that train an encoder and a decoder of images around something between them.
    Coding {
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
        /// Reconstruction term: logit_laplace (DALL-E A.3) or mse.
        recon: Recon = Choice(Recon::WORDS);
        /// Weight of the KL to the uniform prior, beta (6.6 in DALL-E A.2).
        kl_weight: f64 = Real(0.0, 1e4);
        /// Share of the run over which the KL weight rises from 0 (a half cosine).
        kl_warmup: f64 = Real(0.0, 1.0);
    }
}

impl Coding {
    /// The sizes of both networks.
    pub fn trunk(&self) -> TrunkConfig {
        TrunkConfig {
            width: self.width,
            init_width: self.init_width,
            groups: self.groups,
            blocks_per_group: self.blocks,
            image: (self.image_size.0, self.image_size.1),
        }
    }
}

shared_settings! {
    /// Sizes of an encoder that starts from nothing.
    EncoderSizes {
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
        /// Relative-position bias: shared by all blocks (the original), per_block, or none.
        rel_pos: RelPos = Choice(RelPos::WORDS);
        /// Learned absolute positions (the paper's plain ViT).
        abs_pos: bool = Flag;
        /// Initial value of gamma_1 and gamma_2; 0 leaves them out (0.1 base, 1e-5 large).
        layer_scale: f64 = Real(0.0, 10.0);
        /// Drop-path rate of the last block (0.1 in the paper).
        drop_path: f64 = Real(0.0, 0.99);
        /// Whether each block is computed again in backward, which takes less memory and about a third
        /// more time. Never changes a result.
        recompute: bool = Flag;
    }
}

impl EncoderSizes {
    /// Those of a preset.
    pub(super) fn of(preset: Preset) -> Self {
        let sizes = preset.beit().encoder;
        Self {
            image_size: sizes.image.into(),
            patch_size: sizes.patch,
            width: sizes.width,
            depth: sizes.depth,
            heads: sizes.heads,
            rel_pos: RelPos::Shared,
            abs_pos: sizes.abs_pos,
            layer_scale: sizes.layer_scale,
            drop_path: sizes.drop_path,
            recompute: false,
        }
    }

    /// The encoder that they describe.
    pub fn encoder(&self) -> EncoderConfig {
        EncoderConfig {
            image: (self.image_size.0, self.image_size.1),
            patch: self.patch_size,
            depth: self.depth,
            heads: self.heads,
            shared_rel_pos_bias: self.rel_pos == RelPos::Shared,
            rel_pos_bias: self.rel_pos == RelPos::PerBlock,
            abs_pos: self.abs_pos,
            layer_scale: self.layer_scale,
            drop_path: self.drop_path,
            ..EncoderConfig::base_patch16_224().with_width(self.width)
        }
    }
}

shared_settings! {
    /// Settings of runs that train a pretrained model on.
    Downstream {
        /// The model to start from: a run folder or a file of an encoder, a classifier or a segmenter, or scratch.
        model: String = Text;
        /// A run folder or a file whose encoder's sizes a model from `scratch` takes, or vit, those of the preset in a
        /// plain ViT: absolute positions alone and no layer scale; empty for those of the preset.
        like: String = Text;
        /// Whether each block is computed again in backward, which takes less memory and about a third
        /// more time. Never changes a result.
        recompute: bool = Flag;
        /// Height and width of the view in pixels; not set means those of the model. Tables of relative
        /// positions and absolute positions are resized to another grid.
        image_size: Option<ImageSize> = Size;
        /// Drop-path rate of the last block (0.1 base, 0.2 large).
        drop_path: f64 = Real(0.0, 0.99);
        /// Factor on the learning rate from each layer to the one below it (0.65 base, 0.75 large).
        layer_decay: f64 = Above(0.0, 1.0);
        /// Mean and deviation of the view: half (0.5, 0.5), imagenet, or those of the model.
        normalise: ViewNormalise = Choice(ViewNormalise::WORDS);
    }
}

impl Downstream {
    /// `model` of a run that starts from nothing.
    pub const SCRATCH: &str = "scratch";
    /// `like` of a plain ViT (arXiv 2010.11929) at the sizes of the preset.
    pub const VIT: &str = "vit";

    pub(super) fn check(&self) -> Result<()> {
        if self.like.is_empty() || self.model == Self::SCRATCH {
            return Ok(());
        }
        Err(Error::config(format!(
            "like = {:?} says the sizes of a model from scratch, but model is {:?}; leave one of them out",
            self.like, self.model
        )))
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
            epochs: 0,
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
    /// `val` of a run that keeps some images out of training.
    pub const AUTO: &str = "auto";
    /// `val` of a run that measures on the images that it trains on.
    pub const NONE: &str = "none";

    /// Starting values of the originals' long runs.
    pub(super) fn new() -> Self {
        Self {
            data: String::new(),
            val: Recipe::AUTO.to_owned(),
            verify_data: false,
            steps: 1,
            accumulate: 0,
            min_lr: 0.0,
            warmup_steps: 0,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            clip: 0.0,
            ema: 0.0,
            skip_steps: 10,
            retreats: 3,
            disk_full: DiskFull::Stop,
            loader_threads: 0,
            flip: 0.5,
            validate_every: 0,
            checkpoint_every: 0,
            log_every: 10,
        }
    }

    /// Refuses a rate that rises at the end and more parts than a batch has images.
    pub(super) fn check(&self, common: &Common) -> Result<()> {
        let (min_lr, lr, batch, parts) = (self.min_lr, common.lr, common.batch, self.accumulate);
        if min_lr > lr {
            return Err(Error::config(format!("min_lr {min_lr} is above lr {lr}")));
        }
        if parts > batch {
            let text = format!("accumulate {parts} is more than the {batch} images of a batch");
            return Err(Error::config(text));
        }
        Ok(())
    }
}
