//! What a fine-tuning run starts from, and how images are shown in it.

use crate::config::FinetuneRun;
use crate::data::class_view::{ClassViewConfig, Recolour};
use crate::data::erasing::Erasing;
use crate::data::geometry::RandomCrop;
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::classifier::Classifier;
use crate::models::config::{ClassifierConfig, Pooling};
use crate::models::kind::ModelConfig;
use crate::ops::Backend;
use crate::train::start::{OTHER_HEADS, StartModel, regrid};
use crate::weights::{Allow, LoadPlan, Model, ORIGINAL};

/// What the settings start from, and the sizes of a classifier of `classes` that starts from it.
pub(super) fn starting(
    config: &FinetuneRun,
    classes: &[String],
) -> Result<(StartModel, ClassifierConfig)> {
    if classes.len() < 2 {
        return Err(Error::config(format!(
            "{}: a classifier needs at least two classes (a folder of images for each)",
            config.recipe.data
        )));
    }
    let (start, encoder) = StartModel::read(&config.downstream, config.common.preset)?;
    let sizes = ClassifierConfig {
        encoder,
        pooling: config.pooling,
        head_scale: config.head_scale,
        classes: classes.to_vec(),
    };
    sizes.validate()?;
    Ok((start, sizes))
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
        crop: RandomCrop { scale: (config.crops.crop_min, 1.0), ..original.crop },
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

/// What becomes of the tensors of `model` in `to`: tables expanded and resized, a new head where the classes are
/// others.
pub(super) fn plan<B: Backend>(model: &Model, to: &Classifier<B>) -> Result<LoadPlan, String> {
    let sizes = &to.config;
    let from = match &model.config {
        ModelConfig::Classifier(own) => Some(own),
        _ => None,
    };
    let same = from.is_some_and(|own| own.classes == sizes.classes && own.pooling == sizes.pooling);
    let head = [("head.", "for other classes or another pooling")];
    let mut spare = OTHER_HEADS.to_vec();
    spare.extend([
        ("head.", "for other classes or another pooling"),
        ("fpn1.", "the pyramid of a segmenter"),
        ("fpn2.", "the pyramid of a segmenter"),
        ("decode_head.", "the head over classes of pixels"),
        ("auxiliary_head.", "the second head over classes of pixels"),
        match sizes.pooling {
            Pooling::Mean => ("norm.", "the norm under another head"),
            Pooling::Class => ("fc_norm.", "the norm under another pooling"),
        },
    ]);
    let allow = Allow {
        expand: true,
        resize: regrid(model, &sizes.encoder)?,
        new: if same { &[] } else { &["fc_norm.", "norm.", "head."] },
        fresh: if same || from.is_none() { &[] } else { &head },
        spare: Some(&spare),
    };
    LoadPlan::new(&ORIGINAL, &to.layout, &model.tensors.shapes(), &allow)
}
