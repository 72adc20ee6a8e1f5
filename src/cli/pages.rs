//! The commands that make pictures and pages.

use crate::apply::attention::{AttentionMap, attention_picture};
use crate::apply::pages::atlas::{AtlasTask, atlas_page};
use crate::apply::pages::attention::{AttentionPages, attention_pages};
use crate::apply::pages::map::{MapTask, map_page};
use crate::apply::reconstruct::{Reconstruction, reconstruction_page, reconstruction_picture};
use crate::cli::args::{AtlasArgs, AttentionArgs, MapArgs, ReconstructArgs};
use crate::cli::commands::path;
use crate::cli::device::{Chosen, on_device};
use crate::cli::on_threads;
use crate::config::{PrecisionChoice, Replace};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::report::about::About;
use crate::report::page::Page;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a command draws, as the ending of its file says.
#[derive(PartialEq)]
enum DrawnAs {
    Picture,
    Page,
}

impl DrawnAs {
    fn of(out: &Path) -> Result<Self> {
        match ending(out).as_str() {
            "png" => Ok(Self::Picture),
            "html" => Ok(Self::Page),
            _ => Err(Error::config(format!(
                "{}: give a name that ends in .png for a picture, in .html for a page",
                out.display()
            ))),
        }
    }
}

fn ending(out: &Path) -> String {
    out.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// Refuses a page under a name that no browser opens as one.
fn page_only(out: &Path) -> Result<()> {
    if ending(out) == "html" {
        return Ok(());
    }
    Err(Error::config(format!("{}: give a name that ends in .html", out.display())))
}

/// `beit attention`
pub fn attention(args: &AttentionArgs) -> Result<()> {
    if DrawnAs::of(&args.out)? == DrawnAs::Page {
        return attention_on_pages(args);
    }
    let one = |what: &str| {
        Error::config(format!("a picture shows one {what}; give --out a name that ends in .html"))
    };
    let [image] = args.image.as_slice() else { return Err(one("image")) };
    if args.layer.len() > 1 {
        return Err(one("block"));
    }
    if args.image_size.is_some() {
        return Err(one("size, the encoder's own"));
    }
    let patch = args.patch.ok_or_else(|| {
        Error::config(
            "a picture needs --patch ROW,COL; with --out FILE.html one picks it on the page",
        )
    })?;
    let layer = args.layer.first().copied();
    let map = AttentionMap { model: &args.model, image, patch, layer, normalise: args.normalise };
    let chosen = Chosen::open(args.device, PrecisionChoice::F32)?;
    let picture = on_device!(chosen, bk => attention_picture(&bk, &map))?;
    picture.save(&args.out)?;
    say!("{}", path(&args.out));
    Ok(())
}

fn attention_on_pages(args: &AttentionArgs) -> Result<()> {
    let task = AttentionPages {
        model: &args.model,
        images: &args.image,
        size: args.image_size,
        layers: &args.layer,
        patch: args.patch,
        normalise: args.normalise,
    };
    let started = Instant::now();
    let chosen = Chosen::open(args.device, PrecisionChoice::F32)?;
    let write = |n: usize, page: Page| {
        let out = numbered(&args.out, n, args.image.len());
        write(page, &chosen, &args.image[n].to_string_lossy(), started, &out)?;
        say!("{}", path(&out));
        Ok(())
    };
    on_device!(chosen, bk => attention_pages(&bk, &task, write))
}

/// The file of page `n`, counted from 0: the name as it is where it is the only one.
fn numbered(out: &Path, n: usize, all: usize) -> PathBuf {
    if all == 1 {
        return out.to_path_buf();
    }
    let (stem, end) = (out.file_stem().unwrap_or_default(), out.extension().unwrap_or_default());
    let name = format!("-{}.", n + 1);
    let parts = [stem, name.as_ref(), end];
    out.with_file_name(parts.into_iter().collect::<std::ffi::OsString>())
}

/// `beit reconstruct`
pub fn reconstruct(args: &ReconstructArgs) -> Result<()> {
    let drawn = DrawnAs::of(&args.out)?;
    let task = Reconstruction {
        tokenizer: &args.tokenizer,
        model: args.model.as_deref(),
        data: &args.data,
        images: usize::from(args.images),
        seed: args.seed,
        split: Split::Test,
        normalise: args.normalise,
        masks: None,
        ratios: &args.ratios,
        replace: Replace::MaskToken,
    };
    let started = Instant::now();
    let chosen = Chosen::open(args.device, PrecisionChoice::F32)?;
    match drawn {
        DrawnAs::Picture => {
            on_device!(chosen, bk => reconstruction_picture(&bk, &task))?.save(&args.out)?;
        }
        DrawnAs::Page => {
            let page = on_device!(chosen, bk => reconstruction_page(&bk, &task))?;
            write(page, &chosen, &args.data, started, &args.out)?;
        }
    }
    say!("{}", path(&args.out));
    Ok(())
}

/// `beit atlas`
pub fn atlas(args: &AtlasArgs) -> Result<()> {
    page_only(&args.out)?;
    let task =
        AtlasTask { tokenizer: &args.tokenizer, data: &args.data, images: args.images as usize };
    let started = Instant::now();
    let chosen = Chosen::open(args.device, PrecisionChoice::F32)?;
    let page = on_threads(args.threads, || on_device!(chosen, bk => atlas_page(&bk, &task)))?;
    write(page, &chosen, &args.data, started, &args.out)?;
    say!("{}", path(&args.out));
    Ok(())
}

/// `beit map`
pub fn map(args: &MapArgs) -> Result<()> {
    page_only(&args.out)?;
    let task = MapTask {
        model: &args.model,
        data: &args.data,
        images: args.images as usize,
        block: args.block,
        what: args.what,
        normalise: args.normalise,
    };
    let started = Instant::now();
    let chosen = Chosen::open(args.device, PrecisionChoice::F32)?;
    let page = on_threads(args.threads, || on_device!(chosen, bk => map_page(&bk, &task)))?;
    write(page, &chosen, &args.data, started, &args.out)?;
    say!("{}", path(&args.out));
    Ok(())
}

/// Writes a page under which stands how it came about.
fn write(page: Page, chosen: &Chosen, data: &str, started: Instant, out: &Path) -> Result<()> {
    let about = About {
        device: chosen.describe(),
        data: data.into(),
        seconds: started.elapsed().as_secs_f64(),
        ..About::this_process()
    };
    page.about(&about).write(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_pages_are_numbered() {
        let name = |n, all| numbered(Path::new("a.b/cat.x.html"), n, all);
        assert_eq!(name(0, 1), Path::new("a.b/cat.x.html"));
        assert_eq!(
            [name(0, 2), name(1, 2)],
            ["a.b/cat.x-1.html", "a.b/cat.x-2.html"].map(PathBuf::from)
        );
    }
}
