//! Horizontal bars: names stand beside them and stay readable however many there are.

use super::axis::{Axis, Scale, number};
use super::canvas::{Canvas, LETTER, colour};

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Its length.
    pub value: f64,
    /// Lower and upper end of the error bar.
    pub interval: Option<[f64; 2]>,
}

impl From<f64> for Bar {
    fn from(value: f64) -> Self {
        Self { value, interval: None }
    }
}

/// Groups of bars, one bar per name in each; beside each other, or [stacked](Bars::stacked).
pub struct Bars {
    title: String,
    description: String,
    axis: Axis,
    names: Vec<String>,
    groups: Vec<(String, Vec<Option<Bar>>)>,
    stacked: bool,
    line: Option<f64>,
}

const WIDTH: f64 = 720.0;
const THICK: f64 = 12.0;

impl Bars {
    /// Bars of these names side by side; `axis` says what their length is.
    pub fn new(title: &str, axis: &str, names: &[&str]) -> Self {
        Self {
            title: title.into(),
            description: String::new(),
            axis: Axis::from_zero(axis),
            names: names.iter().map(|n| n.to_string()).collect(),
            groups: Vec::new(),
            stacked: false,
            line: None,
        }
    }

    /// Parts of a whole, end to end.
    pub fn stacked(mut self) -> Self {
        self.stacked = true;
        self
    }

    /// What the chart shows, for who cannot see it.
    pub fn describe(mut self, text: &str) -> Self {
        self.description = text.into();
        self
    }

    /// A line across all bars at a length to compare with.
    pub fn line_at(mut self, value: f64) -> Self {
        self.line = Some(value);
        self
    }

    /// Adds a group; one bar or nothing per name.
    #[track_caller]
    pub fn group(mut self, name: &str, bars: Vec<Option<Bar>>) -> Self {
        assert_eq!(bars.len(), self.names.len(), "bars: {name} needs one entry per name");
        self.groups.push((name.into(), bars));
        self
    }

    /// The chart inside a page that has [`STYLE`](super::STYLE); empty without groups.
    pub fn svg(&self) -> String {
        if self.groups.is_empty() {
            return String::new();
        }
        let longest = self.groups.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let left = (20.0 + LETTER * longest as f64).clamp(80.0, 280.0);
        let lanes = if self.stacked { 1.5 } else { self.names.len() as f64 };
        let step = THICK * lanes + 8.0;
        // Two passes: the height depends on the rows of the legend, and those on the width alone.
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let names = if names.len() == 1 { Vec::new() } else { names };
        let top = Canvas::new("", "", (WIDTH, 1.0)).heading(&self.title, &names, left) + 8.0;
        let bottom = top + step * self.groups.len() as f64;
        let mut canvas = Canvas::new(&self.title, &self.description, (WIDTH, bottom + 46.0));
        canvas.heading(&self.title, &names, left);
        // Room at the right for the number behind the longest bar.
        let x = Scale::new(&self.axis, &self.ends(), (left, WIDTH - 60.0));
        canvas.across(&x, (bottom, top));
        if let Some(line) = self.line {
            let at = x.at(line);
            canvas.put(format_args!("<path class=guide d=\"M{at:.1} {top:.1}V{bottom:.1}\"/>"));
        }
        for (g, (name, bars)) in self.groups.iter().enumerate() {
            let y = top + step * g as f64 + 4.0;
            canvas.text("name", (left - 8.0, y + THICK * lanes / 2.0 + 4.0), "end", name);
            if self.stacked {
                stack(&mut canvas, &x, y, name, bars, &self.names)
            } else {
                self.beside(&mut canvas, &x, y, name, bars)
            }
        }
        canvas.finish()
    }

    /// Every length the axis must hold.
    fn ends(&self) -> Vec<f64> {
        let bars = |g: &[Option<Bar>]| g.iter().flatten().cloned().collect::<Vec<_>>();
        let mut ends: Vec<f64> = self.line.into_iter().collect();
        for (_, group) in &self.groups {
            let group = bars(group);
            if self.stacked {
                ends.push(group.iter().map(|b| b.value).sum());
            } else {
                let all =
                    group.iter().flat_map(|b| [b.value, b.interval.map_or(b.value, |i| i[1])]);
                ends.extend(all);
            }
        }
        ends
    }

    fn beside(&self, canvas: &mut Canvas, x: &Scale, y: f64, group: &str, bars: &[Option<Bar>]) {
        for (i, bar) in bars.iter().enumerate() {
            let Some(bar) = bar else { continue };
            let top = y + THICK * i as f64;
            let end = x.at(bar.value);
            let tip = format!("{group}, {}: {}", self.names[i], number(bar.value));
            rect(canvas, i, (x.at(0.0), top), (end, top + THICK - 2.0), &tip);
            let mut after = end;
            if let Some([lo, hi]) = bar.interval {
                let middle = top + THICK / 2.0 - 1.0;
                canvas.error_bar(i, (x.at(lo), middle), (x.at(hi), middle));
                after = after.max(x.at(hi));
            }
            canvas.text(
                "value halo",
                (after + 6.0, top + THICK - 2.0),
                "start",
                &number(bar.value),
            );
        }
    }
}

fn stack(
    canvas: &mut Canvas,
    x: &Scale,
    y: f64,
    group: &str,
    bars: &[Option<Bar>],
    names: &[String],
) {
    let mut sum = 0.0;
    for (i, bar) in bars.iter().enumerate() {
        let Some(bar) = bar else { continue };
        let tip = format!("{group}, {}: {}", names[i], number(bar.value));
        let (from, to) = (x.at(sum), x.at(sum + bar.value));
        rect(canvas, i, (from, y), (to, y + 1.5 * THICK), &tip);
        sum += bar.value;
    }
    canvas.text("value halo", (x.at(sum) + 6.0, y + THICK + 1.0), "start", &number(sum));
}

fn rect(canvas: &mut Canvas, series: usize, (x0, y0): (f64, f64), (x1, y1): (f64, f64), tip: &str) {
    let (w, h, colour) = ((x1 - x0).max(0.0), y1 - y0, colour(series));
    let tip = crate::escape::escape(tip);
    canvas.put(format_args!(
        "<rect class=mark x=\"{x0:.1}\" y=\"{y0:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" \
         fill=\"{colour}\"><title>{tip}</title></rect>"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_in_proportion() {
        let svg = Bars::new("t", "ms", &["a"])
            .group("x", vec![Some(2.0.into())])
            .group("y", vec![Some(4.0.into())])
            .group("none", vec![None])
            .svg();
        let widths: Vec<f64> = svg
            .match_indices("<rect")
            .map(|(at, _)| svg[at..].split("width=\"").nth(1).unwrap())
            .map(|w| w.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(widths.len(), 2);
        assert!((widths[1] / widths[0] - 2.0).abs() < 0.01, "{widths:?}");
    }

    #[test]
    fn parts_end_to_end_say_their_sum() {
        let bars = vec![Some(1.5.into()), None, Some(2.5.into())];
        let svg = Bars::new("t", "ms", &["a", "b", "c"]).stacked().group("x", bars).svg();
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(svg.contains(">4</text>"), "{svg}");
        assert_eq!(Bars::new("t", "ms", &["a"]).svg(), "");
    }
}
