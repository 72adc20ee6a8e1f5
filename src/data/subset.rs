//! Part of a data set: what is trained on, and what is kept out of training to measure on.

use super::dataset::Dataset;
use super::loader::shuffled;
use crate::error::Result;
use crate::rng::{Philox, Purpose};
use std::sync::Arc;

/// Most items that are kept out of training.
const MOST: usize = 1024;

/// Items of so many that [`Subset::hold_out`] keeps out of training in batches of `batch`.
pub fn held_out(items: usize, batch: usize) -> usize {
    let wanted = (items / 50).max(16.min(items / 8)).min(MOST);
    wanted.min(items.saturating_sub(batch))
}

/// Some items of a data set, in its order. An item keeps what it knows of itself, its number in the
/// whole set included.
#[derive(Debug)]
pub struct Subset<D> {
    all: Arc<D>,
    /// Numbers in `all`; all of them where there is no list.
    chosen: Option<Vec<u32>>,
}

impl<D: Dataset> Subset<D> {
    /// All items.
    pub fn whole(all: Arc<D>) -> Self {
        Self { all, chosen: None }
    }

    /// The whole data set.
    pub fn all(&self) -> &D {
        &self.all
    }

    /// What is trained on in batches of `batch`, and what is kept out: 2 % of the items, at most 1,024
    /// and, of a small set, at least 16 or an eighth; fewer where a batch would not be left, and none
    /// at all if it must be. The choice follows from the number of items alone, so that a tokenizer
    /// and an encoder that are trained on the same images keep out the same ones, whatever their seeds.
    pub fn hold_out(all: Arc<D>, batch: usize) -> (Self, Option<Self>) {
        let items = all.len();
        let count = held_out(items, batch);
        if count == 0 {
            return (Self::whole(all), None);
        }
        let mut order = shuffled(items, &mut Philox::new(0, Purpose::HeldOut, 0, 0));
        let mut left = order.split_off(count);
        left.sort_unstable();
        order.sort_unstable();
        (Self { all: all.clone(), chosen: Some(left) }, Some(Self { all, chosen: Some(order) }))
    }
}

impl<D: Dataset> Dataset for Subset<D> {
    type Item = D::Item;

    const ITEMS: &'static str = D::ITEMS;

    fn len(&self) -> usize {
        self.chosen.as_ref().map_or_else(|| self.all.len(), Vec::len)
    }

    /// That of the data set, which the choice follows from.
    fn checksum(&self) -> u32 {
        self.all.checksum()
    }

    fn contents(&self, all: bool) -> u32 {
        self.all.contents(all)
    }

    fn item(&self, i: usize) -> Result<D::Item> {
        self.all.item(self.chosen.as_ref().map_or(i, |chosen| chosen[i] as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(usize);

    impl Dataset for Count {
        type Item = usize;

        fn len(&self) -> usize {
            self.0
        }

        fn checksum(&self) -> u32 {
            0
        }

        fn item(&self, i: usize) -> Result<usize> {
            Ok(i)
        }
    }

    fn items(subset: &Subset<Count>) -> Vec<usize> {
        (0..subset.len()).map(|i| subset.item(i).unwrap()).collect()
    }

    #[test]
    fn what_is_held_out_is_not_trained_on() {
        for (all, batch, held) in [
            (40, 32, 5),
            (40, 38, 2),
            (40, 40, 0),
            (7, 1, 0),
            (200, 32, 16),
            (5000, 32, 100),
            (2_000_000, 2048, 1024),
        ] {
            let (left, out) = Subset::hold_out(Arc::new(Count(all)), batch);
            let (mut both, out) = (items(&left), out.map_or(Vec::new(), |out| items(&out)));
            assert_eq!(out.len(), held, "{held} of {all} at batch {batch}");
            assert!(both.is_sorted() && out.is_sorted());
            both.extend(out);
            both.sort_unstable();
            assert!(both.into_iter().eq(0..all));
        }
    }
}
