//! The windows that an image larger than the model's input is looked at through.

use crate::data::geometry::CropBox;

/// Windows of size `crop` at multiples of `stride`, row by row, that together cover an image; one that would reach
/// over the border is moved back until it is full. A side of the image that is smaller than the crop is covered
/// by one window as large as that side.
///
/// All arguments are (vertical, horizontal).
#[track_caller]
pub fn windows(
    image: (usize, usize),
    crop: (usize, usize),
    stride: (usize, usize),
) -> Vec<CropBox> {
    let (rows, columns) = (spans(image.0, crop.0, stride.0), spans(image.1, crop.1, stride.1));
    let row = |(top, height): (usize, usize)| {
        columns.iter().map(move |&(left, width)| CropBox { top, left, height, width })
    };
    rows.into_iter().flat_map(row).collect()
}

/// Starts and lengths of the windows along one axis.
#[track_caller]
fn spans(side: usize, crop: usize, stride: usize) -> Vec<(usize, usize)> {
    assert!(crop > 0 && stride > 0, "windows: a crop of {crop} at every {stride}");
    let count = side.saturating_sub(crop).div_ceil(stride) + 1;
    let one = |k: usize| {
        let end = (k * stride + crop).min(side);
        let start = end.saturating_sub(crop);
        (start, end - start)
    };
    (0..count).map(one).collect()
}
