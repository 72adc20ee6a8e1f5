//! Which patches are hidden.
//!
//! Block-wise masking as the original program does it (`masking_generator.py`). `Deviation:` the
//! paper's Algorithm 1 differs from that program, in which the aspect is log-uniform, a side as long as
//! the grid is refused, the target is never exceeded and often missed by one or two patches.

use super::geometry::{CropBox, Draws};
use crate::error::{Error, Result};
use crate::rng::{Philox, Purpose};
use crate::words::words;

words! {
    /// How the masked patches are chosen.
    Masking {
        /// Blocks, at most `count` patches: BEiT.
        Block = "block",
        /// Blocks, then single patches at random up to exactly `count`: BEiT v2.
        BlockExact = "block_exact",
        /// Exactly `count` patches, each set of them equally likely: the paper's ablation.
        Random = "random",
        /// No patch: the paper's ablation in which the image stays whole.
        None = "none",
    }
}

/// A law of masks on a grid of patches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskConfig {
    /// How patches are chosen.
    pub masking: Masking,
    /// Rows of patches.
    pub height: usize,
    /// Columns of patches.
    pub width: usize,
    /// Patches to mask.
    pub count: usize,
    /// Smallest area that a block aims at.
    pub min_block: usize,
    /// Largest area that a block aims at; `count` if not set.
    pub max_block: Option<usize>,
    /// Smallest and largest height over width of a block.
    pub aspect: (f64, f64),
}

/// Tries to place a block before the mask is left as it is.
const TRIES: usize = 10;

impl MaskConfig {
    /// Blocks of the original's aspects, 0.3 to 1/0.3, without a largest area.
    pub fn block(height: usize, width: usize, count: usize, min_block: usize) -> Self {
        Self {
            masking: Masking::Block,
            height,
            width,
            count,
            min_block,
            max_block: None,
            aspect: (0.3, 1.0 / 0.3),
        }
    }

    /// Refuses settings that cannot give masks.
    ///
    /// Whether blocks fit a grid is tried rather than derived: a law that leaves one of a hundred
    /// masks empty is refused, since a batch without a masked patch has no loss.
    pub fn validate(&self) -> Result<()> {
        if self.masking == Masking::None {
            return Ok(());
        }
        let (h, w, count) = (self.height, self.width, self.count);
        let cells = h * w;
        if count == 0 {
            return Err(Error::config("masked_patches is 0: nothing would be predicted"));
        }
        if count >= cells {
            return Err(Error::config(format!(
                "masked_patches is {count}, but a {h}x{w} grid has {cells} patches, of which at least one must \
                 be seen"
            )));
        }
        if self.masking == Masking::Random {
            return Ok(());
        }
        let max = self.max_block.unwrap_or(count);
        if self.min_block == 0 || self.min_block > max.min(count) {
            return Err(Error::config(format!(
                "mask_min_block is {}; it must lie between 1 and {}, the smaller of \
                 masked_patches and mask_max_block",
                self.min_block,
                max.min(count)
            )));
        }
        let (low, high) = self.aspect;
        if !(low > 0.0 && low <= high && high.is_finite()) {
            return Err(Error::config(format!("mask aspect {low}..{high} is not a range above 0")));
        }
        let empty = self.empty_of_100();
        if empty == 0 {
            return Ok(());
        }
        let lower = std::iter::successors(Some(self.min_block / 2), |min| Some(min / 2));
        let mut lower = lower.take_while(|min| *min > 0);
        let help = match lower.find(|&min_block| Self { min_block, ..*self }.empty_of_100() == 0) {
            Some(min) => format!("lower mask_min_block to {min} or set masking=random"),
            None => "set masking=random".to_owned(),
        };
        Err(Error::config(format!(
            "{empty} of 100 trial masks are empty: blocks of {} patches and more do not fit a {h}x{w} grid; \
             {help}",
            self.min_block
        )))
    }

    /// How many of a hundred masks of blocks are empty.
    fn empty_of_100(&self) -> usize {
        let mut rng = Philox::new(0, Purpose::Check, self.height as u32, self.width as u32);
        (0..100).filter(|_| self.draw_blocks(&mut rng).1.is_empty()).count()
    }

    /// One mask, row-major; `true` is hidden.
    pub fn draw(&self, draws: &mut impl Draws) -> Vec<bool> {
        let mut mask = match self.masking {
            Masking::Block | Masking::BlockExact => self.draw_blocks(draws).0,
            Masking::Random | Masking::None => vec![false; self.height * self.width],
        };
        if matches!(self.masking, Masking::BlockExact | Masking::Random) {
            // The blocks never exceed the target, so patches are only ever added.
            let mut free: Vec<usize> = (0..mask.len()).filter(|&i| !mask[i]).collect();
            for _ in 0..self.count - (mask.len() - free.len()) {
                mask[free.swap_remove(draws.integer(free.len() - 1))] = true;
            }
        }
        mask
    }

    /// A mask of blocks alone, and the blocks in the order in which they were placed.
    pub fn draw_blocks(&self, draws: &mut impl Draws) -> (Vec<bool>, Vec<CropBox>) {
        let mut mask = vec![false; self.height * self.width];
        let mut masked = 0;
        let mut blocks = Vec::new();
        while masked < self.count {
            let remaining = (self.count - masked).min(self.max_block.unwrap_or(self.count));
            let Some(block) = self.place_block(&mut mask, remaining, draws) else { break };
            masked = mask.iter().filter(|&&m| m).count();
            blocks.push(block);
        }
        (mask, blocks)
    }

    /// Marks a block that hides between 1 and `remaining` patches more, if one is found in time.
    fn place_block(
        &self,
        mask: &mut [bool],
        remaining: usize,
        draws: &mut impl Draws,
    ) -> Option<CropBox> {
        for _ in 0..TRIES {
            // Below the smallest area the interval is reversed, which is legal.
            let area = draws.uniform(self.min_block as f64, remaining as f64);
            let aspect = draws.uniform(self.aspect.0.ln(), self.aspect.1.ln()).exp();
            let height = (area * aspect).sqrt().round_ties_even() as usize;
            let width = (area / aspect).sqrt().round_ties_even() as usize;
            if height >= self.height || width >= self.width {
                continue;
            }
            let top = draws.integer(self.height - height);
            let left = draws.integer(self.width - width);
            let rows = || (top..top + height).map(|y| y * self.width + left);
            let fresh: usize =
                rows().map(|i| mask[i..i + width].iter().filter(|&&m| !m).count()).sum();
            if (1..=remaining).contains(&fresh) {
                rows().for_each(|i| mask[i..i + width].fill(true));
                return Some(CropBox { top, left, height, width });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(mask: &[bool]) -> usize {
        mask.iter().filter(|&&m| m).count()
    }

    #[test]
    fn exact_modes_are_exact() {
        for masking in [Masking::BlockExact, Masking::Random] {
            let cfg = MaskConfig { masking, ..MaskConfig::block(8, 10, 31, 4) };
            cfg.validate().unwrap();
            let mut rng = Philox::new(1, Purpose::Mask, 0, 0);
            let mut seen = vec![0; 80];
            for _ in 0..4000 {
                let mask = cfg.draw(&mut rng);
                assert_eq!(count(&mask), 31);
                mask.iter().zip(&mut seen).for_each(|(&m, s)| *s += usize::from(m));
            }
            if masking == Masking::Random {
                // p = 31/80 everywhere, standard error 31 of 4000, five of them.
                assert!(seen.iter().all(|s| s.abs_diff(1550) < 155), "{seen:?}");
            }
        }
    }

    #[test]
    fn none_hides_nothing_whatever_the_other_settings() {
        let cfg = MaskConfig { masking: Masking::None, ..MaskConfig::block(2, 3, 9, 0) };
        cfg.validate().unwrap();
        assert_eq!(cfg.draw(&mut Philox::new(1, Purpose::Mask, 0, 0)), [false; 6]);
    }

    #[test]
    fn impossible_settings_are_refused() {
        let base = MaskConfig::block(14, 14, 75, 16);
        base.validate().unwrap();
        MaskConfig { count: 195, ..base }.validate().unwrap();
        MaskConfig::block(8, 8, 25, 4).validate().unwrap();
        MaskConfig::block(2, 2, 1, 1).validate().unwrap();
        for (cfg, says) in [
            (MaskConfig { count: 0, ..base }, "nothing"),
            (MaskConfig { count: 196, ..base }, "at least one must be seen"),
            (MaskConfig { count: 197, ..base }, "196 patches"),
            (MaskConfig { count: 1, ..base }, "mask_min_block"),
            (MaskConfig { max_block: Some(8), ..base }, "mask_min_block"),
            (MaskConfig { min_block: 0, ..base }, "mask_min_block"),
            (MaskConfig { aspect: (f64::NAN, 1.0), ..base }, "aspect"),
            (MaskConfig::block(1, 64, 20, 4), "do not fit"),
            (MaskConfig::block(14, 2, 20, 16), "a 14x2 grid; set masking=random"),
            (MaskConfig::block(4, 4, 12, 12), "a 4x4 grid; lower mask_min_block to 1 or set"),
            (MaskConfig::block(1, 64, 20, 1), "a 1x64 grid; set masking=random"),
        ] {
            let message = cfg.validate().unwrap_err().to_string();
            assert!(message.contains(says), "{cfg:?}: {message}");
        }
    }
}
