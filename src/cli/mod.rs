//! The command line: arguments in, library calls, tables out.

/// Prints lines, made safe for a terminal but for their line breaks. Whoever reads our output may stop reading (`beit info run | head`): that ends the
/// program quietly, where `println!` would panic.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::print(format_args!($($text)*)) };
}

mod ablate;
mod args;
mod bench;
mod commands;
mod data;
mod demo;
mod device;
mod elbo;
mod evaluate;
mod exchange;
mod fill;
mod pages;
mod presets;
mod segment;
mod threads;
mod uses;

use crate::error::DeviceFault;
use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use std::ffi::OsString;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use threads::on_threads;

/// Parses the arguments (the first is the program's name), runs the command, and turns an error into
/// one message and a status: 0 done, 1 failed, 2 wrong arguments, 128 + N ended by signal N.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = Cli::parse_from(arguments);
    match crate::run::survive_file_limit().and_then(|()| guarded(|| run(cli.command))) {
        Ok(code) => code,
        Err(error) => {
            crate::run::note(&format!("beit: {error}"));
            match error {
                crate::Error::Interrupted(_) => ExitCode::from(crate::run::interrupt_status()),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Runs `f`; where a device fails inside an op, which panics, the driver's text is the error.
fn guarded<T>(f: impl FnOnce() -> crate::Result<T>) -> crate::Result<T> {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<DeviceFault>() {
            usual(info);
        }
    }));
    std::panic::catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|payload| {
        match payload.downcast::<DeviceFault>() {
            Ok(fault) => Err(crate::Error::Device(fault.text)),
            Err(other) => std::panic::resume_unwind(other),
        }
    })
}

fn run(command: Command) -> crate::Result<ExitCode> {
    let done = Ok(ExitCode::SUCCESS);
    match command {
        Command::Demo(args) => demo::demo(&args).and(done),
        Command::TrainTokenizer(args) => commands::train_tokenizer(&args).and(done),
        Command::Pretrain(args) => commands::pretrain(&args).and(done),
        Command::Dino(args) => commands::dino(&args).and(done),
        Command::Mocov3(args) => commands::mocov3(&args).and(done),
        Command::Bert(args) => commands::bert(&args).and(done),
        Command::Fill(args) => fill::fill(&args).and(done),
        Command::Finetune(args) => commands::finetune(&args).and(done),
        Command::SegmentTrain(args) => commands::segment_train(&args).and(done),
        Command::Segment(args) => segment::segment(&args).and(done),
        Command::Ablate(args) => ablate::ablate(&args).and(done),
        Command::Probe(args) => commands::probe(&args).and(done),
        Command::Predict(args) => uses::predict(&args).and(done),
        Command::Evaluate(args) => evaluate::evaluate(&args).and(done),
        Command::Embed(args) => uses::embed(&args).and(done),
        Command::Tokenize(args) => uses::tokenize(&args).and(done),
        Command::Attention(args) => pages::attention(&args).and(done),
        Command::Reconstruct(args) => pages::reconstruct(&args).and(done),
        Command::Atlas(args) => pages::atlas(&args).and(done),
        Command::Map(args) => pages::map(&args).and(done),
        Command::Elbo(args) => elbo::elbo(&args).and(done),
        Command::Import(args) => exchange::import_model(&args).and(done),
        Command::Export(args) => exchange::export_model(&args).and(done),
        Command::Gradcheck(args) => commands::gradcheck(&args),
        Command::Bench(command) => bench::bench(&command),
        Command::Data(command) => data::data(&command),
        Command::Info(args) => commands::info(&args).and(done),
        Command::Presets => presets::presets().and(done),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "beit", &mut script);
            say!("{}", String::from_utf8_lossy(&script).trim_end());
            done
        }
    }
}

/// What `say!` does.
fn print(text: std::fmt::Arguments) {
    let text = crate::shown::lines(&text.to_string());
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(1);
    }
}
