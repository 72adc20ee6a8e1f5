//! Settings that are words.

use crate::data::pixels::Normalise;
use crate::words::words;

words! {
    /// Operands of matrix products and activations inside a branch.
    PrecisionChoice {
        /// bf16 on a GPU, f32 on the CPU.
        Auto = "auto",
        /// f32.
        F32 = "f32",
        /// bf16.
        Bf16 = "bf16",
    }
}

words! {
    /// What a disk without space means for a run.
    DiskFull {
        /// It ends, and can be resumed.
        Stop = "stop",
        /// It waits for space.
        Wait = "wait",
    }
}

words! {
    /// Relative-position bias of an encoder.
    RelPos {
        /// One table for all blocks.
        Shared = "shared",
        /// A table in each block.
        PerBlock = "per_block",
        /// No bias.
        None = "none",
    }
}

words! {
    /// What `train-tokenizer` trains.
    TokenizerKind {
        /// The discrete VAE.
        Dvae = "dvae",
        /// The Gaussian VAE.
        Vae = "vae",
    }
}

words! {
    /// Reconstruction term of the tokenizer's loss.
    Recon {
        /// Logit-Laplace likelihood.
        LogitLaplace = "logit_laplace",
        /// Squared error.
        Mse = "mse",
    }
}

words! {
    /// What the loss of a segmenter is divided by.
    LossDivisor {
        /// The pixels that have a class; a step without any has a loss of 0.
        Labelled = "labelled",
        /// All pixels of the labels, padding included (mmseg before 0.23, which the original pins).
        All = "all",
    }
}

words! {
    /// Mean and deviation of the views that a trained model is shown.
    ViewNormalise {
        /// Those that the model was trained with.
        Model = "model",
        /// Those of [`Normalise::Half`].
        Half = "half",
        /// Those of [`Normalise::Imagenet`].
        Imagenet = "imagenet",
    }
}

impl ViewNormalise {
    /// What the setting means for a model that was trained with `model`.
    pub fn of(self, model: Normalise) -> Normalise {
        match self {
            Self::Model => model,
            Self::Half => Normalise::Half,
            Self::Imagenet => Normalise::Imagenet,
        }
    }
}

words! {
    /// What fine-tuning does not train.
    Freeze {
        /// Nothing: all is trained.
        None = "none",
        /// All below pooling and head.
        Encoder = "encoder",
    }
}

words! {
    /// What pretraining predicts of a patch.
    PretrainTarget {
        /// Its visual token: BEiT.
        Tokens = "tokens",
        /// Its pixels, as the encoder's view is normalised.
        Pixels = "pixels",
        /// The same less their mean, over their deviation, patch by patch.
        NormalisedPixels = "normalised_pixels",
    }
}

words! {
    /// Patches that the loss of pretraining is over.
    LossOver {
        /// The hidden ones: BEiT.
        Masked = "masked",
        /// All: the paper's ablation.
        All = "all",
    }
}

words! {
    /// What pretraining shows in the place of a hidden patch.
    Replace {
        /// A learned vector: BEiT.
        MaskToken = "mask_token",
        /// Another patch of the batch.
        RandomPatch = "random_patch",
    }
}
