//! Classes of images from those of their nearest neighbours in feature space.

use crate::cpu::gemm;
use ndarray::{ArrayView2, ArrayViewMut2};

/// Features and labels of a labelled source.
pub(super) struct FeatureTable {
    /// Per block `[images, 2C]`.
    pub(super) blocks: Vec<Vec<f32>>,
    /// Class of each image.
    pub(super) labels: Vec<u32>,
    /// 2C.
    pub(super) width: usize,
}

impl FeatureTable {
    /// Number of images.
    pub(super) fn images(&self) -> usize {
        self.labels.len()
    }
}

/// Share of places where two lists agree.
pub(super) fn share_equal(a: &[u32], b: &[u32]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len().max(1) as f64
}

/// The classes of `test` by k nearest neighbours by cosine, each voting with exp(cosine / 0.07), as in DINO
/// (arXiv 2104.14294, appendix A, after Wu et al. 2018). Of equal votes the lowest class wins.
pub(super) fn knn_predictions(
    train: &FeatureTable,
    test: &FeatureTable,
    block: usize,
    classes: usize,
    k: usize,
) -> Vec<u32> {
    let best = |row: &[f32]| {
        let votes = votes(row, &train.labels, classes, k);
        let ahead = |best: (usize, f32), (class, &vote): (usize, &f32)| {
            if vote > best.1 { (class, vote) } else { best }
        };
        votes.iter().enumerate().fold((0, f32::MIN), ahead).0 as u32
    };
    cosines(train, test, block).chunks_exact(train.images()).map(best).collect()
}

/// Cosines `[test,train]` of features.
fn cosines(train: &FeatureTable, test: &FeatureTable, block: usize) -> Vec<f32> {
    let unit = |rows: &[f32]| -> Vec<f32> {
        let normalise = |row: &[f32]| {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            row.iter().map(|x| x / norm).collect::<Vec<_>>()
        };
        rows.chunks_exact(train.width).flat_map(normalise).collect()
    };
    let (a, b) = (unit(&test.blocks[block]), unit(&train.blocks[block]));
    let (m, n, d) = (test.images(), train.images(), train.width);
    let view = |x: &'_ [f32], rows: usize| -> ndarray::Array2<f32> {
        ArrayView2::from_shape((rows, d), x).expect("rows of features").to_owned()
    };
    let mut cosine = vec![0.0f32; m * n];
    let c = ArrayViewMut2::from_shape((m, n), cosine.as_mut_slice()).expect("fits");
    gemm(1.0, view(&a, m).view(), view(&b, n).t(), 0.0, c);
    cosine
}

/// Votes of the k nearest for each class, exp((cosine - 1) / 0.07) each: the factor is the same for all.
fn votes(cosines: &[f32], labels: &[u32], classes: usize, k: usize) -> Vec<f32> {
    let n = labels.len();
    let mut nearest: Vec<usize> = (0..n).collect();
    let k = k.min(n);
    let order = |&i: &usize, &j: &usize| cosines[j].total_cmp(&cosines[i]).then(i.cmp(&j));
    if k < n {
        nearest.select_nth_unstable_by(k - 1, order);
    }
    let mut votes = vec![0.0f32; classes];
    nearest[..k].sort_unstable();
    for &i in &nearest[..k] {
        votes[labels[i] as usize] += ((cosines[i] - 1.0) / 0.07).exp();
    }
    votes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[f32; 2]], labels: &[u32]) -> FeatureTable {
        FeatureTable { blocks: vec![rows.concat()], labels: labels.to_vec(), width: 2 }
    }

    #[test]
    fn near_neighbours_outvote_more_that_are_further_and_length_does_not_count() {
        // Cosines with (1, 0): 1, and 0.92 three times; e^(−0.08/0.07) is 0.32, three of which are less than 1.
        let far = [0.92, (1.0f32 - 0.92 * 0.92).sqrt()];
        let train = table(&[[0.1, 0.0], far, far.map(|x| 9.0 * x), far], &[1, 0, 0, 0]);
        let test = table(&[[5.0, 0.0], [far[0], -far[1]]], &[0, 0]);
        assert_eq!(knn_predictions(&train, &test, 0, 3, 4), [1, 1]);
        // A little nearer, 0.925: three of 0.343 are more than 1.
        let near = [0.925, (1.0f32 - 0.925 * 0.925).sqrt()];
        let train = table(&[[1.0, 0.0], near, near, near], &[1, 0, 0, 0]);
        assert_eq!(knn_predictions(&train, &test, 0, 3, 4)[0], 0);
        assert_eq!(knn_predictions(&train, &test, 0, 3, 1)[0], 1);
    }

    #[test]
    fn of_equal_votes_the_lowest_class_wins() {
        let train = table(&[[0.6, 0.8], [0.6, -0.8], [-1.0, 0.0]], &[2, 1, 0]);
        let test = table(&[[1.0, 0.0]], &[0]);
        assert_eq!(knn_predictions(&train, &test, 0, 3, 2), [1]);
        assert_eq!(knn_predictions(&train, &test, 0, 3, 9), [1]);
    }

    /// Case 16, `knn/*`: 9 rows of 4 among 30, k = 5, votes in double precision.
    #[test]
    fn votes_are_those_of_the_fixture() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/16_baselines.safetensors");
        let bytes = std::fs::read(path).expect("a fixture");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
        let of = |name: &str| file.tensor(&format!("knn/{name}")).expect("there").data();
        let f32s = |name| of(name).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let ids = |name| -> Vec<u32> {
            of(name).as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect()
        };
        let (labels, wanted) = (ids("in/labels"), ids("out/pred"));
        let train = FeatureTable { blocks: vec![f32s("in/train")], labels, width: 4 };
        let test = FeatureTable { blocks: vec![f32s("in/test")], labels: wanted.clone(), width: 4 };
        assert_eq!(knn_predictions(&train, &test, 0, 4, 5), wanted);
        let all = cosines(&train, &test, 0);
        let found = all.chunks_exact(30).flat_map(|row| votes(row, &train.labels, 4, 5));
        let scores = of("out/scores").as_chunks().0.iter().map(|b| f64::from_le_bytes(*b));
        for (i, (found, score)) in found.zip(scores).enumerate() {
            let wanted = score * (-1.0f64 / 0.07).exp();
            assert!((f64::from(found) - wanted).abs() <= 1e-5 * wanted, "{i}: {found}, {wanted}");
        }
    }
}
