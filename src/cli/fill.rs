//! `beit fill`: hidden bytes of a text.

use crate::apply::language::{Blank, FilledText, Marked, OpenedBert, fill as filled};
use crate::cli::args::FillArgs;
use crate::cli::device::{Chosen, on_device};
use crate::cli::on_threads;
use crate::config::PrecisionChoice;
use crate::error::Result;

/// Prints the text filled, and a line for each hidden byte.
pub fn fill(args: &FillArgs) -> Result<()> {
    let marked = Marked::parse(&args.text.join(" "), &args.mark)?;
    let chosen = Chosen::open(args.device, PrecisionChoice::F32)?;
    let FilledText { bytes, blanks } = on_threads(args.threads, || {
        on_device!(chosen, bk => {
            let OpenedBert { model, w } = OpenedBert::open(&bk, &args.model)?;
            filled(&bk, (&model, &w), &marked, args.top.into())
        })
    })?;
    say!("{}", String::from_utf8_lossy(&bytes));
    for Blank { place, top } in &blanks {
        let one = |(byte, p): &(u8, f64)| format!("{:<6} {p:.3}", shown_byte(*byte));
        say!(
            "  byte {place:>4}  {}",
            top.iter().map(one).collect::<Vec<_>>().join("  ").trim_end()
        );
    }
    Ok(())
}

/// A letter in quotes, and as an escape what is none.
fn shown_byte(byte: u8) -> String {
    format!("'{}'", byte.escape_ascii())
}
