//! A segmenter: an encoder, a pyramid of four levels made of its stream, a UPerNet head, and an auxiliary head
//! (arXiv 2106.08254, §3.2; `semantic_segmentation/backbone/beit.py`; UPerNet, arXiv 1807.10221).
//!
//! ```text
//! f_l = patch tokens of the stream at tap l, l = 0..3                  [B,Gh,Gw,C]
//! p_0 = deconv(gelu(norm(deconv(f_0))))      stride 4 within a patch of 16   [B,4Gh,4Gw,C]
//! p_1 = deconv(f_1)                                                    [B,2Gh,2Gw,C]
//! p_2 = f_2                                                            [B,Gh,Gw,C]
//! p_3 = max pool of f_3                                                [B,⌊Gh/2⌋,⌊Gw/2⌋,C]
//! logits = head(p_0..p_3)                                              [B,4Gh,4Gw,K]
//! aux = head'(p_2)                                                     [B,Gh,Gw,K]
//! ```
//!
//! K is the number of classes. Logits are resized to the labels before the loss; labels of 255 take no part. The
//! batch norms follow the batch in training and their running statistics elsewhere, and where a batch has one
//! number per channel, which has no variance.

mod case;
mod head;
mod maps;
mod pyramid;

pub use case::*;

use crate::layers::init::fine_tuned;
use crate::models::config::SegmenterConfig;
use crate::models::encoder::{
    Encoder, EncoderCache, EncoderInput, EncoderParts, FeatureGradients, Features,
};
use crate::ops::Backend;
use crate::ops::batch_norm::Statistics;
use crate::ops::cross_entropy::{Losses, Target};
use crate::params::{Ctx, Grad, Layout, Params, Registry};
use crate::storage::Storage;
use crate::tensor::{Ids, Master, Tensor};
use head::{AuxiliaryCache, AuxiliaryHead, UperCache, UperHead};
use maps::{Maps, plane};
use pyramid::{Pyramid, PyramidCache};
use std::ops::Range;

/// The label of pixels that take no part.
pub const IGNORED: u32 = 255;

/// Encoder, pyramid and heads.
pub struct Segmenter<B: Storage> {
    /// Sizes.
    pub config: SegmenterConfig,
    /// All parameters, the statistics of the batch norms among them.
    pub layout: Layout,
    /// Embedding and blocks.
    pub encoder: Encoder<B>,
    pyramid: Pyramid,
    head: UperHead,
    auxiliary: Option<AuxiliaryHead>,
    maps: Maps<B>,
    /// Parameters above the encoder.
    top: Range<usize>,
}

/// What a segmenter is shown.
pub struct SegmenterInput<'a, B: Storage> {
    /// Images and dropped branches of the encoder.
    pub encoder: EncoderInput<'a, B>,
    /// Factors on the channels that the two last layers read, main and auxiliary `[B,channels]`: 0 or 1/(1 − p).
    pub dropout: Option<&'a [Master<B>; 2]>,
    /// Whether the batch norms follow the batch.
    pub train: bool,
}

impl<'a, B: Storage> SegmenterInput<'a, B> {
    /// Whole images in evaluation.
    pub fn of(images: &'a Tensor<B>) -> Self {
        Self { encoder: EncoderInput::of(images), dropout: None, train: false }
    }
}

/// Logits of both heads, or their gradients.
pub struct SegmentLogits<B: Storage> {
    /// `[B,4Gh,4Gw,K]`.
    pub main: Tensor<B>,
    /// `[B,Gh,Gw,K]`, where there is an auxiliary head.
    pub auxiliary: Option<Tensor<B>>,
}

/// What backward reads.
pub struct SegmenterCache<B: Storage> {
    encoder: EncoderCache<B>,
    pyramid: PyramidCache<B>,
    levels: [Tensor<B>; 4],
    head: UperCache<B>,
    auxiliary: Option<AuxiliaryCache<B>>,
}

/// What a training step saw.
pub struct SegmentSeen<B: Storage> {
    /// Losses `[R]` of the main head and its best classes, R = B·H·W pixels of the labels.
    pub main: Losses<B>,
    /// Losses `[R]` of the auxiliary head.
    pub auxiliary: Option<Losses<B>>,
    /// For [`Segmenter::follow`].
    pub statistics: Statistics<B>,
}

impl<B: Backend> Segmenter<B> {
    /// Builds the model and its layout; the encoder's parameters start as the original's fine-tuning model does.
    pub fn new(bk: &B, config: &SegmenterConfig) -> Self {
        let mut reg = Registry::starting(fine_tuned(config.encoder.patch));
        let parts = EncoderParts { mask_token: false, norm: false };
        let encoder = Encoder::new(bk, &mut reg, &config.encoder, parts);
        let start = reg.len();
        let pyramid = Pyramid::new(&mut reg, config.encoder.width);
        let head = UperHead::new(&mut reg, config);
        let auxiliary = (config.auxiliary > 0).then(|| AuxiliaryHead::new(&mut reg, config));
        let (top, maps) = (start..reg.len(), Maps::default());
        let (config, layout) = (config.clone(), reg.finish());
        Self { config, layout, encoder, pyramid, head, auxiliary, maps, top }
    }

    /// Taps of the encoder, each once, and the places of the levels among them.
    fn taps(&self) -> (Vec<usize>, [usize; 4]) {
        let mut taps = self.config.taps.to_vec();
        taps.dedup();
        let place = |tap| taps.iter().position(|t| *t == tap).expect("one of them");
        (taps.clone(), self.config.taps.map(place))
    }

    /// Rows and columns of patches of these images.
    fn grid(&self, images: &Tensor<B>) -> (usize, usize) {
        let ((h, w), side) = (plane(images), self.config.encoder.patch);
        (h / side, w / side)
    }

    /// Images `[B,Ih,Iw,3]` -> logits `[B,4Gh,4Gw,K]` of the main head, in evaluation.
    pub fn logits(&self, ctx: Ctx<B>, images: &Tensor<B>) -> Tensor<B> {
        let (taps, places) = self.taps();
        let features = self.encoder.features(ctx, &EncoderInput::of(images), &taps);
        let levels = self.pyramid.forward(ctx, &features, (&places, self.grid(images)), false).0;
        self.head.forward(ctx, &self.maps, &levels, None, false).0
    }

    /// -> logits of both heads, and what backward reads.
    pub fn forward(
        &self,
        ctx: Ctx<B>,
        input: &SegmenterInput<B>,
    ) -> (SegmentLogits<B>, SegmenterCache<B>) {
        let (taps, places) = self.taps();
        let (features, encoder) = self.encoder.forward(ctx, &input.encoder, &taps);
        let grid = self.grid(input.encoder.images);
        let (levels, pyramid) = self.pyramid.forward(ctx, &features, (&places, grid), input.train);
        let [main, auxiliary] = [0, 1].map(|head| input.dropout.map(|keep| &keep[head]));
        let (main, head) = self.head.forward(ctx, &self.maps, &levels, main, input.train);
        let of_auxiliary =
            |own: &AuxiliaryHead| own.forward(ctx, &levels[2], auxiliary, input.train);
        let (auxiliary, auxiliary_cache) = self.auxiliary.as_ref().map(of_auxiliary).unzip();
        let cache = SegmenterCache { encoder, pyramid, levels, head, auxiliary: auxiliary_cache };
        (SegmentLogits { main, auxiliary }, cache)
    }

    /// Gradients of all parameters from those of the logits; returns that of the images where wanted, and what the
    /// batch norms saw.
    pub fn backward(
        &self,
        grad: &mut Grad<B>,
        input: &SegmenterInput<B>,
        cache: SegmenterCache<B>,
        upstream: &SegmentLogits<B>,
        need_dx: bool,
    ) -> (Option<Tensor<B>>, Statistics<B>) {
        let SegmenterCache { encoder, pyramid, levels, head, auxiliary } = cache;
        let [main, of_auxiliary] = [0, 1].map(|head| input.dropout.map(|keep| &keep[head]));
        let mut dlevels =
            self.head.backward(grad, &self.maps, (&levels, main), &head, &upstream.main);
        if let (Some(own), Some(cache), Some(dy)) =
            (&self.auxiliary, &auxiliary, &upstream.auxiliary)
        {
            let upstream = (dy, &mut dlevels[2]);
            own.backward(grad, &self.maps, (&levels[2], of_auxiliary), cache, upstream);
        }
        let (taps, places) = self.taps();
        let dfeatures = self.pyramid.backward(grad, &pyramid, dlevels);
        let mut sums: Vec<Option<Master<B>>> = taps.iter().map(|_| None).collect();
        for (df, place) in dfeatures.into_iter().zip(places) {
            match &mut sums[place] {
                Some(sum) => grad.ctx.bk.add(sum, &df),
                none => *none = Some(df),
            }
        }
        let taps = taps.into_iter().zip(sums.into_iter().flatten()).collect();
        grad.ready(self.top.clone());
        let upstream = FeatureGradients { dy: None, taps };
        let dx = self.encoder.backward(grad, &input.encoder, encoder, upstream, need_dx);
        let mut statistics = self.pyramid.statistics(pyramid);
        statistics.extend(self.head.statistics(head));
        if let (Some(own), Some(cache)) = (&self.auxiliary, auxiliary) {
            statistics.push(own.statistics(cache));
        }
        (dx, statistics)
    }

    /// Forward, loss and backward of one micro-batch for labels `[B,H,W]`, to whose size the logits are resized.
    /// The scales are factors on the sums of the pixels' losses of the main and the auxiliary head.
    pub fn loss_and_gradients(
        &self,
        grad: &mut Grad<B>,
        input: &SegmenterInput<B>,
        labels: &Ids<B>,
        scales: [f64; 2],
    ) -> SegmentSeen<B> {
        let ctx = grad.ctx;
        let (SegmentLogits { main, auxiliary }, cache) = self.forward(ctx, input);
        let (main, dmain) = self.resized_loss(ctx, main, labels, scales[0]);
        let auxiliary = auxiliary.map(|logits| self.resized_loss(ctx, logits, labels, scales[1]));
        let (auxiliary, dauxiliary) = auxiliary.unzip();
        let upstream = SegmentLogits { main: dmain, auxiliary: dauxiliary };
        let (_, statistics) = self.backward(grad, input, cache, &upstream, false);
        SegmentSeen { main, auxiliary, statistics }
    }

    /// Losses of logits `[B,h,w,K]` resized to labels `[B,H,W]`, and `scale` times the gradient of their sum
    /// `[B,h,w,K]`.
    pub fn resized_loss(
        &self,
        ctx: Ctx<B>,
        logits: Tensor<B>,
        labels: &Ids<B>,
        scale: f64,
    ) -> (Losses<B>, Tensor<B>) {
        labels.expect_rank("segmenter", "labels", 3);
        let (bk, shape, classes) = (ctx.bk, labels.shape(), logits.cols());
        let map = self.maps.bilinear(bk, plane(&logits), (shape[1], shape[2]));
        let resized = map.forward(bk, &logits);
        drop(logits);
        let whole = resized.shape().to_vec();
        let pixels = labels.len();
        let labels = labels.duplicate(bk).reshape(&[pixels]);
        let target = Target::Hard { labels: &labels, ignore: Some(IGNORED) };
        let rows = resized.reshape(&[pixels, classes]);
        let (losses, drows) = bk.cross_entropy_backward(rows, &target, scale);
        (losses, map.backward(bk, &drows.reshape(&whole)))
    }

    /// Moves the running statistics by what the batch norms saw; what is not finite is left out.
    pub fn follow(&self, bk: &B, statistics: &Statistics<B>, w: &mut Params<B>) {
        for (norm, stats) in statistics {
            norm.follow(bk, stats, w);
        }
    }

    /// Levels of the pyramid, in evaluation, and the streams that they are made of `[B,N,C]`.
    pub fn levels(
        &self,
        ctx: Ctx<B>,
        input: &SegmenterInput<B>,
    ) -> ([Tensor<B>; 4], Vec<Master<B>>) {
        let (taps, places) = self.taps();
        let features: Features<B> = self.encoder.features(ctx, &input.encoder, &taps);
        let grid = self.grid(input.encoder.images);
        let levels = self.pyramid.forward(ctx, &features, (&places, grid), input.train).0;
        let streams = places.map(|place| features.taps[place].duplicate(ctx.bk));
        (levels, streams.into())
    }
}
