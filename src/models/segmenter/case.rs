//! The segmenter as a case.

use super::*;
use crate::models::config::{EncoderConfig, encoder_flops};
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Rounding, Visitor};

/// A whole segmenter at one size: both heads' logits, or the loss where there are labels of another size.
pub struct SegmenterCase {
    instance: &'static str,
    config: SegmenterConfig,
    train: bool,
    labels: Option<(usize, usize)>,
}

impl SegmenterCase {
    const BATCH: usize = 3;
    /// Scale of the loss of a case: anything but 1.
    const SCALE: f64 = 0.3;
    /// Share of the auxiliary head's loss.
    const SHARE: f64 = 0.4;

    fn build<B: Backend>(&self, bk: &B) -> Segmenter<B> {
        Segmenter::new(bk, &self.config)
    }

    fn run_logits<B: Backend>(&self, bk: &B, io: &mut Io<B>, input: &SegmenterInput<B>) {
        let model = self.build(bk);
        let (logits, cache) = model.forward(Ctx::new(bk, &io.w), input);
        io.output(bk, &logits.main);
        if let Some(auxiliary) = &logits.auxiliary {
            io.output(bk, auxiliary);
        }
        if io.wants_backward() {
            let main = io.upstream(bk, 0);
            let auxiliary = logits.auxiliary.map(|_| io.upstream(bk, 1));
            let upstream = SegmentLogits { main, auxiliary };
            let dx = model.backward(&mut io.grad_of(bk), input, cache, &upstream, true).0;
            io.grad(bk, "images", &dx.expect("asked for"));
        }
    }

    fn run_loss<B: Backend>(&self, bk: &B, io: &mut Io<B>, input: &SegmenterInput<B>) {
        let (model, labels) = (self.build(bk), io.ids("labels"));
        let (logits, cache) = model.forward(Ctx::new(bk, &io.w), input);
        let auxiliary = logits.auxiliary.expect("has a second head");
        let ctx = Ctx::new(bk, &io.w);
        let again = |x: &Tensor<B>| x.duplicate(bk);
        let main = model.resized_loss(ctx, again(&logits.main), &labels, 0.0).0;
        let second = model.resized_loss(ctx, again(&auxiliary), &labels, 0.0).0;
        let share = Self::SHARE;
        io.output_sums(bk, &[(Self::SCALE, &main.rows), (share * Self::SCALE, &second.rows)]);
        if io.wants_backward() {
            let (u, ctx) = (io.upstream_scalar(0) * Self::SCALE, Ctx::new(bk, &io.w));
            let main = model.resized_loss(ctx, logits.main, &labels, u).1;
            let auxiliary = Some(model.resized_loss(ctx, auxiliary, &labels, share * u).1);
            let upstream = SegmentLogits { main, auxiliary };
            let dx = model.backward(&mut io.grad_of(bk), input, cache, &upstream, true).0;
            io.grad(bk, "images", &dx.expect("asked for"));
        }
    }
}

impl Case for SegmenterCase {
    fn name(&self) -> String {
        format!("model_segmenter/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let layout = self.build(&crate::cpu::Cpu::<f64>::new()).layout;
        let (b, (h, w)) = (Self::BATCH, self.config.encoder.image);
        let inputs = Inputs::new(&self.name()).params(&layout, 0.5).elem("images", &[b, h, w, 3]);
        let keep = |n: usize| (0..b * n).map(|i| if i % 5 == 2 { 0.0 } else { 1.25 }).collect();
        let (channels, auxiliary) = (self.config.channels, self.config.auxiliary);
        let inputs = inputs.push("keep", &[b, channels], keep(channels), Kind::Master, false).push(
            "keep_auxiliary",
            &[b, auxiliary],
            keep(auxiliary),
            Kind::Master,
            false,
        );
        let Some((h, w)) = self.labels else { return inputs };
        let classes = self.config.classes.len();
        let label = |i: usize| if i % 7 == 3 { IGNORED } else { (i * 5 % 11 % classes) as u32 };
        inputs.ids("labels", &[b, h, w], (0..b * h * w).map(label).collect())
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let images = io.elem("images");
        let dropout = [io.master("keep"), io.master("keep_auxiliary")];
        let encoder = EncoderInput::of(&images);
        let dropout = self.train.then_some(&dropout);
        let input = SegmenterInput { encoder, dropout, train: self.train };
        if self.labels.is_some() {
            self.run_loss(bk, io, &input);
        } else {
            self.run_logits(bk, io, &input);
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Chain
    }

    /// Batch norms of three rows, and twice as many layers as other models.
    fn amplifies(&self) -> bool {
        true
    }

    fn cost(&self) -> Cost {
        let flops =
            Self::BATCH as f64 * (encoder_flops(&self.config.encoder) + self.config.head_flops());
        Cost::of_model(flops, self.config.parameters() as f64)
    }
}

/// Both heads in training with dropped channels, evaluated, without the second head, and the loss of labels of
/// another size, on a grid whose coarsest level has several places.
pub fn cases<V: Visitor>(v: &mut V) {
    let test = SegmenterConfig::test();
    let plain = SegmenterConfig { auxiliary: 0, taps: [2, 2, 2, 2], ..SegmenterConfig::test() };
    let p = test.encoder.patch;
    let square = EncoderConfig { image: (4 * p, 4 * p), ..test.encoder.clone() };
    let square = SegmenterConfig { encoder: square, ..SegmenterConfig::test() };
    for (instance, config, train, labels) in [
        ("train", &test, true, None),
        ("eval", &test, false, None),
        ("one_head", &plain, true, None),
        ("loss", &square, true, Some((11, 13))),
    ] {
        v.visit(SegmenterCase { instance, config: config.clone(), train, labels });
    }
}
