//! BERT on bytes as a case.

use super::*;
use crate::models::config::{EncoderConfig, encoder_flops};
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Rounding, Visitor};
use crate::tensor::Master;

/// A whole model at one size: the logits of chosen places, or their loss.
pub struct BertCase {
    instance: &'static str,
    config: BertConfig,
    loss: bool,
}

impl BertCase {
    const BATCH: usize = 2;
    /// Scale of the loss of a case: anything but 1.
    const SCALE: f64 = 0.3;
}

impl Case for BertCase {
    fn name(&self) -> String {
        format!("model_bert/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let layout = Bert::new(&crate::cpu::Cpu::<f64>::new(), &self.config).layout;
        let (b, n, depth) = (Self::BATCH, self.config.length(), self.config.encoder.depth);
        // The first and the last symbol, and one twice.
        let symbols = (0..b * n).map(|i| [0, 256, 101, 255, 101][i % 5]).collect();
        let rows: Vec<u32> = (0..b * (n + 1)).filter(|i| i % 3 == 1).map(|i| i as u32).collect();
        let bytes = (0..rows.len()).map(|i| (i * 85 % 256) as u32).collect();
        let keep = (0..2 * depth * b).map(|i| if i % 4 == 1 { 0.0 } else { 1.25 }).collect();
        let count = rows.len();
        Inputs::new(&self.name())
            .params(&layout, 0.3)
            .ids("symbols", &[b, n], symbols)
            .ids("rows", &[count], rows)
            .ids("bytes", &[count], bytes)
            .push("keep", &[2 * depth, b], keep, Kind::Master, false)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let model = Bert::new(bk, &self.config);
        let keep = io.master("keep").to_f64(bk);
        let mut keep = keep.chunks(Self::BATCH);
        let mut next = || keep.next().map(|k| Master::from_f64(bk, k, &[Self::BATCH]));
        let keep = Some((0..self.config.encoder.depth).map(|_| [next(), next()]).collect());
        let (symbols, n) = (io.ids("symbols").to_vec(bk), self.config.length());
        let (rows, bytes) = (io.ids("rows"), io.ids("bytes"));
        let batch = TextBatch { images: model.images(bk, symbols, n), rows, keep };
        let target = Target::Hard { labels: &bytes, ignore: None };
        let (logits, cache) = model.forward(Ctx::new(bk, &io.w), &batch);
        let dlogits = if self.loss {
            let losses = bk.cross_entropy_forward(&logits, &target);
            io.output_sums(bk, &[(Self::SCALE, &losses.rows)]);
            io.wants_backward().then(|| {
                let scale = Self::SCALE * io.upstream_scalar(0);
                bk.cross_entropy_backward(logits, &target, scale).1
            })
        } else {
            io.output(bk, &logits);
            io.wants_backward().then(|| io.upstream(bk, 0))
        };
        if let Some(dlogits) = dlogits {
            model.backward(&mut io.grad_of(bk), &batch, cache, &dlogits, false);
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Chain
    }

    fn cost(&self) -> Cost {
        let flops = Self::BATCH as f64 * encoder_flops(&self.config.encoder);
        Cost::of_model(flops, self.config.parameters() as f64)
    }
}

/// The shared table, own tables with absolute positions, the loss.
pub fn cases<V: Visitor>(v: &mut V) {
    let test = EncoderConfig { depth: 1, ..EncoderConfig::test() };
    let own = EncoderConfig {
        shared_rel_pos_bias: false,
        rel_pos_bias: true,
        abs_pos: true,
        ..EncoderConfig::test()
    };
    for (instance, encoder, loss) in
        [("logits", test.clone(), false), ("own_tables", own, false), ("loss", test, true)]
    {
        v.visit(BertCase { instance, config: BertConfig::over(encoder, 6), loss });
    }
}
