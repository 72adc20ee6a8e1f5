//! `beit-check serve`: checks a backward that runs in another program (`README.md` has the protocol).

use beit_check::Verdict;
use std::io::{BufReader, stdin, stdout};
use std::process::ExitCode;

const USAGE: &str = "\
Checks the gradients of a function that runs in another program.

Usage: beit-check serve

It talks with that program over standard input and output: lines of JSON, each followed by arrays of f64.
The messages, and a client in Python, are in the README of the crate beit-check.

Exit status: 0 pass, 1 fail, 2 no report (a wrong message, the client has gone or gave an error),
3 inconclusive.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve(),
        ["--help" | "-h" | "help"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        ["--version" | "-V"] => {
            println!("beit-check {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("beit-check: wanted is `serve`, got {arguments:?}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn serve() -> ExitCode {
    match beit_check::serve::serve(BufReader::new(stdin().lock()), stdout().lock()) {
        Ok(report) => match report.verdict() {
            Verdict::Pass => ExitCode::SUCCESS,
            Verdict::Fail => ExitCode::from(1),
            Verdict::Inconclusive => ExitCode::from(3),
        },
        Err(error) => {
            eprintln!("beit-check: {error}");
            ExitCode::from(2)
        }
    }
}
