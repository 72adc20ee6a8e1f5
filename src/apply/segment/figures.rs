//! Figures of a segmentation over labelled images.
//!
//! With I, P and L the pixels of a class that are found, that are taken for it and that it has, over all images
//! together: IoU = I/(P + L − I), accuracy I/L. A class with neither labels nor predictions has no IoU and is
//! left out of the mean; one that is predicted without a label has IoU 0 and no accuracy.
//!
//! Intervals are those of the infinitesimal jackknife over images: IoU = ΣI/ΣU is a quotient of sums over images,
//! so image i moves it by d_i = (I_i − IoU·U_i)/ΣU to first order, its variance is n/(n − 1)·Σd_i², and the
//! interval is 1.96 deviations to both sides, cut to 0..1. The mean over classes moves by the mean of their d_i.
//! Unlike leaving an image out, this stays defined for a class that a single image has.

use super::confusion::{PixelConfusion, PixelCount};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Deviations of the normal distribution to both sides of its mean that hold 95 % of it.
const DEVIATIONS: f64 = 1.96;

/// What a segmentation is worth on some images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentFigures {
    /// Images.
    pub images: usize,
    /// Labelled pixels.
    pub pixels: u64,
    /// Mean IoU over the classes that have one.
    pub miou: f64,
    /// Its 95 % interval over images; none of fewer than two.
    pub miou_interval: Option<(f64, f64)>,
    /// Mean accuracy over the classes that have one.
    pub macc: f64,
    /// Share of all labelled pixels that are right.
    pub aacc: f64,
    /// Each class, in the data's order.
    pub classes: Vec<ClassFigure>,
}

/// One class by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassFigure {
    /// Its name.
    pub name: String,
    /// Its pixels.
    pub pixels: u64,
    /// Intersection over union; none where it is neither labelled nor predicted.
    pub iou: Option<f64>,
    /// Share of its pixels that are found; none where it has none.
    pub acc: Option<f64>,
    /// The 95 % interval of the IoU over images; none where fewer than two images have the class.
    pub interval: Option<(f64, f64)>,
}

impl PixelCount {
    fn union(&self) -> u64 {
        self.predicted + self.labelled - self.intersect
    }
}

impl SegmentFigures {
    /// The figures of these counts; an error where no pixel is labelled.
    #[track_caller]
    pub fn of(counts: &PixelConfusion, names: &[String]) -> Result<Self> {
        assert_eq!(names.len(), counts.classes(), "figures: names of the classes");
        let totals = totals(counts);
        let pixels: u64 = totals.iter().map(|c| c.labelled).sum();
        let images = counts.images().len();
        if pixels == 0 {
            return Err(Error::config(format!(
                "no pixel of {images} images has a label: there is nothing to measure on"
            )));
        }
        let right: u64 = totals.iter().map(|c| c.intersect).sum();
        let iou: Vec<_> = totals.iter().map(|c| share(c.intersect, c.union())).collect();
        let acc: Vec<_> = totals.iter().map(|c| share(c.intersect, c.labelled)).collect();
        let spread = Spread::of(counts, &totals, &iou);
        let miou = mean(&iou);
        let class = |i: usize| ClassFigure {
            name: names[i].clone(),
            pixels: totals[i].labelled,
            iou: iou[i],
            acc: acc[i],
            interval: iou[i].and_then(|iou| interval(iou, spread.classes[i], spread.having[i])),
        };
        Ok(Self {
            images,
            pixels,
            miou,
            miou_interval: interval(miou, spread.mean, images),
            macc: mean(&acc),
            aacc: right as f64 / pixels as f64,
            classes: (0..names.len()).map(class).collect(),
        })
    }
}

/// The counts of each class over all images.
fn totals(counts: &PixelConfusion) -> Vec<PixelCount> {
    let (intersect, predicted, labelled) =
        (counts.intersect(), counts.predicted(), counts.labelled());
    let one = |class: usize| PixelCount {
        class,
        intersect: intersect[class],
        predicted: predicted[class],
        labelled: labelled[class],
    };
    (0..counts.classes()).map(one).collect()
}

fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// The mean of those that there are.
fn mean(values: &[Option<f64>]) -> f64 {
    let some = values.iter().flatten();
    some.clone().sum::<f64>() / some.count() as f64
}

/// Sums over images of the squares of what each moves.
struct Spread {
    mean: f64,
    classes: Vec<f64>,
    /// Images in which the class is labelled or predicted.
    having: Vec<usize>,
}

impl Spread {
    fn of(counts: &PixelConfusion, totals: &[PixelCount], iou: &[Option<f64>]) -> Self {
        let present = iou.iter().flatten().count() as f64;
        let (mut classes, mut having) = (vec![0.0; iou.len()], vec![0; iou.len()]);
        let mut mean = 0.0;
        for image in counts.images() {
            let mut moved = 0.0;
            for count in image {
                let Some(iou) = iou[count.class] else { continue };
                let apart = count.intersect as f64 - iou * count.union() as f64;
                let d = apart / totals[count.class].union() as f64;
                classes[count.class] += d * d;
                having[count.class] += 1;
                moved += d / present;
            }
            mean += moved * moved;
        }
        Self { mean, classes, having }
    }
}

/// The interval around `value` of `n` images whose squares sum to `squares`.
fn interval(value: f64, squares: f64, n: usize) -> Option<(f64, f64)> {
    if n < 2 {
        return None;
    }
    let half = DEVIATIONS * (squares * n as f64 / (n - 1) as f64).sqrt();
    Some(((value - half).max(0.0), (value + half).min(1.0)))
}

#[cfg(test)]
mod tests;
