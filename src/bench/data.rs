//! `beit bench data`: images per second and core of each stage that a sample goes through, and whether the
//! cores keep up with a device.

use crate::bench::Times;
use crate::data::augment::{draw_jitter, jitter_and_crop};
use crate::data::decode::{DecodeOptions, decode_bytes};
use crate::data::geometry::RandomCrop;
use crate::data::pixels::PixelMap;
use crate::data::resize::{Filter, resize};
use crate::data::{
    AugmentConfig, Dataset, Image, Labelled, Loader, LoaderConfig, Source, SourceOptions, Split,
    Views, two_views,
};
use crate::error::{Error, Result};
use crate::models::config::{BeitConfig, DvaeConfig};
use crate::rng::{Philox, Purpose};
use rayon::prelude::*;
use serde::Serialize;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// Loader threads and images per second that a training loop gets from them.
    pub loader: Vec<(usize, f64)>,
    /// What 256 samples cost the thread that launches the steps.
    pub launching: Launching,
    /// Number of cores.
    pub cores: usize,
    /// Images per second of the device they are to feed.
    pub rate: Option<f64>,
}

/// Milliseconds that the thread that launches the steps spends on 256 samples that are ready.
#[derive(Clone, Copy, Serialize)]
pub struct Launching {
    /// To take them from the loader and to find their bytes.
    pub take: f64,
    /// To copy the bytes to where a device takes them from.
    pub staging: f64,
}

/// Samples of a step whose cost to the launching thread is measured.
const STEP: usize = 256;

/// Samples that are made already.
struct Prepared(Vec<Views>);

impl Dataset for Prepared {
    type Item = Views;

    fn len(&self) -> usize {
        STEP
    }

    fn checksum(&self) -> u32 {
        0
    }

    fn item(&self, i: usize) -> Result<Views> {
        Ok(self.0[i % self.0.len()].clone())
    }
}

/// What a step's samples cost the launching thread when all of them are waiting for it.
fn launching(views: Vec<Views>) -> Result<Launching> {
    let cfg = LoaderConfig { prefetch: STEP, ..LoaderConfig::new(STEP, 0) };
    let mut loader = Loader::new(Arc::new(Prepared(views)), cfg, |views, _| views)?;
    let mut staging: Vec<u8> = Vec::new();
    let (mut takes, mut copies) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        // They are copies, made long before.
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        let batch = loader.next_batch()?.items;
        let pieces: Vec<&[u8]> =
            batch.iter().flat_map(|v| [&*v.patch.pixels, &*v.tokens.pixels]).collect();
        let taken = start.elapsed();
        staging.clear();
        pieces.iter().for_each(|piece| staging.extend_from_slice(piece));
        std::hint::black_box(&staging);
        takes.push(1e3 * taken.as_secs_f64());
        copies.push(1e3 * (start.elapsed() - taken).as_secs_f64());
    }
    let median = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Ok(Launching { take: median(takes), staging: median(copies) })
}

/// Images per second from the loader on so many threads, from files or records to finished views.
fn loader_rate(source: &Arc<Source>, cfg: &AugmentConfig, threads: usize) -> Result<f64> {
    let batch = source.len().min(16);
    let loading =
        LoaderConfig { threads, prefetch: 2 * batch, max_bad: 1.0, ..LoaderConfig::new(batch, 0) };
    let cfg = cfg.clone();
    let sample = move |item: Labelled, epoch: u32| {
        let mut rng = Philox::new(0, Purpose::Bench, epoch, item.index as u32);
        two_views(&cfg, &item.image, &mut rng)
    };
    let mut loader = Loader::new(source.clone(), loading, sample)?;
    // Threads start, and what they made before the clock is used up.
    (0..4).try_for_each(|_| loader.next_batch().map(drop))?;
    let (start, mut images) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < 1.5 {
        images += loader.next_batch()?.items.len();
    }
    Ok(images as f64 / start.elapsed().as_secs_f64())
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
    let cfg = AugmentConfig::original(
        beit.encoder.image.0,
        beit.encoder.image.1,
        dvae.image.0,
        dvae.image.1,
    );
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
    let views = (0..images.len()).map(|i| two_views(&cfg, &images[i], &mut stream(i))).collect();
    let launching = launching(views)?;
    let (source, cores) = (Arc::new(source), rayon::current_num_threads());
    let counts = (0..).map(|i| 1 << i).take_while(|&n| n < cores).chain([cores]);
    let loader = counts
        .map(|threads| Ok((threads, loader_rate(&source, &cfg, threads)?)))
        .collect::<Result<_>>()?;
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
        loader,
        launching,
        cores,
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
        for (threads, rate) in &self.loader {
            write!(text, "\n  {threads} loader threads  {rate:>10.1} images/s")
                .expect("memory takes everything");
        }
        let Launching { take, staging } = self.launching;
        write!(
            text,
            "\n{STEP} ready samples cost the thread that launches the steps {take:.2} ms, and {staging:.1} ms to \
             copy them to where a device takes them"
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
