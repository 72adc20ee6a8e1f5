//! The commands, each as short as its job allows.

use crate::apply::classify::ClassifierFigures;
use crate::apply::probe::{ProbeSummary, Probed};
use crate::apply::segment::SegmentFigures;
use crate::apply::{probe as probing, probe};
use crate::cli::args::{
    BertArgs, FinetuneArgs, GradcheckArgs, InfoArgs, PretrainArgs, ProbeArgs, SegmentTrainArgs,
    TokenizerArgs, ViewsArgs,
};
use crate::cli::device::{Chosen, on_device};
use crate::cli::on_threads;
use crate::cli::presets::print_config;
use crate::config::{
    DinoRun, MocoRun, Place, ProbeRun, TokenizerKind, TokenizerRun, VaeRun, document,
};
use crate::cpu::Cpu;
use crate::error::{Error, Result};
use crate::report::about::About;
use crate::report::page::Page;
use crate::run::{claim, install_interrupt, vacant, write_json};
use crate::shown;
use crate::train::bert::{BertSummary, LanguageTraining};
use crate::train::dino::SelfDistillation;
use crate::train::driver::train;
use crate::train::finetune::Finetuning;
use crate::train::moco::Contrast;
use crate::train::pretrain::Pretraining;
use crate::train::segment::Segmentation;
use crate::train::summary::{
    FinetuneSummary, PretrainSummary, SegmentSummary, TokenizerSummary, VaeSummary, ViewFigures,
    ViewsSummary,
};
use crate::train::tokenizer::TokenizerTraining;
use crate::train::vae::VaeTraining;
use crate::weights::{Model, Stated, load_model_as, load_weights};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Why a value that the parser insists on is there.
const ASKED: &str = "the parser asks for it where it is not --print-config";

/// A command that trains: settings, device, `$train` on it, and what `$show` says of a finished run.
macro_rules! training {
    ($config:expr, $run:expr, $task:ident$(<$b:ty>)?, $show:expr) => {{
        let mut config = $config;
        if $run.settings.print_config {
            return print_config(&config);
        }
        let chosen = Chosen::open(config.common.device, config.common.precision)?;
        (config.common.device, config.common.precision) = (chosen.place(), chosen.precision());
        install_interrupt()?;
        let out = $run.out.as_deref().expect(ASKED);
        let begin = $run.begin();
        let summary = on_threads(
            config.common.threads,
            || on_device!(chosen, bk => train::<_, $task$(<$b>)?>(&bk, &config, out, &begin)),
        )?;
        match summary {
            Some(summary) => $show(&summary),
            None => say!("{} holds a finished run; nothing to do", path(out)),
        }
        print_report(out);
        Ok(())
    }};
}

/// `beit train-tokenizer`
pub fn train_tokenizer(TokenizerArgs { kind, train }: &TokenizerArgs) -> Result<()> {
    match kind {
        TokenizerKind::Dvae => {
            training!(
                train.resolve::<TokenizerRun>()?,
                train.run,
                TokenizerTraining,
                print_tokenizer
            )
        }
        TokenizerKind::Vae => {
            training!(train.resolve::<VaeRun>()?, train.run, VaeTraining, print_vae)
        }
    }
}

/// `beit pretrain`
pub fn pretrain(args: &PretrainArgs) -> Result<()> {
    training!(args.resolve()?, args.train.run, Pretraining<_>, print_pretrain)
}

/// `beit dino`
pub fn dino(args: &ViewsArgs) -> Result<()> {
    training!(args.resolve::<DinoRun>()?, args.run, SelfDistillation<_>, print_views)
}

/// `beit mocov3`
pub fn mocov3(args: &ViewsArgs) -> Result<()> {
    training!(args.resolve::<MocoRun>()?, args.run, Contrast<_>, print_views)
}

/// `beit bert`
pub fn bert(args: &BertArgs) -> Result<()> {
    training!(args.resolve()?, args.run, LanguageTraining<_>, print_bert)
}

/// `beit finetune`
pub fn finetune(args: &FinetuneArgs) -> Result<()> {
    training!(args.resolve()?, args.run, Finetuning<_>, print_finetune)
}

/// `beit segment-train`
pub fn segment_train(args: &SegmentTrainArgs) -> Result<()> {
    training!(args.resolve()?, args.run, Segmentation<_>, print_segmentation)
}

/// `beit probe`
pub fn probe(args: &ProbeArgs) -> Result<()> {
    let started = Instant::now();
    let own = [("model", &args.model), ("train", &args.train), ("test", &args.test)];
    let mut layers = args.settings.layers(&own.map(|(key, value)| (key, value.as_deref())));
    if args.common_classes {
        layers.flags.push(("common_classes", true.into()));
    }
    let config: ProbeRun = layers.resolve()?;
    if args.settings.print_config {
        return print_config(&config);
    }
    let chosen = Chosen::open(config.common.device, config.common.precision)?;
    args.out.as_deref().map_or(Ok(()), vacant)?;
    let summary = on_threads(config.common.threads, || {
        on_device!(chosen, bk => {
            let probed = Probed::open(&bk, &config.model, config.common.preset, config.common.seed)?;
            probing::probe(&bk, &probed, &config)
        })
    })?;
    print_probe(&summary);
    if let Some(out) = &args.out {
        let _lock = claim(out)?;
        write_json(&out.join("summary.json"), &summary)?;
        let about = About {
            device: chosen.describe(),
            data: format!("{} to fit on, {} to measure on", config.train, config.test),
            images: format!("{} fitted, {} measured", summary.images.0, summary.images.1),
            unreadable: summary.unreadable.clone(),
            seconds: started.elapsed().as_secs_f64(),
            settings: document(&config)?,
            ..About::this_process()
        };
        let page = probe::add_to_report(Page::new("Probe"), &summary).about(&about);
        page.write(&out.join("report.html"))?;
        print_report(out);
    }
    Ok(())
}

/// `beit gradcheck`: the status says whether everything passed.
pub fn gradcheck(args: &GradcheckArgs) -> Result<ExitCode> {
    let (filter, mut out) = (args.filter.as_deref(), std::io::stdout());
    if let Place::Cuda(ordinal) = args.device {
        return gradcheck_cuda(ordinal, args);
    }
    if args.parity {
        return Err(Error::config("--parity compares a GPU with the CPU: add --device cuda"));
    }
    let summary = crate::selfcheck::run::gradcheck(filter, args.out.is_some(), &mut out)?;
    if let Some(path) = &args.json {
        crate::selfcheck::page::write_json(&summary, path)?;
    }
    if let Some(folder) = &args.out {
        crate::selfcheck::page::write(&summary, folder)?;
        say!("{}", path(&folder.join("index.html")));
    }
    Ok(if summary.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(feature = "cuda")]
fn gradcheck_cuda(ordinal: usize, args: &GradcheckArgs) -> Result<ExitCode> {
    if args.out.is_some() {
        return Err(Error::config("--out draws the curves of the CPU: leave out --device cuda"));
    }
    use crate::apply::agreement::{Agreement, token_agreement};
    use crate::cuda::Cuda;
    use crate::selfcheck::cuda::{Parity, parity};
    use std::collections::BTreeMap;
    /// Images whose tokens are compared.
    const TOKENIZED: usize = 64;
    let (filter, mut out) = (args.filter.as_deref(), std::io::stdout());
    let device = crate::cuda::Device::new(ordinal)?;
    say!("on {}", device.describe());
    let passed = if args.parity {
        let rows = parity(&device, filter, &mut out)?;
        let tokens = match (&args.tokenizer, &args.data) {
            (Some(tokenizer), Some(data)) => {
                let (bf16, f32) = (Cuda::<half::bf16>::on(&device)?, Cuda::<f32>::on(&device)?);
                let found = token_agreement((&bf16, &f32), tokenizer, data, TOKENIZED)?;
                let Agreement { images, tokens, .. } = found;
                let percent = found.percent();
                say!("bf16 and f32 agree on {percent:.2} % of {tokens} tokens of {images} images");
                Some(percent)
            }
            _ => None,
        };
        if let Some(path) = &args.json {
            let kernels: BTreeMap<_, _> = device.resources().into_iter().collect();
            let json = serde_json::json!({
                "device": device.describe(),
                "rows": rows,
                "tokens_agree_percent": tokens,
                "kernels_registers_shared_local": kernels,
            });
            write_json(path, &json)?;
        }
        rows.iter().all(Parity::passed)
    } else {
        let summary = crate::selfcheck::run::gradcheck_cuda(&device, filter, &mut out)?;
        if let Some(path) = &args.json {
            crate::selfcheck::page::write_json(&summary, path)?;
        }
        summary.passed()
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(not(feature = "cuda"))]
fn gradcheck_cuda(_: usize, _: &GradcheckArgs) -> Result<ExitCode> {
    Err(Error::Device("this beit was built without its feature `cuda`".into()))
}

/// `beit info`
pub fn info(args: &InfoArgs) -> Result<()> {
    let model = load_model_as(&args.path, &Stated::default())?;
    say!("{}", model.config.describe());
    say!("  {}", model.checksums);
    print_origin(&model);
    // Reading every tensor shows that the file fits its configuration and holds only finite numbers.
    let bk = Cpu::<f32>::new();
    load_weights(&bk, &model, &model.config.layout(&bk))?;
    for (name, shape) in model.tensors.shapes() {
        say!("  {} {shape:?}", shown::name(&name));
    }
    if let Ok(text) = std::fs::read_to_string(args.path.join("summary.json")) {
        // Written anew, so that no line of it is but JSON.
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(summary) => say!("summary: {summary:#}"),
            Err(e) => say!("summary: summary.json is not JSON ({})", shown::name(&e.to_string())),
        }
    }
    Ok(())
}

/// Where a model of another project is from, and what became of its tensors.
pub(super) fn print_origin(model: &Model) {
    let Some(origin) = &model.origin else { return };
    say!("files of {}", origin.project);
    origin.notes.iter().for_each(|note| say!("  {}", shown::line(note)));
    say!("{}", origin.plan.to_string().trim_end());
}

/// The lines about a tokenizer.
pub fn print_tokenizer(s: &TokenizerSummary) {
    say!("tokenizer, hard codes on {} images after {} steps", s.images, s.steps);
    say!("  PSNR                 {:>8.2} dB", s.psnr_db);
    say!("  codebook perplexity  {:>8.1} of {}", s.codebook_perplexity, s.vocab);
    say!("  codebook usage       {:>8.3}", s.codebook_usage);
    say!("  KL per position      {:>8.3} nats", s.kl);
}

/// The lines about a Gaussian VAE.
pub fn print_vae(s: &VaeSummary) {
    say!("Gaussian VAE, means decoded on {} images after {} steps", s.images, s.steps);
    s.in_words().iter().for_each(|[name, value]| say!("  {name:<20} {value}"));
    s.collapse().iter().for_each(|line| say!("{line}"));
}

/// The lines about a pretrained encoder.
pub fn print_pretrain(s: &PretrainSummary) {
    say!("pretraining, {} of {} images after {} steps", s.figures.of(), s.images, s.steps);
    for [name, value, unit] in s.figures.in_words(3) {
        say!("  {name:<20} {value:>8}{unit}");
    }
}

/// The lines about a method that compares views.
pub fn print_views<F: ViewFigures>(s: &ViewsSummary<F>) {
    let (method, images) = (F::METHOD, s.figures.images());
    say!("{method}, two views of each of {images} images after {} steps", s.steps);
    for [name, value, unit] in s.figures.in_words() {
        say!("  {name:<20} {value:>8}{unit}");
    }
    s.figures.collapse().into_iter().for_each(|text| say!("  {text}"));
}

/// The lines about a language model.
pub fn print_bert(s: &BertSummary) {
    let (bytes, pieces) = (s.figures.bytes, s.pieces);
    say!("BERT, {bytes} chosen bytes of {pieces} pieces of text after {} steps", s.steps);
    say!("  {:<20} {:>8} {:>8}", "", "model", "trigrams");
    for [name, own, counts, unit] in s.in_words() {
        say!("  {name:<20} {own:>8} {counts:>8} {unit}");
    }
    say!("  entropy of single bytes {:.3} nats, of 256 alike {:.3}", s.unigram_entropy, s.uniform);
}

/// The lines about a fine-tuned classifier.
pub fn print_finetune(s: &FinetuneSummary) {
    let images = s.figures.images;
    say!("fine-tuning from {}, {images} images after {} steps", shown::line(&s.model), s.steps);
    print_figures(&s.figures);
}

/// The lines of a classifier's figures.
pub fn print_figures(f: &ClassifierFigures) {
    let (low, high) = f.top1_interval;
    say!("  top-1                {:>8.3} ({low:.3} to {high:.3})", f.top1);
    say!("  top-5                {:>8.3}", f.top5);
    say!("  log-likelihood loss  {:>8.3} nats", f.nll);
    say!("  calibration error    {:>8.3}", f.ece);
}

/// The lines about a trained segmenter.
pub fn print_segmentation(s: &SegmentSummary) {
    let images = s.figures.images;
    say!("segmentation from {}, {images} images after {} steps", shown::line(&s.model), s.steps);
    print_segment_figures(&s.figures);
}

/// The lines of a segmenter's figures.
pub fn print_segment_figures(f: &SegmentFigures) {
    let interval = f.miou_interval;
    let interval = interval.map(|(low, high)| format!(" ({low:.3} to {high:.3})"));
    say!("  mean IoU             {:>8.3}{}", f.miou, interval.unwrap_or_default());
    say!("  mean accuracy        {:>8.3}", f.macc);
    say!("  accuracy of pixels   {:>8.3}", f.aacc);
}

/// The table of a probe.
pub fn print_probe(s: &ProbeSummary) {
    let (train, test) = s.images;
    say!("probe of {}: {train} images fitted, {test} measured", shown::line(&s.model));
    say!("  block   linear     k-NN");
    for (l, (linear, knn)) in s.linear.iter().zip(&s.knn).enumerate() {
        say!("  {:>5} {linear:>8.3} {knn:>8.3}", l + 1);
    }
    say!("  best linear {:.3} (block {})", s.best_linear.0, s.best_linear.1);
    say!("  best k-NN   {:.3} (block {})", s.best_knn.0, s.best_knn.1);
    say!("  most frequent class {:.3}", s.majority);
    if !s.unreadable.is_empty() {
        say!("  {} unreadable images were left out", s.unreadable.len());
    }
}

/// Where the report is.
pub fn print_report(out: &Path) {
    say!("report: {}", path(&out.join("report.html")));
}

/// A path on one line.
pub(super) fn path(path: &Path) -> String {
    shown::line(&path.to_string_lossy())
}
