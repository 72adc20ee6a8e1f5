//! Relative-position tables and position embeddings made to fit another grid.
//!
//! A model trained at one image size is used at another by resizing what it knows about positions.
//! Every method here is separable: a matrix per axis, applied to the rows and to the columns.

mod interpolate;

use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::ops::rel_pos_bias::{RelPosBias, RelPosIndex, table_rows};
use crate::params::{Ctx, Grad, Param};
use crate::storage::Storage;
use crate::tensor::Master;
use interpolate::{bicubic, bilinear, separable, spline};

/// What one grid makes of bias tables and position embeddings that were made for another: the index of
/// the grid, and where they differ a matrix for each. Tables are resized geometrically where both
/// sides have three patches at least, else bicubically; positions bicubically.
pub struct Positions<B: Storage> {
    index: RelPosIndex<B>,
    /// `[R',R]` for tables and `[N',N]` for positions.
    maps: Option<(Master<B>, Master<B>)>,
}

impl<B: Backend> Positions<B> {
    /// From the grid `home` (Gh, Gw) that tables were made for to the grid in use.
    #[track_caller]
    pub fn new(bk: &B, home: (usize, usize), grid: (usize, usize)) -> Self {
        let map = |from: usize, to: usize, all: Vec<f64>| Master::from_f64(bk, &all, &[to, from]);
        let maps = (home != grid).then(|| {
            let tokens = |(h, w)| h * w + 1;
            let table = map(table_rows(home), table_rows(grid), table_map(home, grid));
            let (from, to) = (tokens(home), tokens(grid));
            (table, map(from, to, resize_pos_embed(&identity(from), from, home, grid)))
        });
        Self { index: RelPosIndex::new(bk, grid), maps }
    }

    /// The grid in use, (Gh, Gw).
    pub fn grid(&self) -> (usize, usize) {
        self.index.grid
    }

    /// Whether tables and positions are resized.
    pub fn resizes(&self) -> bool {
        self.maps.is_some()
    }

    /// Bias `[H,N,N]` of a table.
    pub fn bias(&self, ctx: Ctx<B>, p: &RelPosBias) -> Master<B> {
        let Ctx { bk, w } = ctx;
        let made = self.maps.as_ref().map(|(map, _)| bk.resample_forward(map, w, &p.table));
        bk.rel_pos_bias_forward(w, &p.table, made.as_ref(), &self.index)
    }

    /// Adds the gradient of a table, from that of its bias `[H,N,N]`.
    pub fn bias_backward(&self, grad: &mut Grad<B>, p: &RelPosBias, dbias: &Master<B>) {
        let bk = grad.ctx.bk;
        let Some((map, _)) = &self.maps else {
            bk.rel_pos_bias_backward(&p.table, &self.index, dbias, grad.g, None);
            return;
        };
        let mut dmade = Master::zeros(bk, &[map.rows(), p.table.shape[1]]);
        bk.rel_pos_bias_backward(&p.table, &self.index, dbias, grad.g, Some(&mut dmade));
        bk.resample_backward(map, &dmade, &p.table, grad.g);
    }

    /// The position embedding `[1,N',C]`, where the grid is not that of the parameter.
    pub fn embedding(&self, ctx: Ctx<B>, pos: &Param) -> Option<Master<B>> {
        let (_, map) = self.maps.as_ref()?;
        let made = ctx.bk.resample_forward(map, ctx.w, pos);
        let shape = [1, map.rows(), made.cols()];
        Some(made.reshape(&shape))
    }

    /// Adds the gradient of the position embedding, from that of the resized one `[1,N',C]`.
    pub fn embedding_backward(&self, grad: &mut Grad<B>, pos: &Param, dmade: Master<B>) {
        if let Some((_, map)) = &self.maps {
            let shape = [map.rows(), dmade.cols()];
            grad.ctx.bk.resample_backward(map, &dmade.reshape(&shape), pos, grad.g);
        }
    }
}

/// Rows of the identity, one after another.
fn identity(n: usize) -> Vec<f64> {
    (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect()
}

/// The matrix `[R',R]` by which a bias table is resized.
fn table_map(from: (usize, usize), to: (usize, usize)) -> Vec<f64> {
    let method = TableResize::from_grid(from);
    let rows = table_rows(from);
    resize_bias_table(&identity(rows), rows, from, to, method).expect("a method for this grid")
}

/// How a relative-position bias table is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableResize {
    /// The original's way (`run_class_finetuning.py`): entries lie at distances that grow
    /// geometrically, so that those near the centre keep their meaning; cubic spline between them.
    /// From grids of at least 3x3. `Deviation:` the original knows square grids; here each axis is
    /// resized by itself.
    Geometric,
    /// Bilinear on the plane of offsets, corners not aligned (the Hugging Face port).
    Bilinear,
    /// Bicubic with a = −0.75, otherwise as bilinear.
    Bicubic,
}

impl TableResize {
    /// The method for tables of this grid: geometric where both sides have three patches at least.
    pub fn from_grid((h, w): (usize, usize)) -> Self {
        if h.min(w) < 3 { Self::Bicubic } else { Self::Geometric }
    }
}

/// Resizes a bias table `[(2Gh−1)(2Gw−1)+3, H]` from one grid to another. The last three rows, which
/// belong to the class token, are kept. Equal grids return the table as it is.
pub fn resize_bias_table(
    table: &[f64],
    heads: usize,
    from: (usize, usize),
    to: (usize, usize),
    method: TableResize,
) -> Result<Vec<f64>> {
    let offsets = |(h, w): (usize, usize)| (2 * h - 1, 2 * w - 1);
    let ((sh, sw), (th, tw)) = (offsets(from), offsets(to));
    let planes = sh * sw * heads;
    assert_eq!(table.len(), planes + 3 * heads, "bias table of grid {from:?} with {heads} heads");
    if from == to {
        return Ok(table.to_vec());
    }
    let (rows, columns) = match method {
        TableResize::Bilinear => (bilinear(sh, th), bilinear(sw, tw)),
        TableResize::Bicubic => (bicubic(sh, th), bicubic(sw, tw)),
        TableResize::Geometric => {
            if from.0 < 3 || from.1 < 3 {
                return Err(Error::config(format!(
                    "a bias table cannot be resized geometrically from grid {from:?} to {to:?}: \
                     the method is defined from grids of at least 3x3; use bicubic"
                )));
            }
            let axis = |s: usize, t: usize| {
                let at: Vec<f64> = (0..t).map(|i| i as f64 - (t / 2) as f64).collect();
                spline(&geometric_coordinates(s, t), &at)
            };
            (axis(sh, th), axis(sw, tw))
        }
    };
    let mut out = separable(&table[..planes], (sh, sw, heads), &rows, &columns);
    out.extend_from_slice(&table[planes..]);
    Ok(out)
}

/// Resizes a position embedding `[1+Gh·Gw, C]` to another grid: bicubic, the class token's row kept.
pub fn resize_pos_embed(
    embed: &[f64],
    width: usize,
    from: (usize, usize),
    to: (usize, usize),
) -> Vec<f64> {
    let (class, patches) = embed.split_at(width);
    assert_eq!(patches.len(), from.0 * from.1 * width, "position embedding of grid {from:?}");
    let mut out = class.to_vec();
    let (rows, columns) = (bicubic(from.0, to.0), bicubic(from.1, to.1));
    out.extend(separable(patches, (from.0, from.1, width), &rows, &columns));
    out
}

/// Where the `s` entries of an axis lie when it is resized geometrically to `t`: ±1, ±(1+q),
/// ±(1+q+q²), ... with the ratio q at which the outermost reach `t` div 2. As in the original, q is
/// the last value a bisection tried, not its limit.
pub fn geometric_coordinates(s: usize, t: usize) -> Vec<f64> {
    let (n, reach) = (s / 2, (t / 2) as f64);
    let (mut lo, mut hi, mut q) = (1.01, 1.5, 1.01);
    while hi - lo > 1e-6 {
        q = (lo + hi) / 2.0;
        let sum = (1.0 - f64::powi(q, n as i32)) / (1.0 - q);
        if sum > reach { hi = q } else { lo = q }
    }
    let steps = (0..n).scan(0.0, |c, k| {
        *c += f64::powi(q, k as i32);
        Some(*c)
    });
    let right: Vec<f64> = steps.collect();
    let left = right.iter().rev().map(|c| -c);
    left.chain([0.0]).chain(right.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometric_coordinates_by_hand() {
        // 14x14 to 24x24; values computed once with the formula in the docs by a short script.
        let x = geometric_coordinates(27, 47);
        assert_eq!((x.len(), x[13], x[14]), (27, 0.0, 1.0));
        assert!((x[15] - 2.0903).abs() < 1e-4 && (x[26] - 22.999934).abs() < 1e-6);
        assert!((geometric_coordinates(27, 63)[26] - 31.000182).abs() < 1e-6);
    }

    #[test]
    fn a_ratio_at_its_bound_clamps_the_ends() {
        // From 4x4 to 6x6 the outermost entry stays inside: table √(7i+j).
        let table: Vec<f64> = (0..49).map(|i| f64::from(i).sqrt()).chain([7.0, 8.0, 9.0]).collect();
        let out = resize_bias_table(&table, 1, (4, 4), (6, 6), TableResize::Geometric).unwrap();
        let wanted = [(0, 2, 0.845906), (2, 0, 2.238058), (5, 5, 4.898979), (10, 10, 6.928203)];
        for (i, j, value) in wanted {
            assert!((out[i * 11 + j] - value).abs() < 1e-6, "{i},{j}: {}", out[i * 11 + j]);
        }
        assert_eq!(out[121..], [7.0, 8.0, 9.0]);
    }

    #[test]
    fn every_method_keeps_a_constant_and_an_equal_grid() {
        let table = vec![2.5; 25 + 3];
        for method in [TableResize::Geometric, TableResize::Bilinear, TableResize::Bicubic] {
            let out = resize_bias_table(&table, 1, (3, 3), (5, 5), method).unwrap();
            assert_eq!(out.len(), 84);
            assert!(out.iter().all(|x| (x - 2.5).abs() < 1e-12), "{method:?}");
            assert_eq!(resize_bias_table(&table, 1, (3, 3), (3, 3), method).unwrap(), table);
        }
        let wide = vec![0.0; 15 + 3];
        assert!(resize_bias_table(&wide, 1, (2, 3), (3, 4), TableResize::Geometric).is_err());
        assert_eq!(
            resize_bias_table(&wide, 1, (2, 3), (3, 4), TableResize::Bilinear).unwrap().len(),
            38
        );
    }

    #[test]
    fn each_axis_of_a_position_embedding_is_resized_by_itself() {
        // A number for the class token, then the row's on each patch of a square grid.
        let rows = [1.0, 4.0, 2.0];
        let embed: Vec<f64> =
            [9.0].into_iter().chain(rows.into_iter().flat_map(|x| [x; 3])).collect();
        let wide = resize_pos_embed(&embed, 1, (3, 3), (3, 5));
        let want = [9.0].into_iter().chain(rows.into_iter().flat_map(|x| [x; 5]));
        assert!(wide.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{wide:?}");
        let tall = resize_pos_embed(&embed, 1, (3, 3), (5, 3));
        for row in tall[1..].chunks_exact(3) {
            assert!(row.iter().all(|x| (x - row[0]).abs() < 1e-12), "{tall:?}");
        }
        assert!((tall[1] - tall[4]).abs() > 0.1);
    }
}
