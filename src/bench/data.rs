//! `beit bench data`: images per second and core of each stage that a sample goes through, and whether the
//! cores keep up with a device.

use crate::bench::Times;
use crate::data::augment::{draw_jitter, jitter_and_crop};
use crate::data::decode::{DecodeOptions, decode_bytes};
use crate::data::geometry::RandomCrop;
use crate::data::pixels::PixelMap;
use crate::data::resize::{Filter, resize};
use crate::data::{AugmentConfig, Dataset, Image, Source, SourceOptions, Split, two_views};
use crate::error::{Error, Result};
use crate::models::config::{BeitConfig, DvaeConfig};
use crate::rng::{Philox, Purpose};
use rayon::prelude::*;
use serde::Serialize;
use std::fmt::Write;
use std::sync::Arc;

/// Images that are timed.
const IMAGES: usize = 48;

/// Rates of one core.
#[derive(Serialize)]
pub struct DataResult {
    /// Where the images came from.
    pub source: String,
    /// How many were timed.
    pub images: usize,
    /// Mean height and width in pixels.
    pub mean_size: [f64; 2],
    /// Stage and images per second on one core.
    pub stages: Vec<(&'static str, f64)>,
    /// Images per second from file or record to finished views, on one core.
    pub one_core: f64,
    /// The same on all cores.
    pub all_cores: f64,
    /// Number of cores.
    pub cores: usize,
    /// Images per second of the device they are to feed.
    pub rate: Option<f64>,
}

/// Times each stage on the first images of a source, one thread, and all stages on one and on all
/// threads.
pub fn run(
    spec: &str,
    (beit, dvae, _): (BeitConfig, DvaeConfig, usize),
    rate: Option<f64>,
) -> Result<DataResult> {
    let source = Source::open(spec, &SourceOptions::new(Split::Train, 0))?;
    let count = source.len().min(IMAGES);
    let images: Vec<Arc<Image>> = (0..count).filter_map(|i| source.load(i).ok()).collect();
    if images.is_empty() {
        return Err(Error::config(format!("{spec}: no readable image")));
    }
    let cfg = AugmentConfig::original(beit.image.0, beit.image.1, dvae.image.0, dvae.image.1);
    let mut stages = Vec::new();
    let rate_of = |n: usize, f: &mut dyn FnMut()| n as f64 / Times::measure(3, 0.5, f).median();
    let mut time = |name, n, f: &mut dyn FnMut()| stages.push((name, rate_of(n, f)));
    // Files, where the source has any.
    let paths: Vec<_> = (0..count).filter_map(|i| source.path(i)).collect();
    if !paths.is_empty() {
        let read = |p: &std::path::PathBuf| std::fs::read(p).map_err(Error::io("cannot read", p));
        let files = paths.iter().map(read).collect::<Result<Vec<_>>>()?;
        time("read", paths.len(), &mut || {
            paths.iter().for_each(|p| _ = std::hint::black_box(std::fs::read(p)));
        });
        time("decode", files.len(), &mut || {
            for (bytes, path) in files.iter().zip(&paths) {
                _ = std::hint::black_box(decode_bytes(bytes, path, &DecodeOptions::default()));
            }
        });
    }
    let stream = |i: usize| Philox::new(0, Purpose::Bench, 1, i as u32);
    let crop = |i: usize, image: &Image| {
        let mut rng = stream(i);
        let steps = draw_jitter(cfg.jitter, &mut rng);
        let law = RandomCrop { scale: cfg.crop_scale, ratio: cfg.crop_ratio };
        jitter_and_crop(image, &steps, law.draw(image.height, image.width, &mut rng))
    };
    time("crop and jitter", images.len(), &mut || {
        for (i, image) in images.iter().enumerate() {
            std::hint::black_box(crop(i, image));
        }
    });
    let crops: Vec<Image> = images.iter().enumerate().map(|(i, image)| crop(i, image)).collect();
    let both = |crop: &Image| {
        let patch = resize(crop, crop.whole(), cfg.height, cfg.width, Filter::Bicubic);
        let tokens = resize(crop, crop.whole(), cfg.token_height, cfg.token_width, Filter::Lanczos);
        (patch, tokens)
    };
    time("two resizes", crops.len(), &mut || {
        crops.iter().for_each(|crop| _ = std::hint::black_box(both(crop)));
    });
    let resized: Vec<_> = crops.iter().map(both).collect();
    let (normalise, map) = (cfg.normalise(), PixelMap::map_pixels());
    time("normalise", resized.len(), &mut || {
        for (patch, tokens) in &resized {
            std::hint::black_box((normalise.apply(patch), map.apply(tokens)));
        }
    });
    time("all after decode", images.len(), &mut || {
        for (i, image) in images.iter().enumerate() {
            std::hint::black_box(two_views(&cfg, image, &mut stream(i)));
        }
    });
    let whole = |i: usize| {
        if let Ok(image) = source.load(i) {
            std::hint::black_box(two_views(&cfg, &image, &mut stream(i)));
        }
    };
    let one_core = rate_of(count, &mut || (0..count).for_each(whole));
    let all_cores =
        rate_of(count, &mut || (0..count).into_par_iter().with_max_len(1).for_each(whole));
    let mean = |f: fn(&Image) -> usize| {
        images.iter().map(|i| f(i) as f64).sum::<f64>() / images.len() as f64
    };
    let mean_size = [mean(|i| i.height), mean(|i| i.width)];
    Ok(DataResult {
        source: spec.into(),
        images: images.len(),
        mean_size,
        stages,
        one_core,
        all_cores,
        cores: rayon::current_num_threads(),
        rate,
    })
}

impl DataResult {
    /// The rates as lines.
    pub fn table(&self) -> String {
        let [h, w] = self.mean_size;
        let mut text = format!(
            "{}: {} images of {h:.0}x{w:.0} on average, one core",
            self.source, self.images
        );
        for (name, rate) in &self.stages {
            write!(text, "\n  {name:<18} {rate:>10.1} images/s").expect("memory takes everything");
        }
        let (one, all, cores) = (self.one_core, self.all_cores, self.cores);
        write!(
            text,
            "\nall stages: {one:.1} images/s on one core, {all:.1} on {cores} ({:.2} of {cores} times \
             one); 16 cores at the rate of one: {:.0}",
            all / (cores as f64 * one),
            16.0 * one
        )
        .expect("memory takes everything");
        if let Some(rate) = self.rate {
            let binds = if all < rate { "data binds" } else { "the device binds" };
            write!(
                text,
                "\na device that takes {rate:.0} images/s: {binds} here; it needs {:.1} such cores",
                rate / one
            )
            .expect("memory takes everything");
        }
        text
    }
}
