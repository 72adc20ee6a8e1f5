//! The protocol of `beit-check serve`: a check whose forward and backward run in another program.
//!
//! Messages go both ways over a pair of streams. Each is one line of JSON, ended by `\n`, followed by the bytes
//! of its arrays: f64, little-endian, row-major, one array after the other. `"arrays"` in the line says which:
//! a list of `[name, shape]`. `check/README.md` has the table of messages.

use crate::arrays::Arrays;
use crate::builder::Check;
use crate::constraint::Constraint;
use crate::gradients::Settings;
use crate::report::{Report, Verdict};
use ndarray::ArrayD;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Longest line of a message.
const LONGEST: u64 = 1 << 24;
/// Most numbers of one array.
const MOST: usize = 1 << 31;

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeError(String);

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServeError {}

fn wrong<T>(text: impl Into<String>) -> Result<T, ServeError> {
    Err(ServeError(text.into()))
}

/// Name and shape.
type Described = (String, Vec<usize>);

/// The first message.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    check: String,
    arrays: Vec<Described>,
    #[serde(default)]
    constraints: BTreeMap<String, Constraint>,
    #[serde(default)]
    settings: Settings,
}

/// What the client is asked; `upstream` names arrays after those of the point.
#[derive(Serialize)]
struct Question<'a> {
    ask: &'a str,
    arrays: Vec<Described>,
    upstream: Vec<Described>,
}

/// An answer: arrays, or what went wrong.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    #[serde(default)]
    arrays: Option<Vec<Described>>,
    #[serde(default)]
    error: Option<String>,
}

/// The last message.
#[derive(Serialize)]
struct Last<'a> {
    verdict: Verdict,
    text: String,
    report: &'a Report,
}

/// Both streams, and the first thing that went wrong.
struct Session<R, W> {
    input: R,
    output: W,
    error: Option<ServeError>,
}

impl<R: BufRead, W: Write> Session<R, W> {
    fn line<T: for<'de> Deserialize<'de>>(&mut self, what: &str) -> Result<T, ServeError> {
        let mut line = Vec::new();
        let read = (&mut self.input).take(LONGEST).read_until(b'\n', &mut line);
        match read {
            Err(e) => return wrong(format!("{what} cannot be read: {e}")),
            Ok(0) => return wrong(format!("the client has gone; wanted was {what}")),
            Ok(_) if line.last() != Some(&b'\n') => {
                return wrong(format!(
                    "{what} has no end of line, or the client has gone inside it"
                ));
            }
            Ok(_) => {}
        }
        let start = String::from_utf8_lossy(&line[..line.len().min(80)]).trim_end().to_string();
        serde_json::from_slice(&line)
            .or_else(|e| wrong(format!("{what} is not understood: {e}; it begins {start:?}")))
    }

    fn arrays(&mut self, described: &[Described]) -> Result<Arrays, ServeError> {
        let mut all = Arrays::new();
        for (name, shape) in described {
            if all.get(name).is_some() {
                return wrong(format!("there are two arrays `{name}` in one message"));
            }
            let count = shape.iter().try_fold(1usize, |n, m| n.checked_mul(*m));
            let Some(count) = count.filter(|n| *n <= MOST) else {
                return wrong(format!("array `{name}` is too large: {shape:?}"));
            };
            // Grows with what comes: a wrong shape takes no memory.
            let mut bytes = Vec::new();
            let read = (&mut self.input).take(8 * count as u64).read_to_end(&mut bytes);
            if read.is_err() || bytes.len() != 8 * count {
                let got = bytes.len();
                return wrong(format!("array `{name}` ends after {got} of {} bytes", 8 * count));
            }
            let (chunks, _) = bytes.as_chunks::<8>();
            let numbers = chunks.iter().map(|b| f64::from_le_bytes(*b)).collect();
            let array = ArrayD::from_shape_vec(shape.clone(), numbers);
            all = all.with(name, array.expect("as many as the shape has"));
        }
        Ok(all)
    }

    fn send(&mut self, message: &impl Serialize, arrays: &[&Arrays]) -> Result<(), ServeError> {
        let mut bytes = serde_json::to_vec(message).expect("no map with odd keys");
        bytes.push(b'\n');
        for (_, array) in arrays.iter().flat_map(|arrays| arrays.iter()) {
            array.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
        }
        let sent = self.output.write_all(&bytes).and_then(|()| self.output.flush());
        sent.or_else(|e| wrong(format!("the client has gone: {e}")))
    }

    /// Asks, and waits for the answer.
    fn ask(&mut self, what: &str, at: &Arrays, upstream: &Arrays) -> Result<Arrays, ServeError> {
        let describe = |arrays: &Arrays| -> Vec<Described> {
            arrays.iter().map(|(name, array)| (name.into(), array.shape().to_vec())).collect()
        };
        let question = Question { ask: what, arrays: describe(at), upstream: describe(upstream) };
        self.send(&question, &[at, upstream])?;
        let what = format!("the answer to {what}");
        match self.line(&what)? {
            Answer { error: Some(error), .. } => wrong(format!("{what} is an error: {error}")),
            Answer { arrays: Some(arrays), .. } => self.arrays(&arrays),
            Answer { .. } => wrong(format!("{what} has neither \"arrays\" nor \"error\"")),
        }
    }

    /// The answer; without one the check is left, by a panic that says nothing on its own.
    fn must(&mut self, what: &str, at: &Arrays, upstream: &Arrays) -> Arrays {
        if self.error.is_none() {
            match self.ask(what, at, upstream) {
                Ok(arrays) => return arrays,
                Err(error) => self.error = Some(error),
            }
        }
        resume_unwind(Box::new("the client gave no answer"))
    }
}

/// Serves one check: reads its first message, asks for forwards and backwards, and sends the report, or, where
/// something is wrong with a message or the client, `{"error": …}`.
pub fn serve(input: impl BufRead, output: impl Write) -> Result<Report, ServeError> {
    let mut session = Session { input, output, error: None };
    let report = run(&mut session);
    match &report {
        Ok(report) => {
            let (verdict, text) = (report.verdict(), report.to_string());
            session.send(&Last { verdict, text, report }, &[])?;
        }
        // Whoever is still there gets to know; whether this arrives changes nothing.
        Err(error) => drop(session.send(&serde_json::json!({ "error": error.0 }), &[])),
    }
    report
}

fn run(session: &mut Session<impl BufRead, impl Write>) -> Result<Report, ServeError> {
    let start: Start = session.line("the first message")?;
    let at = session.arrays(&start.arrays)?;
    let mut check = Check::new(&start.check).at(at).settings(start.settings);
    for (name, constraint) in &start.constraints {
        check = check.constrain(name, *constraint);
    }
    let session = RefCell::new(session);
    let report = catch_unwind(AssertUnwindSafe(|| {
        check.gradients(
            |at| session.borrow_mut().must("forward", at, &Arrays::new()),
            |at, upstream: &Arrays| session.borrow_mut().must("backward", at, upstream),
        )
    }));
    match (session.borrow_mut().error.take(), report) {
        (Some(error), _) => Err(error),
        (None, Ok(report)) => Ok(report),
        (None, Err(panic)) => {
            let said = crate::shapes::text(&*panic);
            wrong(format!("the check cannot go on: {said}"))
        }
    }
}
