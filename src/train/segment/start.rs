//! What a segmentation run starts from, and how images are shown in it.

use crate::config::SegmentRun;
use crate::data::pixels::Normalise;
use crate::data::segment_view::SegmentViewConfig;
use crate::error::Result;
use crate::models::config::{SegmentClass, SegmenterConfig};
use crate::models::kind::ModelConfig;
use crate::models::segmenter::Segmenter;
use crate::ops::Backend;
use crate::train::start::{OTHER_HEADS, StartModel, regrid};
use crate::weights::{Allow, LoadPlan, Model, ORIGINAL};

/// What the settings start from, and the sizes of a segmenter of `classes` that starts from it.
pub(super) fn starting(
    config: &SegmentRun,
    classes: &[SegmentClass],
) -> Result<(StartModel, SegmenterConfig)> {
    let (start, encoder) = StartModel::read(&config.downstream, config.common.preset)?;
    let original = SegmenterConfig::original(encoder, classes.to_vec());
    let sizes = SegmenterConfig {
        taps: config.taps()?.unwrap_or(original.taps),
        channels: if config.channels > 0 { config.channels } else { original.channels },
        auxiliary: config.auxiliary,
        scale: (config.short_side, config.long_side),
        ..original
    };
    sizes.validate()?;
    Ok((start, sizes))
}

/// How images are shown to a model of this size.
pub(super) fn views(
    config: &SegmentRun,
    normalise: Normalise,
    (height, width): (usize, usize),
) -> Result<SegmentViewConfig> {
    let (mean, std) = normalise.moments();
    let views = SegmentViewConfig {
        long: config.long_side,
        short: config.short_side,
        ratio: (config.ratio_min, config.ratio_max),
        category_cap: config.category_cap,
        flip: config.recipe.flip,
        photometric: config.photometric,
        mean,
        std,
        ..SegmentViewConfig::original(height, width)
    };
    views.validate()?;
    Ok(views)
}

/// What becomes of the tensors of `model` in `to`: tables expanded and resized, heads that are new where the model has
/// none, last layers that are new where the classes are others.
pub(super) fn plan<B: Backend>(model: &Model, to: &Segmenter<B>) -> Result<LoadPlan, String> {
    let sizes = &to.config;
    let own = match &model.config {
        ModelConfig::Segmenter(own) => Some(own),
        _ => None,
    };
    let same = own.is_some_and(|own| own.class_names() == sizes.class_names());
    let last = [
        ("decode_head.conv_seg.", "for other classes"),
        ("auxiliary_head.conv_seg.", "for other classes"),
    ];
    let mut spare = OTHER_HEADS.to_vec();
    spare.extend([
        ("head.", "the head over classes of images"),
        ("norm.", "the norm under another head"),
        ("fc_norm.", "the norm under another head"),
        ("auxiliary_head.", "there is no second head"),
    ]);
    let allow = Allow {
        expand: true,
        resize: regrid(model, &sizes.encoder)?,
        new: if own.is_some() {
            &["auxiliary_head."]
        } else {
            &["fpn1.", "fpn2.", "decode_head.", "auxiliary_head."]
        },
        fresh: if same || own.is_none() { &[] } else { &last },
        spare: Some(&spare),
    };
    LoadPlan::new(&ORIGINAL, &to.layout, &model.tensors.shapes(), &allow)
}
