//! Parts of a page that answer to whoever points at them.

use super::base64::base64;
use crate::report::picture::Picture;
use serde::Serialize;
use std::fmt::Write;

/// What the parts have in common: how they look, and how a script reads its data.
const STYLE: &str = include_str!("live.css");
const SCRIPT: &str = include_str!("live.js");

/// Markup, the script that brings it to life, and what the script reads, all inside the page.
///
/// `live.js` gives the script `$(id)`, `json(id)`, `bytes(id)` and `png(id)`.
pub struct LivePart {
    style: &'static str,
    markup: &'static str,
    script: &'static str,
    data: String,
}

impl LivePart {
    /// A part without data. All three are written by hand: nothing in them is escaped.
    pub fn new(style: &'static str, markup: &'static str, script: &'static str) -> Self {
        Self { style, markup, script, data: String::new() }
    }

    fn add(mut self, id: &str, kind: &str, data: &str) -> Self {
        writeln!(self.data, "<script type=\"{kind}\" id={id}>{data}</script>")
            .expect("memory takes everything");
        self
    }

    /// Adds what `json(id)` gives.
    pub fn json(self, id: &str, value: &impl Serialize) -> Self {
        let text = serde_json::to_string(value).expect("plain numbers and names");
        // No text can end the element that it stands in, or begin another.
        self.add(id, "application/json", &text.replace('<', "\\u003c"))
    }

    /// Adds what `bytes(id)` gives.
    pub fn bytes(self, id: &str, bytes: &[u8]) -> Self {
        self.add(id, "text/plain", &base64(bytes))
    }

    /// Adds a picture whose address `png(id)` gives.
    pub fn picture(self, id: &str, picture: &Picture) -> Self {
        self.bytes(id, &picture.png())
    }

    /// A page has one at most: names of elements are its own.
    pub(super) fn html(&self) -> String {
        let Self { style, markup, script, data } = self;
        format!(
            "<style>{STYLE}{style}</style>\n{markup}\n<noscript><p>This page needs its script.</noscript>\n\
             {data}<script>\"use strict\";(()=>{{\n{SCRIPT}{script}}})()</script>"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_data_cannot_end_the_script() {
        let part = LivePart::new("", "<p id=x>", "run()").json("d", &["</script><b>", "ä"]);
        let html = part.bytes("b", b"foo").html();
        assert!(html.contains(
            r#"<script type="application/json" id=d>["\u003c/script>\u003cb>","ä"]</script>"#
        ));
        assert!(html.contains("<script type=\"text/plain\" id=b>Zm9v</script>"));
        assert_eq!(html.matches("</script>").count(), 3);
        assert!(!html.contains("http"), "nothing is fetched");
    }
}
