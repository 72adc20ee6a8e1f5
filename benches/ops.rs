//! `cargo bench --bench ops`: forward and backward time of every case, as `beit bench ops` prints it.

use std::process::ExitCode;

fn main() -> ExitCode {
    beit::cli::main(["beit", "bench", "ops"].map(Into::into))
}
