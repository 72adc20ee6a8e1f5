//! The relative-position bias on CUDA: `cuda/rel_pos_bias.cu`.

use super::{RelPosBiasOp, RelPosIndex, expect_table, table_rows};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::params::{Param, Params};
use crate::tensor::Master;

impl<T: Precision> RelPosBiasOp for Cuda<T> {
    #[track_caller]
    fn rel_pos_bias_forward(
        &self,
        w: &Params<Self>,
        table: &Param,
        made: Option<&Master<Self>>,
        index: &RelPosIndex<Self>,
    ) -> Master<Self> {
        let heads = expect_table("rel_pos_bias", table, made, index);
        let table = made.map_or_else(|| w.at(table), |made| made.start());
        let n = index.tokens();
        let bias = self.unset(&[heads, n, n]);
        let arguments = args![table, &index.index, &bias, heads, n * n];
        self.launch("rel_pos_bias_forward", Grid::each(heads * n * n), arguments);
        bias
    }

    #[track_caller]
    fn rel_pos_bias_backward(
        &self,
        table: &Param,
        index: &RelPosIndex<Self>,
        dbias: &Master<Self>,
        g: &mut Params<Self>,
        dmade: Option<&mut Master<Self>>,
    ) {
        let heads = expect_table("rel_pos_bias_backward", table, dmade.as_deref(), index);
        let (n, rows) = (index.tokens(), table_rows(index.grid));
        let dtable = dmade.map_or_else(|| g.at(table), |dmade| dmade.start());
        dbias.expect_shape("rel_pos_bias_backward", "dbias", &[heads, n, n]);
        let arguments = args![&index.starts, &index.entries, dbias, dtable, rows, heads, n * n];
        self.launch("rel_pos_bias_backward", Grid::each(rows * heads), arguments);
    }
}
