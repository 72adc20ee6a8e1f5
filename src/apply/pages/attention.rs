//! Pages of attention: pick a patch of an image by pointing at it, and see where every head of every block looks
//! from there (`visualize_attention.py`).

use super::maps::{OUTLINED, QuantisedRows, block_characters};
use crate::apply::frozen::views;
use crate::apply::opened::OpenedEncoder;
use crate::data::augment::{centre_box, eval_crop};
use crate::data::decode::{DecodeOptions, decode};
use crate::data::pixels::Normalise;
use crate::data::resize::{Filter, resize};
use crate::data::{AugmentConfig, Image};
use crate::error::{Error, Result};
use crate::models::config::EncoderConfig;
use crate::models::encoder::EncoderInput;
use crate::ops::Backend;
use crate::params::Ctx;
use crate::report::page::{LivePart, Page};
use crate::report::picture::Picture;
use crate::run::{not_interrupted, work_begins};
use crate::tensor::Tensor;
use std::path::{Path, PathBuf};

/// Characters of attention that a page may hold.
const MOST: usize = 40_000_000;

/// Size at which an encoder is shown an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ShownSize {
    /// Pixels of the short side; the long one is as many whole patches as come next to the image's aspect.
    Short(usize),
    /// Height and width in pixels; what has another aspect is cropped at the centre.
    Exact(usize, usize),
}

impl ShownSize {
    /// Height and width for an image.
    fn of(self, image: &Image, patch: usize) -> (usize, usize) {
        match self {
            Self::Exact(height, width) => (height, width),
            Self::Short(short) => {
                let (least, most) =
                    (image.height.min(image.width).max(1), image.height.max(image.width));
                let patches = (short * most) as f64 / (least * patch) as f64;
                let long = (patches.round() as usize * patch).max(short);
                if image.height < image.width { (short, long) } else { (long, short) }
            }
        }
    }
}

/// What is drawn.
pub struct AttentionPages<'a> {
    /// Run folder or file of the encoder.
    pub model: &'a Path,
    /// The images, each of which gets a page.
    pub images: &'a [PathBuf],
    /// Their size; where `None`, the encoder's own, and the part of the image that an evaluation shows it.
    pub size: Option<ShownSize>,
    /// Blocks, from 0; all where there are none.
    pub layers: &'a [usize],
    /// Row and column of the patch that looks at first, from 0; the middle where `None`.
    pub patch: Option<(usize, usize)>,
    /// Mean and deviation of the view; where `None`, those that the model was trained with.
    pub normalise: Option<Normalise>,
}

/// Makes the page of each image, in order, and hands it to `write` with the image's number. What cannot be drawn is
/// an error before the first.
pub fn attention_pages<B: Backend>(
    bk: &B,
    task: &AttentionPages,
    mut write: impl FnMut(usize, Page) -> Result<()>,
) -> Result<()> {
    let opened = OpenedEncoder::open(bk, task.model)?;
    let config = opened.sizes().clone();
    let layers = layers(task.layers, config.depth)?;
    let images = task.images.iter().map(|path| decode(path, &DecodeOptions::default()));
    let images = images.collect::<Result<Vec<_>>>()?;
    let sizes: Vec<_> = images
        .iter()
        .map(|image| task.size.map_or(config.image, |size| size.of(image, config.patch)))
        .collect();
    for &image in &sizes {
        check(&EncoderConfig { image, ..config.clone() }, &layers, task.patch)?;
    }
    let normalise = task.normalise.unwrap_or(opened.normalise);
    work_begins();
    for (n, (image, size)) in images.iter().zip(sizes).enumerate() {
        not_interrupted()?;
        let augment = views(size, size, normalise);
        let shown = match task.size {
            None => eval_crop(image, size.0, size.1, Filter::Bicubic),
            Some(_) => {
                let whole = centre_box(image, size.0, size.1);
                resize(image, whole, size.0, size.1, Filter::Bicubic)
            }
        };
        let seen = ViewedImage { shown: &shown, name: &task.images[n], layers: &layers };
        write(n, page(bk, &opened, &augment, &seen, task.patch))?;
    }
    Ok(())
}

/// The blocks that are drawn, ascending.
fn layers(asked: &[usize], depth: usize) -> Result<Vec<usize>> {
    if let Some(layer) = asked.iter().find(|layer| **layer >= depth) {
        return Err(Error::config(format!(
            "--layer {layer}: the model has blocks 0 to {}",
            depth - 1
        )));
    }
    Ok((0..depth).filter(|l| asked.is_empty() || asked.contains(l)).collect())
}

/// Refuses a size that the encoder cannot be shown or that a page has no room for.
fn check(config: &EncoderConfig, layers: &[usize], patch: Option<(usize, usize)>) -> Result<()> {
    config.validate()?;
    let (gh, gw) = config.grid();
    if let Some((row, col)) = patch.filter(|&(row, col)| row >= gh || col >= gw) {
        return Err(Error::config(format!(
            "--patch {row},{col} is outside the {gh}x{gw} grid (rows and columns count from 0)"
        )));
    }
    let each = block_characters(config.heads, config.patches());
    if each * layers.len() <= MOST {
        return Ok(());
    }
    let megabytes = |characters: usize| characters.div_ceil(1_000_000);
    let help = match MOST / each {
        0 => "make --image-size smaller".to_owned(),
        fit => format!("choose at most {fit} with --layer, or make --image-size smaller"),
    };
    Err(Error::config(format!(
        "a page of {} blocks on a {gh}x{gw} grid would take {} MB, {} each, of at most {}: {help}",
        layers.len(),
        megabytes(each * layers.len()),
        megabytes(each),
        megabytes(MOST)
    )))
}

/// An image as the encoder sees it.
struct ViewedImage<'a> {
    shown: &'a Image,
    name: &'a Path,
    layers: &'a [usize],
}

fn page<B: Backend>(
    bk: &B,
    opened: &OpenedEncoder<B>,
    augment: &AugmentConfig,
    seen: &ViewedImage,
    patch: Option<(usize, usize)>,
) -> Page {
    let ViewedImage { shown, name, layers } = seen;
    let (ih, iw) = (shown.height, shown.width);
    let images = Tensor::from_f32(bk, augment.normalise().apply(shown), &[1, ih, iw, 3]);
    let (ctx, input) = (Ctx::new(bk, &opened.w), EncoderInput::of(&images));
    let probs = opened.encoder().attention_probs(ctx, &input, layers);
    let sizes = opened.sizes();
    let mut rows = QuantisedRows::default();
    probs.iter().for_each(|probs| rows.push_block(&probs.to_f64(bk), sizes.heads));
    let grid = EncoderConfig { image: (ih, iw), ..sizes.clone() }.grid();
    let about = serde_json::json!({
        "grid": grid,
        "image": (ih, iw),
        "layers": layers,
        "heads": sizes.heads,
        "start": patch.unwrap_or((grid.0 / 2, grid.1 / 2)),
    });
    let part = LivePart::new(
        include_str!("attention.css"),
        include_str!("attention.html"),
        include_str!("attention.js"),
    );
    let part = part
        .json("about", &about)
        .picture("picture", &Picture::from_bytes(&shown.pixels, ih, iw))
        .bytes("values", &rows.values)
        .bytes("scales", &rows.scales)
        .bytes("kept", &rows.kept);
    let own = name.file_name().unwrap_or(name.as_os_str()).to_string_lossy();
    Page::new(&format!("Attention: {own}"))
        .text(
            "Point at a patch, or tap it, to see where each head looks from there. A click holds the patch, and one more \
             on it lets go; the arrow keys move it.",
        )
        .live(part)
        .section("What is shown")
        .list(&[
            format!("The image at {ih}x{iw} pixels, {}x{} patches, nothing hidden.", grid.0, grid.1),
            "A map is a row of the attention probabilities, without the column of the class token and not \
             renormalised: what is missing to 1 is what the class token gets. Each map is coloured from its least to \
             its greatest value, which the line under the image gives."
                .into(),
            "Values are kept in 255 steps of the row's greatest.".into(),
            format!(
                "The outline holds {:.0} % of the mass that the patches get: the fewest that are at least that much.",
                100.0 * OUTLINED
            ),
            "The mean of a block is that of its heads' probabilities.".into(),
        ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_side_follows_the_image_in_whole_patches() {
        let image = |height, width| Image::new(height, width, vec![0; height * width * 3]);
        let of = |size: ShownSize, h, w| size.of(&image(h, w), 16);
        assert_eq!(of(ShownSize::Short(480), 30, 30), (480, 480));
        assert_eq!(of(ShownSize::Short(480), 30, 40), (480, 640));
        // 480 · 37 / 30 = 592 is 37 patches; 480 · 36 / 30 = 576 is 36.
        assert_eq!(of(ShownSize::Short(480), 37, 30), (592, 480));
        assert_eq!(of(ShownSize::Short(32), 100, 101), (32, 32));
        assert_eq!(of(ShownSize::Exact(32, 64), 100, 3), (32, 64));
    }

    #[test]
    fn what_does_not_fit_a_page_is_refused_with_what_does() {
        let base = EncoderConfig::base_patch16_224();
        let all: Vec<usize> = (0..12).collect();
        check(&base, &all, None).unwrap();
        let large = EncoderConfig { image: (480, 480), ..base.clone() };
        let text = check(&large, &all, None).unwrap_err().to_string();
        assert!(text.contains("30x30 grid would take 192 MB, 16 each, of at most 40"), "{text}");
        assert!(text.contains("choose at most 2 with --layer"), "{text}");
        check(&large, &[3, 11], None).unwrap();
        let odd = EncoderConfig { image: (480, 470), ..base };
        let text = check(&odd, &[11], None).unwrap_err().to_string();
        assert_eq!(text, "image_size 480x470 is not divisible by patch_size 16");
        assert!(check(&large, &[11], Some((30, 0))).is_err());
    }

    #[test]
    fn blocks_are_all_or_those_asked_for() {
        assert_eq!(layers(&[], 3).unwrap(), [0, 1, 2]);
        assert_eq!(layers(&[2, 0, 2], 3).unwrap(), [0, 2]);
        assert_eq!(
            layers(&[3], 3).unwrap_err().to_string(),
            "--layer 3: the model has blocks 0 to 2"
        );
    }
}
