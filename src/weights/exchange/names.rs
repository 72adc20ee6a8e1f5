//! What Hugging Face's port calls our tensors, as data, for reading and for writing.
//!
//! The names are those of its files. Its modules were renamed since; files with the newer names are read too.

use crate::models::kind::ModelConfig;
use crate::weights::names::{filled, texts};

/// A tensor of ours and the tensors that hold its rows, one behind the other. Each `*` stands for any text, the
/// same on both sides.
pub(super) type NamePair = (&'static str, &'static [&'static str]);

/// The encoder's (`convert_beit_unilm_to_pytorch.py`).
const ENCODER: &[NamePair] = &[
    ("cls_token", &["beit.embeddings.cls_token"]),
    ("mask_token", &["beit.embeddings.mask_token"]),
    ("pos_embed", &["beit.embeddings.position_embeddings"]),
    ("patch_embed.proj.*", &["beit.embeddings.patch_embeddings.projection.*"]),
    ("rel_pos_bias.*", &["beit.encoder.relative_position_bias.*"]),
    (
        "blocks.*.attn.qkv.weight",
        &[
            "beit.encoder.layer.*.attention.attention.query.weight",
            "beit.encoder.layer.*.attention.attention.key.weight",
            "beit.encoder.layer.*.attention.attention.value.weight",
        ],
    ),
    ("blocks.*.attn.q_bias", &["beit.encoder.layer.*.attention.attention.query.bias"]),
    ("blocks.*.attn.v_bias", &["beit.encoder.layer.*.attention.attention.value.bias"]),
    (
        "blocks.*.attn.relative_position_bias_table",
        &[
            "beit.encoder.layer.*.attention.attention.relative_position_bias.relative_position_bias_table",
        ],
    ),
    ("blocks.*.attn.proj.*", &["beit.encoder.layer.*.attention.output.dense.*"]),
    ("blocks.*.gamma_1", &["beit.encoder.layer.*.lambda_1"]),
    ("blocks.*.gamma_2", &["beit.encoder.layer.*.lambda_2"]),
    ("blocks.*.norm1.*", &["beit.encoder.layer.*.layernorm_before.*"]),
    ("blocks.*.norm2.*", &["beit.encoder.layer.*.layernorm_after.*"]),
    ("blocks.*.mlp.fc1.*", &["beit.encoder.layer.*.intermediate.dense.*"]),
    ("blocks.*.mlp.fc2.*", &["beit.encoder.layer.*.output.dense.*"]),
];

/// `BeitForMaskedImageModeling` above the encoder.
const MASKED: &[NamePair] = &[("norm.*", &["layernorm.*"]), ("lm_head.*", &["lm_head.*"])];

/// `BeitForImageClassification` above the encoder.
const CLASSIFIER: &[NamePair] = &[
    ("norm.*", &["beit.layernorm.*"]),
    ("fc_norm.*", &["beit.pooler.layernorm.*"]),
    ("head.*", &["classifier.*"]),
];

/// `BeitForSemanticSegmentation` above the encoder; the pyramid and the other layers of the heads are called alike.
const SEGMENTER: &[NamePair] = &[
    ("decode_head.conv_seg.*", &["decode_head.classifier.*"]),
    ("auxiliary_head.conv_seg.*", &["auxiliary_head.classifier.*"]),
    ("decode_head.*", &["decode_head.*"]),
    ("auxiliary_head.*", &["auxiliary_head.*"]),
    ("fpn1.*", &["fpn1.*"]),
    ("fpn2.*", &["fpn2.*"]),
];

/// What stands before the names of encoder and pyramid in the original's segmenters.
pub(super) const BACKBONE: &str = "backbone.";

/// Newer names of the same tensors; the first that fits holds.
const RENAMED: &[(&str, &str)] = &[
    ("fpn.fpn1.conv_transpose1.*", "fpn1.0.*"),
    ("fpn.fpn1.normalization.*", "fpn1.1.*"),
    ("fpn.fpn1.conv_transpose2.*", "fpn1.3.*"),
    ("fpn.fpn2.*", "fpn2.0.*"),
    ("decode_head.psp_modules.blocks.*.conv.convolution.*", "decode_head.psp_modules.*.1.conv.*"),
    ("decode_head.psp_modules.blocks.*.conv.normalization.*", "decode_head.psp_modules.*.1.bn.*"),
    ("decode_head.psp_bottleneck.convolution.*", "decode_head.bottleneck.conv.*"),
    ("decode_head.psp_bottleneck.normalization.*", "decode_head.bottleneck.bn.*"),
    ("decode_head.*.convolution.*", "decode_head.*.conv.*"),
    ("decode_head.*.normalization.*", "decode_head.*.bn.*"),
    ("auxiliary_head.*.convolution.*", "auxiliary_head.*.conv.*"),
    ("auxiliary_head.*.normalization.*", "auxiliary_head.*.bn.*"),
    ("beit.layers.*.attention.q_proj.*", "beit.encoder.layer.*.attention.attention.query.*"),
    ("beit.layers.*.attention.k_proj.*", "beit.encoder.layer.*.attention.attention.key.*"),
    ("beit.layers.*.attention.v_proj.*", "beit.encoder.layer.*.attention.attention.value.*"),
    ("beit.layers.*.attention.o_proj.*", "beit.encoder.layer.*.attention.output.dense.*"),
    ("beit.layers.*.mlp.fc1.*", "beit.encoder.layer.*.intermediate.dense.*"),
    ("beit.layers.*.mlp.fc2.*", "beit.encoder.layer.*.output.dense.*"),
    (
        "beit.layers.*.relative_position_bias.*",
        "beit.encoder.layer.*.attention.attention.relative_position_bias.*",
    ),
    ("beit.layers.*.*", "beit.encoder.layer.*.*"),
    ("beit.shared_position_bias.*", "beit.encoder.relative_position_bias.*"),
];

/// Names in files of Hugging Face's port of the tensor that is called `own` here; nothing for one that it does not
/// know.
pub(super) fn hugging_face(config: &ModelConfig, own: &str) -> Option<Vec<String>> {
    let above = match config {
        ModelConfig::Beit(_) => MASKED,
        ModelConfig::Classifier(_) => CLASSIFIER,
        ModelConfig::Segmenter(_) => SEGMENTER,
        ModelConfig::Bert(_)
        | ModelConfig::Encoder(_)
        | ModelConfig::Dvae(_)
        | ModelConfig::Vae(_) => return None,
    };
    ENCODER.iter().chain(above).find_map(|(pattern, theirs)| {
        let stars = texts(pattern, own)?;
        Some(theirs.iter().map(|name| filled(name, &stars)).collect())
    })
}

/// The original's name of the tensor that is called `own` here: of a segmenter, encoder and pyramid are a part of it.
pub(super) fn original(config: &ModelConfig, own: &str) -> String {
    let head = ["decode_head.", "auxiliary_head."].iter().any(|head| own.starts_with(head));
    match config {
        ModelConfig::Segmenter(_) if !head => format!("{BACKBONE}{own}"),
        _ => own.to_owned(),
    }
}

/// The name that files have, of a name that modules or files have.
pub(super) fn name_in_files(name: &str) -> String {
    let found = RENAMED
        .iter()
        .find_map(|(newer, name_there)| texts(newer, name).map(|stars| filled(name_there, &stars)));
    found.unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::models::config::{
        BeitConfig, ClassifierConfig, DvaeConfig, EncoderConfig, SegmentClass, SegmenterConfig,
    };
    use crate::weights::ORIGINAL;
    use std::collections::BTreeMap;
    use std::path::Path;

    #[test]
    fn a_name_depends_on_the_head_and_on_nothing_else() {
        let masked = ModelConfig::Beit(BeitConfig::test());
        let classifier = ModelConfig::Classifier(ClassifierConfig::test());
        let one = |config, own| hugging_face(config, own).map(|names| names.join(" "));
        assert_eq!(one(&masked, "norm.bias").unwrap(), "layernorm.bias");
        assert_eq!(one(&classifier, "norm.bias").unwrap(), "beit.layernorm.bias");
        let scale = "beit.encoder.layer.11.lambda_2";
        assert_eq!(one(&masked, "blocks.11.gamma_2").unwrap(), scale);
        assert_eq!(one(&classifier, "lm_head.bias"), None);
        assert_eq!(one(&ModelConfig::Dvae(DvaeConfig::test()), "cls_token"), None);
    }

    #[test]
    fn newer_names_are_the_same_tensors() {
        for (newer, name) in [
            ("beit.layers.3.attention.k_proj.weight", "attention.attention.key.weight"),
            ("beit.layers.3.mlp.fc1.bias", "intermediate.dense.bias"),
            ("beit.layers.3.lambda_1", "lambda_1"),
            ("beit.layers.3.layernorm_after.weight", "layernorm_after.weight"),
        ] {
            assert_eq!(name_in_files(newer), format!("beit.encoder.layer.3.{name}"));
        }
        let shared = "beit.shared_position_bias.relative_position_bias_table";
        let name = "beit.encoder.relative_position_bias.relative_position_bias_table";
        assert_eq!(name_in_files(shared), name);
        assert_eq!(name_in_files(name), name);
    }

    /// `tests/fixtures/keys`: what `save_pretrained` of transformers 5.24 writes, and what its modules have.
    #[test]
    fn names_and_shapes_are_those_of_the_published_sizes() {
        let base = EncoderConfig::base_patch16_224();
        let test = ClassifierConfig::test();
        let encoder =
            EncoderConfig { shared_rel_pos_bias: false, rel_pos_bias: true, ..base.clone() };
        let classes = (0..1000).map(|i| i.to_string()).collect();
        let class = |i: u8| SegmentClass { name: i.to_string(), colour: [i; 3] };
        let crop = EncoderConfig { image: (640, 640), ..encoder.clone() };
        let segmenter = SegmenterConfig::original(crop, (0..150).map(class).collect());
        let classifier = ClassifierConfig { encoder, classes, ..test };
        for (file, config) in [
            ("hf_base_mim", ModelConfig::Beit(base.with_vocab(8192))),
            ("hf_base_cls_1k", ModelConfig::Classifier(classifier)),
            ("hf_base_seg_ade640", ModelConfig::Segmenter(segmenter)),
        ] {
            let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keys");
            let text = std::fs::read(keys.join(format!("{file}.json"))).unwrap();
            let stored: BTreeMap<String, BTreeMap<String, Vec<usize>>> =
                serde_json::from_slice(&text).unwrap();
            let mut written = BTreeMap::new();
            for param in config.layout(&Cpu::<f32>::new()).iter() {
                for entry in ORIGINAL.entries(param) {
                    let names = hugging_face(&config, &entry.name).unwrap();
                    let mut shape = entry.shape.clone();
                    shape[0] /= names.len();
                    if entry.name.ends_with("num_batches_tracked") {
                        shape.clear();
                    }
                    written.extend(names.into_iter().map(|name| (name, shape.clone())));
                }
            }
            assert_eq!(written, stored["file"], "{file}");
            let modules = stored["in_memory"].iter();
            let modules: BTreeMap<_, _> =
                modules.map(|(name, shape)| (name_in_files(name), shape.clone())).collect();
            assert_eq!(written, modules, "{file}");
        }
    }
}
