//! Figures by hand, and intervals against leaving images out and against how far figures scatter.

use super::*;
use crate::rng::{Philox, Purpose};

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| i.to_string()).collect()
}

#[test]
fn classes_that_are_not_there() {
    let mut counts = PixelConfusion::new(4);
    // Class 1 is predicted without a label, class 3 is nowhere; 255 does not count, whatever is predicted.
    counts.add(&[0, 0, 1, 2, 200], &[0, 0, 0, 2, 255]);
    let figures = SegmentFigures::of(&counts, &names(4)).unwrap();
    let iou: Vec<_> = figures.classes.iter().map(|class| class.iou).collect();
    assert_eq!(iou, [Some(2.0 / 3.0), Some(0.0), Some(1.0), None]);
    let acc: Vec<_> = figures.classes.iter().map(|class| class.acc).collect();
    assert_eq!(acc, [Some(2.0 / 3.0), None, Some(1.0), None]);
    assert!((figures.miou - 5.0 / 9.0).abs() < 1e-15 && (figures.macc - 5.0 / 6.0).abs() < 1e-15);
    assert_eq!((figures.aacc, figures.pixels, figures.images), (0.75, 4, 1));
    // One image says nothing of others.
    assert!(figures.classes.iter().all(|class| class.interval.is_none()));
    assert_eq!(figures.miou_interval, None);
    let text = serde_json::to_string(&figures).unwrap();
    assert_eq!(serde_json::from_str::<SegmentFigures>(&text).unwrap(), figures);
}

#[test]
fn nothing_labelled_is_an_error() {
    let mut counts = PixelConfusion::new(2);
    counts.add(&[0, 1], &[255, 255]);
    let error = SegmentFigures::of(&counts, &names(2)).unwrap_err().to_string();
    assert!(error.contains("no pixel of 1 images has a label"), "{error}");
}

/// An image of two classes and a third that few have, with an error rate of its own.
fn image(rng: &mut Philox) -> (Vec<u8>, Vec<u8>) {
    let (errors, share) = (rng.uniform(0.0, 0.5), rng.uniform(0.1, 0.9));
    let top = if rng.integer(3) == 0 { 2 } else { 1 };
    let pixels = 60 + rng.integer(80);
    let labels: Vec<u8> =
        (0..pixels).map(|_| if rng.unit() < share { 0 } else { rng.integer(top) as u8 }).collect();
    let guess = |&label: &u8| if rng.unit() < errors { rng.integer(top) as u8 } else { label };
    (labels.iter().map(guess).collect(), labels)
}

fn figures(images: &[(Vec<u8>, Vec<u8>)]) -> SegmentFigures {
    let mut counts = PixelConfusion::new(3);
    images.iter().for_each(|(predictions, labels)| counts.add(predictions, labels));
    SegmentFigures::of(&counts, &names(3)).unwrap()
}

fn half((low, high): (f64, f64)) -> f64 {
    (high - low) / 2.0
}

#[test]
fn intervals_are_those_of_leaving_images_out() {
    let mut rng = Philox::new(9, Purpose::Check, 0, 0);
    let images: Vec<_> = (0..200).map(|_| image(&mut rng)).collect();
    let all = figures(&images);
    let left_out: Vec<_> = (0..images.len())
        .map(|i| {
            let rest: Vec<_> = images.iter().enumerate().filter(|(k, _)| *k != i).collect();
            figures(&rest.into_iter().map(|(_, image)| image.clone()).collect::<Vec<_>>())
        })
        .collect();
    let jackknife = |of: &dyn Fn(&SegmentFigures) -> f64| {
        let values: Vec<f64> = left_out.iter().map(of).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
        DEVIATIONS * (squares * (n - 1.0) / n).sqrt()
    };
    let close = |got: f64, want: f64| (got / want - 1.0).abs() < 0.03;
    let got = half(all.miou_interval.unwrap());
    assert!(close(got, jackknife(&|f| f.miou)), "{got}");
    for class in 0..2 {
        let got = half(all.classes[class].interval.unwrap());
        assert!(close(got, jackknife(&|f| f.classes[class].iou.unwrap())), "class {class}: {got}");
    }
}

/// Of 200 sets of 40 images, 95 % should hold the figure of very many.
#[test]
fn intervals_hold_the_figure_of_many_images() {
    let mut rng = Philox::new(10, Purpose::Check, 0, 0);
    let truth = figures(&(0..8000).map(|_| image(&mut rng)).collect::<Vec<_>>()).miou;
    let held = |_: &usize| {
        let set: Vec<_> = (0..40).map(|_| image(&mut rng)).collect();
        let (low, high) = figures(&set).miou_interval.unwrap();
        (low..=high).contains(&truth)
    };
    let count = (0..200).filter(held).count();
    // Three deviations of 0.95 are 9; an interval of so few images is a little short.
    assert!((175..=199).contains(&count), "{count} of 200");
}
