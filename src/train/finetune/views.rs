//! What becomes of a model and of images in a fine-tuning run.

use crate::config::FinetuneRun;
use crate::data::class_view::{ClassViewConfig, Recolour};
use crate::data::erasing::Erasing;
use crate::data::geometry::RandomCrop;
use crate::data::pixels::Normalise;
use crate::error::Result;
use crate::models::classifier::Classifier;
use crate::models::config::Pooling;
use crate::models::kind::ModelConfig;
use crate::ops::Backend;
use crate::train::start::regrid;
use crate::weights::{Allow, LoadPlan, Model, ORIGINAL};

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
    let mut spare = vec![
        ("mask_token", "nothing is masked"),
        ("lm_head.", "the head over visual tokens"),
        ("pixel_head.", "the head over pixels"),
        ("head.", "for other classes or another pooling"),
        ("fpn1.", "the pyramid of a segmenter"),
        ("fpn2.", "the pyramid of a segmenter"),
        ("decode_head.", "the head over classes of pixels"),
        ("auxiliary_head.", "the second head over classes of pixels"),
    ];
    spare.push(match sizes.pooling {
        Pooling::Mean => ("norm.", "the norm under another head"),
        Pooling::Class => ("fc_norm.", "the norm under another pooling"),
    });
    let allow = Allow {
        expand: true,
        resize: regrid(model, &sizes.encoder)?,
        new: if same { &[] } else { &["fc_norm.", "norm.", "head."] },
        fresh: if same || from.is_none() { &[] } else { &head },
        spare: Some(&spare),
    };
    LoadPlan::new(&ORIGINAL, &to.layout, &model.tensors.shapes(), &allow)
}
