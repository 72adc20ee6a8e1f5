//! The token sequence: class token first, mask token in place of masked patches, positions added.
//!
//! Shapes: e `[B,Np,C]`, mask `[B,Np]` of 0 and 1, cls and mask_token `[1,1,C]`, pos `[1,N,C]` or
//! absent, s `[B,N,C]` with N = Np + 1.
//! * s_b0 = cls + pos_0
//! * s_b,1+i = pos_1+i + (mask_token if mask_bi, else e_bi)
//!
//! Positions are added after the mask token is put in, so a masked token still says where it is.
//!
//! Backward. Every number of s is a sum of copies:
//! * de_bi = ds_b,1+i where mask_bi is 0, else 0
//! * dmask_token += Σ over masked (b,i) of ds_b,1+i
//! * dcls += Σ_b ds_b0; dpos_n += Σ_b ds_bn, masked ones included
//!
//! Kept for backward: the mask (an input). Source: BEiT `modeling_pretrain.py`, forward_features;
//! Dosovitskiy et al., arXiv 2010.11929, eq. 1.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::{Cpu, fold_rows, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Visitor};
use crate::params::{Param, Params};
use crate::real::Real;
use crate::storage::Storage;
use crate::tensor::{Ids, Master};
use rayon::prelude::*;

/// Embedded patches to the token sequence, and the gradients.
pub trait TokensOp: Storage {
    /// e `[B,Np,C]` -> s `[B,N,C]`.
    fn tokens_forward(
        &self,
        e: &Master<Self>,
        mask: Option<&Ids<Self>>,
        w: &Params<Self>,
        cls: &Param,
        mask_token: Option<&Param>,
        pos: Option<&Param>,
    ) -> Master<Self>;

    /// ds `[B,N,C]` -> de `[B,Np,C]`; adds the gradients of the tokens and positions to `g`.
    fn tokens_backward(
        &self,
        mask: Option<&Ids<Self>>,
        cls: &Param,
        mask_token: Option<&Param>,
        pos: Option<&Param>,
        ds: &Master<Self>,
        g: &mut Params<Self>,
    ) -> Master<Self>;
}

/// Panics unless everything fits `[B,N,C]`.
#[track_caller]
pub fn expect_tokens<B: Storage>(
    op: &str,
    [batch, tokens, width]: [usize; 3],
    mask: Option<&Ids<B>>,
    cls: &Param,
    mask_token: Option<&Param>,
    pos: Option<&Param>,
) {
    if let Some(mask) = mask {
        mask.expect_shape(op, "mask", &[batch, tokens - 1]);
        assert!(mask_token.is_some(), "{op}: a mask needs a mask token");
    }
    for token in std::iter::once(cls).chain(mask_token) {
        token.expect_shape(op, &[1, 1, width]);
    }
    if let Some(pos) = pos {
        pos.expect_shape(op, &[1, tokens, width]);
    }
}

impl<T: Real> TokensOp for Cpu<T> {
    #[track_caller]
    fn tokens_forward(
        &self,
        e: &Master<Self>,
        mask: Option<&Ids<Self>>,
        w: &Params<Self>,
        cls: &Param,
        mask_token: Option<&Param>,
        pos: Option<&Param>,
    ) -> Master<Self> {
        e.expect_rank("tokens", "e", 3);
        let (batch, patches, c) = (e.shape()[0], e.shape()[1], e.shape()[2]);
        let n = patches + 1;
        expect_tokens("tokens", [batch, n, c], mask, cls, mask_token, pos);
        let (mask, e) = (mask.map(|m| m.slice()), e.slice());
        let (cls, pos) = (w.get(cls), pos.map(|p| w.get(p)));
        let mask_token = mask_token.map(|p| w.get(p));
        let mut s = Master::zeros(self, &[batch, n, c]);
        s.slice_mut().par_chunks_exact_mut(n * c).enumerate().for_each(|(b, s)| {
            for (t, s) in s.chunks_exact_mut(c).enumerate() {
                let patch = (b * patches + t).wrapping_sub(1);
                s.copy_from_slice(match (t, mask, mask_token) {
                    (0, ..) => cls,
                    (_, Some(mask), Some(token)) if mask[patch] != 0 => token,
                    _ => &e[patch * c..(patch + 1) * c],
                });
                if let Some(pos) = pos {
                    simd::add_assign(s, &pos[t * c..(t + 1) * c]);
                }
            }
        });
        s
    }

    #[track_caller]
    fn tokens_backward(
        &self,
        mask: Option<&Ids<Self>>,
        cls: &Param,
        mask_token: Option<&Param>,
        pos: Option<&Param>,
        ds: &Master<Self>,
        g: &mut Params<Self>,
    ) -> Master<Self> {
        ds.expect_rank("tokens_backward", "ds", 3);
        let (batch, n, c) = (ds.shape()[0], ds.shape()[1], ds.shape()[2]);
        expect_tokens("tokens_backward", [batch, n, c], mask, cls, mask_token, pos);
        let (patches, ds) = (n - 1, ds.slice());
        let row = |b: usize, t: usize| &ds[(b * n + t) * c..(b * n + t + 1) * c];
        let masked = |patch: usize| mask.is_some_and(|m| m.slice()[patch] != 0);
        // s += pos   =>   dpos_n += Σ_b ds_bn
        if let Some(pos) = pos {
            g.get_mut(pos).par_chunks_exact_mut(c).enumerate().for_each(|(t, dpos)| {
                (0..batch).for_each(|b| simd::add_assign(dpos, row(b, t)));
            });
        }
        // s_b0 = cls   =>   dcls += Σ_b ds_b0
        for b in 0..batch {
            simd::add_assign(g.get_mut(cls), row(b, 0));
        }
        // s_b,1+i = mask_token where masked   =>   dmask_token += Σ over masked of ds_b,1+i
        if let (Some(_), Some(mask_token)) = (mask, mask_token) {
            let sums = fold_rows(batch * patches, c, |rows, sums| {
                for patch in rows.filter(|&patch| masked(patch)) {
                    simd::add_assign(sums, row(patch / patches, patch % patches + 1));
                }
            });
            simd::add_assign(g.get_mut(mask_token), &sums);
        }
        // s_b,1+i = e_bi where not masked   =>   de_bi = ds_b,1+i there
        let mut de = Master::zeros(self, &[batch, patches, c]);
        de.slice_mut().par_chunks_mut(patches.max(1) * c).enumerate().for_each(|(b, de)| {
            for (i, de) in de.chunks_exact_mut(c).enumerate() {
                if !masked(b * patches + i) {
                    de.copy_from_slice(row(b, i + 1));
                }
            }
        });
        de
    }
}

/// The op at one size.
pub struct TokensCase {
    instance: &'static str,
    shape: [usize; 3],
    mask: bool,
    pos: bool,
}

impl Case for TokensCase {
    fn name(&self) -> String {
        format!("tokens/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let [batch, patches, c] = self.shape;
        let mut inputs =
            Inputs::new(&self.name()).master("e", &self.shape).param("cls", &[1, 1, c]);
        if self.mask {
            // Two of five, the first one among them.
            let mask = (0..batch * patches).map(|i| u32::from(i * 2 % 5 < 2)).collect();
            inputs = inputs.ids("mask", &[batch, patches], mask).param("mask_token", &[1, 1, c]);
        }
        if self.pos { inputs.param("pos", &[1, patches + 1, c]) } else { inputs }
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (e, cls) = (io.master("e"), io.param("cls"));
        let mask = self.mask.then(|| io.ids("mask"));
        let mask_token = self.mask.then(|| io.param("mask_token"));
        let pos = self.pos.then(|| io.param("pos"));
        let (mask, mask_token, pos) = (mask.as_ref(), mask_token.as_ref(), pos.as_ref());
        let s = bk.tokens_forward(&e, mask, &io.w, &cls, mask_token, pos);
        io.output(bk, &s);
        if io.wants_backward() {
            let ds = io.upstream(bk, 0);
            let de = bk.tokens_backward(mask, &cls, mask_token, pos, &ds, &mut io.g);
            io.grad(bk, "e", &de);
        }
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: n,
            flops_backward: 2.0 * n,
            elements_forward: 2.0 * n,
            elements_backward: 2.0 * n,
        }
    }
}

/// Smallest, odd with everything, each part absent, several pieces, the tiny preset.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, mask, pos) in [
        ("one", [1, 1, 1], true, true),
        ("odd", [3, 5, 7], true, true),
        ("no_mask", [2, 3, 5], false, true),
        ("no_pos", [2, 6, 3], true, false),
        ("pieces", [4, 25, 2], true, true),
        ("tiny", [2, 64, 128], true, false),
    ] {
        v.visit(TokensCase { instance, shape, mask, pos });
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(TokensCase { instance: "empty", shape: [0, 4, 3], mask: true, pos: true });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    let (shape, mask, pos) = ([64, 196, 768], true, false);
    v.visit(TokensCase { instance: "64x196x768", shape, mask, pos });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Decay, Init, Registry};

    #[test]
    #[should_panic(expected = "tokens: a mask needs a mask token")]
    fn a_mask_without_mask_token() {
        let bk = Cpu::<f32>::new();
        let mut registry = Registry::new();
        let cls = registry.add("cls", &[1, 1, 2], Decay::No, Init::Constant(0.0));
        let w = Params::zeros(&bk, &registry.finish());
        let (e, mask) = (Master::zeros(&bk, &[1, 3, 2]), Ids::zeros(&bk, &[1, 3]));
        bk.tokens_forward(&e, Some(&mask), &w, &cls, None, None);
    }
}
