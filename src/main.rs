//! The program `beit`: see `beit --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    beit::cli::main(std::env::args_os())
}
