//! Settings of `beit segment-train`.

use super::Range::{Above, Choice, Flag, Int, Real, Text};
use super::{
    Common, Downstream, ImageSize, LossDivisor, Preset, Recipe, TrainConfig, ViewNormalise,
    run_config,
};
use crate::error::{Error, Result};
use crate::models::config::SegmenterConfig;

run_config! {
    /// Settings of one run for semantic segmentation (arXiv 2106.08254, table 12, and
    /// `semantic_segmentation/configs/beit/upernet`).
    SegmentRun, "segment-train", [common: Common, recipe: Recipe, downstream: Downstream] {
        use preset = "Starting values of the other keys, and the sizes of a model from `scratch`.";
        use model;
        use like;
        use data =
            "Images with their masks: a folder like ADE20K's, a folder with images/ and masks/, or"
            "`synthetic[:COUNT]`.";
        use val =
            "Images with their masks to measure on while training: a source like `data`, or none, or auto, which"
            "keeps some of `data` out of training: 2 % of it, at most 1,024 images and, of a small set, at least 16"
            "or an eighth. The run ends with the weights whose mIoU on them was highest.";
        use verify_data;
        use device;
        use precision;
        use seed;
        use steps = "Optimizer steps of the run; the passes over the images follow from it.";
        use epochs = "Passes over the images; where above 0 it replaces steps.";
        use batch = "Images of one optimizer step (16 in the original).";
        use accumulate =
            "Parts that a batch is computed in, one after the other, to save memory; 0 is as few as fit. The batch"
            "norms follow each part by itself.";
        use recompute;
        use image_size =
            "Height and width of the crops in pixels; not set means those of the model. Tables of relative"
            "positions and absolute positions are resized to another grid.";
        /// Blocks whose output the four levels of the pyramid are made of, counted from 1, finest first, as in
        /// 4,6,8,12 (base in the original); 0 is the embedding; empty for a third, half, two thirds and all of them.
        taps: String = Text;
        /// Channels of the head; 0 is as many as the encoder is wide (the original).
        channels: usize = Int(0, 1 << 13);
        /// Channels of the auxiliary head; 0 leaves it out.
        auxiliary: usize = Int(0, 1 << 13);
        /// Share of the auxiliary head's loss (0.4 in the original).
        auxiliary_weight: f64 = Real(0.0, 10.0);
        /// Probability that a channel is dropped before the last layer of each head (0.1 in the original).
        dropout: f64 = Real(0.0, 0.99);
        /// What the sum of the pixels' losses is divided by: labelled, the pixels with a class, or all (the
        /// original).
        divisor: LossDivisor = Choice(LossDivisor::WORDS);
        use drop_path;
        use lr =
            "Peak learning rate of pyramid and heads (7e-4 base, 2e-5 large, both at batch 16 in the original).";
        use layer_decay =
            "Factor on the learning rate from each layer to the one below it (0.65 base, 0.95 large).";
        use min_lr = "Learning rate that the decay ends at (0 in the original).";
        /// Power of the decay of the learning rate: (1 - step/steps)^power (1 in the original).
        power: f64 = Above(0.0, 10.0);
        use warmup_steps =
            "Optimizer steps of linear warmup, the decay going on under it (1500 in the original), at most a tenth"
            "of the run.";
        use beta1;
        use beta2;
        use eps;
        use weight_decay = "AdamW weight decay (0.05 in the original).";
        use clip = "Bound of the global gradient norm; 0 is off (off in the original).";
        use skip_steps;
        use retreats;
        use ema =
            "Coefficient of the running average of the weights, which is then what is measured and saved; 0 is off.";
        /// Shorter side in pixels that images are scaled to, and that they are measured at (512 in the original).
        short_side: usize = Int(1, 8192);
        /// Longest longer side in pixels (2048 in the original).
        long_side: usize = Int(1, 65_536);
        /// Smallest factor on both (0.5 in the original).
        ratio_min: f64 = Above(0.0, 16.0);
        /// Largest factor on both (2 in the original).
        ratio_max: f64 = Above(0.0, 16.0);
        /// Share of the labelled pixels that one class must stay below in a crop, which is drawn again up to ten
        /// times; 1 takes any (0.75 in the original).
        category_cap: f64 = Above(0.0, 1.0);
        use flip;
        /// Whether brightness, contrast, saturation and hue are varied (they are in the original).
        photometric: bool = Flag;
        /// Pixels from a window to the next where images are measured; 0 is two thirds of the crop (341 of 512).
        stride: usize = Int(0, 8192);
        use normalise =
            "Mean and deviation of the view: half (0.5, 0.5), imagenet (the original), or those of the model.";
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

impl SegmentRun {
    fn defaults(preset: Preset) -> Self {
        let large = preset == Preset::Large;
        let original = Self {
            common: Common {
                batch: 16,
                lr: if large { 2e-5 } else { 7e-4 },
                weight_decay: 0.05,
                ..Common::new(preset)
            },
            recipe: Recipe { steps: 160_000, warmup_steps: 1_500, ..Recipe::new() },
            downstream: Downstream {
                model: String::new(),
                like: String::new(),
                recompute: false,
                image_size: Some(ImageSize(512, 512)),
                drop_path: if large { 0.2 } else { 0.1 },
                layer_decay: if large { 0.95 } else { 0.65 },
                normalise: ViewNormalise::Imagenet,
            },
            taps: String::new(),
            channels: 0,
            auxiliary: 256,
            auxiliary_weight: 0.4,
            dropout: 0.1,
            divisor: LossDivisor::All,
            power: 1.0,
            short_side: 512,
            long_side: 2048,
            ratio_min: 0.5,
            ratio_max: 2.0,
            category_cap: 0.75,
            photometric: true,
            stride: 0,
        };
        match preset {
            Preset::Base | Preset::Large => original,
            // Deviation: small heads for small encoders, crops that show most of an image, and a loss that does not
            // depend on how much of a crop is padding.
            Preset::Tiny | Preset::Small => Self {
                common: Common { lr: 2e-3, ..original.common },
                recipe: Recipe {
                    steps: if preset == Preset::Tiny { 1_600 } else { 10_000 },
                    warmup_steps: 100,
                    ..original.recipe
                },
                downstream: Downstream {
                    image_size: None,
                    layer_decay: 0.9,
                    normalise: ViewNormalise::Model,
                    ..original.downstream
                },
                channels: 64,
                auxiliary: 32,
                divisor: LossDivisor::Labelled,
                short_side: if preset == Preset::Tiny { 32 } else { 64 },
                long_side: if preset == Preset::Tiny { 128 } else { 256 },
                ratio_min: 0.75,
                ratio_max: 1.5,
                ..original
            },
        }
    }

    /// The taps that are set, or none.
    pub fn taps(&self) -> Result<Option<[usize; 4]>> {
        if self.taps.is_empty() {
            return Ok(None);
        }
        SegmenterConfig::taps_in(&self.taps).map(Some).ok_or_else(|| {
            Error::config(format!("taps = {:?}: want four numbers, as in 4,6,8,12", self.taps))
        })
    }

    fn check(&self) -> Result<()> {
        self.recipe.check(&self.common)?;
        self.downstream.check()?;
        self.taps()?;
        if self.ratio_min > self.ratio_max {
            return Err(Error::config(format!(
                "ratio_min = {} is above ratio_max = {}",
                self.ratio_min, self.ratio_max
            )));
        }
        if self.short_side > self.long_side {
            return Err(Error::config(format!(
                "short_side = {} is above long_side = {}",
                self.short_side, self.long_side
            )));
        }
        Ok(())
    }
}

impl TrainConfig for SegmentRun {
    fn common(&self) -> &Common {
        &self.common
    }

    fn recipe(&self) -> &Recipe {
        &self.recipe
    }
}
