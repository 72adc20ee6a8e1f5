//! A page: headings, paragraphs, tables, charts and pictures, written once and given as HTML or as
//! Markdown.
//!
//! The HTML is one file that needs no font or network, and a script only for a part that answers ([`LivePart`]);
//! it follows the reader's choice of light or dark, and fits a phone: what is wider scrolls by itself. Everything that comes in as text is escaped
//! in both forms. Markdown has neither charts nor pictures.
//!
//! ```
//! use beit::report::page::{Cell, Page, Table};
//!
//! let page = Page::new("Times").section("Ops").table(
//!     Table::new(&["op", "µs"], 1)
//!         .row(["gelu".into(), "12.5".into()])
//!         .row(["relu".into(), Cell::struck("3.1", "error 4e-3, allowed 1e-6")]),
//! );
//! assert!(page.html().contains("<del>3.1</del>"));
//! assert!(page.markdown().contains("| relu | ~~3.1~~ (error 4e-3, allowed 1e-6) |"));
//! ```

mod base64;
mod curves;
mod live;
mod table;

pub use curves::Curve;
pub use live::LivePart;
pub use table::{Cell, Table};

use super::about::About;
use super::picture::Picture;
use crate::atomic::write_atomic;
use crate::error::Result;
use base64::base64;
pub(crate) use beit_check::escape;
use beit_check::html::document;
use std::fmt::Write;
use std::path::Path;
use table::plain;

enum PageBlock {
    Section(String),
    Subsection(String),
    Text(String),
    List(Vec<String>),
    Code(String),
    Folded(String, String),
    Table(Table),
    Chart(String),
    Charts(Vec<String>),
    Picture(String, Vec<u8>),
    Gallery(Vec<(String, Vec<u8>)>),
    Live(LivePart),
}

/// A page under construction.
pub struct Page {
    title: String,
    contents: bool,
    blocks: Vec<PageBlock>,
}

impl Page {
    /// An empty page.
    pub fn new(title: &str) -> Self {
        Self { title: title.into(), contents: false, blocks: Vec::new() }
    }

    fn add(mut self, block: PageBlock) -> Self {
        self.blocks.push(block);
        self
    }

    /// Begins with links to all sections.
    pub fn with_contents(mut self) -> Self {
        self.contents = true;
        self
    }

    /// A heading.
    pub fn section(self, heading: &str) -> Self {
        self.add(PageBlock::Section(heading.into()))
    }

    /// A heading inside a section.
    pub fn subsection(self, heading: &str) -> Self {
        self.add(PageBlock::Subsection(heading.into()))
    }

    /// A paragraph.
    pub fn text(self, text: &str) -> Self {
        self.add(PageBlock::Text(text.into()))
    }

    /// One paragraph per item, with a dot before it.
    pub fn list(self, items: &[String]) -> Self {
        self.add(PageBlock::List(items.to_vec()))
    }

    /// Lines to be typed or read as they are.
    pub fn code(self, text: &str) -> Self {
        self.add(PageBlock::Code(text.into()))
    }

    /// Lines as [`Page::code`] shows them, under a heading that unfolds them.
    pub fn folded(self, heading: &str, text: &str) -> Self {
        self.add(PageBlock::Folded(heading.into(), text.into()))
    }

    /// How what the page shows came about.
    pub fn about(self, about: &About) -> Self {
        let table = Table::new(&["what", "value"], 2).rows(about.rows());
        let page = self.section("About this run").table(table);
        let page = if about.unreadable.is_empty() { page } else { page.list(&about.named()) };
        if about.settings.is_empty() {
            page
        } else {
            page.folded("All settings", about.settings.trim_end())
        }
    }

    /// A table; nothing where it has no rows.
    pub fn table(self, table: Table) -> Self {
        if table.is_empty() { self } else { self.add(PageBlock::Table(table)) }
    }

    /// A chart of [`plot`](super::plot) in its full width.
    pub fn chart(self, svg: &str) -> Self {
        if svg.is_empty() { self } else { self.add(PageBlock::Chart(svg.into())) }
    }

    /// Charts of [`plot`](super::plot) beside each other; meant for small ones.
    pub fn charts(self, svgs: impl IntoIterator<Item = String>) -> Self {
        self.add(PageBlock::Charts(svgs.into_iter().collect()))
    }

    /// Curves as logged in `metrics.jsonl`: those that are to be compared in one chart, those that never
    /// change as a figure.
    pub fn curves(self, all: &[Curve]) -> Self {
        let charts = curves::charts(all);
        let page = if charts.is_empty() { self } else { self.charts(charts) };
        page.table(Table::new(&["constant", "value"], 1).rows(curves::constants(all)))
    }

    /// A picture inside the page; `name` says what it shows.
    pub fn picture(self, name: &str, picture: &Picture) -> Self {
        self.add(PageBlock::Picture(name.into(), picture.png()))
    }

    /// Pictures beside each other, each over the line that says what it shows.
    pub fn gallery<'a>(self, pictures: impl IntoIterator<Item = (String, &'a Picture)>) -> Self {
        let png = |(name, picture): (String, &Picture)| (name, picture.png());
        self.add(PageBlock::Gallery(pictures.into_iter().map(png).collect()))
    }

    /// A part that answers to whoever points at it; not in Markdown.
    pub fn live(self, part: LivePart) -> Self {
        self.add(PageBlock::Live(part))
    }

    fn sections(&self) -> impl Iterator<Item = (usize, &str)> {
        let headings = self.blocks.iter().enumerate();
        headings.filter_map(|(i, b)| match b {
            PageBlock::Section(heading) => Some((i, heading.as_str())),
            _ => None,
        })
    }

    /// The page as one HTML file.
    pub fn html(&self) -> String {
        let mut body = String::new();
        if self.contents {
            let link = |(i, s): (usize, &str)| format!("<li><a href=\"#s{i}\">{}</a>", escape(s));
            let links: String = self.sections().map(link).collect();
            body = format!("<nav><ul>{links}</ul></nav>\n");
        }
        for (i, block) in self.blocks.iter().enumerate() {
            body.push_str(&block.html(i));
            body.push('\n');
        }
        document(&self.title, &body)
    }

    /// Headings, text and tables of the page as GitHub's Markdown.
    pub fn markdown(&self) -> String {
        let blocks = self.blocks.iter().filter_map(PageBlock::markdown);
        blocks.fold(format!("# {}\n", plain(&self.title)), |text, block| text + "\n" + &block)
    }

    /// Writes the HTML.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, self.html().as_bytes())
    }
}

impl PageBlock {
    /// `number` is the block's place in the page.
    fn html(&self, number: usize) -> String {
        match self {
            Self::Section(text) => format!("<h2 id=s{number}>{}</h2>", escape(text)),
            Self::Subsection(text) => format!("<h3>{}</h3>", escape(text)),
            Self::Text(text) => format!("<p>{}</p>", escape(text)),
            Self::List(items) => {
                let items = items.iter().map(|item| format!("<li>{}", escape(item)));
                format!("<ul>{}</ul>", items.collect::<String>())
            }
            Self::Code(text) => format!("<pre><code>{}</code></pre>", escape(text)),
            Self::Folded(heading, text) => {
                let (heading, text) = (escape(heading), escape(text));
                format!(
                    "<details><summary>{heading}</summary><pre><code>{text}</code></pre></details>"
                )
            }
            Self::Table(table) => table.html(),
            Self::Chart(svg) => format!("<div class=\"scroll wide\">{svg}</div>"),
            Self::Charts(svgs) => format!("<div class=charts>{}</div>", svgs.concat()),
            Self::Picture(name, png) => img(name, png),
            Self::Gallery(pictures) => {
                let figure = |(name, png): &(String, Vec<u8>)| {
                    let (img, name) = (img(name, png), escape(name));
                    format!("<figure>{img}<figcaption>{name}</figcaption></figure>")
                };
                let figures: String = pictures.iter().map(figure).collect();
                format!("<div class=gallery>{figures}</div>")
            }
            Self::Live(part) => part.html(),
        }
    }

    fn markdown(&self) -> Option<String> {
        Some(match self {
            Self::Section(text) => format!("## {}\n", plain(text)),
            Self::Subsection(text) => format!("### {}\n", plain(text)),
            Self::Text(text) => format!("{}\n", plain(text)),
            Self::List(items) => items.iter().fold(String::new(), |mut text, item| {
                writeln!(text, "* {}", plain(item)).expect("memory takes everything");
                text
            }),
            Self::Code(text) => format!("```\n{text}\n```\n"),
            Self::Folded(heading, text) => format!("### {}\n\n```\n{text}\n```\n", plain(heading)),
            Self::Table(table) => table.markdown(),
            Self::Chart(_)
            | Self::Charts(_)
            | Self::Picture(..)
            | Self::Gallery(_)
            | Self::Live(_) => return None,
        })
    }
}

fn img(name: &str, png: &[u8]) -> String {
    let (name, data) = (escape(name), base64(png));
    format!("<img alt=\"{name}\" src=\"data:image/png;base64,{data}\">")
}

#[cfg(test)]
mod tests {
    use super::super::plot::{Axis, Plot};
    use super::*;

    fn page() -> Page {
        let chart = Plot::new("c", Axis::linear("step"), Axis::linear("nats"))
            .line("loss", &[(0.0, 2.0), (1.0, 1.0)])
            .svg();
        Page::new("a <b>")
            .with_contents()
            .section("one & two")
            .text("x & y")
            .list(&["i < j".into(), "k".into()])
            .code("beit <x>")
            .folded("m <n>", "o <p>")
            .subsection("part")
            .table(
                Table::new(&["k", "v"], 1)
                    .rows([["a|b_c".into(), "1".into()]])
                    .row(["<i>".into(), Cell::struck("2", "3 > 1")]),
            )
            .chart(&chart)
            .charts([chart.clone(), chart])
            .picture("p \"q\"", &Picture::new(2, 3, [1, 2, 3]))
            .section("last")
    }

    #[test]
    fn a_page_needs_nothing_else() {
        let html = page().html();
        assert!(html.contains("a &lt;b&gt;") && html.contains("x &amp; y"));
        assert!(html.contains("data:image/png;base64,"));
        assert_eq!(html.matches("<svg").count(), 3);
        assert!(!html.contains("http"), "nothing is fetched");
        assert!(!html.contains("<script"), "nothing is run");
        assert!(html.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn text_cannot_become_markup() {
        let html = page().html();
        for (name, whole) in [
            ("contents", "<a href=\"#s0\">one &amp; two</a>"),
            ("section", "<h2 id=s0>one &amp; two</h2>"),
            ("list", "<li>i &lt; j"),
            ("code", "<code>beit &lt;x&gt;</code>"),
            ("heading", "<summary>m &lt;n&gt;</summary>"),
            ("folded", "<pre><code>o &lt;p&gt;</code></pre></details>"),
            ("cell", "<td>&lt;i&gt;</td>"),
            ("struck", "<td class=n><del>2</del><span class=note>3 &gt; 1</span></td>"),
            ("picture", "alt=\"p &quot;q&quot;\""),
        ] {
            assert!(html.contains(whole), "{name}: no {whole} in {html}");
        }
        assert!(!html.contains("<i>") && !html.contains("<x>") && !html.contains("<b>"));
    }

    #[test]
    fn markdown_says_the_same_without_charts() {
        let want = "# a \\<b\\>\n\n## one & two\n\nx & y\n\n* i \\< j\n* k\n\n```\nbeit <x>\n```\n\n### m \\<n\\>\n\n```\no <p>\n```\n\n\
                    ### part\n\n| k | v |\n| --- | ---: |\n| a\\|b_c | 1 |\n| \\<i\\> | ~~2~~ (3 \\> 1) \
                    |\n\n## last\n";
        assert_eq!(page().markdown(), want);
        assert_eq!(plain("_a_b_ and rel_pos"), "\\_a_b\\_ and rel_pos");
    }

    #[test]
    fn what_is_empty_leaves_nothing() {
        let page = Page::new("t").table(Table::new(&["a"], 1)).chart("");
        assert_eq!(page.markdown(), "# t\n");
        assert!(!page.html().contains("<table"));
    }

    #[test]
    #[should_panic(expected = "a row of 1 cells under 2 columns")]
    fn a_row_that_does_not_fit_is_a_mistake() {
        let _ = Table::new(&["a", "b"], 1).row(["x".into()]);
    }
}
