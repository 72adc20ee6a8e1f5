//! Relative-position bias: a table with one row per offset of the grid (and three for the class
//! token) and one column per head, looked up for every pair of tokens.

use crate::ops::Backend;
use crate::ops::rel_pos_bias::RelPosIndex;
use crate::params::{Decay, Init, Param, Params, Registry};
use crate::storage::Storage;
use crate::tensor::Master;
use std::sync::Arc;

/// The table and where each pair of tokens looks.
pub struct RelPosBias<B: Storage> {
    /// `[(2Gh−1)(2Gw−1)+3, H]`; starts at 0; decayed, as in the original's parameter groups.
    pub table: Param,
    index: Arc<RelPosIndex<B>>,
}

impl<B: Backend> RelPosBias<B> {
    /// A table called `name` over the grid of `index`.
    pub fn new(reg: &mut Registry, name: &str, heads: usize, index: &Arc<RelPosIndex<B>>) -> Self {
        let shape = [RelPosIndex::<B>::rows(index.grid), heads];
        let table = reg.add(name, &shape, Decay::Yes, Init::Constant(0.0));
        Self { table, index: index.clone() }
    }

    /// -> bias `[H,N,N]`.
    pub fn forward(&self, bk: &B, w: &Params<B>) -> Master<B> {
        bk.rel_pos_bias_forward(w, &self.table, &self.index)
    }

    /// Adds the gradient of the table.
    pub fn backward(&self, bk: &B, dbias: &Master<B>, g: &mut Params<B>) {
        bk.rel_pos_bias_backward(&self.table, &self.index, dbias, g);
    }
}
