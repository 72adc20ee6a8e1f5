//! `beit predict`: the classes that a classifier puts images into, one row an image.

use super::classify::{logits_of, probabilities};
use super::opened::OpenedClassifier;
use super::stream::{Failures, ImageStream, Passage, Streamed};
use crate::data::class_view::eval_view;
use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::shown;
use crate::words::words;
use serde::Serialize;

words! {
    /// How the rows of predictions are written.
    RowFormat {
        /// Lines for people.
        Table = "table",
        /// Comma-separated values after a line of names (RFC 4180, lines end in `\n`).
        Csv = "csv",
        /// A JSON object a line.
        Jsonl = "jsonl",
    }
}

/// A class and its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guess<'a> {
    /// Its name.
    pub class: &'a str,
    /// Its probability.
    pub probability: f32,
}

/// A row of JSON.
#[derive(Serialize)]
struct JsonRow<'a> {
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<&'a [Guess<'a>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// The `k` classes with the highest probabilities, the lower number first among equals; all where there are fewer.
pub fn top<'a>(logits: &[f32], classes: &'a [String], k: usize) -> Vec<Guess<'a>> {
    let p = probabilities(logits);
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    let guess = |&class: &usize| Guess { class: &classes[class], probability: p[class] as f32 };
    order.iter().take(k).map(guess).collect()
}

impl RowFormat {
    /// What comes before the rows of `k` classes each.
    pub fn header(self, k: usize) -> String {
        match self {
            Self::Table | Self::Jsonl => String::new(),
            Self::Csv => {
                let column = |i: usize| format!("class_{i},probability_{i},");
                let columns: String = (1..=k).map(column).collect();
                format!("image,{columns}error\n")
            }
        }
    }

    /// The row of an image of which there are `k` guesses, or of one that cannot be read.
    pub fn row(self, image: &str, found: &Result<Vec<Guess>, String>, k: usize) -> String {
        match self {
            Self::Table => {
                let guess = |g: &Guess| format!("{} {:.3}", shown::name(g.class), g.probability);
                let said = match found {
                    Ok(top) => top.iter().map(guess).collect::<Vec<_>>().join(", "),
                    Err(reason) => format!("unreadable: {}", shown::line(reason)),
                };
                format!("{}: {said}\n", shown::line(image))
            }
            Self::Csv => csv_row(image, found, k),
            Self::Jsonl => {
                let (top, error) = (found.as_deref().ok(), found.as_ref().err());
                let row = JsonRow { image, top, error: error.map(String::as_str) };
                let text = serde_json::to_string(&row).expect("names and finite numbers");
                text.chars().map(escaped).chain(["\n".to_owned()]).collect()
            }
        }
    }
}

/// The character, or the escape that JSON has for it where a terminal would obey it.
fn escaped(c: char) -> String {
    if shown::acts(c) { format!("\\u{:04x}", u32::from(c)) } else { c.into() }
}

fn csv_row(image: &str, found: &Result<Vec<Guess>, String>, k: usize) -> String {
    let mut fields = vec![quoted(image)];
    match found {
        Ok(top) => {
            let guess = |g: &Guess| [quoted(g.class), format!("{:?}", g.probability)];
            fields.extend(top.iter().flat_map(guess));
            fields.push(String::new());
        }
        Err(reason) => {
            fields.extend((0..2 * k).map(|_| String::new()));
            fields.push(quoted(reason));
        }
    }
    fields.join(",") + "\n"
}

/// A field of CSV.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", field.replace('"', "\"\""));
    }
    field.to_owned()
}

/// What is predicted, and how it is written.
#[derive(Clone, Copy, Debug)]
pub struct PredictTask {
    /// Classes of a row.
    pub top: usize,
    /// The form of the rows.
    pub format: RowFormat,
    /// How the images are gone through.
    pub passage: Passage,
}

/// Hands the rows of all images to `write`, in the order of the images, a few at a time. Returns those that cannot be
/// read.
pub fn predict<B: Backend>(
    bk: &B,
    opened: &OpenedClassifier<B>,
    images: &ImageStream,
    task: &PredictTask,
    mut write: impl FnMut(&str) -> Result<()>,
) -> Result<Failures> {
    let OpenedClassifier { model, w, views } = opened;
    let classes = &model.config.classes;
    let k = task.top.min(classes.len());
    write(&task.format.header(k))?;
    let each = |chunk: Vec<Streamed<Vec<f32>>>| {
        let (mut seen, mut about) = (Vec::new(), Vec::with_capacity(chunk.len()));
        for Streamed { name, made } in chunk {
            about.push((name, made.map(|view| seen.push(view))));
        }
        let logits = if seen.is_empty() { Vec::new() } else { logits_of(bk, model, w, seen) };
        let (mut logits, mut rows) = (logits.iter(), String::new());
        for (name, read) in about {
            let found = match read {
                Ok(()) => Ok(top(finite(&name, logits.next().expect("a row each"))?, classes, k)),
                Err(reason) => Err(reason),
            };
            rows += &task.format.row(&name, &found, k);
        }
        write(&rows)
    };
    images.pass(&task.passage, |image| eval_view(views, image), each)
}

fn finite<'a>(image: &str, logits: &'a [f32]) -> Result<&'a [f32]> {
    if logits.iter().all(|x| x.is_finite()) {
        return Ok(logits);
    }
    Err(Error::config(format!("{image}: the classifier overflows on it: its output is not finite")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_come_first_and_the_lower_number_among_equals() {
        let classes = ["a", "b", "c"].map(String::from);
        let names = |logits: &[f32], k| -> Vec<&str> {
            top(logits, &classes, k).iter().map(|g| g.class).collect()
        };
        assert_eq!(names(&[1.0, 2.0, 2.0], 3), ["b", "c", "a"]);
        assert_eq!(names(&[1.0, 1.0, 1.0], 9), ["a", "b", "c"]);
        assert_eq!(names(&[0.0, -1.0, 4.0], 1), ["c"]);
        let all = top(&[0.0, 0.0, 2f32.ln()], &classes, 3);
        assert_eq!(all[0].probability, 0.5);
        assert_eq!(all.iter().map(|g| g.probability).sum::<f32>(), 1.0);
    }

    const HOSTILE: &str = "a, \"b\"\nc\u{202e}\u{9b}";

    #[test]
    fn rows_hold_any_name() {
        let guess = |class, probability| Guess { class, probability };
        let good = Ok(vec![guess(HOSTILE, 0.75), guess("dog", 1e-9)]);
        let bad = Err("x.png: cut, \"short\"".to_owned());
        let csv = |found| RowFormat::Csv.row("a b.png", found, 2);
        assert_eq!(
            RowFormat::Csv.header(2) + &csv(&good) + &csv(&bad),
            "image,class_1,probability_1,class_2,probability_2,error\n\
             a b.png,\"a, \"\"b\"\"\nc\u{202e}\u{9b}\",0.75,dog,1e-9,\n\
             a b.png,,,,,\"x.png: cut, \"\"short\"\"\"\n"
        );
        let json = RowFormat::Jsonl.row(HOSTILE, &good, 2);
        assert!(
            json.ends_with("}\n") && json.matches('\n').count() == 1 && json.is_ascii(),
            "{json}"
        );
        let row: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&row["image"], &row["top"][0]["class"]), (&HOSTILE.into(), &HOSTILE.into()));
        assert_eq!(row["top"][0]["probability"], 0.75);
        let row: serde_json::Value =
            serde_json::from_str(&RowFormat::Jsonl.row("x", &bad, 2)).unwrap();
        assert_eq!(row, serde_json::json!({ "image": "x", "error": "x.png: cut, \"short\"" }));
        assert_eq!(
            RowFormat::Table.row("x\ny", &good, 2),
            "x\\ny: a, \"b\"\\nc\\u{202e}\\u{9b} 0.750, dog 0.000\n"
        );
    }
}
