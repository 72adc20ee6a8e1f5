//! Settings of `beit finetune`.

use super::Range::{Above, Choice, Int, Real, Text};
use super::{
    Common, Crops, Downstream, Freeze, Preset, Recipe, TrainConfig, ViewNormalise, run_config,
};
use crate::data::MixConfig;
use crate::data::erasing::EraseFill;
use crate::data::mixing::{BoxRule, MixMode};
use crate::data::randaugment::{Interpolation, RandAugment};
use crate::error::{Error, Result};
use crate::models::config::Pooling;

run_config! {
    /// Settings of one fine-tuning run for classification (arXiv 2106.08254, table 11, and
    /// `run_class_finetuning.py`).
    FinetuneRun, "finetune", [common: Common, recipe: Recipe, crops: Crops, downstream: Downstream] {
        use preset = "Starting values of the other keys, and the sizes of a model from `scratch`.";
        use model;
        use like;
        use data =
            "Labelled images to train on: a folder with a folder of images per class, a CIFAR file or folder,"
            "or `synthetic[:COUNT]`.";
        use val =
            "Labelled images to measure on while training: a source like `data`, or none, or auto, which keeps"
            "some of `data` out of training: 2 % of it, at most 1,024 images and, of a small set, at least 16"
            "or an eighth. The run ends with the weights that were right most often on them.";
        use verify_data;
        use device;
        use precision;
        use seed;
        use steps = "Optimizer steps of the run; the passes over the images follow from it.";
        use epochs =
            "Passes over the images (100 base, 50 large in the original); where above 0 it replaces steps.";
        use batch = "Images of one optimizer step (1024 in the original).";
        use accumulate;
        use recompute;
        use image_size;
        /// What the head reads: mean, the mean of the patch tokens under a new norm, or class, the class token.
        pooling: Pooling = Choice(Pooling::WORDS);
        /// What is not trained: none of it, or encoder, all below pooling and head.
        freeze: Freeze = Choice(Freeze::WORDS);
        /// Factor on the head's initial weights (0.001 in the original).
        head_scale: f64 = Above(0.0, 10.0);
        use drop_path;
        use lr =
            "Peak learning rate of the head (4e-3 base, 1e-3 large in the original, at batch 1024).";
        use layer_decay;
        use min_lr = "Learning rate that the cosine ends at (1e-6 in the original).";
        use warmup_steps =
            "Optimizer steps of linear warmup (20 epochs base, 5 large in the original), at most a tenth of the"
            "run.";
        use beta1;
        use beta2;
        use eps;
        use weight_decay = "AdamW weight decay (0.05 in the original).";
        use clip = "Bound of the global gradient norm; 0 is off (off in the original).";
        use skip_steps;
        use retreats;
        use ema =
            "Coefficient of the running average of the weights, which is then what is measured and saved; 0 is"
            "off (0.9999 is kept beside the weights in the original, and not measured).";
        /// Label smoothing: this share of each target is spread over all classes (0.1 in the original).
        smoothing: f64 = Real(0.0, 1.0);
        /// Both parameters of mixup's Beta distribution; 0 is off (0.8 in the original).
        mixup: f64 = Real(0.0, 100.0);
        /// Both parameters of cutmix's Beta distribution; 0 is off (1 in the original).
        cutmix: f64 = Real(0.0, 100.0);
        /// Smallest and largest side of the box of cutmix, in sides of the image, in place of an area that is drawn;
        /// off where the largest is 0 (the original).
        cutmix_min: f64 = Real(0.0, 1.0);
        /// See cutmix_min.
        cutmix_max: f64 = Real(0.0, 1.0);
        /// Probability that a batch, a pair or an image is mixed.
        mix_prob: f64 = Real(0.0, 1.0);
        /// Probability of cutmix where both are on.
        mix_switch: f64 = Real(0.0, 1.0);
        /// What has a draw of its own: batch (the original), pair or elem.
        mix_mode: MixMode = Choice(MixMode::WORDS);
        /// Where the box of cutmix ends: even_side, as in timm 0.3.2 (the original's), or full_side, as in later
        /// versions.
        mix_box: BoxRule = Choice(BoxRule::WORDS);
        /// Views of one image that a batch has side by side, each with its own draws (repeated augmentation: 3 in DeiT,
        /// 1, which is off, in the original); an epoch keeps its steps and shows so many times fewer images.
        repeats: usize = Int(1, 16);
        /// Zeros around a training image that has the view's size already, of which a window is taken in place of
        /// a random resized crop; 0 resizes all images; not set means 4 for views of 32 pixels or less (the
        /// original's rule), else 0.
        pad: Option<usize> = Int(0, 64);
        use crop_min =
            "Smallest share of the image's area that a random crop covers (0.08 in the original).";
        /// Interpolation of random crops and of RandAugment: bilinear, bicubic (the original) or random.
        interpolation: Interpolation = Choice(Interpolation::WORDS);
        use flip;
        /// RandAugment in timm's words, as in rand-m9-mstd0.5-inc1 (the original's); empty is off.
        rand_augment: String = Text;
        /// Strength of the brightness, contrast and saturation jitter; only without rand_augment.
        jitter: f64 = Real(0.0, 1.0);
        /// Probability that boxes of an image are erased (0.25 in the original).
        erase: f64 = Real(0.0, 1.0);
        /// What erased boxes hold: pixel, noise in each number (the original), rand, one colour, or const, 0.
        erase_fill: EraseFill = Choice(EraseFill::WORDS);
        /// Most boxes of an image that is erased.
        erase_count: usize = Int(1, 64);
        use normalise;
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

impl FinetuneRun {
    fn defaults(preset: Preset) -> Self {
        let large = preset == Preset::Large;
        let original = Self {
            common: Common {
                batch: 1024,
                lr: if large { 1e-3 } else { 4e-3 },
                weight_decay: 0.05,
                ..Common::new(preset)
            },
            // Of ImageNet-1k: 100 epochs, 20 to warm up; large 50 and 5.
            recipe: Recipe {
                steps: if large { 62_500 } else { 125_000 },
                warmup_steps: if large { 6_250 } else { 25_000 },
                min_lr: 1e-6,
                ..Recipe::new()
            },
            crops: Crops { crop_min: 0.08 },
            downstream: Downstream {
                model: String::new(),
                like: String::new(),
                recompute: false,
                image_size: None,
                drop_path: if large { 0.2 } else { 0.1 },
                layer_decay: if large { 0.75 } else { 0.65 },
                normalise: ViewNormalise::Model,
            },
            pooling: Pooling::Mean,
            freeze: Freeze::None,
            head_scale: 0.001,
            smoothing: 0.1,
            mixup: 0.8,
            cutmix: 1.0,
            cutmix_min: 0.0,
            cutmix_max: 0.0,
            mix_prob: 1.0,
            mix_switch: 0.5,
            mix_mode: MixMode::Batch,
            mix_box: BoxRule::EvenSide,
            repeats: 1,
            pad: None,
            interpolation: Interpolation::Bicubic,
            rand_augment: "rand-m9-mstd0.5-inc1".to_owned(),
            jitter: 0.0,
            erase: 0.25,
            erase_fill: EraseFill::Pixel,
            erase_count: 1,
        };
        match preset {
            Preset::Base | Preset::Large => original,
            // Deviation: of 32 or 64 pixels the original's magnitudes leave little to see: weaker RandAugment, crops
            // from a quarter of the image, nothing erased.
            Preset::Small => Self {
                common: Common { batch: 64, lr: 2e-3, ..original.common },
                recipe: Recipe { steps: 10_000, warmup_steps: 500, ..original.recipe },
                crops: Crops { crop_min: 0.25 },
                downstream: Downstream { layer_decay: 0.75, ..original.downstream },
                rand_augment: "rand-m5-mstd0.5-inc1".to_owned(),
                erase: 0.0,
                ..original
            },
            // Deviation: mixed images are for longer runs, and of so few steps a shallow encoder is
            // to move faster and in all its layers.
            Preset::Tiny => {
                let small = Self::defaults(Preset::Small);
                Self {
                    common: Common { preset, lr: 4e-3, ..small.common },
                    recipe: Recipe { steps: 2_400, warmup_steps: 240, ..small.recipe },
                    downstream: Downstream { layer_decay: 0.9, ..small.downstream },
                    mixup: 0.0,
                    cutmix: 0.0,
                    ..small
                }
            }
        }
    }

    /// How images are mixed, where they are.
    pub fn mixing(&self) -> Option<MixConfig> {
        let sides = (self.cutmix_max > 0.0).then_some((self.cutmix_min, self.cutmix_max));
        let on = self.mix_prob > 0.0 && (self.mixup > 0.0 || self.cutmix > 0.0 || sides.is_some());
        on.then_some(MixConfig {
            mode: self.mix_mode,
            mixup_alpha: self.mixup,
            cutmix_alpha: self.cutmix,
            cutmix_minmax: sides,
            prob: self.mix_prob,
            switch_prob: self.mix_switch,
            box_rule: self.mix_box,
        })
    }

    /// RandAugment, where it is on.
    pub fn rand_augment(&self) -> Result<Option<RandAugment>> {
        match self.rand_augment.as_str() {
            "" => Ok(None),
            text => text.parse().map(Some),
        }
    }

    fn check(&self) -> Result<()> {
        self.recipe.check(&self.common)?;
        self.downstream.check()?;
        let err = |message: String| Err(Error::config(message));
        self.mixing().map_or(Ok(()), |mixing| mixing.validate())?;
        if self.rand_augment()?.is_some() && self.jitter > 0.0 {
            return err("jitter is only done without RandAugment, as in timm; set rand_augment= (empty) or jitter=0".into());
        }
        if self.freeze == Freeze::Encoder && self.downstream.model == Downstream::SCRATCH {
            return err("freeze = \"encoder\" would train a head on an encoder that knows nothing; give --model".into());
        }
        Ok(())
    }
}

impl TrainConfig for FinetuneRun {
    fn common(&self) -> &Common {
        &self.common
    }

    fn recipe(&self) -> &Recipe {
        &self.recipe
    }
}
