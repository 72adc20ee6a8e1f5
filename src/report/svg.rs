//! Line charts as SVG; colours come from the page.

use super::escape;
use std::fmt::Write;

const SIZE: (f64, f64) = (440.0, 240.0);
const MARGIN: (f64, f64, f64, f64) = (24.0, 12.0, 28.0, 56.0); // top, right, bottom, left
const COLOURS: [&str; 4] = ["var(--a)", "var(--b)", "var(--c)", "var(--d)"];

/// A chart of named lines over one axis; points that are not finite are left out.
pub fn line_chart(title: &str, lines: &[(&str, Vec<(f64, f64)>)]) -> String {
    let finite = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
    let points: Vec<_> = lines.iter().flat_map(|(_, l)| l.iter().filter(finite)).collect();
    let Some(first) = points.first() else { return String::new() };
    let start = ((first.0, first.0), (first.1, first.1));
    let (x, y) = points
        .iter()
        .fold(start, |(x, y), p| ((x.0.min(p.0), x.1.max(p.0)), (y.0.min(p.1), y.1.max(p.1))));
    let (x, y) = (widen(x), widen(y));
    let (top, right, bottom, left) = MARGIN;
    let (w, h) = (SIZE.0 - left - right, SIZE.1 - top - bottom);
    let at_x = |v: f64| left + w * (v - x.0) / (x.1 - x.0);
    let at_y = |v: f64| top + h * (1.0 - (v - y.0) / (y.1 - y.0));
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} {}\" role=img><title>{}</title>",
        SIZE.0,
        SIZE.1,
        escape(title)
    );
    let mut put = |text: std::fmt::Arguments| svg.write_fmt(text).expect("memory takes everything");
    for v in ticks(y) {
        let at = at_y(v);
        put(format_args!(
            "<path d=\"M{left} {at:.1}h{w}\" stroke=\"var(--line)\"/><text x=\"{}\" y=\"{:.1}\" \
             text-anchor=end>{}</text>",
            left - 6.0,
            at + 4.0,
            number(v)
        ));
    }
    for v in ticks(x) {
        let at = at_x(v);
        put(format_args!(
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=middle>{}</text>",
            SIZE.1 - 8.0,
            number(v)
        ));
    }
    for (i, (name, line)) in lines.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let path: String = line
            .iter()
            .filter(finite)
            .enumerate()
            .map(|(i, p)| {
                let letter = if i == 0 { 'M' } else { 'L' };
                format!("{letter}{:.1} {:.1}", at_x(p.0), at_y(p.1))
            })
            .collect();
        put(format_args!(
            "<path d=\"{path}\" fill=none stroke=\"{colour}\" stroke-width=1.6 \
             stroke-linejoin=round />"
        ));
        let at = left + 130.0 * i as f64;
        put(format_args!(
            "<rect x=\"{at}\" y=6 width=10 height=10 fill=\"{colour}\"/><text x=\"{}\" \
             y=15>{}</text>",
            at + 14.0,
            escape(name)
        ));
    }
    svg.push_str("</svg>");
    svg
}

/// An interval that is not empty.
fn widen((lo, hi): (f64, f64)) -> (f64, f64) {
    if hi > lo { (lo, hi) } else { (lo - 0.5, lo + 0.5) }
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

fn number(v: f64) -> String {
    let size = v.abs();
    if v == 0.0 {
        "0".into()
    } else if !(1e-3..1e5).contains(&size) {
        format!("{v:.0e}")
    } else {
        let text = format!("{v:.3}");
        text.trim_end_matches('0').trim_end_matches('.').into()
    }
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
    fn a_constant_line_and_no_line() {
        assert!(line_chart("c", &[("a", vec![(0.0, 1.0), (1.0, 1.0)])]).contains("M"));
        assert_eq!(line_chart("c", &[("a", vec![(0.0, f64::NAN)])]), "");
    }
}
