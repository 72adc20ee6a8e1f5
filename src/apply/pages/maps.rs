//! Attention of every patch as a page holds it: bytes, with a scale for each row.

/// Share of the mass that is outlined (`visualize_attention.py`).
pub(super) const OUTLINED: f64 = 0.6;

/// The largest of `values` that together are `share` of their sum (`visualize_attention.py`): sorted ascending and
/// divided by the sum, those whose cumulative sum is above 1 − share.
pub(super) fn top_mass(values: &[f64], share: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]).then(b.cmp(&a)));
    let sum: f64 = values.iter().sum();
    let (mut kept, mut cumulative) = (vec![false; values.len()], 0.0);
    for i in order {
        cumulative += values[i] / sum;
        kept[i] = cumulative > 1.0 - share;
    }
    kept
}

/// Rows of attention, each over the patches of one grid.
#[derive(Default)]
pub(super) struct QuantisedRows {
    /// Probabilities of the patches in units of the row's scale.
    pub(super) values: Vec<u8>,
    /// Of each row, 1/255 of its greatest value and the probability of the class token; f32, little-endian.
    pub(super) scales: Vec<u8>,
    /// Bits of [`top_mass`], the lowest first, each row from a byte of its own.
    pub(super) kept: Vec<u8>,
}

impl QuantisedRows {
    /// Adds a row `[N]`, the class token's column first. What is left is not renormalised.
    pub(super) fn push(&mut self, row: &[f64]) {
        let (class, patches) = row.split_first().expect("a class token");
        let scale = patches.iter().copied().fold(0.0, f64::max) / 255.0;
        let unit = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        self.values.extend(patches.iter().map(|p| (p * unit).round() as u8));
        for number in [scale, *class] {
            self.scales.extend((number as f32).to_le_bytes());
        }
        let byte = |bits: &[bool]| (0..).zip(bits).fold(0, |b, (i, &bit)| b | u8::from(bit) << i);
        self.kept.extend(top_mass(patches, OUTLINED).chunks(8).map(byte));
    }

    /// Adds the rows of all patches of each head and of the mean of the heads, `probs` being `[H,N,N]`.
    pub(super) fn push_block(&mut self, probs: &[f64], heads: usize) {
        let (square, n) = (probs.len() / heads, (probs.len() / heads).isqrt());
        let mut mean = vec![0.0; square];
        for head in probs.chunks_exact(square) {
            head.chunks_exact(n).skip(1).for_each(|row| self.push(row));
            mean.iter_mut().zip(head).for_each(|(m, p)| *m += p / heads as f64);
        }
        mean.chunks_exact(n).skip(1).for_each(|row| self.push(row));
    }
}

/// Characters of a page that the rows of one block take, in base64.
pub(super) fn block_characters(heads: usize, patches: usize) -> usize {
    (heads + 1) * patches * (patches + 8 + patches.div_ceil(8)) * 4 / 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outlined_patches_hold_the_share_and_no_fewer_do() {
        // Ascending: .05 .1 .15 .2 .5, cumulative .05 .15 .3 .5 1: above 0.4 are the last two.
        let kept = top_mass(&[0.1, 0.5, 0.05, 0.2, 0.15], 0.6);
        assert_eq!(kept, [false, true, false, true, false]);
        // The scale does not count: what the class token takes is divided out.
        assert_eq!(top_mass(&[0.01, 0.05, 0.005, 0.02, 0.015], 0.6), kept);
        // Of equals the first are kept.
        assert_eq!(top_mass(&[1.0; 4], 0.5), [true, true, false, false]);
        let values: Vec<f64> = (0..50).map(|i| f64::from(i * 37 % 50) + 1.0).collect();
        let kept = top_mass(&values, 0.6);
        let sum = |wanted: bool| -> f64 {
            values.iter().zip(&kept).filter(|(_, k)| **k == wanted).map(|(v, _)| v).sum()
        };
        let least = values.iter().zip(&kept).filter(|(_, k)| **k).map(|(v, _)| *v);
        let least = least.fold(f64::INFINITY, f64::min);
        let all: f64 = values.iter().sum();
        assert!(sum(true) >= 0.6 * all && sum(true) - least < 0.6 * all);
        assert!(sum(false) <= 0.4 * all);
    }

    #[test]
    fn rows_come_back_to_half_a_step() {
        let row = [0.3, 0.4, 0.2, 0.0, 0.1];
        let mut rows = QuantisedRows::default();
        rows.push(&row);
        let number =
            |i: usize| f32::from_le_bytes(rows.scales[4 * i..4 * i + 4].try_into().unwrap());
        assert_eq!((number(1), rows.values[0]), (0.3, 255));
        for (&q, p) in rows.values.iter().zip(&row[1..]) {
            assert!((f64::from(q) * f64::from(number(0)) - p).abs() <= 0.4 / 510.0 + 1e-7, "{p}");
        }
        // 0.4 and 0.2 are more than 60 % of 0.7; 0.4 alone is less.
        assert_eq!(rows.kept, [0b0011]);
    }

    #[test]
    fn a_block_has_the_mean_of_its_heads_last() {
        // Two heads over a class token and one patch; the class token's own rows are left out.
        let probs = [0.9, 0.1, 0.25, 0.75, 0.8, 0.2, 0.75, 0.25];
        let mut rows = QuantisedRows::default();
        rows.push_block(&probs, 2);
        let number =
            |i: usize| f32::from_le_bytes(rows.scales[4 * i..4 * i + 4].try_into().unwrap());
        assert_eq!([1, 3, 5].map(number), [0.25, 0.75, 0.5]);
        assert_eq!(number(4), (0.5 / 255.0) as f32);
        let characters = (rows.values.len() + rows.scales.len() + rows.kept.len()) * 4 / 3;
        assert_eq!(characters, block_characters(2, 1));
    }

    #[test]
    fn a_row_of_the_class_token_alone_is_empty() {
        let mut rows = QuantisedRows::default();
        rows.push(&[1.0, 0.0, 0.0]);
        assert_eq!((rows.values, rows.kept), (vec![0, 0], vec![0]));
    }
}
