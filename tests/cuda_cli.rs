//! Whole commands of the program on the emulator's libraries, and what it says where a GPU cannot be
//! used.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder with the emulator's libraries, or nothing where they could not be built.
fn emulator() -> Option<TempDir> {
    if !cuda_emu::AVAILABLE {
        println!("skipped: the emulator needs Linux and a C++ compiler");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    cuda_emu::copy_to(folder.path()).unwrap();
    Some(folder)
}

fn command(libraries: &Path, folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_beit"));
    command
        .args(line.split_whitespace())
        .current_dir(folder)
        .env("LD_LIBRARY_PATH", libraries)
        .env("XDG_CACHE_HOME", folder.join("cache"));
    command
}

fn beit(libraries: &Path, folder: &Path, line: &str, settings: &[(&str, &str)]) -> Output {
    command(libraries, folder, line).envs(settings.iter().copied()).output().unwrap()
}

/// Runs a command that trains in `run` until so many steps are logged, and ends it by a signal: the figures at
/// the end of a run, of 256 masks, cost the emulator far more than four steps.
fn until_step(mut command: Command, run: &Path, steps: usize) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let logged = || std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    while logged().matches('\n').count() < steps && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = Command::new("kill").arg(child.id().to_string()).output();
    sent.unwrap(); // it may have ended
    let done = child.wait_with_output().unwrap();
    assert!(matches!(done.status.code(), Some(0 | 143)), "{}: {}", done.status, stderr(&done));
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Values of one key of the lines of metrics.
fn metrics(run: &Path, key: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.map(|line| line[key].as_f64().unwrap()).collect()
}

/// Largest difference of two series, relative to the largest number of the second: the tokenizer's
/// loss, a log-density, passes through 0. NaN where a number is missing or none.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    if a.len() != b.len() || a.iter().any(|x| x.is_nan()) {
        return f64::NAN;
    }
    let largest = b.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f64::max)
}

#[test]
fn cuda_without_a_driver_is_one_clear_line() {
    let (nothing, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for line in ["demo --out d", "pretrain --data synthetic:8 --tokenizer t --out p"] {
        let start = Instant::now();
        let line = format!("{line} --device cuda");
        let done = beit(nothing.path(), folder.path(), &line, &[]);
        let seconds = start.elapsed().as_secs_f64();
        let text = stderr(&done);
        if text.contains("computing on") {
            println!("skipped: this machine has a driver");
            return;
        }
        assert_eq!(done.status.code(), Some(1), "{text}");
        assert!(text.starts_with("beit: no CUDA driver: looked for libcuda.so"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        println!("{line}: {seconds:.3} s");
    }
    let done = beit(
        nothing.path(),
        folder.path(),
        "probe --model random --train synthetic:40 \
        --test synthetic:20 --epochs 1",
        &[],
    );
    assert!(stderr(&done).contains("computing on the CPU (no CUDA driver"), "{}", stderr(&done));
}

#[test]
fn cuda_devices_that_cannot_be_used_are_named() {
    let Some(libraries) = emulator() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = |settings: &[(&str, &str)]| {
        let line = "train-tokenizer --data synthetic:16 --batch 8 --epochs 1 --out t --device cuda";
        let done = beit(libraries.path(), folder.path(), line, settings);
        assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
        stderr(&done)
    };
    let old = run(&[("EMU_CAPABILITY", "75")]);
    assert!(old.contains("compute capability 7.5; the kernels need 8.0"), "{old}");
    // The forecast, and where nothing is forecast.
    let small = run(&[("EMU_MEMORY", "36700160")]);
    assert!(small.contains("beit: weights, gradients and optimizer take"), "{small}");
    let line = "bench step --device cuda --preset tiny --batch 2 --steps 1";
    let small = beit(libraries.path(), folder.path(), line, &[("EMU_MEMORY", "36700160")]);
    assert_eq!(small.status.code(), Some(1), "{}", stderr(&small));
    let small = stderr(&small);
    assert!(small.contains("out of GPU memory: asked for"), "{small}");
    assert!(small.contains("of 35 MiB are free") && small.contains("lower batch"), "{small}");
    assert!(!small.contains("panicked"), "{small}");
    for (place, number, settings, there) in [
        ("cuda:2", 2, None, "there are 2 GPUs"),
        ("cuda:1", 1, Some(("EMU_DEVICES", "1")), "there is 1 GPU"),
    ] {
        let line =
            format!("reconstruct --tokenizer t --data synthetic:4 --out x.png --device {place}");
        let done = beit(libraries.path(), folder.path(), &line, settings.as_slice());
        let text = stderr(&done);
        assert_eq!(done.status.code(), Some(1), "{text}");
        assert_eq!(
            text,
            format!("beit: no GPU has number {number} ({place}): {there}, numbered from 0\n")
        );
    }
    std::fs::remove_file(libraries.path().join("libcublas.so")).unwrap();
    let no_blas = run(&[]);
    assert!(no_blas.contains("no cuBLAS: looked for libcublas.so"), "{no_blas}");
}

/// The first four steps of tokenizer and encoder of the tiny preset on the CPU in f32, and from the same seed
/// on CUDA in `precision`: losses within `limit`. (`tests/cuda` compares ten, of smaller models.)
fn four_steps(precision: &str, limit: f64) {
    let Some(libraries) = emulator() else { return };
    let folder = tempfile::tempdir().unwrap();
    let common = "--data synthetic:8 --val none --batch 2 --seed 3 --set log_every=1";
    let run = |line: String| {
        let done = beit(libraries.path(), folder.path(), &line, &[]);
        assert!(done.status.success(), "{line}: {}", stderr(&done));
    };
    for (name, device) in
        [("cpu", "cpu".into()), ("cuda", format!("cuda --set precision={precision}"))]
    {
        run(format!("train-tokenizer {common} --epochs 1 --out tok-{name} --device {device}"));
        // Both encoders learn the tokens of one tokenizer.
        let own = "--epochs 3 --tokenizer tok-cpu --set drop_path=0.1";
        let line = format!("pretrain {common} {own} --out enc-{name} --device {device}");
        let run = folder.path().join(format!("enc-{name}"));
        until_step(command(libraries.path(), folder.path(), &line), &run, 4);
    }
    for kind in ["tok", "enc"] {
        let losses = |name: &str| {
            let all = metrics(&folder.path().join(format!("{kind}-{name}")), "loss");
            all.into_iter().take(4).collect::<Vec<_>>()
        };
        let (cuda, cpu) = (losses("cuda"), losses("cpu"));
        assert_eq!(cpu.len(), 4);
        let off = difference(&cuda, &cpu);
        println!("{kind} {precision}: {off:.1e}");
        // NaN must not pass.
        assert!(off <= limit, "{kind} {precision}: {off:e}, {cuda:?}, {cpu:?}");
    }
}

#[test]
fn cuda_four_steps_of_the_tiny_preset_f32() {
    four_steps("f32", 1e-5);
}

#[test]
fn cuda_four_steps_of_the_tiny_preset_bf16() {
    four_steps("bf16", 2e-2);
}

/// A pretraining from its first step to its figures: those of CUDA are those of the CPU.
#[test]
fn cuda_figures_at_the_end_of_a_run() {
    let Some(libraries) = emulator() else { return };
    let folder = tempfile::tempdir().unwrap();
    let common = "--data synthetic:4 --val none --batch 4 --epochs 1 --seed 3 --set vocab=32 \
        --set image_size=16";
    let run = |line: String| {
        let done = beit(libraries.path(), folder.path(), &line, &[]);
        assert!(done.status.success(), "{line}: {}", stderr(&done));
    };
    let sizes = "--set width=8 --set init_width=8";
    run(format!("train-tokenizer {common} {sizes} --out tok --device cpu"));
    let sizes = "--set width=16 --set depth=1 --set heads=2 --set masked_patches=6 \
        --set mask_min_block=2";
    let [cpu, cuda] = ["cpu", "cuda --set precision=f32"].map(|device| {
        let out = device.split(' ').next().unwrap_or_default();
        run(format!("pretrain {common} {sizes} --tokenizer tok --out {out} --device {device}"));
        let text = std::fs::read_to_string(folder.path().join(out).join("summary.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["loss"].as_f64().unwrap()
    });
    println!("{cpu} on the CPU, {cuda} on CUDA");
    // NaN must not pass.
    assert!((cuda - cpu).abs() <= 1e-5 * cpu, "{cpu} on the CPU, {cuda} on CUDA");
}

#[test]
fn ops_at_the_sizes_of_an_encoder_move_the_bytes_of_their_types() {
    let Some(libraries) = emulator() else { return };
    let folder = tempfile::tempdir().unwrap();
    let line = "bench ops norm --device cuda --preset tiny --batch 1 --json o.json";
    let done = beit(libraries.path(), folder.path(), line, &[]);
    assert!(done.status.success(), "{}", stderr(&done));
    let text = std::fs::read_to_string(folder.path().join("o.json")).unwrap();
    let result: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(result["emulated"], true);
    let ceilings: Vec<_> = result["ceilings"].as_array().unwrap().iter().collect();
    assert_eq!(ceilings.iter().map(|c| &c["name"]).collect::<Vec<_>>(), ["matmul", "copy"]);
    // In bf16: x and its gradient are f32, y and its gradient bf16.
    let n = 65.0 * 128.0;
    for (case, direction, bytes) in [
        ("layer_norm/1x65x128", "forward", 6.0 * n),
        ("layer_norm/1x65x128", "backward", 10.0 * n),
        ("residual_norm/1x65x128", "forward", 12.0 * n),
        ("residual_norm/1x65x128", "backward", 18.0 * n),
    ] {
        let rows = result["rows"].as_array().unwrap();
        let row = rows.iter().find(|r| r["case"] == case && r["direction"] == direction);
        let row = row.unwrap_or_else(|| panic!("{case} {direction}: {text}"));
        // Weights and statistics are in none of these.
        let off = row["bytes"].as_f64().unwrap() / bytes - 1.0;
        assert!(off.abs() < 0.02, "{case} {direction}: {off}");
        assert_eq!(row["column"], "CUDA bf16");
        // The roofs of the emulator are times, and say nothing.
        assert!(row["of_roof"].as_f64().unwrap() > 0.0 && row["bound"].is_string(), "{row}");
    }
}

#[test]
fn the_report_has_the_errors_of_the_emulator_and_no_times() {
    let Some(libraries) = emulator() else { return };
    let folder = tempfile::tempdir().unwrap();
    let done = beit(libraries.path(), folder.path(), "bench report --out r --quick", &[]);
    assert!(done.status.success(), "{}", stderr(&done));
    let text = std::fs::read_to_string(folder.path().join("r/report.json")).unwrap();
    let report: beit::bench::report::BenchReport = serde_json::from_str(&text).unwrap();
    assert!(report.machine.emulated);
    assert_eq!(report.plan.columns, ["CPU f32", "CUDA f32", "CUDA bf16"]);
    let on_gpu: Vec<_> = report.ops.iter().filter(|r| r.column != "CPU f32").collect();
    assert_eq!(3 * on_gpu.len(), 2 * report.ops.len());
    for row in on_gpu {
        assert!(row.timing.is_none() && row.of_roof.is_none(), "{}", row.case);
        assert!(row.accuracy.holds(), "{} {}: {:?}", row.column, row.case, row.accuracy);
    }
    assert_eq!(report.steps.len(), 3);
    for step in &report.steps {
        assert!(step.accuracy.holds(), "{}: {:?}", step.column, step.accuracy);
        assert_eq!(step.timing.is_some(), step.column == "CPU f32");
        let ratio = step.predicted_bytes / step.measured_bytes.unwrap();
        assert!((0.8..1.25).contains(&ratio), "{}: {ratio}", step.column);
    }
    let page = std::fs::read_to_string(folder.path().join("r/report.md")).unwrap();
    assert!(page.contains("The GPU is the emulator of the tests"), "{page}");
    assert!(page.contains("### Side by side") && !page.contains("x |\n| "), "no speed-ups");
}
