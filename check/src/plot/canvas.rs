//! Strokes and letters of a chart.

use super::axis::{Scale, number};
use crate::escape::escape;
use std::fmt::Write;

/// Colours of light and dark pages and the look of a chart's parts. The eight colours of series keep
/// their distance for colour-blind readers (after Okabe and Ito), darker on white, lighter on black.
pub const STYLE: &str = "\
:root{--back:#fff;--text:#1c1c1e;--dim:#5f5f66;--line:#dcdce0;--a:#0b63b0;--b:#c2410c;--c:#0f7a54;--d:#a3348a;--e:#8a6a00;--f:#1689b8;--g:#5b4fc4;--h:#6b6b70}
@media(prefers-color-scheme:dark){:root{--back:#161618;--text:#ececee;--dim:#a6a6ad;--line:#37373c;--a:#62b0f5;--b:#fb923c;--c:#3fce96;--d:#e58fd0;--e:#e5c54a;--f:#7fd8f5;--g:#b0a6ff;--h:#b4b4ba}}
.plot{background:var(--back)}.plot text{fill:var(--dim);font:12px system-ui,sans-serif}
.plot .title{fill:var(--text);font-weight:600;font-size:13px}.plot .name,.plot .value{fill:var(--text)}
.plot .grid{stroke:var(--line);fill:none}.plot .guide{stroke:var(--dim);stroke-dasharray:5 4;fill:none}
.plot .halo{paint-order:stroke;stroke:var(--back);stroke-width:4px;stroke-linejoin:round}
.plot .line{fill:none;stroke-width:1.8;stroke-linejoin:round}.plot .whisker{fill:none;stroke-width:1.4}
.plot .mark{stroke:var(--back);stroke-width:.7}
";

/// A chart under construction.
pub(super) struct Canvas {
    svg: String,
}

/// Mean width of a letter of the charts' font, a little generously.
pub(super) const LETTER: f64 = 6.8;

pub(super) fn colour(series: usize) -> String {
    format!("var(--{})", char::from(b'a' + (series % 8) as u8))
}

impl Canvas {
    pub(super) fn new(title: &str, description: &str, (w, h): (f64, f64)) -> Self {
        let (title, about) = (escape(title), escape(description));
        let about = if about.is_empty() { about } else { format!("<desc>{about}</desc>") };
        let svg = format!(
            "<svg class=\"plot\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" \
             role=\"img\"><title>{title}</title>{about}"
        );
        Self { svg }
    }

    pub(super) fn put(&mut self, text: std::fmt::Arguments) {
        self.svg.write_fmt(text).expect("memory takes everything");
    }

    pub(super) fn finish(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }

    /// `anchor` is start, middle or end.
    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: &str, text: &str) {
        let text = escape(text);
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// Title and, below it, one mark and name per series in as many rows as they need; returns how far
    /// down that reaches.
    pub(super) fn heading(&mut self, title: &str, names: &[&str], left: f64) -> f64 {
        self.text("title", (12.0, 18.0), "start", title);
        let width = self.width();
        let (mut x, mut y) = (left, 38.0);
        for (i, name) in names.iter().enumerate() {
            let room = 30.0 + LETTER * name.chars().count() as f64;
            if x > left && x + room > width {
                (x, y) = (left, y + 18.0);
            }
            self.mark(i, (x + 6.0, y - 4.0), name);
            self.text("name", (x + 16.0, y), "start", name);
            x += room;
        }
        if names.is_empty() { 24.0 } else { y + 6.0 }
    }

    fn width(&self) -> f64 {
        let tag = self.svg.split_once("width=\"").and_then(|(_, rest)| rest.split_once('"'));
        tag.and_then(|(w, _)| w.parse().ok()).expect("set by `new`")
    }

    /// Lines at round numbers of both axes, the numbers, and what they are.
    pub(super) fn grid(&mut self, x: &Scale, y: &Scale) {
        let ((x0, x1), (y0, y1)) = (x.ends(), y.ends());
        for v in y.ticks() {
            let at = y.at(v);
            self.put(format_args!("<path class=\"grid\" d=\"M{x0:.1} {at:.1}H{x1:.1}\"/>"));
            self.text("tick", (x0 - 6.0, at + 4.0), "end", &number(v));
        }
        self.across(x, (y0, y1));
        let middle = (y0 + y1) / 2.0;
        let label = escape(&y.label);
        self.put(format_args!(
            "<text transform=\"translate(16 {middle:.1}) rotate(-90)\" \
             text-anchor=\"middle\">{label}</text>"
        ));
    }

    /// The horizontal axis alone, from `y0` at the bottom to `y1` at the top.
    pub(super) fn across(&mut self, x: &Scale, (y0, y1): (f64, f64)) {
        for v in x.ticks() {
            let at = x.at(v);
            self.put(format_args!("<path class=\"grid\" d=\"M{at:.1} {y0:.1}V{y1:.1}\"/>"));
            self.text("tick", (at, y0 + 17.0), "middle", &number(v));
        }
        let (x0, x1) = x.ends();
        self.text("label", ((x0 + x1) / 2.0, y0 + 36.0), "middle", &x.label);
    }

    pub(super) fn line(&mut self, series: usize, corners: &[(f64, f64)]) {
        let (path, colour) = (path(corners), colour(series));
        self.put(format_args!("<path class=\"line\" d=\"{path}\" stroke=\"{colour}\"/>"));
    }

    /// A dashed line, clipped to the frame; returns where its name is to end.
    pub(super) fn guide(
        &mut self,
        corners: &[(f64, f64)],
        x: &Scale,
        y: &Scale,
    ) -> Option<(f64, f64)> {
        let frame = (x.ends(), (y.ends().1, y.ends().0));
        let pieces = corners.windows(2).filter_map(|c| clip((c[0], c[1]), frame));
        let pieces: Vec<_> = pieces.collect();
        let &(a, b) = pieces.last()?;
        let path: String = pieces.iter().map(|&(a, b)| path(&[a, b])).collect();
        self.put(format_args!("<path class=guide d=\"{path}\"/>"));
        let (end, start) = if b.0 >= a.0 { (b, a) } else { (a, b) };
        // Steep lines are named at their lower end, where those of different slope are apart.
        let steep = (end.1 - start.1).abs() > (end.0 - start.0).abs();
        let low = if end.1 > start.1 { end } else { start };
        Some(if steep { (low.0 - 5.0, low.1 - 5.0) } else { (end.0 - 4.0, end.1 - 5.0) })
    }

    pub(super) fn error_bar(&mut self, series: usize, a: (f64, f64), b: (f64, f64)) {
        let colour = colour(series);
        let ((x0, y0), (x1, y1)) = (a, b);
        // The small strokes at both ends stand across the bar.
        let (dx, dy) = if x0 == x1 { (4.0, 0.0) } else { (0.0, 4.0) };
        let mut caps = String::new();
        for (x, y) in [a, b] {
            let (fx, fy, tx, ty) = (x - dx, y - dy, x + dx, y + dy);
            write!(caps, "M{fx:.1} {fy:.1}L{tx:.1} {ty:.1}").expect("memory takes everything");
        }
        self.put(format_args!(
            "<path class=\"whisker\" stroke=\"{colour}\" d=\"M{x0:.1} {y0:.1}L{x1:.1} {y1:.1}{caps}\"/>"
        ));
    }

    /// A mark whose shape and colour say which series it belongs to.
    pub(super) fn mark(&mut self, series: usize, (x, y): (f64, f64), tooltip: &str) {
        let (colour, tooltip) = (colour(series), escape(tooltip));
        let shape = match series % 4 {
            0 => "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
            1 => "M-3.6 -3.6h7.2v7.2h-7.2z",
            2 => "M0 -4.8L4.6 3.6H-4.6z",
            _ => "M0 -5L5 0L0 5L-5 0z",
        };
        self.put(format_args!(
            "<path class=mark fill=\"{colour}\" transform=\"translate({x:.1} {y:.1})\" \
             d=\"{shape}\"><title>{tooltip}</title></path>"
        ));
    }
}

fn path(corners: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (i, (x, y)) in corners.iter().enumerate() {
        let letter = if i == 0 { 'M' } else { 'L' };
        write!(path, "{letter}{x:.1} {y:.1}").expect("memory takes everything");
    }
    path
}

type LineSegment = ((f64, f64), (f64, f64));

/// The part of a segment inside a rectangle (Liang and Barsky: for each side, the share of the segment
/// at which it is crossed bounds the part that is left).
fn clip((a, b): LineSegment, ((x0, x1), (y0, y1)): LineSegment) -> Option<LineSegment> {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let (mut from, mut to) = (0.0f64, 1.0f64);
    for (step, room) in [(-dx, a.0 - x0), (dx, x1 - a.0), (-dy, a.1 - y0), (dy, y1 - a.1)] {
        if step == 0.0 {
            if room < 0.0 {
                return None;
            }
        } else if step < 0.0 {
            from = from.max(room / step);
        } else {
            to = to.min(room / step);
        }
    }
    let at = |t: f64| (a.0 + t * dx, a.1 + t * dy);
    (from <= to).then(|| (at(from), at(to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_cut_at_the_frame() {
        let frame = ((0.0, 10.0), (0.0, 10.0));
        assert_eq!(clip(((-5.0, 5.0), (15.0, 5.0)), frame), Some(((0.0, 5.0), (10.0, 5.0))));
        assert_eq!(clip(((2.0, 2.0), (3.0, 4.0)), frame), Some(((2.0, 2.0), (3.0, 4.0))));
        assert_eq!(clip(((0.0, 20.0), (20.0, 0.0)), frame), Some(((10.0, 10.0), (10.0, 10.0))));
        assert_eq!(clip(((-1.0, 0.0), (-1.0, 9.0)), frame), None);
    }
}
