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

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, fold_rows, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Rounding, Threshold, Visitor};
use crate::params::{Param, Params};
use crate::storage::Storage;
use crate::tensor::{Ids, Master};

/// Parameters of the token sequence.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Class token `[1,1,C]`.
    pub cls: Param,
    /// Mask token `[1,1,C]`, of a model that is shown masks.
    pub mask: Option<Param>,
    /// Absolute positions `[1,N,C]`.
    pub pos: Option<Param>,
}

/// Embedded patches to the token sequence, and the gradients.
pub trait TokensOp: Storage {
    /// e `[B,Np,C]` -> s `[B,N,C]`. The positions are `made`, `[1,N,C]`, where given: of another grid
    /// than those of the parameter.
    fn tokens_forward(
        &self,
        e: &Master<Self>,
        mask: Option<&Ids<Self>>,
        w: &Params<Self>,
        p: &Tokens,
        made: Option<&Master<Self>>,
    ) -> Master<Self>;

    /// ds `[B,N,C]` -> de `[B,Np,C]`; adds the gradients of the tokens and positions to `g`, those of
    /// made positions to `dmade`.
    fn tokens_backward(
        &self,
        mask: Option<&Ids<Self>>,
        p: &Tokens,
        ds: &Master<Self>,
        g: &mut Params<Self>,
        dmade: Option<&mut Master<Self>>,
    ) -> Master<Self>;
}

/// Panics unless everything fits `[B,N,C]`.
#[track_caller]
pub fn expect_tokens<B: Storage>(
    op: &str,
    [batch, tokens, width]: [usize; 3],
    mask: Option<&Ids<B>>,
    p: &Tokens,
    made: Option<&Master<B>>,
) {
    if let Some(mask) = mask {
        mask.expect_shape(op, "mask", &[batch, tokens - 1]);
        assert!(p.mask.is_some(), "{op}: a mask needs a mask token");
    }
    for token in std::iter::once(&p.cls).chain(&p.mask) {
        token.expect_shape(op, &[1, 1, width]);
    }
    match (made, &p.pos) {
        (Some(made), _) => made.expect_shape(op, "made", &[1, tokens, width]),
        (None, Some(pos)) => pos.expect_shape(op, &[1, tokens, width]),
        (None, None) => {}
    }
}

impl<T: Scalar> TokensOp for Cpu<T> {
    #[track_caller]
    fn tokens_forward(
        &self,
        e: &Master<Self>,
        mask: Option<&Ids<Self>>,
        w: &Params<Self>,
        p: &Tokens,
        made: Option<&Master<Self>>,
    ) -> Master<Self> {
        e.expect_rank("tokens", "e", 3);
        let (batch, patches, c) = (e.shape()[0], e.shape()[1], e.shape()[2]);
        let n = patches + 1;
        expect_tokens("tokens", [batch, n, c], mask, p, made);
        let (mask, e) = (mask.map(|m| m.slice()), e.slice());
        let pos = p.pos.as_ref().map(|p| w.get(p));
        let (cls, pos) = (w.get(&p.cls), made.map(|made| made.slice()).or(pos));
        let mask_token = p.mask.as_ref().map(|p| w.get(p));
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
        p: &Tokens,
        ds: &Master<Self>,
        g: &mut Params<Self>,
        dmade: Option<&mut Master<Self>>,
    ) -> Master<Self> {
        ds.expect_rank("tokens_backward", "ds", 3);
        let (batch, n, c) = (ds.shape()[0], ds.shape()[1], ds.shape()[2]);
        expect_tokens("tokens_backward", [batch, n, c], mask, p, dmade.as_deref());
        let (patches, ds) = (n - 1, ds.slice());
        let row = |b: usize, t: usize| &ds[(b * n + t) * c..(b * n + t + 1) * c];
        let masked = |patch: usize| mask.is_some_and(|m| m.slice()[patch] != 0);
        // s += pos   =>   dpos_n += Σ_b ds_bn
        let dpos = match (dmade, &p.pos) {
            (Some(dmade), _) => Some(dmade.slice_mut()),
            (None, pos) => pos.as_ref().map(|pos| g.get_mut(pos)),
        };
        if let Some(dpos) = dpos {
            dpos.par_chunks_exact_mut(c).enumerate().for_each(|(t, dpos)| {
                (0..batch).for_each(|b| simd::add_assign(dpos, row(b, t)));
            });
        }
        // s_b0 = cls   =>   dcls += Σ_b ds_b0
        for b in 0..batch {
            simd::add_assign(g.get_mut(&p.cls), row(b, 0));
        }
        // s_b,1+i = mask_token where masked   =>   dmask_token += Σ over masked of ds_b,1+i
        if let (Some(_), Some(mask_token)) = (mask, &p.mask) {
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
    made: bool,
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
        if self.pos {
            inputs = inputs.param("pos", &[1, patches + 1, c]);
        }
        if self.made { inputs.master("made", &[1, patches + 1, c]) } else { inputs }
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let e = io.master("e");
        let ids = self.mask.then(|| io.ids("mask"));
        let mask = self.mask.then(|| io.param("mask_token"));
        let p = Tokens { cls: io.param("cls"), mask, pos: self.pos.then(|| io.param("pos")) };
        let made = self.made.then(|| io.master("made"));
        let s = bk.tokens_forward(&e, ids.as_ref(), &io.w, &p, made.as_ref());
        io.output(bk, &s);
        if io.wants_backward() {
            let ds = io.upstream(bk, 0);
            let mut dmade = made.as_ref().map(|made| Master::zeros(bk, made.shape()));
            let de = bk.tokens_backward(ids.as_ref(), &p, &ds, &mut io.g, dmade.as_mut());
            io.grad(bk, "e", &de);
            if let Some(dmade) = dmade {
                io.grad(bk, "made", &dmade);
            }
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Single
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let [batch, patches, _] = self.shape;
        let [first, second] = Threshold::fold_rows(batch * patches);
        vec![Threshold::new("batch", 3, batch), first, second]
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

/// Smallest, odd with everything, each part absent, several pieces, the tiny preset, batches, many sums.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, mask, pos, made) in [
        ("one", [1, 1, 1], true, true, false),
        ("odd", [3, 5, 7], true, true, false),
        ("no_mask", [2, 3, 5], false, true, false),
        ("no_pos", [2, 6, 3], true, false, false),
        ("made_pos", [2, 6, 3], true, false, true),
        ("pieces", [4, 25, 2], true, true, false),
        ("tiny", [2, 64, 128], true, false, false),
        ("made_batch", [11, 3, 2], true, false, true),
    ] {
        v.visit(TokensCase { instance, shape, mask, pos, made });
    }
    for (instance, shape) in [("sum_and_one", [27, 19, 2]), ("many_sums", [31, 52, 2])] {
        let (mask, pos, made) = (true, true, false);
        v.visit(Large(TokensCase { instance, shape, mask, pos, made }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    let (shape, made) = ([0, 4, 3], false);
    v.visit(TokensCase { instance: "empty", shape, mask: true, pos: true, made });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    let (shape, mask, pos, made) = ([64, 196, 768], true, false, false);
    v.visit(TokensCase { instance: "64x196x768", shape, mask, pos, made });
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
        bk.tokens_forward(&e, Some(&mask), &w, &Tokens { cls, mask: None, pos: None }, None);
    }
}
