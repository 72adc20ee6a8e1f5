//! The Gaussian VAE through the program: any interruption changes no byte, collapse is noticed, and whoever wants
//! tokens of it is told what to do.

use super::{finish, kill_and_compare, program};
use std::path::Path;
use tempfile::TempDir;

const VAE: &[&str] = &[
    "--kind=vae",
    "--data=synthetic:24",
    "--epochs=3",
    "--batch=8",
    "--set=image_size=16",
    "--set=width=8",
    "--set=init_width=8",
    "--set=log_every=1",
    "--set=checkpoint_every=2",
];

fn summary(run: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(run.join("summary.json")).unwrap()).unwrap()
}

#[test]
fn kill_resume_and_threads_change_no_byte_of_a_gaussian_vae() {
    let folder = TempDir::new().unwrap();
    let kills = kill_and_compare("train-tokenizer", VAE, folder.path(), 5);
    assert!(kills > 0, "nothing was killed: the test shows nothing");
    let run = folder.path().join("alone");
    let of = |key: &str| summary(&run)[key].as_f64().unwrap_or_else(|| panic!("no {key}"));
    assert!(of("psnr_db") > 5.0 && of("bits_per_dim") > 1.0 && of("kl") >= 0.0);
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    for part in ["means decoded", "samples from the prior", "from one image to another"] {
        assert!(page.contains(part), "no {part} on the page");
    }
    // No tokens, no other project's form.
    let path = run.to_str().unwrap();
    let out = folder.path().join("out");
    let (out, picture) = (out.to_str().unwrap(), folder.path().join("tokens.png"));
    let picture = picture.to_str().unwrap();
    for refused in [
        &["pretrain", "--data=synthetic:24", "--tokenizer", path, "--out", out][..],
        &["tokenize", "--tokenizer", path, "--data=synthetic:8", "--out", out],
        &["reconstruct", "--tokenizer", path, "--data=synthetic:8", "--out", picture],
    ] {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_beit")).args(refused).output();
        let text = String::from_utf8_lossy(&done.unwrap().stderr).into_owned();
        let want =
            "is a Gaussian VAE, want a tokenizer: it has no tokens; beit train-tokenizer without";
        assert!(text.contains(want), "{refused:?}: {text}");
    }
    for format in ["hf", "unilm", "timm", "dalle", "onnx"] {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_beit"))
            .args(["export", "--model", path, "--format", format, "--out", out])
            .output();
        let text = String::from_utf8_lossy(&done.unwrap().stderr).into_owned();
        assert!(text.contains("is a Gaussian VAE, which no other project"), "{format}: {text}");
    }
}

#[test]
fn a_kl_that_weighs_too_much_collapses_the_posterior_and_is_said() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    let settings: Vec<&str> =
        VAE.iter().copied().filter(|setting| !setting.starts_with("--epochs")).collect();
    let more = ["--set=kl_weight=1000", "--set=kl_warmup=0", "--epochs=8", "--set=lr=0.01"];
    let done = finish(program("train-tokenizer", &settings, &run, &more));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(summary(&run)["silent_channels"], 1.0, "{said}");
    assert!(said.contains("The posterior has collapsed in 2 of 2 latent channels"), "{said}");
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("The posterior has collapsed"));
}
