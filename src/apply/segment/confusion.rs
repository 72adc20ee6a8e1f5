//! Pixels counted by their class and by what they are taken for.

use crate::data::labels::Labels;

/// Pixels of one class in one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PixelCount {
    /// The class.
    pub class: usize,
    /// Pixels of it that are taken for it.
    pub intersect: u64,
    /// Labelled pixels that are taken for it.
    pub predicted: u64,
    /// Pixels of it.
    pub labelled: u64,
}

/// Counts over all pixels of some images that are not [`Labels::IGNORED`], and those of each image by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PixelConfusion {
    classes: usize,
    /// `[label, prediction]`.
    counts: Vec<u64>,
    /// Of each image, the classes that are labelled or predicted in it.
    images: Vec<Vec<PixelCount>>,
}

impl PixelConfusion {
    /// No images yet, and so many classes.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes], images: Vec::new() }
    }

    /// Counts the pixels of one image. A prediction where the label is ignored is not looked at.
    #[track_caller]
    pub fn add(&mut self, predictions: &[u8], labels: &[u8]) {
        assert_eq!(predictions.len(), labels.len(), "confusion: predictions and labels");
        let mut seen: Vec<_> =
            (0..self.classes).map(|class| PixelCount { class, ..PixelCount::default() }).collect();
        for (&prediction, &label) in predictions.iter().zip(labels) {
            if label == Labels::IGNORED {
                continue;
            }
            let (label, prediction) = (usize::from(label), usize::from(prediction));
            assert!(
                label.max(prediction) < self.classes,
                "confusion: label {label}, prediction {prediction}, {} classes",
                self.classes
            );
            self.counts[label * self.classes + prediction] += 1;
            seen[label].labelled += 1;
            seen[prediction].predicted += 1;
            seen[label].intersect += u64::from(label == prediction);
        }
        seen.retain(|count| count.labelled + count.predicted > 0);
        self.images.push(seen);
    }

    /// Adds the images of another count of the same classes behind these.
    #[track_caller]
    pub fn merge(&mut self, other: Self) {
        assert_eq!(self.classes, other.classes, "confusion: classes");
        self.counts.iter_mut().zip(other.counts).for_each(|(all, more)| *all += more);
        self.images.extend(other.images);
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Pixels of class `label` that are taken for class `prediction`.
    #[track_caller]
    pub fn count(&self, label: usize, prediction: usize) -> u64 {
        assert!(prediction < self.classes, "confusion: class {prediction} of {}", self.classes);
        self.counts[label * self.classes + prediction]
    }

    /// Pixels of each class that are taken for it.
    pub fn intersect(&self) -> Vec<u64> {
        (0..self.classes).map(|class| self.count(class, class)).collect()
    }

    /// Labelled pixels that are taken for each class.
    pub fn predicted(&self) -> Vec<u64> {
        let each = |class| (0..self.classes).map(|label| self.count(label, class)).sum();
        (0..self.classes).map(each).collect()
    }

    /// Pixels of each class.
    pub fn labelled(&self) -> Vec<u64> {
        self.counts.chunks(self.classes.max(1)).map(|row| row.iter().sum()).collect()
    }

    /// The counts of each image.
    pub(super) fn images(&self) -> &[Vec<PixelCount>] {
        &self.images
    }
}
