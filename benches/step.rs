//! `cargo bench --bench step`: whole training steps, as `beit bench step` prints them. The peer to
//! compare with is `benches/peers/torch_step.py`.

use std::process::ExitCode;

fn main() -> ExitCode {
    for (preset, batch) in [("tiny", "32"), ("small", "32"), ("base", "8")] {
        let arguments = ["beit", "bench", "step", "--preset", preset, "--batch", batch];
        let code = beit::cli::main(arguments.map(Into::into));
        if code != ExitCode::SUCCESS {
            return code;
        }
    }
    ExitCode::SUCCESS
}
