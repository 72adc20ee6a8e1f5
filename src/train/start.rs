//! What a run starts from that trains a pretrained model on: sizes, weights, and how images are normalised.

use crate::config::{Downstream, Preset, ViewNormalise};
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::layers::position::TableResize;
use crate::models::config::{BeitConfig, EncoderConfig};
use crate::models::kind::ModelConfig;
use crate::train::say_plan;
use crate::weights::{LoadPlan, Model, Regrid, load_model};
use std::path::Path;

/// The model to start from.
pub(super) struct StartModel {
    model: Option<Model>,
    checksum: Option<u32>,
    like: Option<Normalise>,
}

impl StartModel {
    /// Reads the model, and the sizes of its encoder at the run's size; from scratch, those of `like` or of the preset,
    /// which is a plain ViT's where that is asked for.
    /// The encoder has a table of relative positions in each block, where it has any: so the original fine-tunes,
    /// whatever was pretrained.
    pub(super) fn read(config: &Downstream, preset: Preset) -> Result<(Self, EncoderConfig)> {
        let Downstream { model, like, .. } = config;
        let open = |path: &str| load_model(Path::new(path));
        let (model, encoder, like) = if model != Downstream::SCRATCH {
            let model = open(model)?;
            let encoder = encoder_of(&model)?.clone();
            (Some(model), encoder, None)
        } else if like.is_empty() || like == Downstream::VIT {
            let sizes = preset.beit().encoder;
            let sizes = if like.is_empty() { sizes } else { sizes.plain() };
            (None, sizes, Some(preset.normalise()))
        } else {
            let model = open(like)?;
            (None, encoder_of(&model)?.clone(), model.normalise)
        };
        let relative = encoder.shared_rel_pos_bias || encoder.rel_pos_bias;
        let encoder = EncoderConfig {
            image: config.image_size.map_or(encoder.image, |size| (size.0, size.1)),
            drop_path: config.drop_path,
            shared_rel_pos_bias: false,
            rel_pos_bias: relative,
            ..encoder
        };
        let checksum = model.as_ref().map(|model| model.tensors.checksum()).transpose()?;
        Ok((Self { model, checksum, like }, encoder))
    }

    /// Tells the model from others; nothing where there is none.
    pub(super) fn checksum(&self) -> Option<u32> {
        self.checksum
    }

    /// Mean and deviation of the views.
    pub(super) fn normalise(&self, choice: ViewNormalise) -> Normalise {
        let own = self.model.as_ref().and_then(|model| model.normalise).or(self.like);
        choice.of(own.unwrap_or(Normalise::Half))
    }

    /// The weights of step 0, from random ones: what the file has, by the plan, which is said.
    pub(super) fn weights(
        &self,
        random: Vec<f32>,
        plan: impl FnOnce(&Model) -> Result<LoadPlan, String>,
    ) -> Result<Vec<f32>> {
        let Some(model) = &self.model else { return Ok(random) };
        let plan = plan(model).map_err(|e| Error::format(model.tensors.path(), e))?;
        say_plan(&model.tensors.path().display().to_string(), &plan);
        plan.apply(random, |name| model.tensors.f32s(name).map(|(_, values)| values))
    }
}

/// What a model whose head is another has no place for, and why.
pub(super) const OTHER_HEADS: [(&str, &str); 3] = [
    ("mask_token", "nothing is masked"),
    ("lm_head.", "the head over visual tokens"),
    ("pixel_head.", "the head over pixels"),
];

/// The encoder's sizes in a file of any kind that has one.
pub(super) fn encoder_of(model: &Model) -> Result<&EncoderConfig> {
    match &model.config {
        ModelConfig::Classifier(sizes) => Ok(&sizes.encoder),
        ModelConfig::Encoder(sizes) => Ok(sizes),
        ModelConfig::Segmenter(sizes) => Ok(&sizes.encoder),
        _ => Ok(&model.sizes::<BeitConfig>()?.encoder),
    }
}

/// How tables and positions of `model` are brought to another grid.
pub(super) fn regrid(model: &Model, to: &EncoderConfig) -> Result<Option<Regrid>, String> {
    let from = encoder_of(model).map_err(|e| e.to_string())?.grid();
    let (to, method) = (to.grid(), TableResize::from_grid(from));
    Ok((from != to).then_some(Regrid { from, to, method }))
}
