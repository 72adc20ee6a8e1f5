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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of all sizes up to a bound: inside the image, full where it is large enough, everything covered, none twice.
    #[test]
    fn windows_cover_the_image() {
        for side in 1..=40 {
            for crop in 1..=12 {
                for stride in 1..=crop {
                    let spans = spans(side, crop, stride);
                    let mut reached = 0;
                    for (i, &(start, length)) in spans.iter().enumerate() {
                        assert_eq!(length, crop.min(side), "{side}, {crop}, {stride}");
                        assert!(start <= reached && start + length <= side);
                        assert!(i == 0 || start + length > reached, "one that shows nothing new");
                        reached = start + length;
                    }
                    assert_eq!(reached, side, "{side}, {crop}, {stride}");
                }
            }
        }
        let two = windows((3, 9), (4, 6), (2, 4));
        let wanted = [0, 3].map(|left| CropBox { top: 0, left, height: 3, width: 6 });
        assert_eq!(two, wanted);
    }
}
