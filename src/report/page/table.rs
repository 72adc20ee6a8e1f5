//! Tables of a page.

use super::escape;

/// One cell of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    text: String,
    struck: bool,
    note: String,
}

impl Cell {
    /// Text that is there but does not count, and why.
    pub fn struck(text: impl Into<String>, why: impl Into<String>) -> Self {
        Self { text: text.into(), struck: true, note: why.into() }
    }

    fn html(&self, tag: &str, number: bool) -> String {
        let (class, text) = (if number { " class=n" } else { "" }, escape(&self.text));
        let text = if self.struck { format!("<del>{text}</del>") } else { text };
        let note = match self.note.is_empty() {
            true => String::new(),
            false => format!("<span class=note>{}</span>", escape(&self.note)),
        };
        format!("<{tag}{class}>{text}{note}</{tag}>")
    }

    fn markdown(&self) -> String {
        let text = plain(&self.text);
        let text = if self.struck { format!("~~{text}~~") } else { text };
        if self.note.is_empty() { text } else { format!("{text} ({})", plain(&self.note)) }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// Rows under named columns.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Cell>,
    /// The columns from here on stand to the right.
    numbers: usize,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows, the first `names` of whose columns hold names and the rest numbers.
    pub fn new(columns: &[&str], names: usize) -> Self {
        let columns = columns.iter().map(|&c| c.into()).collect();
        Self { columns, numbers: names, rows: Vec::new() }
    }

    /// Adds a row.
    #[track_caller]
    pub fn row(mut self, cells: impl IntoIterator<Item = Cell>) -> Self {
        let row: Vec<_> = cells.into_iter().collect();
        let (got, want) = (row.len(), self.columns.len());
        assert_eq!(got, want, "table: a row of {got} cells under {want} columns");
        self.rows.push(row);
        self
    }

    /// Adds rows of plain text.
    #[track_caller]
    pub fn rows<const N: usize>(self, rows: impl IntoIterator<Item = [String; N]>) -> Self {
        rows.into_iter().fold(self, |table, row| table.row(row.map(Cell::from)))
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn html(&self) -> String {
        let line = |tag: &str, cells: &[Cell]| -> String {
            let cells = cells.iter().enumerate().map(|(i, c)| c.html(tag, i >= self.numbers));
            format!("<tr>{}</tr>", cells.collect::<String>())
        };
        let rows: String = self.rows.iter().map(|row| line("td", row)).collect();
        let head = line("th", &self.columns);
        format!("<div class=scroll><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>")
    }

    pub(super) fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let cells = |row: &Vec<Cell>| line(row.iter().map(Cell::markdown).collect());
        let rule = (0..self.columns.len()).map(|i| if i < self.numbers { "---" } else { "---:" });
        let head = cells(&self.columns) + &line(rule.map(String::from).collect());
        head + &self.rows.iter().map(cells).collect::<String>()
    }
}

/// Text for Markdown, on one line: what would be markup is escaped, but not the underscore of a name,
/// which is none inside a word.
pub(super) fn plain(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let inside = |i: usize| {
        let word = |i: usize| letters.get(i).is_some_and(|c| c.is_alphanumeric());
        i > 0 && word(i - 1) && word(i + 1)
    };
    let mut out = String::with_capacity(text.len());
    for (i, &c) in letters.iter().enumerate() {
        let markup = match c {
            '\\' | '`' | '*' | '<' | '>' | '[' | ']' | '|' | '~' | '#' => true,
            '_' => !inside(i),
            _ => false,
        };
        if markup {
            out.push('\\');
        }
        out.push(if c == '\n' { ' ' } else { c });
    }
    out
}
