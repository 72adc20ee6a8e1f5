//! The program, killed at instants drawn by lot and resumed, ends with the bytes of one that was not.
//!
//! The draw is another each time; it is printed, and `BEIT_SEED` repeats it.

use beit::rng::{Philox, Purpose};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

pub(super) const TESTS: &[(&str, fn())] = &[("kill/fifty_at_random_change_no_byte", fifty_kills)];

const KILLS: usize = 50;

fn seed() -> u64 {
    match std::env::var("BEIT_SEED") {
        Ok(seed) => seed.parse().expect("BEIT_SEED is a whole number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
    }
}

fn beit(out: &Path, threads: usize, every: usize) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_beit"));
    command
        .args("train-tokenizer --data synthetic:16 --batch 4 --device cpu --resume".split(' '))
        .args(["--threads", &threads.to_string(), "--out"])
        .arg(out)
        .args(["--set".to_owned(), format!("checkpoint_every={every}")]);
    for setting in
        "steps=16 validate_every=3 width=4 init_width=4 vocab=4 blocks=1 groups=2 image_size=8 log_every=2".split(' ')
    {
        command.args(["--set", setting]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// What must not depend on kills, threads and checkpoints.
fn result(out: &Path) -> [Vec<u8>; 4] {
    let last = "checkpoints/step-0000000016.safetensors";
    ["model.safetensors", "config.json", "metrics.jsonl", last]
        .map(|name| std::fs::read(out.join(name)).unwrap_or_else(|e| panic!("{name}: {e}")))
}

fn fifty_kills() {
    let seed = seed();
    eprintln!("BEIT_SEED={seed}");
    let mut random = Philox::new(seed, Purpose::Check, 0, 0);
    let folder = TempDir::new().unwrap();
    let alone = folder.path().join("alone");
    let start = Instant::now();
    assert!(beit(&alone, 2, 3).status().unwrap().success());
    let (whole, want) = (start.elapsed().as_micros() as usize, result(&alone));
    let (mut kills, mut runs) = (0, 0);
    while kills < KILLS {
        let out = folder.path().join(format!("run-{runs}"));
        runs += 1;
        // Killed, or at its end.
        loop {
            let mut run = beit(&out, 1 + random.integer(2), 1 + random.integer(4)).spawn().unwrap();
            let wait = random.integer(whole * 3 / 5) as u64;
            if kills < KILLS {
                std::thread::sleep(Duration::from_micros(wait));
                // It may have ended by itself.
                let _ = run.kill();
            }
            let output = run.wait_with_output().unwrap();
            if output.status.success() {
                break;
            }
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code().is_none(), "BEIT_SEED={seed}, kill {kills}: {said}");
            kills += 1;
        }
        assert!(
            result(&out) == want,
            "BEIT_SEED={seed}, run {runs}: other bytes after {kills} kills"
        );
    }
}
