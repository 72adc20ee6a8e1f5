//! Charts as SVG: lines and points over linear or logarithmic axes ([`Plot`]), horizontal bars ([`Bars`]).
//!
//! A chart is one `<svg>` that needs no script, font or network. Colours are variables of [`STYLE`], so
//! that it is dark where the reader's page is dark; a series is told apart by the shape of its marks as
//! well as by its colour. Title and description are there for screen readers, every mark has its numbers
//! as a tooltip. The crate draws by itself because plotting crates write fixed colours into their SVG.
//!
//! ```
//! use beit_check::plot::{Axis, Guide, Plot};
//!
//! // Error of a central difference against its step: truncation falls with h², round-off rises with 1/h.
//! let error = |h: f64| h * h + 1e-16 / h;
//! let points: Vec<_> = (1..10).map(|k| 0.1f64.powi(k)).map(|h| (h, error(h))).collect();
//! let svg = Plot::new("V-curve", Axis::log("step h"), Axis::log("error"))
//!     .line("order 2", &points)
//!     .guide("h²", Guide::Slope { through: (1e-2, 1e-4), slope: 2.0 })
//!     .guide("round-off floor", Guide::Level(1e-10))
//!     .svg();
//! assert!(svg.starts_with("<svg") && svg.contains("round-off floor"));
//! ```

mod axis;
mod bars;
mod canvas;

pub use axis::Axis;
pub use bars::{Bar, Bars};
pub use canvas::STYLE;

use axis::{Scale, number};
use canvas::Canvas;

/// A point, with an interval around its height and a name where it has them.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Along the horizontal axis.
    pub x: f64,
    /// Along the vertical axis.
    pub y: f64,
    /// Lower and upper end of the error bar.
    pub interval: Option<[f64; 2]>,
    /// Name in the tooltip.
    pub label: String,
}

impl From<(f64, f64)> for Point {
    fn from((x, y): (f64, f64)) -> Self {
        Self { x, y, interval: None, label: String::new() }
    }
}

/// A line to compare with, drawn dashed and named at its end.
#[derive(Clone, Debug)]
pub enum Guide {
    /// A horizontal line.
    Level(f64),
    /// y = y₀ (x/x₀)^slope between two logarithmic axes, across the whole plot.
    Slope {
        /// (x₀, y₀)
        through: (f64, f64),
        /// The exponent.
        slope: f64,
    },
    /// Straight pieces.
    Path(Vec<(f64, f64)>),
}

struct Series {
    name: String,
    joined: bool,
    points: Vec<Point>,
}

/// Series of points over two axes.
pub struct Plot {
    title: String,
    description: String,
    size: (f64, f64),
    x: Axis,
    y: Axis,
    series: Vec<Series>,
    guides: Vec<(String, Guide)>,
}

/// More points than this are drawn as a line without marks.
const MARKED: usize = 40;

impl Plot {
    /// An empty plot.
    pub fn new(title: &str, x: Axis, y: Axis) -> Self {
        let (series, guides) = (Vec::new(), Vec::new());
        let (title, description) = (title.into(), String::new());
        Self { title, description, size: (720.0, 420.0), x, y, series, guides }
    }

    /// Small enough to stand beside others.
    pub fn small(mut self) -> Self {
        self.size = (440.0, 270.0);
        self
    }

    /// What the plot shows, for who cannot see it.
    pub fn describe(mut self, text: &str) -> Self {
        self.description = text.into();
        self
    }

    /// Adds points joined by a line.
    pub fn line<P: Clone + Into<Point>>(self, name: &str, points: &[P]) -> Self {
        self.add(name, points, true)
    }

    /// Adds separate points.
    pub fn points<P: Clone + Into<Point>>(self, name: &str, points: &[P]) -> Self {
        self.add(name, points, false)
    }

    fn add<P: Clone + Into<Point>>(mut self, name: &str, points: &[P], joined: bool) -> Self {
        let points = points.iter().cloned().map(Into::into).collect();
        self.series.push(Series { name: name.into(), joined, points });
        self
    }

    /// Adds a line to compare with.
    pub fn guide(mut self, label: &str, guide: Guide) -> Self {
        self.guides.push((label.into(), guide));
        self
    }

    /// Whether a point can be drawn: finite, and above 0 on a logarithmic axis.
    fn has_place(&self, p: &Point) -> bool {
        self.x.has_place(p.x) && self.y.has_place(p.y)
    }

    /// The points that are drawn, and how many are not.
    fn drawn(&self) -> (Vec<&Point>, usize) {
        let all = || self.series.iter().flat_map(|s| &s.points);
        let drawn: Vec<_> = all().filter(|p| self.has_place(p)).collect();
        let left_out = all().count() - drawn.len();
        (drawn, left_out)
    }

    /// Both scales, wide enough for all points, error bars, levels and paths.
    fn scales(
        &self,
        points: &[&Point],
        (top, right, bottom, left): (f64, f64, f64, f64),
    ) -> [Scale; 2] {
        let mut xs: Vec<f64> = points.iter().map(|p| p.x).collect();
        let mut ys: Vec<f64> = points.iter().map(|p| p.y).collect();
        ys.extend(points.iter().flat_map(|p| p.interval.into_iter().flatten()));
        for (_, guide) in &self.guides {
            match guide {
                Guide::Level(y) => ys.push(*y),
                Guide::Slope { .. } => {}
                Guide::Path(path) => {
                    xs.extend(path.iter().map(|p| p.0));
                    ys.extend(path.iter().map(|p| p.1));
                }
            }
        }
        let (w, h) = self.size;
        [Scale::new(&self.x, &xs, (left, w - right)), Scale::new(&self.y, &ys, (h - bottom, top))]
    }

    /// The plot inside a page that has [`STYLE`]; empty where no point can be drawn.
    pub fn svg(&self) -> String {
        let (points, left_out) = self.drawn();
        if points.is_empty() {
            return String::new();
        }
        let mut description = self.description.clone();
        if left_out > 0 {
            description += &format!(" {left_out} points have no place on these axes.");
        }
        let mut canvas = Canvas::new(&self.title, description.trim(), self.size);
        let names: Vec<&str> = self.series.iter().map(|s| s.name.as_str()).collect();
        // One series needs no legend where the title says what it is.
        let names = if names == [self.title.as_str()] { Vec::new() } else { names };
        let left = 72.0;
        let top = canvas.heading(&self.title, &names, left) + 8.0;
        let [x, y] = self.scales(&points, (top, 16.0, 46.0, left));
        canvas.grid(&x, &y);
        let guides = self.guides.iter().filter_map(|(label, guide)| {
            Some((label, canvas.guide(&self.trace(guide, &x, &y), &x, &y)?))
        });
        // Marks lie on the lines to compare with, and the names of these on the marks.
        let labels: Vec<_> = guides.collect();
        for (i, series) in self.series.iter().enumerate() {
            self.draw(&mut canvas, i, series, &x, &y);
        }
        for (label, at) in labels {
            canvas.text("halo", at, "end", label);
        }
        canvas.finish()
    }

    /// Corners of a guide on the canvas, before it is clipped.
    fn trace(&self, guide: &Guide, x: &Scale, y: &Scale) -> Vec<(f64, f64)> {
        match guide {
            Guide::Level(level) if self.y.has_place(*level) => {
                vec![(x.ends().0, y.at(*level)), (x.ends().1, y.at(*level))]
            }
            Guide::Level(_) => Vec::new(),
            Guide::Slope { through, slope } => {
                assert!(self.x.is_log() && self.y.is_log(), "a slope needs two logarithmic axes");
                let (lo, hi) = x.range();
                let at = |v: f64| (x.at(v), y.at(through.1 * (v / through.0).powf(*slope)));
                vec![at(lo), at(hi)]
            }
            Guide::Path(path) => path.iter().map(|p| (x.at(p.0), y.at(p.1))).collect(),
        }
    }

    fn draw(&self, canvas: &mut Canvas, i: usize, series: &Series, x: &Scale, y: &Scale) {
        let points: Vec<&Point> = series.points.iter().filter(|p| self.has_place(p)).collect();
        if series.joined {
            let corners: Vec<_> = points.iter().map(|p| (x.at(p.x), y.at(p.y))).collect();
            canvas.line(i, &corners);
        }
        if series.joined && points.len() > MARKED {
            return;
        }
        for p in points {
            let at = (x.at(p.x), y.at(p.y));
            if let Some([lo, hi]) = p.interval {
                canvas.error_bar(i, (at.0, y.at(lo)), (at.0, y.at(hi)));
            }
            let within = p.interval.map(|[lo, hi]| format!(" ({} to {})", number(lo), number(hi)));
            let name = [series.name.as_str(), p.label.as_str()].join(" ");
            let (px, py, within) = (number(p.x), number(p.y), within.unwrap_or_default());
            canvas.mark(i, at, &format!("{}: {px}, {py}{within}", name.trim()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_line_and_no_line() {
        let plot = || Plot::new("c", Axis::linear("x"), Axis::linear("y"));
        assert!(plot().line("a", &[(0.0, 1.0), (1.0, 1.0)]).svg().contains("<path"));
        assert_eq!(plot().line("a", &[(0.0, f64::NAN)]).svg(), "");
    }

    #[test]
    fn what_a_logarithm_cannot_show_is_said() {
        let svg = Plot::new("v", Axis::log("h"), Axis::log("error"))
            .line("a", &[(1e-3, 1e-6), (1e-4, 0.0), (1e-5, 1e-8)])
            .svg();
        assert!(svg.contains("1 points have no place"), "{svg}");
        assert_eq!(svg.matches("class=mark").count(), 2 + 1, "two points and the legend");
    }

    #[test]
    fn names_cannot_break_out() {
        let svg = Plot::new("<a>", Axis::linear("x&y"), Axis::linear("\"q\""))
            .line("<script>", &[(0.0, 1.0), (1.0, 2.0)])
            .svg();
        assert!(!svg.contains("<script>") && svg.contains("&lt;script&gt;"));
        assert!(svg.contains("x&amp;y") && svg.contains("<title>&lt;a&gt;</title>"));
    }

    #[test]
    fn guides_end_at_the_frame() {
        let plot = Plot::new("v", Axis::log("h"), Axis::log("error"))
            .line("a", &[(1e-6, 1e-9), (1e-1, 1e-3)])
            .guide("h⁸", Guide::Slope { through: (1e-2, 1e-6), slope: 8.0 });
        let svg = plot.svg();
        let at = svg.find("class=guide").expect("drawn");
        let path = svg[at..].split('"').nth(1).unwrap();
        let numbers: Vec<f64> = path
            .split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'))
            .filter_map(|t| t.parse().ok())
            .collect();
        let (w, h) = plot.size;
        assert!(numbers.len() >= 4, "{path}");
        assert!(numbers.chunks(2).all(|p| (0.0..=w).contains(&p[0]) && (0.0..=h).contains(&p[1])));
    }
}
