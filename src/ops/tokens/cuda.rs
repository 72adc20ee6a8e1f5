//! The token sequence on CUDA: `cuda/tokens.cu`.

use super::{Tokens, TokensOp, expect_tokens};
use crate::cuda::{Cuda, Grid, Precision, RowPieces, args};
use crate::params::Params;
use crate::tensor::{Ids, Master};

impl<T: Precision> TokensOp for Cuda<T> {
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
        let (batch, tokens, c) = (e.shape()[0], e.shape()[1] + 1, e.shape()[2]);
        expect_tokens("tokens", [batch, tokens, c], mask, p, made);
        let s = self.unset(&[batch, tokens, c]);
        let at = |p: &Option<_>| p.as_ref().map(|p| w.at(p));
        let pos = made.map(|made| made.start()).or(at(&p.pos));
        let (n, token) = (s.len(), at(&p.mask));
        let arguments = args![e, mask, w.at(&p.cls), token, pos, &s, n, tokens, c];
        self.launch("tokens_forward", Grid::each(n), arguments);
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
        let (batch, tokens, c) = (ds.shape()[0], ds.shape()[1], ds.shape()[2]);
        expect_tokens("tokens_backward", [batch, tokens, c], mask, p, dmade.as_deref());
        let de = self.unset(&[batch, tokens - 1, c]);
        let (n, sample) = (de.len(), tokens * c);
        self.launch("tokens_backward", Grid::each(n), args![mask, ds, &de, n, tokens, c]);
        // s += pos   =>   dpos_n += Σ_b ds_bn; s_b0 = cls   =>   dcls += Σ_b ds_b0
        let dpos = p.pos.as_ref().map(|pos| g.at(pos));
        let dpos = dmade.map(|dmade| dmade.start()).or(dpos);
        let sums = dpos.map(|dpos| (dpos, sample)).into_iter().chain([(g.at(&p.cls), c)]);
        for (to, count) in sums {
            let arguments = args![ds, to, count, batch, sample];
            self.launch("tokens_backward_positions", Grid::each(count), arguments);
        }
        // s_b,1+i = mask_token where masked   =>   dmask_token += Σ over masked of ds_b,1+i
        if let (Some(mask), Some(mask_token)) = (mask, &p.mask) {
            let patches = batch * (tokens - 1);
            let pieces = RowPieces::of(patches);
            let partials = self.scratch(pieces.count * c);
            let arguments = args![mask, ds, &partials, patches, tokens, c, pieces.step];
            self.launch("tokens_backward_mask", Grid::pieces(c, pieces.count), arguments);
            self.add_partials(&partials, (0, c, c), pieces.count, g.at(mask_token));
        }
        de
    }
}
