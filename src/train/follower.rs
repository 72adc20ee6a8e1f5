//! A second set of weights that follows those that are trained: a teacher, a momentum encoder.

use crate::error::{Error, Result};
use crate::models::config::EncoderConfig;
use crate::models::kind::ModelConfig;
use crate::ops::Backend;
use crate::params::{Ctx, Params, arena_len, compact, compact_len, expand};
use crate::real::Float;

/// Averaged weights.
pub struct Follower<B: Backend> {
    /// The weights.
    pub w: Params<B>,
}

impl<B: Backend> Follower<B> {
    /// Starts where the others do.
    pub fn new(bk: &B, w: &Params<B>) -> Self {
        Self { w: Params::from_host(bk, &w.layout, &w.to_host(bk)) }
    }

    /// For a forward pass.
    pub fn ctx<'a>(&'a self, bk: &'a B) -> Ctx<'a, B> {
        Ctx::new(bk, &self.w)
    }

    /// own ← momentum · own + (1 − momentum) · w
    pub fn follow(&mut self, bk: &B, w: &Params<B>, momentum: f64) {
        bk.ema_update(&mut self.w, w, momentum, 0..arena_len(&w.layout));
    }

    /// The numbers, for a checkpoint.
    pub fn to_host(&self, bk: &B) -> Vec<f32> {
        Float::into_f32s(compact(&self.w.layout, &self.w.to_host(bk)))
    }

    /// The inverse of [`Follower::to_host`].
    pub fn restore(&mut self, bk: &B, numbers: &[f32]) -> Result<()> {
        let layout = self.w.layout.clone();
        let (got, want) = (numbers.len(), compact_len(&layout));
        if got != want {
            return Err(Error::config(format!(
                "the checkpoint's averaged weights are {got} numbers, the model has {want}"
            )));
        }
        self.w = Params::from_host(bk, &layout, &expand(&layout, numbers));
        Ok(())
    }
}

/// The encoder alone among the weights of a model that begins with it.
pub fn encoder_alone<B: Backend>(bk: &B, sizes: &EncoderConfig, w: &Params<B>) -> Params<B> {
    let layout = ModelConfig::Encoder(sizes.clone()).layout(bk);
    Params::from_host(bk, &layout, &w.to_host(bk)[..arena_len(&layout)])
}
