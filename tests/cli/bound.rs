//! `beit elbo` on small models: its figures hold together, and what it refuses.

use super::{beit, fails, folder, text};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::path::Path;

/// The trials.
pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("elbo/figures_hold_together", hold_together),
        Trial::test("elbo/threads_change_nothing", threads_change_nothing),
        Trial::test("elbo/an_unreadable_image_is_counted", unreadable_is_counted),
        Trial::test("elbo/models_must_fit", models_must_fit),
        Trial::test("elbo/a_bare_file_needs_a_temperature", needs_a_temperature),
        Trial::test("elbo/squared_error_is_refused", squared_error_is_refused),
    ]
}

const LINE: &str = "elbo --tokenizer tokenizer --model beit --images 6 --draws 2 --masks 2";

fn done(more: &str) -> Result<String, Failed> {
    let output = beit(folder(), &format!("{LINE} {more}")).output()?;
    let said = text(&output);
    if output.status.success() { Ok(said) } else { Err(said.into()) }
}

fn json(path: &str) -> Result<Value, Failed> {
    Ok(serde_json::from_slice(&std::fs::read(folder().join(path))?)?)
}

fn copy(from: &Path, to: &Path, files: &[&str]) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    files.iter().try_for_each(|file| std::fs::copy(from.join(file), to.join(file)).map(|_| ()))
}

const MODEL: [&str; 2] = ["model.safetensors", "config.json"];

fn hold_together() -> Result<(), Failed> {
    let said = done("--data synthetic:12 --json bound.json --out bound_page")?;
    let summary = json("bound.json")?;
    let nats = |key: &str| summary["figures"][key]["nats"].as_f64().ok_or(format!("no {key}"));
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9 * a.abs().max(1.0);
    let bound = nats("reconstruction_hard")? - nats("kl_prior_all")?;
    let gain = nats("bound_all")? - nats("bound_uniform")?;
    let gain_masked = nats("bound_masked")? - nats("bound_uniform")?;
    assert!(near(bound, nats("bound_all")?) && near(gain, nats("gain_all")?), "{summary}");
    assert!(near(gain_masked, nats("gain_masked")?), "{summary}");
    let bits = summary["figures"]["bound_all"]["bits_per_dim"].as_f64().ok_or("no bits")?;
    assert!(near(bits, -bound / (3072.0 * std::f64::consts::LN_2)), "{summary}");
    // Of 64 positions a little less than 40 % are hidden; no divergence is below 0 or, from uniform, above ln K.
    let hidden = summary["masked_positions"].as_f64().ok_or("no masked_positions")?;
    let (masked, all) = (nats("kl_uniform_masked")?, nats("kl_uniform_all")?);
    assert!((15.0..=25.0).contains(&hidden), "{hidden}");
    assert!(0.0 < masked && masked < all && all < 64.0 * 32f64.ln(), "{masked}, {all}");
    assert!(nats("kl_prior_masked")? > 0.0 && nats("kl_prior_all")? > nats("kl_prior_masked")?);
    assert_eq!(summary["per_image"].as_array().map(Vec::len), Some(6));
    assert_eq!(summary["temperature"], 0.2, "as the run of the tokenizer ended");
    let shown = format!("{:.2} ± ", nats("bound_all")?);
    let page = std::fs::read_to_string(folder().join("bound_page/report.html"))?;
    for want in [&shown, "second stage everywhere", "gain where masked"] {
        assert!(said.contains(want) && page.contains(want), "no {want} in {said} or {page}");
    }
    assert!(page.contains("<td>images</td><td>6 measured</td>") && page.contains("draws = 2"));
    assert_eq!(json("bound_page/summary.json")?, summary);
    Ok(())
}

fn threads_change_nothing() -> Result<(), Failed> {
    done("--data synthetic:6 --threads 1 --json threads_1.json")?;
    done("--data synthetic:6 --threads 3 --json threads_3.json")?;
    assert_eq!(json("threads_1.json")?, json("threads_3.json")?);
    Ok(())
}

fn unreadable_is_counted() -> Result<(), Failed> {
    let photos = folder().join("bound_bad");
    std::fs::create_dir(&photos)?;
    for name in ["a.png", "b.png", "d.png"] {
        std::fs::copy(folder().join("images/square.png"), photos.join(name))?;
    }
    std::fs::write(photos.join("c.png"), "cut")?;
    let said = done("--data bound_bad --json bound_bad.json")?;
    assert_eq!(said.matches("c.png").count(), 1, "{said}");
    assert!(said.contains("1 unreadable images were left out"), "{said}");
    let summary = json("bound_bad.json")?;
    let names: Vec<_> = summary["per_image"].as_array().into_iter().flatten().collect();
    assert_eq!(summary["unreadable"].as_array().map(Vec::len), Some(1));
    assert_eq!(names.iter().map(|i| &i["name"]).collect::<Vec<_>>(), ["a.png", "b.png", "d.png"]);
    let all_bad = format!("{LINE} --data classes");
    fails(&all_bad, "none of 2 images can be read")
}

fn models_must_fit() -> Result<(), Failed> {
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/versions/2/beit");
    copy(&other, &folder().join("other_beit"), &MODEL)?;
    let line = LINE.replace("--model beit", "--model other_beit") + " --data synthetic:4 --out new";
    fails(&line, "choose image_size and patch_size so that the grids agree")?;
    let line = LINE.replace("--model beit", "--model tokenizer") + " --data synthetic:4 --out new";
    fails(&line, "tokenizer")
}

fn needs_a_temperature() -> Result<(), Failed> {
    copy(&folder().join("tokenizer"), &folder().join("bare"), &MODEL)?;
    let line = LINE.replace("--tokenizer tokenizer", "--tokenizer bare") + " --data synthetic:4";
    fails(&line, "give --temperature")?;
    fails(&format!("{line} --temperature 0"), "above 0")?;
    let output = beit(folder(), &format!("{line} --temperature 0.5 --json bare.json")).output()?;
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(json("bare.json")?["temperature"], 0.5);
    Ok(())
}

fn squared_error_is_refused() -> Result<(), Failed> {
    let mse = folder().join("mse");
    copy(&folder().join("tokenizer"), &mse, &MODEL)?;
    let settings = std::fs::read_to_string(folder().join("tokenizer/config.toml"))?;
    let changed = settings.replace("recon = \"logit_laplace\"", "recon = \"mse\"");
    assert_ne!(changed, settings);
    std::fs::write(mse.join("config.toml"), changed)?;
    let line = LINE.replace("--tokenizer tokenizer", "--tokenizer mse") + " --data synthetic:4";
    fails(&line, "recon = mse leaves ln b untrained")
}
