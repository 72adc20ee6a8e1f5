//! The kinds of model that this program knows, and all that tells them apart.
//!
//! Whoever reads, writes or lists a model asks here and names no kind. A new kind is a variant of
//! [`ModelConfig`], an arm of `each!` and one implementation of [`ModelKind`].

use crate::error::Result;
use crate::models::beit::MaskedImageModel;
use crate::models::bert::Bert;
use crate::models::classifier::Classifier;
use crate::models::config::{
    BeitConfig, BertConfig, ClassifierConfig, DvaeConfig, EncoderConfig, PatchHead, PixelValues,
    SegmenterConfig, VaeConfig,
};
use crate::models::dvae::Dvae;
use crate::models::encoder::{Encoder, EncoderParts};
use crate::models::segmenter::Segmenter;
use crate::models::vae::Vae;
use crate::ops::Backend;
use crate::params::{Layout, Registry};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// Which model a file holds, and its sizes. In `config.json` the key `kind` is the variant's name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ModelConfig {
    /// An encoder with its masked-image head.
    Beit(BeitConfig),
    /// A masked language model over bytes.
    Bert(BertConfig),
    /// An encoder with a head over classes.
    Classifier(ClassifierConfig),
    /// A tokenizer.
    Dvae(DvaeConfig),
    /// An encoder without a head: what self-supervised methods leave, whose heads are of no use afterwards.
    Encoder(EncoderConfig),
    /// An encoder with a head over classes of pixels.
    Segmenter(SegmenterConfig),
    /// The Gaussian VAE beside the tokenizer.
    Vae(VaeConfig),
}

/// The sizes of one kind of model, and what follows from them.
pub trait ModelKind {
    /// What messages call it, with its article.
    const NOUN: &'static str;

    /// The sizes in `config`, where it is of this kind.
    fn of(config: &ModelConfig) -> Option<&Self>;

    /// Number of parameters of these sizes; refuses those that no model can be built from.
    fn promised(&self) -> Result<u64>;

    /// Parameters of the model.
    fn layout<B: Backend>(&self, bk: &B) -> Layout;

    /// What `beit info` says about it.
    fn describe(&self) -> String;
}

/// `$result` with the sizes of whichever kind `$config` is.
macro_rules! each {
    ($config:expr, $sizes:ident => $result:expr) => {
        match $config {
            ModelConfig::Beit($sizes) => $result,
            ModelConfig::Bert($sizes) => $result,
            ModelConfig::Classifier($sizes) => $result,
            ModelConfig::Dvae($sizes) => $result,
            ModelConfig::Encoder($sizes) => $result,
            ModelConfig::Segmenter($sizes) => $result,
            ModelConfig::Vae($sizes) => $result,
        }
    };
}

impl ModelConfig {
    /// The sizes of a model of kind `M`, or what it is instead.
    pub fn sizes<M: ModelKind>(&self) -> Result<&M, String> {
        fn noun<M: ModelKind>(_: &M) -> &'static str {
            M::NOUN
        }
        let hint = match self {
            Self::Vae(_) if M::NOUN == DvaeConfig::NOUN => {
                ": it has no tokens; beit train-tokenizer without --kind vae makes a tokenizer"
            }
            _ => "",
        };
        let other = || format!("is {}, want {}{hint}", each!(self, sizes => noun(sizes)), M::NOUN);
        M::of(self).ok_or_else(other)
    }

    /// Names of the fields of `config.json` for the kind of this name; nothing where there is none.
    pub fn fields_of(kind: &str) -> Option<BTreeSet<String>> {
        let one = |config: Self| match serde_json::to_value(config) {
            Ok(Value::Object(fields)) => fields,
            other => unreachable!("sizes are a JSON object: {other:?}"),
        };
        let pixels = BeitConfig::test().encoder.with_pixels(PixelValues::Plain);
        let all = [
            Self::Beit(BeitConfig::test()),
            Self::Beit(pixels),
            Self::Bert(BertConfig::test()),
            Self::Classifier(ClassifierConfig::test()),
            Self::Dvae(DvaeConfig::test()),
            Self::Encoder(EncoderConfig::test()),
            Self::Segmenter(SegmenterConfig::test()),
            Self::Vae(VaeConfig::test()),
        ]
        .map(one);
        let of_kind = all.into_iter().filter(|fields| fields["kind"] == kind);
        let names: BTreeSet<_> = of_kind.flatten().map(|(name, _)| name).collect();
        (!names.is_empty()).then_some(names)
    }

    /// See [`ModelKind::promised`].
    pub fn promised(&self) -> Result<u64> {
        each!(self, sizes => sizes.promised())
    }

    /// See [`ModelKind::layout`].
    pub fn layout<B: Backend>(&self, bk: &B) -> Layout {
        each!(self, sizes => sizes.layout(bk))
    }

    /// See [`ModelKind::describe`].
    pub fn describe(&self) -> String {
        each!(self, sizes => ModelKind::describe(sizes))
    }
}

impl ModelKind for BeitConfig {
    const NOUN: &'static str = "an encoder";

    fn of(config: &ModelConfig) -> Option<&Self> {
        if let ModelConfig::Beit(sizes) = config { Some(sizes) } else { None }
    }

    fn promised(&self) -> Result<u64> {
        self.validate().map(|()| self.parameters())
    }

    fn layout<B: Backend>(&self, bk: &B) -> Layout {
        MaskedImageModel::new(bk, self).layout
    }

    fn describe(&self) -> String {
        let head = match self.head {
            PatchHead::Tokens(vocab) => format!("vocabulary {vocab}"),
            PatchHead::Pixels(values) => format!("head over {values} pixels"),
        };
        format!("encoder, {} parameters\n{}, {head}", self.parameters(), self.encoder.describe())
    }
}

impl ModelKind for BertConfig {
    const NOUN: &'static str = "a language model";

    fn of(config: &ModelConfig) -> Option<&Self> {
        if let ModelConfig::Bert(sizes) = config { Some(sizes) } else { None }
    }

    fn promised(&self) -> Result<u64> {
        self.validate().map(|()| self.parameters())
    }

    fn layout<B: Backend>(&self, bk: &B) -> Layout {
        Bert::new(bk, self).layout
    }

    fn describe(&self) -> String {
        let EncoderConfig { width, mlp_width, depth, heads, .. } = self.encoder;
        format!(
            "language model over bytes, {} parameters\n  \
             texts of {} bytes\n  width {width}, MLP {mlp_width}, depth {depth}, heads {heads}",
            self.parameters(),
            self.length()
        )
    }
}

impl ModelKind for ClassifierConfig {
    const NOUN: &'static str = "a classifier";

    fn of(config: &ModelConfig) -> Option<&Self> {
        if let ModelConfig::Classifier(sizes) = config { Some(sizes) } else { None }
    }

    fn promised(&self) -> Result<u64> {
        self.validate().map(|()| self.parameters())
    }

    fn layout<B: Backend>(&self, bk: &B) -> Layout {
        Classifier::new(bk, self).layout
    }

    fn describe(&self) -> String {
        format!(
            "classifier, {} parameters\n{}\n  {} classes, {} pooling",
            self.parameters(),
            self.encoder.describe(),
            self.classes.len(),
            self.pooling
        )
    }
}

impl ModelKind for DvaeConfig {
    const NOUN: &'static str = "a tokenizer";

    fn of(config: &ModelConfig) -> Option<&Self> {
        if let ModelConfig::Dvae(sizes) = config { Some(sizes) } else { None }
    }

    fn promised(&self) -> Result<u64> {
        self.validate().map(|()| self.parameters())
    }

    fn layout<B: Backend>(&self, _: &B) -> Layout {
        Dvae::new(self).layout
    }

    fn describe(&self) -> String {
        let ((gh, gw), (h, w)) = (self.grid(), self.image);
        format!(
            "tokenizer, {} parameters\n  \
             image {h}x{w}, factor {}, grid {gh}x{gw}\n  \
             width {}, groups {}, vocabulary {}",
            self.parameters(),
            self.factor(),
            self.width,
            self.groups,
            self.vocab
        )
    }
}

impl ModelKind for EncoderConfig {
    const NOUN: &'static str = "an encoder without a head";

    fn of(config: &ModelConfig) -> Option<&Self> {
        if let ModelConfig::Encoder(sizes) = config { Some(sizes) } else { None }
    }

    fn promised(&self) -> Result<u64> {
        self.validate().map(|()| self.parameters() + 2 * self.width as u64)
    }

    fn layout<B: Backend>(&self, bk: &B) -> Layout {
        let mut reg = Registry::new();
        Encoder::new(bk, &mut reg, self, EncoderParts::ALONE);
        reg.finish()
    }

    fn describe(&self) -> String {
        let count = self.parameters() + 2 * self.width as u64;
        format!("encoder without a head, {count} parameters\n{}", self.describe())
    }
}

impl ModelKind for SegmenterConfig {
    const NOUN: &'static str = "a segmenter";

    fn of(config: &ModelConfig) -> Option<&Self> {
        if let ModelConfig::Segmenter(sizes) = config { Some(sizes) } else { None }
    }

    fn promised(&self) -> Result<u64> {
        self.validate().map(|()| self.parameters())
    }

    fn layout<B: Backend>(&self, bk: &B) -> Layout {
        Segmenter::new(bk, self).layout
    }

    fn describe(&self) -> String {
        format!(
            "segmenter, {} parameters\n{}\n  {} classes, levels of taps {:?}, {} channels, auxiliary head {}",
            self.parameters(),
            self.encoder.describe(),
            self.classes.len(),
            self.taps,
            self.channels,
            self.auxiliary
        )
    }
}

impl ModelKind for VaeConfig {
    const NOUN: &'static str = "a Gaussian VAE";

    fn of(config: &ModelConfig) -> Option<&Self> {
        if let ModelConfig::Vae(sizes) = config { Some(sizes) } else { None }
    }

    fn promised(&self) -> Result<u64> {
        self.validate().map(|()| self.parameters())
    }

    fn layout<B: Backend>(&self, _: &B) -> Layout {
        Vae::new(self).networks.layout
    }

    fn describe(&self) -> String {
        let ((gh, gw), (h, w)) = (self.trunk.grid(), self.trunk.image);
        format!(
            "Gaussian VAE, {} parameters\n  \
             image {h}x{w}, factor {}, grid {gh}x{gw}\n  \
             width {}, groups {}, latent channels {}",
            self.parameters(),
            self.trunk.factor(),
            self.trunk.width,
            self.trunk.groups,
            self.latent_channels
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::models::config::Pooling;
    use crate::params::parameter_count;

    #[test]
    fn every_kind_builds_what_it_promises_and_comes_back_from_its_text() {
        let sizes = EncoderConfig::test().with_width(40);
        let uneven = EncoderConfig { mlp_width: 136, ..sizes }.with_vocab(11);
        let pixels = EncoderConfig::test().with_pixels(PixelValues::Normalised);
        let class = ClassifierConfig { pooling: Pooling::Class, ..ClassifierConfig::test() };
        for (name, config) in [
            ("beit", ModelConfig::Beit(BeitConfig::test())),
            ("beit", ModelConfig::Beit(uneven)),
            ("beit", ModelConfig::Beit(pixels)),
            ("bert", ModelConfig::Bert(BertConfig::test())),
            ("classifier", ModelConfig::Classifier(ClassifierConfig::test())),
            ("classifier", ModelConfig::Classifier(class)),
            ("dvae", ModelConfig::Dvae(DvaeConfig::test())),
            ("encoder", ModelConfig::Encoder(EncoderConfig::test())),
            ("segmenter", ModelConfig::Segmenter(SegmenterConfig::test())),
            ("vae", ModelConfig::Vae(VaeConfig::test())),
        ] {
            let layout = config.layout(&Cpu::<f32>::new());
            assert_eq!(config.promised().unwrap(), parameter_count(&layout) as u64);
            let text = serde_json::to_value(&config).unwrap();
            assert_eq!(text["kind"], name);
            assert_eq!(serde_json::from_value::<ModelConfig>(text).unwrap(), config);
        }
        let dvae = ModelConfig::Dvae(DvaeConfig::test());
        assert_eq!(dvae.sizes::<DvaeConfig>().unwrap(), &DvaeConfig::test());
        assert_eq!(dvae.sizes::<BeitConfig>().unwrap_err(), "is a tokenizer, want an encoder");
        let vae = ModelConfig::Vae(VaeConfig::test());
        assert_eq!(
            vae.sizes::<DvaeConfig>().unwrap_err(),
            "is a Gaussian VAE, want a tokenizer: it has no tokens; beit train-tokenizer without --kind vae makes a \
             tokenizer"
        );
    }
}
