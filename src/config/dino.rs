//! Settings of `beit dino`.

use super::Range::{Above, Choice, Flag, Int, Real, Size};
use super::{Common, EncoderSizes, ImageSize, Preset, Recipe, TrainConfig, run_config};
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::config::DinoConfig;
use crate::optim::Cosine;

run_config! {
    /// Settings of one run of DINO (arXiv 2104.14294, and `main_dino.py`).
    DinoRun, "dino", [common: Common, recipe: Recipe, sizes: EncoderSizes] {
        use preset;
        use data;
        use val;
        use verify_data;
        use device;
        use precision;
        use seed;
        use steps = "Optimizer steps of the run; the passes over the images follow from it.";
        use epochs = "Passes over the images (100 in the original, 300 to 800 in the paper); where above 0 it replaces steps.";
        use batch = "Images of one optimizer step (1024 in the paper, 64 of each GPU in the original).";
        use accumulate;
        use recompute;
        use image_size = "Height and width of the global views in pixels.";
        use patch_size;
        use width;
        use depth;
        use heads;
        use rel_pos = "Relative-position bias: shared by all blocks, per_block, or none (the original's ViT). Resized to the grid of local views.";
        use abs_pos = "Learned absolute positions (the original's ViT). Resized to the grid of local views.";
        use layer_scale;
        use drop_path = "Drop-path rate of the student's last block (0.1 in the original).";
        /// Height and width of the local views in pixels, multiples of the patch (96 in the original).
        local_size: ImageSize = Size;
        /// Local views of an image (8 in the original; 10 in the paper's best runs).
        local_views: usize = Int(0, 64);
        /// Smallest share of the image's area that a global view covers, and largest that a local one covers (0.4 in
        /// the original, 0.25 in the paper's multi-crop).
        crop_between: f64 = Above(0.0, 1.0);
        /// Smallest share of the image's area that a local view covers (0.05 in the original).
        local_min: f64 = Above(0.0, 1.0);
        /// Width of the two hidden layers of the head (2048 in the original).
        head_hidden: usize = Int(1, 1 << 14);
        /// Width of what is normalised (256 in the original).
        head_bottleneck: usize = Int(1, 1 << 12);
        /// Outputs (65,536 in the original).
        head_outputs: usize = Int(2, 1 << 20);
        /// Whether all rows of the last layer have length one (the original's default); else their lengths are learnt.
        norm_last_layer: bool = Flag;
        /// Passes over the images in which the last layer stays as it is (1 in the original).
        freeze_last_epochs: usize = Int(0, 1_000_000);
        /// Temperature of the student (0.1 in the paper).
        student_temperature: f64 = Above(0.0, 10.0);
        /// Temperature of the teacher (0.04 to 0.07 in the paper).
        teacher_temperature: f64 = Above(0.0, 10.0);
        /// Temperature of the teacher at the start; a line leads to the other.
        teacher_temperature_start: f64 = Above(0.0, 10.0);
        /// Optimizer steps of that line (30 epochs in the paper).
        teacher_warmup_steps: usize = Int(0, 1 << 40);
        /// What the teacher keeps of its weights in a step at the start; a cosine leads to 1 (0.996 in the original,
        /// 0.9995 for small batches).
        momentum: f64 = Real(0.0, 1.0);
        /// What the centre keeps in a step (0.9 in the original).
        center_momentum: f64 = Real(0.0, 1.0);
        use lr = "Peak learning rate (5e-4 for 256 images in the original).";
        use min_lr = "Learning rate that the cosine ends at (1e-6 in the original).";
        use warmup_steps = "Optimizer steps of linear warmup (10 epochs in the original), at most a tenth of the run.";
        use beta1;
        use beta2;
        use eps;
        use weight_decay = "AdamW weight decay at the start (0.04 in the original).";
        /// Weight decay at the end; a cosine leads there (0.4 in the original).
        weight_decay_end: f64 = Real(0.0, 10.0);
        use clip = "Bound of the global gradient norm; 0 is off (3, of each tensor by itself, in the original).";
        use skip_steps;
        use retreats;
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

impl DinoRun {
    fn defaults(preset: Preset) -> Self {
        let sizes = EncoderSizes::of(preset);
        // Of ImageNet-1k: 100 epochs of 1024 images, 10 to warm up.
        let original = Self {
            common: Common { batch: 1024, lr: 2e-3, weight_decay: 0.04, ..Common::new(preset) },
            recipe: Recipe {
                steps: 125_000,
                warmup_steps: 12_500,
                min_lr: 1e-6,
                clip: 3.0,
                ..Recipe::new()
            },
            local_size: ImageSize(96, 96),
            local_views: 8,
            crop_between: 0.4,
            local_min: 0.05,
            head_hidden: 2048,
            head_bottleneck: 256,
            head_outputs: 65_536,
            norm_last_layer: true,
            freeze_last_epochs: 1,
            student_temperature: 0.1,
            teacher_temperature: 0.07,
            teacher_temperature_start: 0.04,
            teacher_warmup_steps: 37_500,
            momentum: 0.996,
            center_momentum: 0.9,
            weight_decay_end: 0.4,
            normalise: Normalise::Imagenet,
            sizes,
        };
        match preset {
            Preset::Base | Preset::Large => original,
            // Deviation: sizes, lengths and rates for a small encoder, few images and two cores; a local view covers
            // a tenth at least, because less of 32 pixels is nothing to see.
            Preset::Tiny | Preset::Small => {
                let tiny = preset == Preset::Tiny;
                let side = if tiny { 16 } else { 32 };
                Self {
                    common: Common {
                        batch: 64,
                        lr: if tiny { 1e-3 } else { 5e-4 },
                        ..original.common
                    },
                    recipe: Recipe {
                        steps: if tiny { 1_600 } else { 20_000 },
                        warmup_steps: if tiny { 160 } else { 1_000 },
                        ..original.recipe
                    },
                    local_size: ImageSize(side, side),
                    local_views: 4,
                    local_min: 0.1,
                    head_hidden: 512,
                    head_bottleneck: 64,
                    head_outputs: 1024,
                    teacher_temperature: 0.04,
                    teacher_warmup_steps: 0,
                    momentum: 0.99,
                    normalise: preset.normalise(),
                    ..original
                }
            }
        }
    }

    /// The student and the teacher that these settings describe.
    pub fn dino(&self) -> DinoConfig {
        DinoConfig {
            encoder: self.sizes.encoder(),
            hidden: self.head_hidden,
            bottleneck: self.head_bottleneck,
            outputs: self.head_outputs,
            lengths: !self.norm_last_layer,
        }
    }

    /// What the teacher keeps of its weights in each step of a run of so many.
    pub fn teacher_momentum(&self, total: u64) -> Cosine {
        let base = self.momentum;
        Cosine { base, end: 1.0, start: base, warmup: 0, total }
    }

    /// Temperature of the teacher in a step; both ends of the line are taken.
    pub fn teacher_temperature_at(&self, step: u64) -> f64 {
        let (start, end) = (self.teacher_temperature_start, self.teacher_temperature);
        match self.teacher_warmup_steps as u64 {
            warmup if step < warmup => {
                start + (end - start) * step as f64 / (warmup - 1).max(1) as f64
            }
            _ => end,
        }
    }

    fn check(&self) -> Result<()> {
        self.recipe.check(&self.common)?;
        self.dino().validate()?;
        let err = |message: String| Err(Error::config(message));
        let (patch, ImageSize(height, width)) = (self.sizes.patch_size, self.local_size);
        if self.local_views > 0 && !(height.is_multiple_of(patch) && width.is_multiple_of(patch)) {
            return err(format!(
                "local_size {height}x{width} is not divisible by patch_size {patch}"
            ));
        }
        if self.local_min > self.crop_between {
            let (least, most) = (self.local_min, self.crop_between);
            return err(format!("local_min {least} is above crop_between {most}"));
        }
        Ok(())
    }
}

impl TrainConfig for DinoRun {
    fn common(&self) -> &Common {
        &self.common
    }

    fn recipe(&self) -> &Recipe {
        &self.recipe
    }
}
