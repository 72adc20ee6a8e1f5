//! How well an encoder predicts the tokens of hidden patches, or their pixels.

mod figures;
mod picture;
mod sums;

pub use figures::{PatchFigures, PixelFigures, TokenFigures};

use super::frozen::{Tokenizer, broken_parameter, load_all, spread};
use crate::config::{LossOver, Replace};
use crate::data::augment::{Views, eval_views};
use crate::data::patches::normalise_patch;
use crate::data::pixels::PixelMap;
use crate::data::{AugmentConfig, Dataset, Image, Labelled, MaskConfig, PatchGrid};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::models::beit::{MaskedBatch, MaskedImageModel, masked_rows};
use crate::models::config::PixelValues;
use crate::models::encoder::EncoderInput;
use crate::ops::Backend;
use crate::ops::cross_entropy::Target;
use crate::params::{Ctx, Params};
use crate::rng::{Philox, Purpose};
use crate::run::not_interrupted;
use crate::tensor::{Bytes, Ids, Master, Tensor};
use rayon::prelude::*;
use sums::{PixelSums, TokenSums};

/// Images that the figures of a finished run are measured on.
const EVALUATED: usize = 1024;

/// Masks that they are measured under: a few images are shown under several each, so that the figures are not
/// those of a handful of patches.
const FEWEST_MASKS: usize = 256;

/// Masks to show an encoder that comes without its run's law: 40 % of the patches, in blocks of at least 16 on
/// a 14x14 grid and 4 on a smaller one.
pub fn usual_masks((height, width): (usize, usize)) -> MaskConfig {
    block_masks((height, width), (height * width * 2 / 5).max(1))
}

/// Masks of at most `count` patches in such blocks.
pub fn block_masks((height, width): (usize, usize), count: usize) -> MaskConfig {
    let least = if height * width >= 196 { 16 } else { 4 };
    MaskConfig::block(height, width, count, least.min(count))
}

/// Both views of a crop and its mask.
pub struct MaskedSample {
    /// What the encoder and the tokenizer see.
    pub views: Views,
    /// What the encoder sees in place of its view, where other patches stand in the hidden places.
    pub shown: Option<Image>,
    /// `[Np]`; true is hidden.
    pub mask: Vec<bool>,
}

/// What an encoder is asked of a patch.
pub enum PatchTarget<B: Backend> {
    /// The token that this tokenizer makes of it.
    Tokens(Box<Tokenizer<B>>),
    /// Its pixels.
    Pixels(PixelValues),
}

/// The right answers, patch by patch.
pub enum PatchAnswers<B: Backend> {
    /// Tokens `[M]`.
    Tokens(Ids<B>),
    /// Pixels `[M,3 P²]`.
    Pixels(Master<B>),
}

/// An encoder, what it is asked of patches, and how images are shown to it.
pub struct PatchPrediction<B: Backend> {
    /// The encoder.
    pub model: MaskedImageModel<B>,
    /// What is predicted.
    pub target: PatchTarget<B>,
    /// Of which patches.
    pub loss_over: LossOver,
    /// Law of the masks.
    pub masks: MaskConfig,
    /// What is shown in the hidden places.
    pub replace: Replace,
    /// Sizes of the views and how they are varied.
    pub augment: AugmentConfig,
    /// Seed of the masks.
    pub seed: u64,
}

/// What the evaluation images showed.
pub struct PatchEvaluation {
    /// Number of images.
    pub images: usize,
    /// How well their patches are predicted.
    pub figures: PatchFigures,
}

/// Bytes of images as a model reads them.
pub fn uploaded<B: Backend>(
    bk: &B,
    images: &[&Image],
    map: &PixelMap,
    (height, width): (usize, usize),
) -> Tensor<B> {
    let pieces: Vec<&[u8]> = images.iter().map(|image| &*image.pixels).collect();
    let table = Master::from_f32(bk, map.table(), &[3, 256]);
    bk.pixels_elem(&Bytes::from_pieces(bk, &pieces, &[images.len(), height, width, 3]), &table)
}

impl<B: Backend> PatchAnswers<B> {
    /// How many patches they are of.
    pub fn count(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Pixels(pixels) => pixels.rows(),
        }
    }
}

impl<B: Backend> PatchPrediction<B> {
    /// Where the patches of the encoder's view lie.
    pub fn grid(&self) -> PatchGrid {
        let sizes = &self.model.config.encoder;
        PatchGrid::of(sizes.image, sizes.patch)
    }

    /// Puts other patches into the hidden places, where that is how images are shown.
    ///
    /// A patch is embedded by itself and positions come later, so that this is the same as putting another patch's
    /// embedding there.
    pub fn replace(&self, samples: &mut [MaskedSample], mut rng: Philox) {
        if self.replace == Replace::MaskToken {
            return;
        }
        let images: Vec<&Image> = samples.iter().map(|s| &s.views.patch).collect();
        let masks: Vec<&[bool]> = samples.iter().map(|s| &*s.mask).collect();
        let replaced = self.grid().replaced(&images, &masks, &mut rng);
        samples.iter_mut().zip(replaced).for_each(|(s, image)| s.shown = Some(image));
    }

    /// Of each patch of a sample, whether it is asked for.
    fn asked(&self, sample: &MaskedSample) -> Vec<bool> {
        match self.loss_over {
            LossOver::Masked => sample.mask.clone(),
            LossOver::All => vec![true; sample.mask.len()],
        }
    }

    /// Tensors of some samples and the answers for the patches that the loss is over. Waits for nothing.
    pub fn batch(&self, bk: &B, samples: &[MaskedSample]) -> (MaskedBatch<B>, PatchAnswers<B>) {
        let (b, sizes) = (samples.len(), &self.model.config.encoder);
        let asked: Vec<bool> = samples.iter().flat_map(|s| self.asked(s)).collect();
        let answers = match &self.target {
            PatchTarget::Tokens(tokenizer) => {
                let views: Vec<&Image> = samples.iter().map(|s| &s.views.tokens).collect();
                let size = tokenizer.dvae.config.image;
                let tokens =
                    tokenizer.tokens(bk, &uploaded(bk, &views, &PixelMap::map_pixels(), size));
                let places: Vec<u32> =
                    (0..asked.len() as u32).filter(|&i| asked[i as usize]).collect();
                let count = places.len();
                PatchAnswers::Tokens(bk.gather_ids(&tokens, &Ids::from_vec(bk, places, &[count])))
            }
            PatchTarget::Pixels(values) => PatchAnswers::Pixels(self.pixels(bk, samples, *values)),
        };
        let rows = masked_rows(&asked, sizes.patches());
        let views: Vec<&Image> =
            samples.iter().map(|s| s.shown.as_ref().unwrap_or(&s.views.patch)).collect();
        let hidden = samples.iter().flat_map(|s| {
            s.mask.iter().map(|&hidden| u32::from(hidden && self.replace == Replace::MaskToken))
        });
        let batch = MaskedBatch {
            images: uploaded(bk, &views, &self.augment.normalise(), sizes.image),
            mask: Ids::from_vec(bk, hidden.collect(), &[b, sizes.patches()]),
            rows: Ids::from_vec(bk, rows.clone(), &[rows.len()]),
            keep: None,
        };
        (batch, answers)
    }

    /// Pixels of the patches that the loss is over.
    fn pixels(&self, bk: &B, samples: &[MaskedSample], values: PixelValues) -> Master<B> {
        let (grid, map) = (self.grid(), self.augment.normalise());
        let of_sample = |sample: &MaskedSample| {
            let numbers = map.apply(&sample.views.patch);
            let asked = self.asked(sample);
            let mut targets = Vec::new();
            for patch in (0..asked.len()).filter(|&patch| asked[patch]) {
                let start = targets.len();
                targets.extend(grid.places(patch).map(|i| f64::from(numbers[i])));
                if values == PixelValues::Normalised {
                    normalise_patch(&mut targets[start..]);
                }
            }
            targets
        };
        let targets = samples.par_iter().map(of_sample).collect::<Vec<_>>().concat();
        let each = self.model.config.outputs();
        Master::from_f64(bk, &targets, &[targets.len() / each, each])
    }

    /// Name of the first tensor of a forward pass that holds something not finite.
    pub fn first_non_finite(&self, bk: &B, w: &Params<B>, batch: &MaskedBatch<B>) -> String {
        let broken = |values: &[f64]| values.iter().any(|x| !x.is_finite());
        if let Some(name) = broken_parameter(bk, w) {
            return format!("parameter {name}");
        }
        if broken(&batch.images.to_f64(bk)) {
            return "the images".into();
        }
        let (encoder, ctx) = (&self.model.encoder, Ctx::new(bk, w));
        let input = EncoderInput { mask: Some(&batch.mask), ..EncoderInput::of(&batch.images) };
        let taps: Vec<usize> = (0..=encoder.depth()).collect();
        let streams = encoder.features(ctx, &input, &taps).taps;
        match streams.iter().position(|s| broken(&s.to_f64(bk))) {
            Some(0) => "the patch embedding".into(),
            Some(l) => format!("the residual stream after blocks.{}", l - 1),
            None => match self.target {
                PatchTarget::Tokens(_) => "the logits".into(),
                PatchTarget::Pixels(_) => "the predicted pixels".into(),
            },
        }
    }

    /// What the model says about fixed views and masks of at most 1024 images, a few of them under several masks. [`Error::Interrupted`] once
    /// somebody wants the process to end.
    pub fn evaluate(
        &self,
        bk: &B,
        w: &Params<B>,
        source: &impl Dataset<Item = Labelled>,
    ) -> Result<PatchEvaluation> {
        let (mut images, mut tokens, mut pixels) = (0, TokenSums::default(), PixelSums::default());
        let indices = spread(source, EVALUATED);
        let masks = FEWEST_MASKS.div_ceil(indices.len());
        let chunks = indices.chunks(64);
        for (chunk, round) in chunks.flat_map(|chunk| (0..masks as u32).map(move |r| (chunk, r))) {
            not_interrupted()?;
            let samples = self.evaluated(source, chunk, round);
            images += if round == 0 { samples.len() } else { 0 };
            let (batch, answers) = self.batch(bk, &samples);
            if answers.count() == 0 {
                continue;
            }
            let said = self.model.logits(Ctx::new(bk, w), &batch);
            match &answers {
                PatchAnswers::Tokens(labels) => {
                    let target = Target::Hard { labels, ignore: None };
                    let losses = bk.cross_entropy_forward(&said, &target);
                    let asked = samples.iter().flat_map(|s| s.mask.iter().zip(self.asked(s)));
                    let masked: Vec<bool> =
                        asked.filter(|(_, asked)| *asked).map(|(masked, _)| *masked).collect();
                    let (labels, argmax) = (labels.to_vec(bk), losses.argmax.to_vec(bk));
                    tokens.add(&losses.rows.to_f64(bk), &argmax, &labels, &masked);
                }
                PatchAnswers::Pixels(targets) => {
                    let (said, targets) = (said.to_f64(bk), targets.to_f64(bk));
                    pixels.add(&said, &targets, self.augment.std, self.model.config.outputs());
                }
            }
        }
        let figures = match self.target {
            PatchTarget::Tokens(_) => {
                PatchFigures::Tokens(tokens.figures(self.loss_over, self.model.config.outputs()))
            }
            PatchTarget::Pixels(values) => {
                PatchFigures::Pixels(pixels.figures(values == PixelValues::Plain))
            }
        };
        Ok(PatchEvaluation { images, figures })
    }

    /// Images under fixed views and masks, another mask in each round.
    fn evaluated(
        &self,
        source: &impl Dataset<Item = Labelled>,
        indices: &[usize],
        round: u32,
    ) -> Vec<MaskedSample> {
        // No training epoch has such a number.
        let stream = |purpose, index| Philox::new(self.seed, purpose, u32::MAX - round, index);
        let mut samples = load_all(source, indices, |item| MaskedSample {
            views: eval_views(&self.augment, &item.image),
            shown: None,
            mask: self.masks.draw(&mut stream(Purpose::Mask, item.index as u32)),
        });
        let first = indices.first().map_or(0, |&first| first as u32);
        self.replace(&mut samples, stream(Purpose::Replace, first));
        samples
    }
}
