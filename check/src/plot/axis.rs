//! Axes: from numbers to places on the canvas, and the round numbers beside them.

/// One axis of a plot.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What is measured, and in which unit.
    pub(super) label: String,
    log: bool,
    zero: bool,
}

impl Axis {
    /// Equal differences are equally far apart.
    pub fn linear(label: &str) -> Self {
        Self { label: label.into(), log: false, zero: false }
    }

    /// Equal ratios are equally far apart; numbers from 0 down have no place.
    pub fn log(label: &str) -> Self {
        Self { log: true, ..Self::linear(label) }
    }

    /// Linear from 0, so that lengths can be compared.
    pub fn from_zero(label: &str) -> Self {
        Self { zero: true, ..Self::linear(label) }
    }

    pub(super) fn is_log(&self) -> bool {
        self.log
    }

    pub(super) fn has_place(&self, v: f64) -> bool {
        v.is_finite() && (!self.log || v > 0.0)
    }
}

/// An axis laid out on the canvas.
pub(super) struct Scale {
    pub(super) label: String,
    log: bool,
    /// Ends of the axis as numbers, or their decimal logarithms.
    lo: f64,
    hi: f64,
    /// Where these ends lie.
    ends: (f64, f64),
}

impl Scale {
    /// Room for all `values`; those without a place do not count.
    pub(super) fn new(axis: &Axis, values: &[f64], ends: (f64, f64)) -> Self {
        let places = values.iter().copied().filter(|v| axis.has_place(*v));
        let places = places.map(|v| if axis.log { v.log10() } else { v });
        let start = (f64::INFINITY, f64::NEG_INFINITY);
        let (mut lo, mut hi) = places.fold(start, |(lo, hi), v| (lo.min(v), hi.max(v)));
        if axis.zero {
            (lo, hi) = (lo.min(0.0), hi.max(0.0));
        }
        if lo >= hi {
            (lo, hi) = (lo - 0.5, hi + 0.5);
        }
        // A little air, so that no mark is cut in half by the frame.
        let air = 0.04 * (hi - lo);
        let lo = if axis.zero && lo == 0.0 { 0.0 } else { lo - air };
        Self { label: axis.label.clone(), log: axis.log, lo, hi: hi + air, ends }
    }

    pub(super) fn ends(&self) -> (f64, f64) {
        self.ends
    }

    /// Numbers at both ends.
    pub(super) fn range(&self) -> (f64, f64) {
        let back = |v: f64| if self.log { 10f64.powf(v) } else { v };
        (back(self.lo), back(self.hi))
    }

    /// Where a number lies. On a logarithmic axis what is not above 0 lies at the lower end.
    pub(super) fn at(&self, v: f64) -> f64 {
        let v = match self.log {
            true if v > 0.0 => v.log10(),
            true => self.lo,
            false => v,
        };
        self.ends.0 + (self.ends.1 - self.ends.0) * (v - self.lo) / (self.hi - self.lo)
    }

    /// Round numbers inside the axis.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if !self.log {
            return ticks((self.lo, self.hi));
        }
        let decades = (self.lo.ceil() as i32)..=(self.hi.floor() as i32);
        let count = decades.clone().count();
        if count > 2 {
            let every = count.div_ceil(8) as i32;
            let round = decades.filter(|e| e.rem_euclid(every) == 0);
            return round.map(|e| 10f64.powi(e)).collect();
        }
        let (lo, hi) = self.range();
        let fine = (self.lo.floor() as i32)..=(self.hi.ceil() as i32);
        let fine = fine.flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(e)));
        let fine: Vec<f64> = fine.filter(|v| (lo..=hi).contains(v)).collect();
        if fine.len() > 2 { fine } else { ticks((lo, hi)) }
    }
}

/// Round numbers inside an interval, three to six of them.
fn ticks((lo, hi): (f64, f64)) -> Vec<f64> {
    let raw = (hi - lo) / 4.0;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= raw);
    let step = step.unwrap_or(raw);
    // A bound that is itself round must not fall out by rounding.
    let (from, to) = ((lo / step - 1e-9).ceil() as i64, (hi / step + 1e-9).floor() as i64);
    (from..=to).map(|i| i as f64 * step).collect()
}

/// A number in as few letters as are worth reading.
pub(super) fn number(v: f64) -> String {
    let size = v.abs();
    if v == 0.0 || !v.is_finite() {
        return if v == 0.0 { "0".into() } else { v.to_string() };
    }
    if (1e-3..1e5).contains(&size) {
        let decimals = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
        let text = format!("{v:.decimals$}");
        let short = text.trim_end_matches('0').trim_end_matches('.');
        return if text.contains('.') { short.into() } else { text };
    }
    let text = format!("{v:.2e}");
    let (mantissa, exponent) = text.split_once('e').expect("scientific");
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    let power: String = exponent.chars().map(superscript).collect();
    if mantissa == "1" { format!("10{power}") } else { format!("{mantissa}·10{power}") }
}

fn superscript(c: char) -> char {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    c.to_digit(10).map_or('⁻', |d| DIGITS[d as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks((0.0, 10.0)), [0.0, 5.0, 10.0]);
        assert_eq!(ticks((0.3, 1.9)), [0.5, 1.0, 1.5]);
        assert!(ticks((5e-4, 6e-4)).len() >= 3);
    }

    #[test]
    fn decades_where_there_are_many_and_parts_of_them_where_few() {
        let scale = |values: &[f64]| Scale::new(&Axis::log("h"), values, (0.0, 100.0));
        let many = scale(&[1e-12, 1e-1]).ticks();
        assert!((4..=8).contains(&many.len()), "{many:?}");
        assert!(many.iter().all(|v| v.log10().fract().abs() < 1e-9), "{many:?}");
        assert_eq!(scale(&[1.0, 40.0]).ticks(), [1.0, 2.0, 5.0, 10.0, 20.0]);
        assert!(scale(&[100.0, 110.0]).ticks().len() >= 3);
    }

    #[test]
    fn equal_ratios_are_equally_far_apart() {
        let s = Scale::new(&Axis::log("h"), &[1.0, 100.0], (0.0, 100.0));
        assert!((s.at(10.0) - 50.0).abs() < 1e-9);
        assert!((s.at(1.0) + s.at(100.0) - 100.0).abs() < 1e-9);
        let zero = Scale::new(&Axis::from_zero("n"), &[3.0, 4.0], (0.0, 100.0));
        assert_eq!(zero.at(0.0), 0.0);
    }

    #[test]
    fn numbers_are_short() {
        for (v, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (100.0, "100"),
            (123.456, "123.5"),
            (12_345.0, "12345"),
            (1e-7, "10⁻⁷"),
            (2.5e9, "2.5·10⁹"),
            (0.001, "0.001"),
        ] {
            assert_eq!(number(v), text);
        }
    }
}
