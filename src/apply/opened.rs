//! Encoders and classifiers as files hold them, opened for use.

use crate::data::ClassViewConfig;
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::beit::MaskedImageModel;
use crate::models::classifier::Classifier;
use crate::models::config::{BeitConfig, ClassifierConfig, EncoderConfig};
use crate::models::encoder::{Encoder, EncoderParts};
use crate::models::kind::ModelConfig;
use crate::ops::Backend;
use crate::params::{Params, Registry, initial_values};
use crate::weights::{Model, load_model, load_weights};
use std::path::Path;

/// An encoder of any kind of model, with its weights.
pub struct OpenedEncoder<B: Backend> {
    encoder: Encoder<B>,
    sizes: EncoderConfig,
    /// Weights of the whole model.
    pub w: Params<B>,
    /// Mean and deviation of the views it was trained with, or is to be trained with.
    pub normalise: Normalise,
    /// Whether it is part of a classifier, to which small images are shown as they are.
    classifies: bool,
}

impl<B: Backend> OpenedEncoder<B> {
    /// Reads `RUN|FILE`.
    pub fn open(bk: &B, path: &Path) -> Result<Self> {
        let file = load_model(path)?;
        let (encoder, sizes, layout) = match &file.config {
            ModelConfig::Classifier(sizes) => {
                let Classifier { encoder, layout, .. } = Classifier::new(bk, sizes);
                (encoder, &sizes.encoder, layout)
            }
            ModelConfig::Encoder(sizes) => {
                let mut reg = Registry::new();
                let encoder = Encoder::new(bk, &mut reg, sizes, EncoderParts::ALONE);
                (encoder, sizes, reg.finish())
            }
            _ => {
                let sizes = file.sizes::<BeitConfig>()?;
                let MaskedImageModel { encoder, layout, .. } = MaskedImageModel::new(bk, sizes);
                (encoder, &sizes.encoder, layout)
            }
        };
        Ok(Self {
            encoder,
            sizes: sizes.clone(),
            w: load_weights(bk, &file, &layout)?,
            normalise: file.normalise.unwrap_or(Normalise::Half),
            classifies: matches!(file.config, ModelConfig::Classifier(_)),
        })
    }

    /// That of pretraining at its initial weights.
    pub fn initial(bk: &B, config: &BeitConfig, normalise: Normalise, seed: u64) -> Self {
        let MaskedImageModel { encoder, layout, .. } = MaskedImageModel::new(bk, config);
        let w = Params::from_host(bk, &layout, &initial_values(&layout, seed));
        Self { encoder, sizes: config.encoder.clone(), w, normalise, classifies: false }
    }

    /// The encoder.
    pub fn encoder(&self) -> &Encoder<B> {
        &self.encoder
    }

    /// Its sizes.
    pub fn sizes(&self) -> &EncoderConfig {
        &self.sizes
    }

    /// How images are shown to it: as to the classifier it is part of, or as to a probe.
    pub fn views(&self) -> ClassViewConfig {
        let views = class_views(&self.sizes, self.normalise);
        if self.classifies { views } else { ClassViewConfig { as_is: false, ..views } }
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
        if let ModelConfig::Beit(_) | ModelConfig::Encoder(_) = &file.config {
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
