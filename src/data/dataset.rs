//! What training goes through: a numbered list of items.

use super::image::Image;
use crate::error::Result;
use std::sync::Arc;

/// A numbered list of items, each of which may turn out to be unreadable.
#[expect(clippy::len_without_is_empty, reason = "opening an empty data set is an error")]
pub trait Dataset: Send + Sync + 'static {
    /// What one number stands for: an image with its label, its mask, its text.
    type Item;

    /// What messages call several of them.
    const ITEMS: &'static str = "images";

    /// Number of items, readable or not; never 0.
    fn len(&self) -> usize;

    /// Tells one list of items from another.
    fn checksum(&self) -> u32;

    /// Tells these items from others under the same names: by what is known of every one and the contents of
    /// some, or by the contents of `all`.
    fn contents(&self, _all: bool) -> u32 {
        self.checksum()
    }

    /// Item `i`, or the reason why it cannot be read, which names it.
    fn item(&self, i: usize) -> Result<Self::Item>;
}

impl<D: Dataset> Dataset for Arc<D> {
    type Item = D::Item;

    const ITEMS: &'static str = D::ITEMS;

    fn len(&self) -> usize {
        (**self).len()
    }

    fn checksum(&self) -> u32 {
        (**self).checksum()
    }

    fn contents(&self, all: bool) -> u32 {
        (**self).contents(all)
    }

    fn item(&self, i: usize) -> Result<D::Item> {
        (**self).item(i)
    }
}

/// An image of a source, with what the source knows about it.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// The image.
    pub image: Arc<Image>,
    /// Its class, if it has one.
    pub label: Option<u32>,
    /// Its number in the source.
    pub index: usize,
}
