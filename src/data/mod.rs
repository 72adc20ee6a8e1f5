//! Images in, training samples out.
//!
//! Reading order: [`source`] (where images come from), [`decode`](mod@decode), [`geometry`] (which
//! box of an image), [`augment`] (colour, crop, two views), [`resize`](mod@resize), [`masking`], [`patches`],
//! and [`loader`], which does all of it ahead of the training loop, for any [`Dataset`]. [`synthetic`] draws scenes when
//! there are no images at hand. For training with labels, [`class_view`] makes the samples, of [`randaugment`]
//! and [`erasing`] among others, and [`mixing`] mixes the images of a batch and their labels; [`contrast_view`] makes
//! views to be recognised as the same image's. For classes of pixels,
//! [`pairs`] are images with their [`labels`], of which [`segment_view`] makes the samples.
//!
//! Everything random is drawn from a stream numbered by (seed, purpose, epoch, index), so that a
//! sample never depends on the thread that makes it or on where a run was resumed. Pixels stay
//! bytes until the last step, because the originals' resampling and jitter round to bytes and are
//! reproduced bit for bit.

pub mod augment;
pub mod bilinear;
pub mod cifar;
pub mod class_view;
pub mod classes;
pub mod contrast_view;
pub mod dataset;
pub mod decode;
pub mod erasing;
pub mod file;
pub mod folder;
pub mod geometry;
pub mod hsv;
pub mod image;
pub mod labels;
pub mod loader;
pub mod masking;
pub mod mixing;
pub mod pairs;
pub mod patches;
pub mod photometric;
pub mod pixels;
pub mod randaugment;
pub mod resize;
pub mod segment_view;
pub mod source;
pub mod split;
pub mod subset;
pub mod survey;
pub mod synthetic;
pub mod text;

pub use augment::{AugmentConfig, Views, two_views};
pub use class_view::ClassViewConfig;
pub use classes::Classified;
pub use dataset::{Dataset, Labelled};
pub use image::Image;
pub use labels::Labels;
pub use loader::{Loader, LoaderConfig};
pub use masking::{MaskConfig, Masking};
pub use mixing::MixConfig;
pub use pairs::{Pair, Pairs};
pub use patches::PatchGrid;
pub use segment_view::SegmentViewConfig;
pub use source::{Source, SourceOptions, Split};
pub use subset::Subset;
pub use text::Text;
