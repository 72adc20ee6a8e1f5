//! What a fine-tuning run starts from: sizes, weights, and how images are normalised.

use crate::config::FinetuneRun;
use crate::data::class_view::{ClassViewConfig, Recolour};
use crate::data::erasing::Erasing;
use crate::data::geometry::RandomCrop;
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::layers::position::TableResize;
use crate::models::classifier::Classifier;
use crate::models::config::{BeitConfig, ClassifierConfig, EncoderConfig, Pooling};
use crate::models::kind::ModelConfig;
use crate::ops::Backend;
use crate::train::say_plan;
use crate::weights::{Allow, LoadPlan, Model, ORIGINAL, Regrid, load_model};
use std::path::Path;

/// The model to start from.
pub(super) struct StartModel {
    model: Option<Model>,
    checksum: Option<u32>,
    like: Option<Normalise>,
}

impl StartModel {
    /// Reads what the settings name, and the sizes of a classifier of `classes` that starts from it.
    pub(super) fn read(
        config: &FinetuneRun,
        classes: &[String],
    ) -> Result<(Self, ClassifierConfig)> {
        if classes.len() < 2 {
            return Err(Error::config(format!(
                "{}: a classifier needs at least two classes (a folder of images for each)",
                config.recipe.data
            )));
        }
        let open = |path: &str| load_model(Path::new(path));
        let (model, encoder, like) = if config.model != FinetuneRun::SCRATCH {
            let model = open(&config.model)?;
            let encoder = encoder_of(&model)?.clone();
            (Some(model), encoder, None)
        } else if config.like.is_empty() {
            let preset = config.common.preset;
            (None, preset.beit().encoder, Some(preset.normalise()))
        } else {
            let model = open(&config.like)?;
            (None, encoder_of(&model)?.clone(), model.normalise)
        };
        // What the original fine-tunes has a table in each block, whatever was pretrained.
        let relative = encoder.shared_rel_pos_bias || encoder.rel_pos_bias;
        let encoder = EncoderConfig {
            image: config.image_size.map_or(encoder.image, |size| (size.0, size.1)),
            shared_rel_pos_bias: false,
            rel_pos_bias: relative,
            drop_path: config.drop_path,
            ..encoder
        };
        let sizes = ClassifierConfig {
            encoder,
            pooling: config.pooling,
            head_scale: config.head_scale,
            classes: classes.to_vec(),
        };
        sizes.validate()?;
        let checksum = model.as_ref().map(|model| model.tensors.checksum()).transpose()?;
        Ok((Self { model, checksum, like }, sizes))
    }

    /// Tells the model from others; nothing where there is none.
    pub(super) fn checksum(&self) -> Option<u32> {
        self.checksum
    }

    /// Mean and deviation of the views.
    pub(super) fn normalise(&self, config: &FinetuneRun) -> Normalise {
        let own = self.model.as_ref().and_then(|model| model.normalise).or(self.like);
        config.normalise.of(own.unwrap_or(Normalise::Half))
    }

    /// The weights of step 0, from random ones: what the file has, tables expanded and resized, a new head where the
    /// classes are others. What becomes of every tensor is said.
    pub(super) fn weights<B: Backend>(
        &self,
        to: &Classifier<B>,
        random: Vec<f32>,
    ) -> Result<Vec<f32>> {
        let Some(model) = &self.model else { return Ok(random) };
        let plan = plan(model, to).map_err(|e| Error::format(model.tensors.path(), e))?;
        say_plan(&model.tensors.path().display().to_string(), &plan);
        plan.apply(random, |name| model.tensors.f32s(name).map(|(_, values)| values))
    }
}

/// How images are shown to a model of this size.
pub(super) fn views(
    config: &FinetuneRun,
    normalise: Normalise,
    (height, width): (usize, usize),
) -> Result<ClassViewConfig> {
    let (mean, std) = normalise.moments();
    let original = ClassViewConfig::original(height, width);
    let views = ClassViewConfig {
        crop: RandomCrop { scale: (config.recipe.crop_min, 1.0), ..original.crop },
        pad: config.pad.map_or(original.pad, |pad| (pad > 0).then_some(pad)),
        interpolation: config.interpolation,
        flip: config.recipe.flip,
        recolour: match config.rand_augment()? {
            Some(law) => Recolour::RandAugment(law),
            None => Recolour::Jitter(config.jitter),
        },
        erasing: (config.erase > 0.0).then_some(Erasing {
            probability: config.erase,
            fill: config.erase_fill,
            count: 1..=config.erase_count,
        }),
        mean,
        std,
        ..original
    };
    views.validate()?;
    Ok(views)
}

/// The encoder's sizes in a file of either kind.
fn encoder_of(model: &Model) -> Result<&EncoderConfig> {
    match &model.config {
        ModelConfig::Classifier(sizes) => Ok(&sizes.encoder),
        _ => Ok(&model.sizes::<BeitConfig>()?.encoder),
    }
}

/// What becomes of the tensors of `model` in `to`.
fn plan<B: Backend>(model: &Model, to: &Classifier<B>) -> Result<LoadPlan, String> {
    let sizes = &to.config;
    let from = match &model.config {
        ModelConfig::Classifier(own) => Some(own),
        _ => None,
    };
    let encoder = encoder_of(model).map_err(|e| e.to_string())?;
    let grids = (encoder.grid(), sizes.encoder.grid());
    let method = TableResize::from_grid(grids.0);
    let same = from.is_some_and(|own| own.classes == sizes.classes && own.pooling == sizes.pooling);
    let head = [("head.", "for other classes or another pooling")];
    let mut spare = vec![
        ("mask_token", "nothing is masked"),
        ("lm_head.", "the head over visual tokens"),
        ("pixel_head.", "the head over pixels"),
        ("head.", "for other classes or another pooling"),
    ];
    spare.push(match sizes.pooling {
        Pooling::Mean => ("norm.", "the norm under another head"),
        Pooling::Class => ("fc_norm.", "the norm under another pooling"),
    });
    let allow = Allow {
        expand: true,
        resize: (grids.0 != grids.1).then_some(Regrid { from: grids.0, to: grids.1, method }),
        new: if same { &[] } else { &["fc_norm.", "norm.", "head."] },
        fresh: if same || from.is_none() { &[] } else { &head },
        spare: Some(&spare),
    };
    LoadPlan::new(&ORIGINAL, &to.layout, &model.tensors.shapes(), &allow)
}
