//! What an optimizer step changes: weights, moments, running average and the step count.

use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::ops::adamw::{AdamW, Moments, Segment, Update};
use crate::params::{Layout, Params, arena_len, compact, compact_len, expand};
use crate::real::Float;
use crate::storage::Later;
use crate::tensor::Master;

/// Weights and everything that follows them through training.
pub struct State<B: Backend> {
    /// Weights.
    pub w: Params<B>,
    /// Gradients of the step under way.
    pub g: Params<B>,
    moments: Moments<B>,
    /// Running average of the weights and its coefficient.
    average: Option<(Params<B>, f64)>,
    /// Optimizer steps done.
    pub step: u64,
}

impl<B: Backend> State<B> {
    /// Starts from `values`; `ema` 0 keeps no running average.
    pub fn new(bk: &B, layout: &Layout, values: &[f32], ema: f64) -> Self {
        let weights = || Params::from_host(bk, layout, values);
        let average = (ema > 0.0).then(|| (weights(), ema));
        let (g, moments) = (Params::zeros(bk, layout), Moments::zeros(bk, layout));
        Self { w: weights(), g, moments, average, step: 0 }
    }

    /// One AdamW step from the accumulated gradients, which are then cleared. Returns their norm
    /// before clipping. A gradient that is not finite changes no weight and no moment; the error is the
    /// name of the first tensor that it is in ([`Params::first_non_finite`]).
    pub fn update(&mut self, bk: &B, segments: &[Segment], adamw: &AdamW) -> Result<f64, String> {
        let norm = self.norm(bk);
        let value = norm.to_f64(bk)[0];
        if !value.is_finite() {
            let place = self.g.first_non_finite(bk);
            self.skip(bk);
            return Err(place);
        }
        self.apply(bk, &norm, segments, adamw);
        Ok(value)
    }

    /// A step that changes no weight and no moment: its gradients are dropped.
    pub fn skip(&mut self, bk: &B) {
        self.follow(bk);
    }

    /// The same without waiting: the norm comes later, and where it is not finite, weights and moments
    /// have not changed.
    pub fn update_later(
        &mut self,
        bk: &B,
        segments: &[Segment],
        adamw: &AdamW,
    ) -> Later<B::Master> {
        let norm = self.norm(bk);
        self.apply(bk, &norm, segments, adamw);
        norm.read_later(bk)
    }

    fn norm(&self, bk: &B) -> Master<B> {
        bk.global_norm(&self.g, 0..arena_len(&self.g.layout))
    }

    fn apply(&mut self, bk: &B, norm: &Master<B>, segments: &[Segment], adamw: &AdamW) {
        let range = 0..arena_len(&self.w.layout);
        let update = Update { adamw: *adamw, segments, norm: Some(norm), range };
        bk.adamw_update(&mut self.w, &mut self.moments, &self.g, &update);
        self.follow(bk);
    }

    /// What comes after the weights in a step: their running average, empty gradients, the count.
    fn follow(&mut self, bk: &B) {
        let range = 0..arena_len(&self.w.layout);
        if let Some((average, decay)) = &mut self.average {
            // Deviation: the dVAE's authors give one coefficient (arXiv 2102.12092, A.2). With it a
            // young average would remember the initial weights: (1 + t)/(10 + t) until it passes the
            // coefficient, as in the exponential moving averages of TensorFlow.
            let t = self.step as f64;
            bk.ema_update(average, &self.w, decay.min((1.0 + t) / (10.0 + t)), range);
        }
        self.g.clear(bk);
        self.step += 1;
    }

    /// The weights to evaluate and to save: the running average where there is one.
    pub fn best(&self) -> &Params<B> {
        self.average.as_ref().map_or(&self.w, |(average, _)| average)
    }

    /// Flat buffers by name, without the arena's gaps, for a checkpoint.
    pub fn to_host(&self, bk: &B) -> Vec<(&'static str, Vec<f32>)> {
        let flat = |p: &Params<B>| Float::into_f32s(compact(&p.layout, &p.to_host(bk)));
        let Moments { m, v } = &self.moments;
        let mut all = vec![("weights", flat(&self.w)), ("m", flat(m)), ("v", flat(v))];
        if let Some((average, _)) = &self.average {
            all.push(("average", flat(average)));
        }
        all
    }

    /// The inverse of [`State::to_host`]; `find` returns a flat buffer by name.
    pub fn restore(
        &mut self,
        bk: &B,
        step: u64,
        find: impl Fn(&str) -> Result<Vec<f32>>,
    ) -> Result<()> {
        let layout = self.w.layout.clone();
        let want = compact_len(&layout);
        let load = |name: &str| -> Result<Params<B>> {
            let flat = find(name)?;
            if flat.len() != want {
                let got = flat.len();
                return Err(Error::config(format!(
                    "the checkpoint's {name} holds {got} numbers, the model has {want}"
                )));
            }
            Ok(Params::from_host(bk, &layout, &expand(&layout, &flat)))
        };
        (self.w, self.moments) = (load("weights")?, Moments { m: load("m")?, v: load("v")? });
        if let Some((average, _)) = &mut self.average {
            *average = load("average")?;
        }
        self.step = step;
        Ok(())
    }
}
