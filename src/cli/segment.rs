//! `beit segment-train`, `beit segment`, and `beit evaluate` of a segmenter.

use crate::apply::segment::{
    MaskNames, OpenedSegmenter, SegmentEvaluation, evaluate_segmenter, overlay, palette_png,
    segment_image, segmented_page,
};
use crate::apply::stream::{ImageStream, Passage};
use crate::atomic::write_atomic;
use crate::cli::args::{EvaluateArgs, SegmentArgs};
use crate::cli::commands::{path, print_report, print_segment_figures};
use crate::cli::device::{Chosen, on_device};
use crate::cli::on_threads;
use crate::data::Image;
use crate::error::{Error, Result};
use crate::report::about::About;
use crate::run::{claim, install_interrupt, write_json};
use crate::shown;
use crate::weights::{Model, load_model};
use std::time::Instant;

/// Segmented images that the page of `beit segment` shows.
const SHOWN: usize = 24;

/// `beit segment`
pub fn segment(args: &SegmentArgs) -> Result<()> {
    let started = Instant::now();
    let chosen = args.common.open()?;
    let file = load_model(&args.model)?;
    let (mut names, mut shown_images, mut unreadable) =
        (MaskNames::default(), Vec::new(), Vec::new());
    let (unread, images, classes, _lock) = on_threads(args.common.threads, || {
        on_device!(chosen, bk => {
            let mut opened = OpenedSegmenter::of(&bk, &file, args.windows.stride)?;
            (opened.windows.ratios, opened.windows.flip) =
                (args.windows.ratios.clone(), args.windows.flip);
            let images = ImageStream::open(&args.images)?;
            install_interrupt()?;
            let lock = claim(&args.out)?;
            for folder in ["masks", "overlays"].map(|name| args.out.join(name)) {
                std::fs::create_dir(&folder).map_err(Error::io("cannot make", &folder))?;
            }
            let classes = opened.model.config.classes.clone();
            let passage = Passage { batch: 16, max_bad: Some(args.common.max_bad), progress: Some("segment") };
            let unread = images.pass(&passage, Image::clone, |chunk| {
                for image in chunk {
                    let pixels = match image.made {
                        Ok(pixels) => pixels,
                        Err(reason) => {
                            unreadable.push(format!("{}: {reason}", image.name));
                            continue;
                        }
                    };
                    let (of, views) = (opened.weighted(), &opened.views);
                    let found = segment_image(&bk, of, &opened.windows, views, &pixels);
                    let name = names.take(&image.name);
                    let mask = args.out.join("masks").join(format!("{name}.png"));
                    write_atomic(&mask, &palette_png(&found, &classes)?)?;
                    let picture = overlay(&pixels, &found, &classes);
                    write_atomic(&args.out.join("overlays").join(format!("{name}.png")), &picture.png())?;
                    if shown_images.len() < SHOWN {
                        shown_images.push((image.name, picture));
                    }
                }
                Ok(())
            })?;
            Ok((unread, images.images(), classes, lock))
        })
    })?;
    write_atomic(&args.out.join("images.txt"), names.text().as_bytes())?;
    let about = About {
        device: chosen.describe(),
        data: args.images.iter().map(|p| path(p)).collect::<Vec<_>>().join(", "),
        images: format!("{} segmented", names.len()),
        unreadable,
        seconds: started.elapsed().as_secs_f64(),
        settings: format!(
            "model = {:?}\nstride = {}\nratios = {:?}\nflip = {}\n",
            args.model, args.windows.stride, args.windows.ratios, args.windows.flip
        ),
        ..About::this_process()
    };
    let page = segmented_page(&shown_images, names.len(), &classes);
    page.about(&about).write(&args.out.join("report.html"))?;
    say!("{} masks in {}", names.len(), path(&args.out.join("masks")));
    print_report(&args.out);
    unread.check(args.common.max_bad, images)
}

/// `beit evaluate` of a segmenter.
pub(super) fn evaluate(args: &EvaluateArgs, file: &Model, chosen: &Chosen) -> Result<()> {
    let started = Instant::now();
    if args.image_size.is_some() {
        return Err(Error::config(
            "--image-size is for classifiers: a segmenter looks at images of any size through windows of its own",
        ));
    }
    let model = args.model.to_string_lossy();
    let (summary, _lock) = on_threads(args.common.threads, || {
        on_device!(*chosen, bk => {
            let mut opened = OpenedSegmenter::of(&bk, file, args.windows.stride)?;
            (opened.windows.ratios, opened.windows.flip) =
                (args.windows.ratios.clone(), args.windows.flip);
            let lock = args.out.as_deref().map(claim).transpose()?;
            let max_bad = args.common.max_bad;
            Ok((evaluate_segmenter(&bk, &opened, &model, &args.data, max_bad)?, lock))
        })
    })?;
    print_evaluation(&summary);
    if let Some(path) = &args.json {
        write_json(path, &summary)?;
    }
    if let Some(out) = &args.out {
        write_json(&out.join("summary.json"), &summary)?;
        let about = About {
            device: chosen.describe(),
            data: summary.data.clone(),
            images: format!("{} measured", summary.figures.images),
            unreadable: summary.unreadable.clone(),
            seconds: started.elapsed().as_secs_f64(),
            settings: format!(
                "model = {:?}\nstride = {}\nratios = {:?}\nflip = {}\nmax_bad = {}\n",
                summary.model,
                args.windows.stride,
                args.windows.ratios,
                args.windows.flip,
                args.common.max_bad
            ),
            ..About::this_process()
        };
        summary.page().about(&about).write(&out.join("report.html"))?;
        print_report(out);
    }
    Ok(())
}

/// The lines about an evaluated segmenter.
fn print_evaluation(summary: &SegmentEvaluation) {
    let [of, on] = [&summary.model, &summary.data].map(|text| shown::line(text));
    say!("evaluation of {of} on {} images of {on}", summary.figures.images);
    print_segment_figures(&summary.figures);
}
