//! `beit elbo`

use crate::apply::elbo::{BoundSummary, BoundTask};
use crate::cli::args::ElboArgs;
use crate::cli::commands::print_report;
use crate::cli::device::{Chosen, on_device};
use crate::cli::on_threads;
use crate::config::PrecisionChoice;
use crate::error::Result;
use crate::report::about::About;
use crate::run::{claim, write_json};
use std::time::Instant;

/// Measures, prints, writes.
pub fn elbo(args: &ElboArgs) -> Result<()> {
    let started = Instant::now();
    let task = BoundTask {
        tokenizer: &args.tokenizer,
        model: &args.model,
        data: &args.data,
        images: args.images as usize,
        seed: args.seed,
        draws: args.draws,
        masks: args.masks,
        temperature: args.temperature,
        normalise: args.normalise,
    };
    let chosen = Chosen::open(args.device, PrecisionChoice::F32)?;
    let summary = on_threads(args.threads, || {
        on_device!(chosen, bk => {
            let opened = task.open(&bk)?;
            let _lock = args.out.as_deref().map(claim).transpose()?;
            opened.measure(&bk)
        })
    })?;
    summary.lines().iter().for_each(|line| say!("{line}"));
    if let Some(path) = &args.json {
        write_json(path, &summary)?;
    }
    if let Some(out) = &args.out {
        write_json(&out.join("summary.json"), &summary)?;
        let about = About {
            device: chosen.describe(),
            data: summary.data.clone(),
            images: format!("{} measured", summary.images),
            unreadable: summary.unreadable.clone(),
            seconds: started.elapsed().as_secs_f64(),
            settings: settings(&summary),
            ..About::this_process()
        };
        summary.page().about(&about).write(&out.join("report.html"))?;
        print_report(out);
    }
    Ok(())
}

/// What the figures depend on, as far as it can be given.
fn settings(s: &BoundSummary) -> String {
    format!(
        "tokenizer = {:?}\nmodel = {:?}\nimages = {}\nseed = {}\ndraws = {}\nmasks = {}\ntemperature = {}\n",
        s.tokenizer, s.model, s.images, s.seed, s.draws, s.masks, s.temperature
    )
}
