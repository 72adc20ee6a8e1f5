//! A block between two norms, as a case.

use super::*;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Rounding, Visitor};
use crate::params::Layout;

/// One block between its own first norm and a following one.
pub struct BlockCase {
    instance: &'static str,
    batch: usize,
    grid: (usize, usize),
    config: BlockConfig,
    shared_rel_pos_bias: bool,
    drop_path: bool,
    follow: bool,
}

impl BlockCase {
    fn build(&self) -> (Block, Option<RelPosBias>, Option<Norm>, Layout) {
        let mut reg = Registry::new();
        let config = &self.config;
        let shared = self.shared_rel_pos_bias.then(|| {
            let name = "rel_pos_bias.relative_position_bias_table";
            RelPosBias::new(&mut reg, name, config.heads, self.grid)
        });
        let block = Block::new(&mut reg, 0, config);
        let next =
            self.follow.then(|| Norm::new(&mut reg, "norm", config.width, config.layer_norm_eps));
        (block, shared, next, reg.finish())
    }

    fn tokens(&self) -> usize {
        self.grid.0 * self.grid.1 + 1
    }
}

impl Case for BlockCase {
    fn name(&self) -> String {
        format!("layer_block/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let shape = [self.batch, self.tokens(), self.config.width];
        let inputs = Inputs::new(&self.name()).master("s", &shape).params(&self.build().3, 0.4);
        // Every second sample loses a branch; the others are scaled up.
        let keep = |phase| {
            (0..self.batch).map(|b| if (b + phase) % 2 == 0 { 1.0 / 0.7 } else { 0.0 }).collect()
        };
        if !self.drop_path {
            return inputs;
        }
        inputs.push("keep1", &[self.batch], keep(0), Kind::Master, false).push(
            "keep2",
            &[self.batch],
            keep(1),
            Kind::Master,
            false,
        )
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (block, shared, next, _) = self.build();
        let s = io.master("s");
        let keep = self.drop_path.then(|| [io.master("keep1"), io.master("keep2")]);
        let positions = Positions::new(bk, self.grid, self.grid);
        let ctx = Ctx::new(bk, &io.w);
        let shared_bias = shared.as_ref().map(|table| positions.bias(ctx, table));
        let beside = Beside {
            positions: &positions,
            shared_bias: shared_bias.as_ref(),
            keep: keep.as_ref().map_or([None, None], |[a, b]| [Some(a), Some(b)]),
            next: next.as_ref(),
        };
        let (y, stats) = block.norm1.forward(ctx, &s);
        let (stream, y2, cache) = block.forward(ctx, &s, y, &beside);
        io.output(bk, &stream.s);
        if let Some(y2) = &y2 {
            io.output(bk, y2);
        }
        if io.wants_backward() {
            let mut dshared = shared_bias.as_ref().map(|b| Master::zeros(bk, b.shape()));
            let ds = io.upstream(bk, 0);
            let dy = y2.is_some().then(|| io.upstream(bk, 1));
            let (mut grad, upstream) = (io.grad_of(bk), (ds, dy.as_ref()));
            let (mut ds, dy) =
                block.backward(&mut grad, &stream, cache, &beside, upstream, dshared.as_mut());
            if let (Some(shared), Some(dshared)) = (&shared, &dshared) {
                positions.bias_backward(&mut grad, shared, dshared);
            }
            let through_norm = block.norm1.backward(&mut grad, &s, &stats, &dy);
            bk.add(&mut ds, &through_norm);
            io.grad(bk, "s", &ds);
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Chain
    }

    fn cost(&self) -> Cost {
        let [b, n, c] = [self.batch, self.tokens(), self.config.width].map(|n| n as f64);
        let h = self.config.mlp_width as f64;
        let forward = b * (8.0 * n * c * c + 4.0 * n * n * c + 4.0 * n * c * h);
        let weights = 4.0 * c * c + 2.0 * c * h;
        Cost {
            flops_forward: forward,
            flops_backward: 2.0 * forward,
            elements_forward: 12.0 * b * n * c + 2.0 * b * n * h + weights,
            elements_backward: 24.0 * b * n * c + 4.0 * b * n * h + 2.0 * weights,
        }
    }
}

/// Every switch in both positions; odd and rectangular grids.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, batch, grid, (width, heads, shared, own, layer_scale), drop_path, follow) in [
        ("small", 1, (1, 1), (2, 1, true, false, 0.1), false, true),
        ("drop_path", 3, (2, 3), (6, 3, true, false, 0.1), true, true),
        ("own_table", 2, (3, 1), (4, 2, false, true, 0.1), true, false),
        ("both_tables", 1, (2, 2), (4, 2, true, true, 0.0), false, true),
        ("plain", 2, (1, 4), (6, 2, false, false, 0.0), false, false),
    ] {
        let config = BlockConfig {
            width,
            heads,
            mlp_width: 4 * width,
            rel_pos_bias: own.then_some(grid),
            layer_scale,
            layer_norm_eps: 1e-6,
        };
        let shared_rel_pos_bias = shared;
        v.visit(BlockCase {
            instance,
            batch,
            grid,
            config,
            shared_rel_pos_bias,
            drop_path,
            follow,
        });
    }
}
