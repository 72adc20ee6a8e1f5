//! Encoders and classifiers as files hold them, opened for use.

use crate::data::ClassViewConfig;
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::beit::MaskedImageModel;
use crate::models::classifier::Classifier;
use crate::models::config::{BeitConfig, ClassifierConfig, EncoderConfig};
use crate::models::encoder::Encoder;
use crate::models::kind::ModelConfig;
use crate::ops::Backend;
use crate::params::{Params, initial_values};
use crate::weights::{Model, load_model, load_weights};
use std::path::Path;

/// The model that an encoder is part of.
enum EncoderOwner<B: Backend> {
    /// That of pretraining.
    Masked(Box<MaskedImageModel<B>>),
    /// That of fine-tuning.
    Classifier(Box<Classifier<B>>),
}

/// An encoder of either kind of model, with its weights.
pub struct OpenedEncoder<B: Backend> {
    owner: EncoderOwner<B>,
    /// Weights of the whole model.
    pub w: Params<B>,
    /// Mean and deviation of the views it was trained with, or is to be trained with.
    pub normalise: Normalise,
}

impl<B: Backend> OpenedEncoder<B> {
    /// Reads `RUN|FILE`.
    pub fn open(bk: &B, path: &Path) -> Result<Self> {
        let file = load_model(path)?;
        let owner = match &file.config {
            ModelConfig::Classifier(sizes) => {
                EncoderOwner::Classifier(Box::new(Classifier::new(bk, sizes)))
            }
            _ => EncoderOwner::Masked(Box::new(MaskedImageModel::new(bk, file.sizes()?))),
        };
        let layout = match &owner {
            EncoderOwner::Masked(model) => &model.layout,
            EncoderOwner::Classifier(model) => &model.layout,
        };
        let w = load_weights(bk, &file, layout)?;
        Ok(Self { owner, w, normalise: file.normalise.unwrap_or(Normalise::Half) })
    }

    /// That of pretraining at its initial weights.
    pub fn initial(bk: &B, config: &BeitConfig, normalise: Normalise, seed: u64) -> Self {
        let model = MaskedImageModel::new(bk, config);
        let w = Params::from_host(bk, &model.layout, &initial_values(&model.layout, seed));
        Self { owner: EncoderOwner::Masked(Box::new(model)), w, normalise }
    }

    /// The encoder.
    pub fn encoder(&self) -> &Encoder<B> {
        match &self.owner {
            EncoderOwner::Masked(model) => &model.encoder,
            EncoderOwner::Classifier(model) => &model.encoder,
        }
    }

    /// Its sizes.
    pub fn sizes(&self) -> &EncoderConfig {
        match &self.owner {
            EncoderOwner::Masked(model) => &model.config.encoder,
            EncoderOwner::Classifier(model) => &model.config.encoder,
        }
    }

    /// How images are shown to it: as to the classifier it is part of, or as to a probe.
    pub fn views(&self) -> ClassViewConfig {
        let views = class_views(self.sizes(), self.normalise);
        match &self.owner {
            EncoderOwner::Masked(_) => ClassViewConfig { as_is: false, ..views },
            EncoderOwner::Classifier(_) => views,
        }
    }
}

/// A classifier with its weights.
pub struct OpenedClassifier<B: Backend> {
    /// The model.
    pub model: Classifier<B>,
    /// Its weights.
    pub w: Params<B>,
    /// How images are shown to it.
    pub views: ClassViewConfig,
}

impl<B: Backend> OpenedClassifier<B> {
    /// Reads `RUN|FILE`.
    pub fn open(bk: &B, path: &Path) -> Result<Self> {
        Self::of(bk, &load_model(path)?)
    }

    /// That of a file.
    pub fn of(bk: &B, file: &Model) -> Result<Self> {
        if let ModelConfig::Beit(_) = &file.config {
            let text = "is an encoder, which knows no classes; `beit finetune --model` makes a classifier of it";
            return Err(Error::format(file.tensors.path(), text));
        }
        let model = Classifier::new(bk, file.sizes::<ClassifierConfig>()?);
        let w = load_weights(bk, file, &model.layout)?;
        let normalise = file.normalise.unwrap_or(Normalise::Half);
        let views = class_views(&model.config.encoder, normalise);
        Ok(Self { model, w, views })
    }
}

impl<B: Backend> OpenedClassifier<B> {
    /// The same shown images of `size` (height, width), whose grid tables and positions are resized to.
    pub fn at(mut self, size: Option<(usize, usize)>) -> Result<Self> {
        let Some(size) = size else { return Ok(self) };
        let sizes = &mut self.model.config.encoder;
        sizes.image = size;
        sizes.validate()?;
        let ClassViewConfig { mean, std, .. } = self.views;
        self.views = ClassViewConfig { mean, std, ..ClassViewConfig::original(size.0, size.1) };
        Ok(self)
    }
}

fn class_views(sizes: &EncoderConfig, normalise: Normalise) -> ClassViewConfig {
    let (mean, std) = normalise.moments();
    let (height, width) = sizes.image;
    ClassViewConfig { mean, std, ..ClassViewConfig::original(height, width) }
}
