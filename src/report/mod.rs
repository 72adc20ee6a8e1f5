//! Reports: one HTML file with everything in it, readable without a network, in light and dark mode
//! and at the width of a phone.

pub mod picture;
pub mod plot;

use crate::error::Result;
use crate::run::{Curve, write_atomic};
use picture::Picture;
use plot::{Axis, Plot};
use std::fmt::Write;
use std::path::Path;

/// A page under construction.
pub struct Report {
    title: String,
    body: String,
}

const STYLE: &str = "\
body{margin:0 auto;max-width:60rem;padding:1rem;background:var(--back);color:var(--text);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .9rem .25rem 0;text-align:left;border-bottom:1px solid var(--line)}
th{color:var(--dim);font-weight:500}
img{max-width:100%;height:auto;image-rendering:pixelated}
.plot{max-width:100%;height:auto}.wide .plot{min-width:36rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(18rem,1fr));gap:1rem}
.scroll{overflow-x:auto}
";

impl Report {
    /// An empty page.
    pub fn new(title: &str) -> Self {
        Self { title: title.into(), body: String::new() }
    }

    fn add(mut self, html: std::fmt::Arguments) -> Self {
        self.body.write_fmt(html).expect("memory takes everything");
        self.body.push('\n');
        self
    }

    /// A paragraph.
    pub fn text(self, text: &str) -> Self {
        self.add(format_args!("<p>{}</p>", escape(text)))
    }

    /// A table under a heading.
    pub fn table(self, heading: &str, columns: &[&str], rows: &[Vec<String>]) -> Self {
        let cells = |tag: &str, cells: &[String]| -> String {
            let cell = |c: &String| format!("<{tag}>{}</{tag}>", escape(c));
            format!("<tr>{}</tr>", cells.iter().map(cell).collect::<String>())
        };
        let columns: Vec<String> = columns.iter().map(|c| c.to_string()).collect();
        let head = cells("th", &columns);
        let rows: String = rows.iter().map(|row| cells("td", row)).collect();
        let heading = escape(heading);
        self.add(format_args!(
            "<h2>{heading}</h2><div class=scroll><table>{head}{rows}</table></div>"
        ))
    }

    /// One chart per curve, as logged in `metrics.jsonl`.
    pub fn curves(self, heading: &str, curves: &[Curve]) -> Self {
        let chart = |c: &Curve| {
            let axes = (Axis::linear("step"), Axis::linear(&c.name));
            Plot::new(&c.name, axes.0, axes.1).small().line(&c.name, &c.points).svg()
        };
        let charts: String = curves.iter().filter(|c| c.points.len() > 1).map(chart).collect();
        self.add(format_args!("<h2>{}</h2><div class=charts>{charts}</div>", escape(heading)))
    }

    /// A chart of [`plot`] in its full width, under the last heading.
    pub fn chart(self, svg: &str) -> Self {
        self.add(format_args!("<div class=\"scroll wide\">{svg}</div>"))
    }

    /// A picture inside the page.
    pub fn picture(self, heading: &str, picture: &Picture) -> Self {
        let (heading, data) = (escape(heading), base64(&picture.png()));
        self.add(format_args!(
            "<h2>{heading}</h2><img alt=\"{heading}\" src=\"data:image/png;base64,{data}\">"
        ))
    }

    /// The page as text.
    pub fn html(&self) -> String {
        let (title, body, palette) = (escape(&self.title), &self.body, plot::STYLE);
        format!(
            "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport \
             content=\"width=device-width,initial-scale=1\"><meta name=color-scheme \
             content=\"light dark\"><title>{title}</title><style>{palette}{STYLE}</style></head>\n\
             <body><h1>{title}</h1>\n{body}</body></html>\n"
        )
    }

    /// Writes the page.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, self.html().as_bytes())
    }
}

/// Text for HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// Standard base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().enumerate().fold(0u32, |w, (i, &b)| w | u32::from(b) << (16 - 8 * i));
        for i in 0..4 {
            let letter = ALPHABET[(word >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_standard() {
        // RFC 4648, section 10.
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn a_page_needs_nothing_else() {
        let picture = Picture::new(2, 3, [1, 2, 3]);
        let page = Report::new("a <b>")
            .text("x & y")
            .table("t", &["k"], &[vec!["1".into()]])
            .chart(
                &Plot::new("c", Axis::linear("step"), Axis::linear("nats"))
                    .line("loss", &[(0.0, 2.0), (1.0, 1.0)])
                    .svg(),
            )
            .picture("p", &picture)
            .html();
        assert!(page.contains("a &lt;b&gt;") && page.contains("x &amp; y"));
        assert!(page.contains("data:image/png;base64,") && page.contains("<svg"));
        assert!(!page.contains("http"), "nothing is fetched");
    }
}
