//! Settings of `beit probe`.

use super::Range::{Choice, Flag, Int, Text};
use super::{Common, Preset, ViewNormalise, run_config};
use crate::error::{Error, Result};

run_config! {
    /// Settings of a linear probe on every block and of k-NN (`run_linear_eval.py`).
    ProbeRun, "probe", [common: Common] {
        use preset = "Sizes of the encoder when the model is `random`.";
        /// The encoder: a run folder, a .safetensors file, or random.
        model: String = Text;
        /// Labelled images to fit on.
        train: String = Text;
        /// Labelled images to measure on.
        test: String = Text;
        /// Whether classes that only one side has are left out, with their images, instead of refused.
        common_classes: bool = Flag;
        use device;
        use precision;
        use seed;
        use epochs = "Passes over the features (100 in the original code, 50 in the paper).";
        use batch = "Features of one optimizer step (1024 in the original).";
        use lr = "Peak learning rate of AdamW (4e-3 in the original); a cosine takes it to 0.";
        use weight_decay = "AdamW weight decay (1e-4 in the original).";
        /// Neighbours that vote in k-NN.
        knn_k: usize = Int(1, 1 << 20);
        /// Mean and deviation of the encoder's view: half (0.5, 0.5), imagenet, or those of the model's
        /// pretraining.
        normalise: ViewNormalise = Choice(ViewNormalise::WORDS);
        use max_bad;
        use orientation;
        use decode_memory;
        use threads;
    }
}

impl ProbeRun {
    fn defaults(preset: Preset) -> Self {
        let original = matches!(preset, Preset::Base | Preset::Large);
        Self {
            common: Common {
                // Deviation: more and larger steps than the original's. Of a few thousand images 1000
                // epochs of small batches are 40,000 steps, where the original takes 125,000, and with
                // its step size they do not end near the minimum.
                epochs: if original { 100 } else { 1000 },
                batch: if original { 1024 } else { 128 },
                lr: if original { 4e-3 } else { 0.1 },
                weight_decay: 1e-4,
                ..Common::new(preset)
            },
            model: String::new(),
            train: String::new(),
            test: String::new(),
            common_classes: false,
            knn_k: 20,
            normalise: ViewNormalise::Model,
        }
    }

    fn check(&self) -> Result<()> {
        if self.common.epochs == 0 {
            return Err(Error::config("epochs = 0 is not usable: a probe needs at least 1"));
        }
        Ok(())
    }
}
