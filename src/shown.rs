//! Text from files and folders on a terminal: names of files, classes and tensors, messages that quote.
//!
//! Whoever made a file chose its text. Written raw, an escape sequence retitles the window or hides what
//! came before, a line break forges a message, and an override of direction turns a name around. Here such
//! characters become their escapes, as in `\u{1b}`, and no text is longer than a screen. Text that was
//! made safe stays as it is when it is made safe again.

use std::fmt::Write;

/// Most characters of a line.
const LINE: usize = 4_000;

/// Most characters of a name.
const NAME: usize = 200;

/// One line, whatever is in `text`.
pub fn line(text: &str) -> String {
    bounded(text, LINE, |c| c == '\n')
}

/// A name within a line.
pub fn name(text: &str) -> String {
    bounded(text, NAME, |c| c == '\n')
}

/// Text of our own making that may quote others' names: its line breaks stay, and all its lines.
pub(crate) fn lines(text: &str) -> String {
    bounded(text, usize::MAX, |_| false)
}

fn bounded(text: &str, most: usize, also: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    for (count, c) in text.chars().enumerate() {
        if count == most {
            out.push('…');
            break;
        }
        match c {
            '\n' if also(c) => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c != '\n' && acts(c) => {
                write!(out, "\\u{{{:x}}}", u32::from(c)).expect("writing to memory does not fail");
            }
            c => out.push(c),
        }
    }
    out
}

/// True for characters that act on a terminal instead of standing there: controls, line and paragraph
/// separators, marks and overrides of direction (Unicode's `Bidi_Control`), spaces of no width.
pub(crate) fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200b}' | '\u{feff}')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_escaped_and_the_rest_stays() {
        let hostile = "a\x1b]0;owned\x07\nbeit: well\r\t\u{202e}gpj\u{2066}\u{9b}31m\u{7f}";
        let safe = r"a\u{1b}]0;owned\u{7}\nbeit: well\r\t\u{202e}gpj\u{2066}\u{9b}31m\u{7f}";
        assert_eq!(line(hostile), safe);
        assert_eq!(line(safe), safe, "twice is once");
        assert_eq!(lines("a\nb\x1b"), "a\nb\\u{1b}");
        for good in ["Ünïcode 日本 🧑‍🚀.png", r"C:\photos\a b.png", "it's \"so\""] {
            assert_eq!((line(good).as_str(), name(good).as_str()), (good, good));
        }
        for c in ('\0'..='\u{10ffff}').filter(|c| acts(*c)) {
            assert!(!line(&c.to_string()).contains(c), "{c:?}");
        }
    }

    #[test]
    fn length_is_bounded() {
        assert_eq!(name(&"a".repeat(1 << 20)).chars().count(), NAME + 1);
        assert!(line(&"\x1b".repeat(1 << 20)).len() < 8 * LINE);
        assert_eq!(name(&"a".repeat(NAME)), "a".repeat(NAME));
    }
}
