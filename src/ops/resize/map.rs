//! The map of a plane: a band of weights for each row of it and of its transpose, for each axis, computed in f64
//! on the host.

use crate::storage::Storage;
use crate::tensor::{Ids, Master};

/// What one place of an axis reads: weights from a first place on.
#[derive(Clone, Debug, Default, PartialEq)]
struct Band {
    first: usize,
    weights: Vec<f64>,
}

impl Band {
    /// Without the zeros at either end.
    fn trimmed(self) -> Self {
        let Some(start) = self.weights.iter().position(|&w| w != 0.0) else {
            return Self::default();
        };
        let end = self.weights.iter().rposition(|&w| w != 0.0).map_or(start, |last| last + 1);
        Self { first: self.first + start, weights: self.weights[start..end].to_vec() }
    }
}

/// Bands of an axis from `n` places to `m`, bilinear.
fn bilinear(n: usize, m: usize) -> Vec<Band> {
    let band = |i: usize| {
        let s = ((i as f64 + 0.5) * (n as f64 / m as f64) - 0.5).max(0.0);
        let first = (s as usize).min(n - 1);
        let t = s - first as f64;
        // Beyond the last place it is read again, with both weights.
        let weights = if first + 1 < n { vec![1.0 - t, t] } else { vec![1.0] };
        Band { first, weights }.trimmed()
    };
    (0..m).map(band).collect()
}

/// Bands of an axis from `n` places to `m` bins of even weights.
fn average(n: usize, m: usize) -> Vec<Band> {
    let band = |i: usize| {
        let (first, end) = (i * n / m, ((i + 1) * n).div_ceil(m));
        Band { first, weights: vec![1.0 / (end - first) as f64; end - first] }
    };
    (0..m).map(band).collect()
}

/// Bands of the transpose of a matrix with `n` columns.
fn transposed(bands: &[Band], n: usize) -> Vec<Band> {
    let mut columns = vec![Band::default(); n];
    for (row, band) in bands.iter().enumerate() {
        for (i, &weight) in band.weights.iter().enumerate() {
            let column = &mut columns[band.first + i];
            if column.weights.is_empty() {
                column.first = row;
            }
            column.weights.resize(row - column.first, 0.0);
            column.weights.push(weight);
        }
    }
    columns
}

/// The bands of one axis on a device.
pub(super) struct Bands<B: Storage> {
    /// First place and number of weights of each band, `[m,2]`.
    pub places: Ids<B>,
    /// The weights of each band and zeros, `[m,taps]`.
    pub weights: Master<B>,
}

impl<B: Storage> Bands<B> {
    fn new(bk: &B, bands: &[Band]) -> Self {
        let taps = bands.iter().map(|band| band.weights.len()).max().unwrap_or(0);
        let place = |n: usize| u32::try_from(n).expect("a side of a plane is below 2^32");
        let places = bands.iter().flat_map(|b| [place(b.first), place(b.weights.len())]).collect();
        let mut weights = vec![0.0; bands.len() * taps];
        for (row, band) in weights.chunks_mut(taps.max(1)).zip(bands) {
            row[..band.weights.len()].copy_from_slice(&band.weights);
        }
        Self {
            places: Ids::from_vec(bk, places, &[bands.len(), 2]),
            weights: Master::from_f64(bk, &weights, &[bands.len(), taps]),
        }
    }
}

/// Bands of rows and of columns.
pub(super) type Axes<B> = [Bands<B>; 2];

/// A separable banded map of planes on a device.
pub struct PlaneMap<B: Storage> {
    from: (usize, usize),
    to: (usize, usize),
    /// P and Q.
    pub(super) forward: Axes<B>,
    /// Pᵀ and Qᵀ.
    pub(super) backward: Axes<B>,
    /// Whether y is x.
    pub(super) identity: bool,
}

impl<B: Storage> PlaneMap<B> {
    /// Bilinear from (h, w) to (H, W) pixels, corners not aligned; the identity where they agree.
    #[track_caller]
    pub fn bilinear(bk: &B, from: (usize, usize), to: (usize, usize)) -> Self {
        Self::new(bk, from, to, bilinear)
    }

    /// Adaptive average from (h, w) pixels to (H, W) bins.
    #[track_caller]
    pub fn average(bk: &B, from: (usize, usize), to: (usize, usize)) -> Self {
        Self::new(bk, from, to, average)
    }

    #[track_caller]
    fn new(
        bk: &B,
        from: (usize, usize),
        to: (usize, usize),
        bands: fn(usize, usize) -> Vec<Band>,
    ) -> Self {
        let some = |(h, w): (usize, usize)| h > 0 && w > 0;
        assert!(some(from) && some(to), "resize: from {from:?} to {to:?} pixels");
        let forward = [bands(from.0, to.0), bands(from.1, to.1)];
        let backward = [transposed(&forward[0], from.0), transposed(&forward[1], from.1)];
        let plain = |(i, band): (usize, &Band)| band.first == i && band.weights == [1.0];
        let identity = from == to && forward.iter().all(|b| b.iter().enumerate().all(plain));
        let upload = |axes: &[Vec<Band>; 2]| axes.each_ref().map(|bands| Bands::new(bk, bands));
        Self { from, to, forward: upload(&forward), backward: upload(&backward), identity }
    }

    /// (h, w) of x.
    pub fn from(&self) -> (usize, usize) {
        self.from
    }

    /// (H, W) of y.
    pub fn to(&self) -> (usize, usize) {
        self.to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bands(rows: &[(usize, &[f64])]) -> Vec<Band> {
        rows.iter().map(|&(first, weights)| Band { first, weights: weights.to_vec() }).collect()
    }

    #[test]
    fn bands_by_hand() {
        // ⌊i 5/3⌋ .. ⌈(i + 1) 5/3⌉ are [0, 2), [1, 4) and [3, 5).
        let (half, third) = (0.5, 1.0 / 3.0);
        let five = average(5, 3);
        assert_eq!(five, bands(&[(0, &[half; 2]), (1, &[third; 3]), (3, &[half; 2])]));
        let back = transposed(&five, 5);
        let want: [(usize, &[f64]); 5] =
            [(0, &[half]), (0, &[half, third]), (1, &[third]), (1, &[third, half]), (2, &[half])];
        assert_eq!(back, bands(&want));
        let firsts: Vec<usize> = average(2, 6).iter().map(|band| band.first).collect();
        assert_eq!(firsts, [0, 0, 0, 1, 1, 1]);
        // Places −¼ (taken as 0), ¼, ¾ and 1¼ (beyond the last).
        let two = bilinear(2, 4);
        assert_eq!(two, bands(&[(0, &[1.0]), (0, &[0.75, 0.25]), (0, &[0.25, 0.75]), (1, &[1.0])]));
        assert_eq!(bilinear(3, 3), bands(&[(0, &[1.0]), (1, &[1.0]), (2, &[1.0])]));
        // A place that no other reads has an empty band.
        let skipped = transposed(&bilinear(9, 3), 9);
        assert_eq!(skipped[0], Band::default());
        assert_eq!(skipped[4], bands(&[(1, &[1.0])])[0]);
    }
}
