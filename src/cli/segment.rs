//! `beit segment`: a mask for each image.

use crate::apply::segment::{
    MaskNames, OpenedSegmenter, overlay, palette_png, segment_image, segmented_page,
};
use crate::apply::stream::{ImageStream, Passage};
use crate::atomic::write_atomic;
use crate::cli::args::{SegmentArgs, WindowArgs};
use crate::cli::commands::{path, print_report};
use crate::cli::device::on_device;
use crate::cli::on_threads;
use crate::data::Image;
use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::report::about::About;
use crate::run::{claim, install_interrupt};
use crate::weights::{Model, load_model};
use std::time::Instant;

/// Segmented images that the page of `beit segment` shows.
const SHOWN: usize = 24;

/// The segmenter of a file, looking at images as it is told to.
pub fn opened_segmenter<B: Backend>(
    bk: &B,
    file: &Model,
    how: &WindowArgs,
) -> Result<OpenedSegmenter<B>> {
    let mut opened = OpenedSegmenter::of(bk, file, how.stride)?;
    (opened.windows.ratios, opened.windows.flip) = (how.ratios.clone(), how.flip);
    Ok(opened)
}

/// `beit segment`
pub fn segment(args: &SegmentArgs) -> Result<()> {
    let started = Instant::now();
    let chosen = args.common.open()?;
    let file = load_model(&args.model)?;
    let (mut names, mut shown_images, mut unreadable) =
        (MaskNames::default(), Vec::new(), Vec::new());
    let (unread, images, classes, _lock) = on_threads(args.common.threads, || {
        on_device!(chosen, bk => {
            let opened = opened_segmenter(&bk, &file, &args.windows)?;
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
        settings: format!("model = {:?}\n{}", args.model, args.windows.in_words()),
        ..About::this_process()
    };
    let page = segmented_page(&shown_images, names.len(), &classes);
    page.about(&about).write(&args.out.join("report.html"))?;
    say!("{} masks in {}", names.len(), path(&args.out.join("masks")));
    print_report(&args.out);
    unread.check(args.common.max_bad, images)
}
