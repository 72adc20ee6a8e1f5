//! What pyramid and heads share: maps between grids, made once, and what the batch norms saw.

use crate::ops::Backend;
use crate::ops::resize::PlaneMap;
use crate::storage::Storage;
use crate::tensor::Tensor;
use std::sync::{Arc, Mutex, PoisonError};

/// Resizing between two grids: of pooling, or bilinear.
type MapKey = (bool, (usize, usize), (usize, usize));

/// The maps that were needed so far.
pub(super) struct Maps<B: Storage>(Mutex<Vec<(MapKey, Arc<PlaneMap<B>>)>>);

impl<B: Storage> Default for Maps<B> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<B: Backend> Maps<B> {
    fn get(&self, bk: &B, key: MapKey) -> Arc<PlaneMap<B>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = known.iter().find(|(other, _)| *other == key) {
            return found.clone();
        }
        let (average, from, to) = key;
        let make = if average { PlaneMap::average } else { PlaneMap::bilinear };
        let made = Arc::new(make(bk, from, to));
        known.push((key, made.clone()));
        made
    }

    pub(super) fn bilinear(
        &self,
        bk: &B,
        from: (usize, usize),
        to: (usize, usize),
    ) -> Arc<PlaneMap<B>> {
        self.get(bk, (false, from, to))
    }

    pub(super) fn average(
        &self,
        bk: &B,
        from: (usize, usize),
        to: (usize, usize),
    ) -> Arc<PlaneMap<B>> {
        self.get(bk, (true, from, to))
    }
}

/// Height and width of `[B,H,W,C]`.
pub(super) fn plane<B: Storage>(x: &Tensor<B>) -> (usize, usize) {
    (x.shape()[1], x.shape()[2])
}
