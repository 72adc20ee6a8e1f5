//! Figures of a classifier over labelled images.

use super::{Judgement, TOP};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bins of equal width of the calibration.
const BINS: usize = 15;
/// Confusions that a summary keeps.
const CONFUSIONS: usize = 1000;

/// What a classifier is worth on some images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifierFigures {
    /// Images.
    pub images: usize,
    /// Share whose class has the highest probability.
    pub top1: f64,
    /// Its Wilson interval at 95 %.
    pub top1_interval: (f64, f64),
    /// Share whose class is among the first five, or among all where there are fewer.
    pub top5: f64,
    /// Mean −ln of the class's probability, in nats.
    pub nll: f64,
    /// Mean Σ (p − one-hot)².
    pub brier: f64,
    /// Expected calibration error: over 15 bins of equal width of the highest probability, the mean distance of
    /// accuracy and confidence, weighted by images.
    pub ece: f64,
    /// Those bins.
    pub calibration: Vec<CalibrationBin>,
    /// Each class, in the model's order.
    pub per_class: Vec<ClassResult>,
    /// Pairs of classes that are taken for each other, most frequent first.
    pub confusions: Vec<Confusion>,
}

/// One bin `(low, high]` of a calibration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// Its ends.
    pub range: (f64, f64),
    /// Images in it.
    pub images: usize,
    /// Share of them that are right.
    pub accuracy: f64,
    /// Mean of their highest probabilities.
    pub confidence: f64,
}

/// One class by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassResult {
    /// Its name.
    pub name: String,
    /// Its images.
    pub images: usize,
    /// Those that are put there.
    pub right: usize,
    /// Images of any class that are put there.
    pub predicted: usize,
    /// Wilson interval of `right / images` at 95 %; none where there are no images.
    pub interval: Option<(f64, f64)>,
}

/// Images of one class that are taken for another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    /// Their class.
    pub class: String,
    /// What they are taken for.
    pub predicted: String,
    /// How many.
    pub images: usize,
}

/// Wilson's score interval of a share at 95 % (E. B. Wilson, JASA 22, 1927); 0 to 1 of nothing.
pub fn wilson(right: usize, all: usize) -> (f64, f64) {
    const Z: f64 = 1.959_963_984_540_054;
    if all == 0 {
        return (0.0, 1.0);
    }
    let (n, p) = (all as f64, right as f64 / all as f64);
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

impl ClassifierFigures {
    /// The figures of `judgements` over `classes`.
    pub fn new(judgements: &[Judgement], classes: &[String]) -> Self {
        let n = judgements.len();
        let share = |count: usize| count as f64 / n.max(1) as f64;
        let mean =
            |f: fn(&Judgement) -> f64| judgements.iter().map(f).sum::<f64>() / n.max(1) as f64;
        let right = judgements.iter().filter(|j| j.right()).count();
        let near = judgements.iter().filter(|j| j.before < TOP).count();
        let calibration = calibration(judgements);
        let gap = |bin: &CalibrationBin| share(bin.images) * (bin.accuracy - bin.confidence).abs();
        Self {
            images: n,
            top1: share(right),
            top1_interval: wilson(right, n),
            top5: share(near),
            nll: mean(|j| j.nll),
            brier: mean(|j| j.brier),
            ece: calibration.iter().map(gap).sum(),
            calibration,
            per_class: per_class(judgements, classes),
            confusions: confusions(judgements, classes),
        }
    }
}

fn calibration(judgements: &[Judgement]) -> Vec<CalibrationBin> {
    let bin = |b: usize| {
        let range = (b as f64 / BINS as f64, (b + 1) as f64 / BINS as f64);
        let inside =
            judgements.iter().filter(|j| j.confidence > range.0 && j.confidence <= range.1);
        let (mut images, mut right, mut confidence) = (0, 0, 0.0);
        for j in inside {
            images += 1;
            right += usize::from(j.right());
            confidence += j.confidence;
        }
        let mean = |sum: f64| if images == 0 { 0.0 } else { sum / images as f64 };
        CalibrationBin { range, images, accuracy: mean(right as f64), confidence: mean(confidence) }
    };
    (0..BINS).map(bin).collect()
}

fn per_class(judgements: &[Judgement], classes: &[String]) -> Vec<ClassResult> {
    let mut all: Vec<ClassResult> = classes
        .iter()
        .map(|name| ClassResult {
            name: name.clone(),
            images: 0,
            right: 0,
            predicted: 0,
            interval: None,
        })
        .collect();
    for j in judgements {
        let own = &mut all[j.label as usize];
        own.images += 1;
        own.right += usize::from(j.right());
        all[j.predicted as usize].predicted += 1;
    }
    for class in &mut all {
        class.interval = (class.images > 0).then(|| wilson(class.right, class.images));
    }
    all
}

fn confusions(judgements: &[Judgement], classes: &[String]) -> Vec<Confusion> {
    let mut counts = BTreeMap::<(u32, u32), usize>::new();
    for j in judgements.iter().filter(|j| !j.right()) {
        *counts.entry((j.label, j.predicted)).or_default() += 1;
    }
    let mut pairs: Vec<_> = counts.into_iter().collect();
    pairs.sort_by_key(|&(pair, count)| (usize::MAX - count, pair));
    pairs.truncate(CONFUSIONS);
    let name = |class: u32| classes[class as usize].clone();
    let confusion = |((class, predicted), images)| Confusion {
        class: name(class),
        predicted: name(predicted),
        images,
    };
    pairs.into_iter().map(confusion).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_wilsons() {
        // Newcombe, Statistics in Medicine 17, 1998, table I, method 3.
        for (right, all, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let (l, h) = wilson(right, all);
            assert!((l - low).abs() < 5e-5 && (h - high).abs() < 5e-5, "{right}/{all}: {l} {h}");
        }
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }

    #[test]
    fn counts_are_of_the_right_classes() {
        let logits: [[f32; 3]; 4] =
            [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [2.0, 0.0, 0.0], [2.0, 0.0, 0.0]];
        let labels = [0, 1, 1, 1];
        let judged: Vec<Judgement> =
            (0..4).map(|i| Judgement::of(i, labels[i], &logits[i])).collect();
        let names = ["a", "b", "c"].map(String::from);
        let f = ClassifierFigures::new(&judged, &names);
        assert_eq!((f.images, f.top1, f.top5), (4, 0.5, 1.0));
        let class =
            |i: usize| (f.per_class[i].images, f.per_class[i].right, f.per_class[i].predicted);
        assert_eq!([class(0), class(1), class(2)], [(1, 1, 3), (3, 1, 1), (0, 0, 0)]);
        assert_eq!(f.per_class[2].interval, None);
        let confusion = Confusion { class: "b".into(), predicted: "a".into(), images: 2 };
        assert_eq!(f.confusions, [confusion]);
        assert_eq!(f.calibration.iter().map(|b| b.images).sum::<usize>(), 4);
        // All have one confidence, of which half are right.
        assert!((f.ece - (judged[0].confidence - 0.5).abs()).abs() < 1e-12);
    }
}
