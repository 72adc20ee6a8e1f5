//! The program `beit`: see `beit --help`.

#![cfg_attr(not(test), warn(clippy::unwrap_used))]

use std::process::ExitCode;

fn main() -> ExitCode {
    beit::cli::main(std::env::args_os())
}
