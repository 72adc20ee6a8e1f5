//! Settings of `beit probe`.

use super::Range::{Above, Choice, Device, Int, Real, Text};
use super::{Place, Preset, run_config};
use crate::error::Result;

run_config! {
    /// Settings of a linear probe on every block and of k-NN (`run_linear_eval.py`).
    ProbeRun, "probe" {
        /// Sizes of the encoder when the model is `random`.
        preset: Preset = Choice(Preset::NAMES);
        /// The encoder: a run folder, a .safetensors file, or random.
        model: String = Text;
        /// Labelled images to fit on.
        train: String = Text;
        /// Labelled images to measure on.
        test: String = Text;
        /// Where it is computed: auto, cpu, cuda or cuda:N. auto takes the first GPU where it can be used,
        /// else the CPU.
        device: Place = Device;
        /// Operands of matrix products and activations inside a branch: f32 or bf16; auto is bf16 on a
        /// GPU, f32 on the CPU.
        precision: String = Choice(&["auto", "f32", "bf16"]);
        /// Number that every random choice follows from.
        seed: u64 = Int(0, i64::MAX);
        /// Passes over the features (100 in the original code, 50 in the paper).
        epochs: usize = Int(1, 1_000_000);
        /// Features of one optimizer step (1024 in the original).
        batch: usize = Int(1, 1 << 20);
        /// Peak learning rate of AdamW (4e-3 in the original); a cosine takes it to 0.
        lr: f64 = Above(0.0, 10.0);
        /// AdamW weight decay (1e-4 in the original).
        weight_decay: f64 = Real(0.0, 10.0);
        /// Neighbours that vote in k-NN.
        knn_k: usize = Int(1, 1 << 20);
        /// Mean and deviation of the encoder's view: half (0.5, 0.5), imagenet, or those of the model's
        /// pretraining.
        normalise: String = Choice(&["model", "half", "imagenet"]);
        /// Largest share of unreadable images before the run stops.
        max_bad: f64 = Real(0.0, 1.0);
        /// Threads; 0 is one per core. Never changes a result.
        threads: usize = Int(0, 4096);
    }
}

impl ProbeRun {
    fn defaults(preset: Preset) -> Self {
        let original = matches!(preset, Preset::Base | Preset::Large);
        Self {
            preset,
            model: String::new(),
            train: String::new(),
            test: String::new(),
            device: Place::Auto,
            precision: "auto".into(),
            seed: 0,
            // Deviation: more and larger steps than the original's. Of a few thousand images 1000
            // epochs of small batches are 40,000 steps, where the original takes 125,000, and with its
            // step size they do not end near the minimum.
            epochs: if original { 100 } else { 1000 },
            batch: if original { 1024 } else { 128 },
            lr: if original { 4e-3 } else { 0.1 },
            weight_decay: 1e-4,
            knn_k: 20,
            normalise: "model".into(),
            max_bad: 0.01,
            threads: 0,
        }
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}
