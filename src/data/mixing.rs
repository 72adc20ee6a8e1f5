//! Mixup and cutmix: images of a batch mixed two by two, and their labels with them, as in timm's
//! `mixup.py`.
//!
//! Image i of B meets image B-1-i. Of an image and its partner, mixup takes λ x + (1-λ) x', cutmix the
//! image with a box of the partner in it; λ is then the share of the image that is left. The target is
//! λ t + (1-λ) t' of the smoothed labels, so that the loss is plain cross-entropy against it: smoothing
//! must not enter a second time.
//!
//! What is mixed is drawn by [`MixConfig::draw`] for the whole batch, one [`ImageMix`] per image;
//! [`mix_images`] and [`soft_targets`] apply it and draw nothing.

use super::geometry::{CropBox, Draws};
use crate::error::{Error, Result};
use crate::words::words;

words! {
    /// Which images of a batch share their draws.
    MixMode {
        /// All.
        Batch = "batch",
        /// An image and its partner.
        Pair = "pair",
        /// None.
        Elem = "elem",
    }
}

words! {
    /// Where the box of cutmix ends, whose sides are to be n pixels and whose centre is drawn.
    BoxRule {
        /// n div 2 pixels to both sides of the centre, so that odd sides lose a pixel: timm 0.3.2, which the
        /// original program pins.
        EvenSide = "even_side",
        /// n div 2 pixels before and (n + 1) div 2 from the centre on: later versions of timm.
        FullSide = "full_side",
    }
}

/// Law of the mixing of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct MixConfig {
    /// Which images share their draws.
    pub mode: MixMode,
    /// λ of mixup is drawn from Beta(alpha, alpha); 0 for no mixup.
    pub mixup_alpha: f64,
    /// λ of cutmix is drawn from Beta(alpha, alpha); 0 for no cutmix.
    pub cutmix_alpha: f64,
    /// Smallest and largest side of the box of cutmix, in sides of the image, in place of an area of 1-λ.
    pub cutmix_minmax: Option<(f64, f64)>,
    /// Probability that anything is mixed.
    pub prob: f64,
    /// Probability of cutmix where both are possible.
    pub switch_prob: f64,
    /// Where the box of cutmix ends.
    pub box_rule: BoxRule,
}

impl Default for MixConfig {
    /// The recipes' mixup 0.8 and cutmix 1.0, one of the two for every batch.
    fn default() -> Self {
        Self {
            mode: MixMode::Batch,
            mixup_alpha: 0.8,
            cutmix_alpha: 1.0,
            cutmix_minmax: None,
            prob: 1.0,
            switch_prob: 0.5,
            box_rule: BoxRule::EvenSide,
        }
    }
}

/// What is done to one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageMix {
    /// Weight of its own label; the partner's is the rest.
    pub lambda: f64,
    /// The box that shows the partner. Without one, all pixels are mixed by `lambda`.
    pub window: Option<CropBox>,
}

impl MixConfig {
    /// Refuses settings that no batch could be mixed with.
    pub fn validate(&self) -> Result<()> {
        let share = |p: f64| (0.0..=1.0).contains(&p);
        let alphas = [self.mixup_alpha, self.cutmix_alpha];
        let wrong = if !alphas.iter().all(|&a| a == 0.0 || (0.01..=100.0).contains(&a)) {
            "an alpha must be 0 (off) or lie in 0.01..100"
        } else if alphas == [0.0, 0.0] && self.cutmix_minmax.is_none() {
            "mixup and cutmix are both off"
        } else if !share(self.prob) || !share(self.switch_prob) {
            "prob and switch_prob must lie in 0..1"
        } else if self.cutmix_minmax.is_some_and(|(lo, hi)| !(0.0 <= lo && lo < hi && hi <= 1.0)) {
            "the sides of cutmix_minmax must lie in 0..1, in order"
        } else {
            return Ok(());
        };
        Err(Error::config(format!("mixing: {wrong}")))
    }

    /// What is done to each image of a batch of images `height x width`.
    ///
    /// timm refuses odd batches; here the one in the middle is its own partner.
    pub fn draw(
        &self,
        images: usize,
        height: usize,
        width: usize,
        draws: &mut impl Draws,
    ) -> Vec<ImageMix> {
        let kinds = match self.mode {
            MixMode::Batch => vec![self.draw_kind(draws)],
            MixMode::Pair => self.draw_kinds(images / 2, draws),
            MixMode::Elem => self.draw_kinds(images, draws),
        };
        let mut mixes = Vec::with_capacity(images);
        for (lambda, cut) in kinds {
            let unmixed = lambda == 1.0 || !cut;
            mixes.push(if unmixed {
                ImageMix { lambda, window: None }
            } else {
                self.draw_window(lambda, height, width, draws)
            });
        }
        match self.mode {
            MixMode::Batch => mixes.resize(images, mixes[0]),
            MixMode::Pair => {
                mixes.resize(images.div_ceil(2), ImageMix::UNMIXED);
                (images.div_ceil(2)..images).for_each(|i| mixes.push(mixes[images - 1 - i]));
            }
            MixMode::Elem => (),
        }
        mixes
    }

    /// Between bounds of its sides, the box does not depend on λ.
    fn alpha_of_cutmix(&self) -> f64 {
        if self.cutmix_minmax.is_some() { 1.0 } else { self.cutmix_alpha }
    }

    /// λ of a batch, and whether it is cutmix's.
    fn draw_kind(&self, draws: &mut impl Draws) -> (f64, bool) {
        if draws.uniform(0.0, 1.0) >= self.prob {
            return (1.0, false);
        }
        let (mixup, cutmix) = (self.mixup_alpha, self.alpha_of_cutmix());
        let cut = if mixup > 0.0 && cutmix > 0.0 {
            draws.uniform(0.0, 1.0) < self.switch_prob
        } else {
            cutmix > 0.0
        };
        (draws.beta(if cut { cutmix } else { mixup }), cut)
    }

    /// The same for each of several; λ in f32. What was not chosen is drawn, too.
    fn draw_kinds(&self, count: usize, draws: &mut impl Draws) -> Vec<(f64, bool)> {
        let (mixup, cutmix) = (self.mixup_alpha, self.alpha_of_cutmix());
        let both = mixup > 0.0 && cutmix > 0.0;
        let cut: Vec<bool> = match both {
            true => (0..count).map(|_| draws.uniform(0.0, 1.0) < self.switch_prob).collect(),
            false => vec![cutmix > 0.0; count],
        };
        let mut lambdas = |alpha: f64| -> Vec<f64> {
            (0..if alpha > 0.0 { count } else { 0 }).map(|_| draws.beta(alpha)).collect()
        };
        let (of_cutmix, of_mixup) = (lambdas(cutmix), lambdas(mixup));
        let mut kinds = Vec::with_capacity(count);
        for (i, cut) in cut.into_iter().enumerate() {
            let lambda = if cut { of_cutmix[i] } else { of_mixup[i] };
            let mixed = draws.uniform(0.0, 1.0) < self.prob;
            kinds.push((if mixed { to_f32(lambda) } else { 1.0 }, cut));
        }
        kinds
    }

    /// The box of cutmix, and λ as it leaves it.
    fn draw_window(
        &self,
        lambda: f64,
        height: usize,
        width: usize,
        draws: &mut impl Draws,
    ) -> ImageMix {
        let window = match self.cutmix_minmax {
            Some(bounds) => window_between(bounds, height, width, draws),
            None => self.window_of_area(lambda, height, width, draws),
        };
        let area = (window.height * window.width) as f64;
        let lambda = 1.0 - area / (height * width) as f64;
        let single = self.mode != MixMode::Batch;
        ImageMix { lambda: if single { to_f32(lambda) } else { lambda }, window: Some(window) }
    }

    /// A box about any centre, cut off at the edges: an area of 1-λ or less.
    fn window_of_area(
        &self,
        lambda: f64,
        height: usize,
        width: usize,
        draws: &mut impl Draws,
    ) -> CropBox {
        // timm computes in the precision of λ.
        let cut = |side: usize| match self.mode {
            MixMode::Batch => (side as f64 * (1.0 - lambda).sqrt()) as usize,
            MixMode::Pair | MixMode::Elem => (side as f32 * (1.0 - lambda as f32).sqrt()) as usize,
        };
        let end = |centre: usize, cut: usize| match self.box_rule {
            BoxRule::EvenSide => centre + cut / 2,
            BoxRule::FullSide => centre + cut.div_ceil(2),
        };
        let mut along = |side: usize| {
            let (centre, cut) = (draws.integer(side - 1), cut(side));
            (centre.saturating_sub(cut / 2), end(centre, cut).min(side))
        };
        let ((top, bottom), (left, right)) = (along(height), along(width));
        CropBox { top, left, height: bottom - top, width: right - left }
    }
}

fn to_f32(x: f64) -> f64 {
    f64::from(x as f32)
}

/// A box with sides between these shares of the image's. Neither its sides nor its place reach the upper
/// bound, except where that is the only choice.
fn window_between(
    (low, high): (f64, f64),
    height: usize,
    width: usize,
    draws: &mut impl Draws,
) -> CropBox {
    let mut below = |count: usize| draws.integer(count.max(1) - 1);
    let mut cut = |side: usize| {
        let [low, high] = [low, high].map(|share| (side as f64 * share) as usize);
        low + below(high - low)
    };
    let (h, w) = (cut(height), cut(width));
    let (top, left) = (below(height - h), below(width - w));
    CropBox { top, left, height: h, width: w }
}

impl ImageMix {
    /// Nothing is done.
    pub const UNMIXED: Self = Self { lambda: 1.0, window: None };

    /// `x` mixed with its partner, both `[H,W,3]`.
    fn apply(&self, x: &mut [f32], partner: &[f32], width: usize) {
        match self.window {
            Some(b) => {
                for y in b.top..b.top + b.height {
                    let row = (y * width + b.left) * 3..(y * width + b.left + b.width) * 3;
                    x[row.clone()].copy_from_slice(&partner[row]);
                }
            }
            None if self.lambda == 1.0 => (),
            None => {
                let (own, rest) = (self.lambda as f32, (1.0 - self.lambda) as f32);
                x.iter_mut().zip(partner).for_each(|(x, p)| *x = own * *x + rest * p);
            }
        }
    }
}

/// Mixes the normalised images `[H,W,3]` of a batch in place.
#[track_caller]
pub fn mix_images(mixes: &[ImageMix], images: &mut [Vec<f32>], width: usize) {
    let count = images.len();
    assert_eq!(mixes.len(), count, "mix_images: {count} images, another number of mixes");
    let mut own = Vec::new();
    for i in 0..count / 2 {
        let partner = count - 1 - i;
        let (left, right) = images.split_at_mut(partner);
        let (x, p) = (&mut left[i], &mut right[0]);
        assert_eq!(x.len(), p.len(), "mix_images: images {i} and {partner} differ in size");
        own.clone_from(x);
        mixes[i].apply(x, p, width);
        mixes[partner].apply(p, &own, width);
    }
}

/// Targets `[B,classes]` of a mixed batch: `smoothing` is spread over all classes, the rest of an image's
/// weight is its label's.
#[track_caller]
pub fn soft_targets(
    mixes: &[ImageMix],
    labels: &[u32],
    classes: usize,
    smoothing: f64,
) -> Vec<f32> {
    let count = labels.len();
    assert_eq!(mixes.len(), count, "soft_targets: {count} labels, another number of mixes");
    let off = smoothing / classes as f64;
    let (on, off) = ((1.0 - smoothing + off) as f32, off as f32);
    let mut targets = vec![0.0; count * classes];
    let rows = targets.chunks_exact_mut(classes.max(1)).zip(mixes);
    for (i, (row, mix)) in rows.enumerate() {
        let (own, rest) = (mix.lambda as f32, (1.0 - mix.lambda) as f32);
        let labels = [labels[i], labels[count - 1 - i]].map(|label| label as usize);
        assert!(
            labels.iter().all(|&label| label < classes),
            "soft_targets: labels {labels:?}, expected less than {classes}"
        );
        let of = |class: usize, label: usize| if class == label { on } else { off };
        for (class, t) in row.iter_mut().enumerate() {
            *t = of(class, labels[0]) * own + of(class, labels[1]) * rest;
        }
    }
    targets
}

#[cfg(test)]
mod tests;
