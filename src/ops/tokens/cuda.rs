//! The token sequence on CUDA: `cuda/tokens.cu`.

use super::{TokensOp, expect_tokens};
use crate::cuda::{Cuda, Grid, Pieces, Precision, args};
use crate::params::{Param, Params};
use crate::tensor::{Ids, Master};

impl<T: Precision> TokensOp for Cuda<T> {
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
        let (batch, tokens, c) = (e.shape()[0], e.shape()[1] + 1, e.shape()[2]);
        expect_tokens("tokens", [batch, tokens, c], mask, cls, mask_token, pos);
        let s = self.unset(&[batch, tokens, c]);
        let (n, token, pos) = (s.len(), mask_token.map(|p| w.at(p)), pos.map(|p| w.at(p)));
        let arguments = args![e, mask, w.at(cls), token, pos, &s, n, tokens, c];
        self.launch("tokens_forward", Grid::each(n), arguments);
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
        let (batch, tokens, c) = (ds.shape()[0], ds.shape()[1], ds.shape()[2]);
        expect_tokens("tokens_backward", [batch, tokens, c], mask, cls, mask_token, pos);
        let de = self.unset(&[batch, tokens - 1, c]);
        let (n, sample) = (de.len(), tokens * c);
        self.launch("tokens_backward", Grid::each(n), args![mask, ds, &de, n, tokens, c]);
        // s += pos   =>   dpos_n += Σ_b ds_bn; s_b0 = cls   =>   dcls += Σ_b ds_b0
        let positions = pos.map(|pos| (pos, sample)).into_iter().chain([(cls, c)]);
        for (param, count) in positions {
            let arguments = args![ds, g.at(param), count, batch, sample];
            self.launch("tokens_backward_positions", Grid::each(count), arguments);
        }
        // s_b,1+i = mask_token where masked   =>   dmask_token += Σ over masked of ds_b,1+i
        if let (Some(mask), Some(mask_token)) = (mask, mask_token) {
            let patches = batch * (tokens - 1);
            let pieces = Pieces::of(patches);
            let partials = self.scratch(pieces.count * c);
            let arguments = args![mask, ds, &partials, patches, tokens, c, pieces.step];
            self.launch("tokens_backward_mask", Grid::pieces(c, pieces.count), arguments);
            self.add_partials(&partials, (0, c, c), pieces.count, g.at(mask_token));
        }
        de
    }
}
