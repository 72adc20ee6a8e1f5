//! Relative-position bias: `bias[h,i,j] = table[index[i,j], h]`.
//!
//! Shapes: table `[R,H]`, index `[N,N]`, bias `[H,N,N]`; R = (2Gh−1)(2Gw−1) + 3 and N = Gh Gw + 1.
//! Token 0 is the class token, token 1 + y Gw + x the patch at (y, x). With query i and key j:
//! * patch to patch: index = (yi − yj + Gh − 1)(2Gw − 1) + (xi − xj + Gw − 1)
//! * class to patch: R − 3; patch to class: R − 2; class to class: R − 1
//!
//! Backward. bias is a copy of table entries, so the gradient of an entry is the sum over its copies:
//! * `dtable[r,h]` += Σ over (i,j) with `index[i,j] = r` of `dbias[h,i,j]`
//!
//! dbias comes from [`super::attention`], summed over samples, and over blocks where they share a table.
//! Where the table was made for another grid, `made` is the resized one.
//!
//! The lists of copies of each row are made once, with the index, so that each entry is one sum in a
//! fixed order and no two threads add to the same number.
//!
//! Kept for backward: nothing. Source: BEiT `modeling_finetune.py`, class RelativePositionBias;
//! Raffel et al., arXiv 1910.10683, section 2.1, for biases that depend on the offset alone.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::Cpu;
use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Threshold, Visitor};
use crate::params::{Decay, Init, Param, Params, Registry};
use crate::storage::Storage;
use crate::tensor::{Ids, Master};

/// Which table row each pair of tokens reads, and which pairs read each row.
pub struct RelPosIndex<B: Storage> {
    /// Gh, Gw
    pub grid: (usize, usize),
    /// Table row of each (query, key) `[N,N]`.
    pub index: Ids<B>,
    /// Row r is read by `entries[starts[r]..starts[r + 1]]` `[R+1]`.
    pub starts: Ids<B>,
    /// Pairs as i N + j, ascending within a row `[N*N]`.
    pub entries: Ids<B>,
}

impl<B: Storage> RelPosIndex<B> {
    /// The index of a grid of Gh x Gw patches.
    #[track_caller]
    pub fn new(bk: &B, grid: (usize, usize)) -> Self {
        let index = relative_position_index(grid);
        let (rows, n) = (table_rows(grid), grid.0 * grid.1 + 1);
        let mut starts = vec![0u32; rows + 1];
        for &r in &index {
            starts[r as usize + 1] += 1;
        }
        for r in 0..rows {
            starts[r + 1] += starts[r];
        }
        let (mut next, mut entries) = (starts.clone(), vec![0u32; n * n]);
        for (pair, &r) in index.iter().enumerate() {
            entries[next[r as usize] as usize] = pair as u32;
            next[r as usize] += 1;
        }
        Self {
            grid,
            index: Ids::from_vec(bk, index, &[n, n]),
            starts: Ids::from_vec(bk, starts, &[rows + 1]),
            entries: Ids::from_vec(bk, entries, &[n * n]),
        }
    }

    /// N, patches and class token.
    pub fn tokens(&self) -> usize {
        self.grid.0 * self.grid.1 + 1
    }
}

/// R, the rows of the table of a grid.
pub fn table_rows((gh, gw): (usize, usize)) -> usize {
    (2 * gh - 1) * (2 * gw - 1) + 3
}

/// The index `[N,N]` of a grid of Gh x Gw patches, row-major.
#[track_caller]
pub fn relative_position_index((gh, gw): (usize, usize)) -> Vec<u32> {
    assert!(gh > 0 && gw > 0, "rel_pos_bias: grid is {gh} x {gw}, expected at least 1 x 1");
    let rows = (2 * gh - 1) * (2 * gw - 1) + 3;
    let n = gh * gw + 1;
    let row = |i: usize, j: usize| match (i, j) {
        (0, 0) => rows - 1,
        (0, _) => rows - 3,
        (_, 0) => rows - 2,
        _ => {
            let ((yi, xi), (yj, xj)) = (((i - 1) / gw, (i - 1) % gw), ((j - 1) / gw, (j - 1) % gw));
            (yi + gh - 1 - yj) * (2 * gw - 1) + (xi + gw - 1 - xj)
        }
    };
    (0..n * n).map(|pair| row(pair / n, pair % n) as u32).collect()
}

/// A table: one row per offset of the grid and three for the class token, one column per head.
#[derive(Clone, Debug)]
pub struct RelPosBias {
    /// `[R,H]`; starts at 0; decayed, as in the original's parameter groups.
    pub table: Param,
}

impl RelPosBias {
    /// A table called `name` for a grid (Gh, Gw).
    pub fn new(reg: &mut Registry, name: &str, heads: usize, grid: (usize, usize)) -> Self {
        let shape = [table_rows(grid), heads];
        Self { table: reg.add(name, &shape, Decay::Yes, Init::Constant(0.0)) }
    }
}

/// Relative-position bias and its gradient.
pub trait RelPosBiasOp: Storage {
    /// table `[R,H]`, a parameter, or `made` from one where given -> bias `[H,N,N]`. Panics where there
    /// are no heads.
    fn rel_pos_bias_forward(
        &self,
        w: &Params<Self>,
        table: &Param,
        made: Option<&Master<Self>>,
        index: &RelPosIndex<Self>,
    ) -> Master<Self>;

    /// Adds the gradient of the table, from dbias `[H,N,N]`, to `g`, or to `dmade` where given.
    fn rel_pos_bias_backward(
        &self,
        table: &Param,
        index: &RelPosIndex<Self>,
        dbias: &Master<Self>,
        g: &mut Params<Self>,
        dmade: Option<&mut Master<Self>>,
    );
}

/// H. Panics unless the table, or what was made of it, is that of the index, and where it has no heads.
#[track_caller]
pub fn expect_table<B: Storage>(
    op: &str,
    table: &Param,
    made: Option<&Master<B>>,
    index: &RelPosIndex<B>,
) -> usize {
    let heads = table.shape.last().copied().unwrap_or(0);
    let want = [table_rows(index.grid), heads];
    match made {
        Some(made) => made.expect_shape(op, "made", &want),
        None => table.expect_shape(op, &want),
    }
    assert!(heads > 0, "{op}: a table without heads");
    heads
}

impl<T: Scalar> RelPosBiasOp for Cpu<T> {
    #[track_caller]
    fn rel_pos_bias_forward(
        &self,
        w: &Params<Self>,
        table: &Param,
        made: Option<&Master<Self>>,
        index: &RelPosIndex<Self>,
    ) -> Master<Self> {
        let heads = expect_table("rel_pos_bias", table, made, index);
        let (n, table) = (index.tokens(), made.map_or_else(|| w.get(table), |made| made.slice()));
        let mut bias = Master::zeros(self, &[heads, n, n]);
        bias.slice_mut().par_chunks_exact_mut(n * n).enumerate().for_each(|(h, bias)| {
            for (bias, &r) in bias.iter_mut().zip(index.index.slice()) {
                *bias = table[r as usize * heads + h];
            }
        });
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
        let n = index.tokens();
        dbias.expect_shape("rel_pos_bias_backward", "dbias", &[heads, n, n]);
        let (starts, entries, dbias) = (index.starts.slice(), index.entries.slice(), dbias.slice());
        let dtable = match dmade {
            Some(dmade) => dmade.slice_mut(),
            None => g.get_mut(table),
        };
        dtable.par_chunks_exact_mut(heads).enumerate().for_each(|(r, dtable)| {
            let pairs = &entries[starts[r] as usize..starts[r + 1] as usize];
            for (dtable, dbias) in dtable.iter_mut().zip(dbias.chunks_exact(n * n)) {
                *dtable += pairs.iter().map(|&pair| dbias[pair as usize]).sum::<T::Master>();
            }
        });
    }
}

/// The op at one size.
pub struct RelPosBiasCase {
    pub(crate) instance: &'static str,
    pub(crate) grid: (usize, usize),
    pub(crate) heads: usize,
    pub(crate) made: bool,
}

impl Case for RelPosBiasCase {
    fn name(&self) -> String {
        format!("rel_pos_bias/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        // Of another grid, where the table in use is made.
        let rows = if self.made { table_rows((2, 2)) } else { table_rows(self.grid) };
        let inputs = Inputs::new(&self.name()).param("table", &[rows, self.heads]);
        let made = [table_rows(self.grid), self.heads];
        let inputs = if self.made { inputs.master("made", &made) } else { inputs };
        if self.heads == 0 { inputs.refused("a table without heads") } else { inputs }
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (table, index) = (io.param("table"), RelPosIndex::new(bk, self.grid));
        let made = self.made.then(|| io.master("made"));
        io.forward_begins(bk);
        let bias = bk.rel_pos_bias_forward(&io.w, &table, made.as_ref(), &index);
        io.output(bk, &bias);
        if io.wants_backward() {
            let dbias = io.upstream(bk, 0);
            let mut dmade = made.as_ref().map(|made| Master::zeros(bk, made.shape()));
            bk.rel_pos_bias_backward(&table, &index, &dbias, &mut io.g, dmade.as_mut());
            if let Some(dmade) = dmade {
                io.grad(bk, "made", &dmade);
            }
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let (gh, gw) = self.grid;
        // The offset of a patch to itself has the most pairs.
        vec![
            Threshold::new("height above width", gw, gh),
            Threshold::new("width above height", gh, gw),
            Threshold::new("pairs", 20, if gh == gw { 0 } else { gh * gw }),
            Threshold::new("heads", 8, self.heads),
        ]
    }

    fn cost(&self) -> Cost {
        let n = (self.grid.0 * self.grid.1 + 1) as f64;
        let all = self.heads as f64 * n * n;
        Cost {
            flops_forward: 0.0,
            flops_backward: all,
            elements_forward: all + n * n,
            elements_backward: all + n * n,
        }
    }
}

/// One patch, grids that are not square either way, a table made of another, the grid of the tiny preset,
/// many heads, many pairs of one offset.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, grid, heads, made) in [
        ("one", (1, 1), 1, false),
        ("wide", (2, 3), 3, false),
        ("tall", (5, 2), 2, false),
        ("made", (3, 4), 2, true),
        ("tiny", (8, 8), 4, false),
        ("taller", (7, 2), 9, false),
        ("wider", (2, 7), 25, false),
        ("pairs", (7, 3), 2, false),
        ("made_tall", (5, 4), 9, true),
    ] {
        v.visit(RelPosBiasCase { instance, grid, heads, made });
    }
    for (instance, grid, made) in [("many_pairs", (11, 7), false), ("made_wide", (7, 11), true)] {
        v.visit(Large(RelPosBiasCase { instance, grid, heads: 2, made }));
    }
}

/// No heads.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(RelPosBiasCase { instance: "empty", grid: (2, 2), heads: 0, made: false });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(RelPosBiasCase { instance: "14x14_12", grid: (14, 14), heads: 12, made: false });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_of_the_base_grid() {
        // Worked out by the rule of BEiT `modeling_finetune.py`, class RelativePositionBias.
        let index = relative_position_index((14, 14));
        let at = |i: usize, j: usize| index[i * 197 + j];
        assert_eq!(table_rows((14, 14)), 732);
        let got = [
            at(0, 0),
            at(0, 1),
            at(1, 0),
            at(1, 1),
            at(1, 2),
            at(2, 1),
            at(1, 15),
            at(15, 1),
            at(196, 1),
            at(1, 196),
        ];
        assert_eq!(got, [731, 729, 730, 364, 363, 365, 337, 391, 728, 0]);
        assert_eq!(index.iter().map(|&r| u64::from(r)).sum::<u64>(), 14_270_119);
    }

    #[test]
    fn index_of_a_rectangular_grid() {
        // By the same rule, 2 rows of 3 patches.
        #[rustfmt::skip]
        let want = [
            17, 15, 15, 15, 15, 15, 15,
            16,  7,  6,  5,  2,  1,  0,
            16,  8,  7,  6,  3,  2,  1,
            16,  9,  8,  7,  4,  3,  2,
            16, 12, 11, 10,  7,  6,  5,
            16, 13, 12, 11,  8,  7,  6,
            16, 14, 13, 12,  9,  8,  7,
        ];
        assert_eq!(relative_position_index((2, 3)), want);
    }

    #[test]
    fn index_of_a_tall_grid() {
        // By the same rule, 3 rows of 2 patches.
        #[rustfmt::skip]
        let want = [
            17, 15, 15, 15, 15, 15, 15,
            16,  7,  6,  4,  3,  1,  0,
            16,  8,  7,  5,  4,  2,  1,
            16, 10,  9,  7,  6,  4,  3,
            16, 11, 10,  8,  7,  5,  4,
            16, 13, 12, 10,  9,  7,  6,
            16, 14, 13, 11, 10,  8,  7,
        ];
        assert_eq!(relative_position_index((3, 2)), want);
    }

    #[test]
    fn lists_are_the_inverse_of_the_index() {
        for grid in [(1, 1), (2, 3), (5, 2), (14, 14)] {
            let index = RelPosIndex::new(&Cpu::<f32>::new(), grid);
            let (starts, entries) = (index.starts.slice(), index.entries.slice());
            assert_eq!(*starts.last().unwrap() as usize, entries.len());
            for (r, ends) in starts.windows(2).enumerate() {
                let pairs = &entries[ends[0] as usize..ends[1] as usize];
                assert!(pairs.is_sorted());
                assert!(pairs.iter().all(|&p| index.index.slice()[p as usize] as usize == r));
            }
        }
    }

    #[test]
    fn the_last_three_rows_collect_what_belongs_to_them() {
        // With dbias all ones a row's gradient is the number of its pairs.
        let bk = Cpu::<f64>::new();
        let index = RelPosIndex::new(&bk, (3, 4));
        let (n, rows) = (12, table_rows((3, 4)));
        let mut registry = Registry::new();
        let table = registry.add("table", &[rows, 2], Decay::Yes, Init::Constant(0.0));
        let mut g = Params::zeros(&bk, &registry.finish());
        let dbias = Master::from_f64(&bk, &[1.0; 2 * 13 * 13], &[2, 13, 13]);
        bk.rel_pos_bias_backward(&table, &index, &dbias, &mut g, None);
        let counts = |r: usize| [g.get(&table)[2 * r], g.get(&table)[2 * r + 1]];
        assert_eq!(counts(rows - 1), [1.0; 2]);
        assert_eq!(counts(rows - 2), [f64::from(n); 2]);
        assert_eq!(counts(rows - 3), [f64::from(n); 2]);
        assert_eq!(counts(0), [1.0; 2]);
    }
}
