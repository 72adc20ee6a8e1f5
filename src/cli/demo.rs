//! `beit demo`: the whole road on built-in images, small enough for a laptop.

use crate::apply::classify::{add_figures, evaluate};
use crate::apply::opened::OpenedClassifier;
use crate::apply::probe::{Probed, add_to_report, probe};
use crate::apply::reconstruct::{Reconstruction, reconstruction_picture};
use crate::cli::args::DemoArgs;
use crate::cli::commands::{print_pretrain, print_probe, print_report, print_tokenizer};
use crate::cli::device::{Chosen, on_device};
use crate::cli::evaluate::print_evaluation;
use crate::cli::on_threads;
use crate::config::{
    FinetuneRun, Layers, PrecisionChoice, Preset, PretrainRun, ProbeRun, Replace, TokenizerRun,
    document,
};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::models::config::BeitConfig;
use crate::ops::Backend;
use crate::report::about::About;
use crate::report::page::{Page, Table};
use crate::run::{Begin, install_interrupt, write_atomic};
use crate::train::driver::train;
use crate::train::finetune::Finetuning;
use crate::train::pretrain::Pretraining;
use crate::train::summary::{PretrainSummary, TokenizerSummary};
use crate::train::tokenizer::TokenizerTraining;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Scenes that tokenizer and encoder are trained on.
const TRAIN: &str = "synthetic:4096";
/// Scenes that the probe is fitted on, with their classes.
const PROBE_TRAIN: &str = "synthetic:4096";
/// Scenes that probe and classifier are measured on; never among those of training.
const PROBE_TEST: &str = "synthetic:1024";
/// Optimizer steps of fine-tuning.
const FINETUNE_STEPS: i64 = 200;

/// Trains a tokenizer and an encoder, probes the encoder and a random one, and writes the report.
pub fn demo(args: &DemoArgs) -> Result<()> {
    install_interrupt()?;
    let out = &args.out;
    let (tok, enc) = folders(out);
    if !args.resume && out.is_dir() && out.read_dir().is_ok_and(|mut d| d.next().is_some()) {
        return Err(Error::config(format!(
            "{} is not empty: give --resume to continue that demo, or another folder",
            out.display()
        )));
    }
    let chosen = Chosen::open(args.device, PrecisionChoice::Auto)?;
    let tokenizer_path = tok.to_string_lossy();
    let threads = args.threads as i64;
    let settings = |more: &[(&'static str, toml::Value)]| {
        let mut flags = vec![
            ("threads", threads.into()),
            ("device", chosen.place().to_string().into()),
            ("precision", chosen.precision().word().into()),
        ];
        flags.extend(more.iter().cloned());
        Layers { file: None, set: Vec::new(), flags }
    };
    let t: TokenizerRun =
        settings(&[("data", TRAIN.into()), ("epochs", 5.into())]).resolve_in(&tok)?;
    let p: PretrainRun = settings(&[
        ("data", TRAIN.into()),
        ("tokenizer", tokenizer_path.as_ref().into()),
        ("epochs", 7.into()),
    ])
    .resolve_in(&enc)?;
    let q: ProbeRun = settings(&[
        ("model", enc.to_string_lossy().as_ref().into()),
        ("train", PROBE_TRAIN.into()),
        ("test", PROBE_TEST.into()),
    ])
    .resolve()?;
    let classifier = out.join("classifier");
    let f: FinetuneRun = settings(&[
        ("data", PROBE_TRAIN.into()),
        ("model", enc.to_string_lossy().as_ref().into()),
        ("steps", FINETUNE_STEPS.into()),
    ])
    .resolve_in(&classifier)?;
    let settings = DemoSettings { t, p, q, f };
    on_threads(args.threads, || on_device!(chosen, bk => road(&bk, args, &settings)))
}

/// Settings of the runs of a demo.
struct DemoSettings {
    t: TokenizerRun,
    p: PretrainRun,
    q: ProbeRun,
    f: FinetuneRun,
}

/// The whole road on one backend.
fn road<B: Backend>(
    bk: &B,
    args: &DemoArgs,
    DemoSettings { t, p, q, f }: &DemoSettings,
) -> Result<()> {
    let started = Instant::now();
    let out = &args.out;
    let (tok, enc) = folders(out);
    let begin = Begin { resume: args.resume, ..Begin::default() };
    let tokenizer: TokenizerSummary = match train::<B, TokenizerTraining>(bk, t, &tok, &begin)? {
        Some(summary) => summary,
        None => read_summary(&tok)?,
    };
    print_tokenizer(&tokenizer);
    let encoder: PretrainSummary = match train::<B, Pretraining<B>>(bk, p, &enc, &begin)? {
        Some(summary) => summary,
        None => read_summary(&enc)?,
    };
    print_pretrain(&encoder);
    let pretrained = probe(bk, &Probed::open(bk, &q.model, Preset::Tiny, q.common.seed)?, q)?;
    let start = Probed::random(bk, &BeitConfig::tiny(), q.common.seed);
    let random = probe(bk, &start, &ProbeRun { model: "random".into(), ..q.clone() })?;
    print_probe(&pretrained);
    print_probe(&random);
    let classifier = out.join("classifier");
    train::<B, Finetuning<B>>(bk, f, &classifier, &begin)?;
    let opened = OpenedClassifier::open(bk, &classifier)?;
    let name = classifier.to_string_lossy();
    let fine_tuned = evaluate(bk, &opened, &name, PROBE_TEST, f.common.max_bad)?;
    print_evaluation(&fine_tuned);
    let summary = json!({
        "tokenizer": tokenizer,
        "pretrain": encoder,
        "probe": {
            "pretrained": pretrained.best_linear.0,
            "random_init": random.best_linear.0,
            "pretrained_knn": pretrained.best_knn.0,
            "random_init_knn": random.best_knn.0,
        },
        "finetune": fine_tuned,
    });
    let picture = reconstruction_picture(
        bk,
        &Reconstruction {
            tokenizer: &tok,
            model: Some(&enc),
            data: "synthetic:64",
            images: 8,
            seed: 0,
            split: Split::Test,
            normalise: None,
            masks: None,
            replace: Replace::MaskToken,
            ratios: &[],
        },
    )?;
    let page = Page::new("beit demo")
        .text(
            "Tokenizer, masked pretraining, linear probe and fine-tuning on built-in scenes. The last \
             two columns of the picture show what the tokens hold and what the encoder predicts \
             for the hidden patches.",
        )
        .section("Figures")
        .table(
            Table::new(&["figure", "value"], 1)
                .rows([
                    ["tokenizer PSNR".into(), format!("{:.2} dB", tokenizer.psnr_db)],
                    [
                        "codebook perplexity".into(),
                        format!("{:.1} of {}", tokenizer.codebook_perplexity, tokenizer.vocab),
                    ],
                ])
                .rows(
                    encoder
                        .figures
                        .in_words(3)
                        .into_iter()
                        .map(|[name, value, unit]| [name, value + &unit]),
                )
                .rows([
                    ["linear probe, pretrained".into(), format!("{:.3}", pretrained.best_linear.0)],
                    ["linear probe, random".into(), format!("{:.3}", random.best_linear.0)],
            ["fine-tuned, top-1".into(), format!("{:.3}", fine_tuned.figures.top1)],
                ]),
        )
        .section("original | masked | tokens decoded | predicted tokens decoded")
        .picture("original | masked | tokens decoded | predicted tokens decoded", &picture);
    let page = add_to_report(add_to_report(page, &pretrained), &random);
    let page = add_figures(page.section("Fine-tuned classifier"), &fine_tuned.figures);
    let about = About {
        device: bk.describe(),
        data: format!("{TRAIN} to train on, {PROBE_TRAIN} and {PROBE_TEST} for the probe"),
        images: format!("{} fitted, {} measured", pretrained.images.0, pretrained.images.1),
        steps: Some(tokenizer.steps + encoder.steps + f.recipe.steps as u64),
        seconds: started.elapsed().as_secs_f64(),
        settings: [document(t)?, document(p)?, document(q)?, document(f)?].join("\n"),
        ..About::this_process()
    };
    page.about(&about).write(&out.join("report.html"))?;
    write_atomic(&out.join("summary.json"), format!("{summary:#}\n").as_bytes())?;
    say!(
        "linear probe: {:.3} pretrained, {:.3} random; fine-tuned: {:.3}",
        pretrained.best_linear.0,
        random.best_linear.0,
        fine_tuned.figures.top1
    );
    print_report(out);
    Ok(())
}

/// Where tokenizer and encoder go.
fn folders(out: &Path) -> (PathBuf, PathBuf) {
    (out.join("tokenizer"), out.join("beit"))
}

fn read_summary<T: DeserializeOwned>(run: &Path) -> Result<T> {
    let path = run.join("summary.json");
    let text = std::fs::read_to_string(&path).map_err(Error::io("cannot read", &path))?;
    serde_json::from_str(&text).map_err(|e| Error::format(&path, format!("not a summary: {e}")))
}
