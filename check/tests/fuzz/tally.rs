//! Counts of verdicts, as a table.

use super::case::Family;
use super::twin::Judged;
use beit_check::report::Verdict;
use std::fmt;

/// Verdicts on right gradients.
#[derive(Clone, Copy, Default)]
pub struct Right {
    pub pass: usize,
    pub open: usize,
    pub fail: usize,
}

impl Right {
    pub fn total(&self) -> usize {
        self.pass + self.open + self.fail
    }
}

/// Verdicts on wrong gradients.
#[derive(Clone, Copy, Default)]
pub struct Wrong {
    pub caught: usize,
    pub open: usize,
    /// Passed, and the fault was above what the report says it sees ...
    pub seen: usize,
    /// ... or below.
    pub below: usize,
}

/// One family.
#[derive(Clone, Default)]
pub struct Row {
    name: String,
    smooth: bool,
    pub right: Right,
    pub wrong: Wrong,
    /// The first right gradient that is called wrong or is open, and the first wrong one that passes.
    examples: [Option<String>; 3],
}

impl Row {
    pub fn new(family: &Family) -> Self {
        Self { name: family.name.into(), smooth: family.smooth, ..Self::default() }
    }

    pub fn right(&mut self, trial: usize, judged: Judged) {
        match judged.verdict {
            Verdict::Pass => self.right.pass += 1,
            Verdict::Inconclusive => self.right.open += 1,
            Verdict::Fail => self.right.fail += 1,
        }
        match judged.verdict {
            Verdict::Fail => self.example(0, "right, FAIL", trial, judged.text),
            Verdict::Inconclusive if self.smooth => {
                self.example(1, "right, inconclusive", trial, judged.text);
            }
            _ => (),
        }
    }

    pub fn wrong(&mut self, trial: usize, judged: Judged) {
        match (judged.verdict, judged.above) {
            (Verdict::Fail, _) => self.wrong.caught += 1,
            (Verdict::Inconclusive, _) => self.wrong.open += 1,
            (Verdict::Pass, false) => self.wrong.below += 1,
            (Verdict::Pass, true) => {
                self.wrong.seen += 1;
                self.example(2, "wrong, PASS", trial, judged.text);
            }
        }
    }

    fn example(&mut self, kind: usize, what: &str, trial: usize, text: String) {
        self.examples[kind]
            .get_or_insert_with(|| format!("{}, trial {trial}: {what}: {text}", self.name));
    }

    fn add(mut self, other: &Self) -> Self {
        self.right.pass += other.right.pass;
        self.right.open += other.right.open;
        self.right.fail += other.right.fail;
        self.wrong.caught += other.wrong.caught;
        self.wrong.open += other.wrong.open;
        self.wrong.seen += other.wrong.seen;
        self.wrong.below += other.wrong.below;
        self
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Right { pass, open, fail } = self.right;
        let smooth = if self.smooth { "yes" } else { "" };
        write!(f, "| {:<32} | {smooth:<6} | {pass:>6} | {open:>5} | {fail:>5} |", self.name)?;
        let Wrong { caught, open, seen, below } = self.wrong;
        writeln!(f, " {caught:>6} | {open:>5} | {seen:>5} | {below:>5} |")
    }
}

/// All families.
pub struct Tally {
    rows: Vec<Row>,
    seed: usize,
}

impl Tally {
    pub fn new(rows: Vec<Row>, seed: usize) -> Self {
        Self { rows, seed }
    }

    /// All together.
    pub fn sum(&self) -> Row {
        self.rows.iter().fold(Row { name: "all".into(), ..Row::default() }, Row::add)
    }

    /// The smooth ones together.
    pub fn smooth(&self) -> Row {
        let smooth = self.rows.iter().filter(|r| r.smooth);
        smooth.fold(Row { name: "all smooth".into(), smooth: true, ..Row::default() }, Row::add)
    }

    /// What went wrong first in each family, one line each.
    pub fn examples(&self) -> String {
        let all = self.rows.iter().flat_map(|r| r.examples.iter().flatten());
        all.map(|line| format!("{line}\n")).collect()
    }
}

impl fmt::Display for Tally {
    /// Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Seed {}. Right gradients: how many pass, are inconclusive, FAIL. Wrong",
            self.seed
        )?;
        writeln!(
            f,
            "ones: caught, inconclusive, and passed above and below what the report says it sees.\n"
        )?;
        write!(f, "| {:<32} | smooth | pass   | open  | FAIL  |", "family")?;
        writeln!(f, " caught | open  | above | below |")?;
        writeln!(f, "| --- | --- | --: | --: | --: | --: | --: | --: | --: |")?;
        self.rows.iter().try_for_each(|row| row.fmt(f))?;
        self.smooth().fmt(f)?;
        self.sum().fmt(f)
    }
}
