//! Values of arguments, and what is said where they are none.

use crate::apply::pages::attention::ShownSize;
use crate::config::Place;
use crate::error::Error;
use crate::models::config::SegmenterConfig;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::str::FromStr;

/// A device, but not `auto`.
pub(super) fn cpu_or_gpu(text: &str) -> Result<Place, String> {
    let place = text.parse().map_err(|e: crate::Error| e.to_string())?;
    if place == Place::Auto { Err("want cpu, cuda or cuda:N".into()) } else { Ok(place) }
}

/// A rate above 0.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|r: &f64| r.is_finite() && *r > 0.0);
    rate.ok_or_else(|| format!("want a number above 0, not {text}"))
}

/// A share of a whole.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("want a number from 0 to 1, not {text}"))
}

/// A share above 0 and below 1.
pub(super) fn part(text: &str) -> Result<f64, String> {
    let share = text.trim().parse().ok().filter(|s: &f64| *s > 0.0 && *s < 1.0);
    share.ok_or_else(|| format!("want a number above 0 and below 1, not {text}"))
}

/// HEIGHT,WIDTH or the short side.
pub(super) fn shown_size(text: &str) -> Result<ShownSize, String> {
    let short = || text.parse().ok().filter(|side| *side > 0).map(ShownSize::Short);
    let size = pair(text).ok().map(|(height, width)| ShownSize::Exact(height, width));
    size.or_else(short).ok_or_else(|| {
        format!("want HEIGHT,WIDTH, as in 480,640, or the short side, as in 480, not {text}")
    })
}

/// Two numbers around a comma.
pub(super) fn pair(text: &str) -> Result<(usize, usize), String> {
    let parts = text
        .split_once(',')
        .and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    parts.ok_or_else(|| format!("want ROW,COL, as in 3,4, not {text}"))
}

/// Four numbers.
pub(super) fn taps(text: &str) -> Result<[usize; 4], String> {
    SegmenterConfig::taps_in(text)
        .ok_or_else(|| format!("want four numbers, as in 4,6,8,12, not {text}"))
}

/// One of `words`, each of which a `T` has.
pub(super) fn word<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse())
}

/// Height and width: `96,128`, or one side.
pub(super) fn ratio(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(x) if (0.05..=16.0).contains(&x) => Ok(x),
        _ => Err(format!("{text:?}: want a factor from 0.05 to 16")),
    }
}

/// Height and width, or one side.
pub(super) fn size(text: &str) -> Result<(usize, usize), String> {
    let side = |text: &str| match text.trim().parse::<usize>() {
        Ok(side @ 1..) => Ok(side),
        _ => Err(format!("{text:?}: want pixels, as in 96 or 96,128")),
    };
    match text.split_once(',') {
        Some((height, width)) => Ok((side(height)?, side(width)?)),
        None => side(text).map(|side| (side, side)),
    }
}
