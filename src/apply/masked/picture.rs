//! Pixels as an encoder predicts them.

use super::{MaskedSample, PatchPrediction};
use crate::apply::frozen::spread;
use crate::config::Replace;
use crate::data::patches::patch_moments;
use crate::data::{Dataset, Labelled};
use crate::error::{Error, Result};
use crate::models::config::PixelValues;
use crate::ops::Backend;
use crate::params::{Ctx, Params};
use crate::report::picture::Picture;

impl<B: Backend> PatchPrediction<B> {
    /// A row for each of at most `images` images: original | shown | predicted. Hidden patches are grey where a
    /// mask token is shown in their place; the predicted ones stand among the others of the original, all of them
    /// where nothing is hidden. Patches that are predicted without their mean and deviation have those of the
    /// original.
    pub fn pixel_picture(
        &self,
        bk: &B,
        w: &Params<B>,
        source: &impl Dataset<Item = Labelled>,
        (values, images): (PixelValues, usize),
    ) -> Result<Picture> {
        let samples = self.evaluated(source, &spread(source, images), 0);
        if samples.is_empty() {
            return Err(Error::config("no readable image for a picture"));
        }
        let (height, width) = self.model.config.encoder.image;
        let mut tiles = Vec::new();
        for sample in &samples {
            let original = Picture::from_bytes(&sample.views.patch.pixels, height, width);
            tiles.extend([original, self.as_shown(sample), self.predicted(bk, w, sample, values)]);
        }
        let zoom = (128 / height.max(1)).max(1);
        let tiles: Vec<_> = tiles.iter().map(|p| p.enlarge(zoom)).collect();
        Ok(Picture::grid(&tiles, 3))
    }

    fn as_shown(&self, sample: &MaskedSample) -> Picture {
        let (height, width) = self.model.config.encoder.image;
        let (grid, view) = (self.grid(), sample.shown.as_ref().unwrap_or(&sample.views.patch));
        let mut picture = Picture::from_bytes(&view.pixels, height, width);
        let hidden = sample.mask.iter().enumerate().filter(|(_, hidden)| **hidden);
        for (p, _) in hidden.filter(|_| self.replace == Replace::MaskToken) {
            let (top, left) = (p / grid.width * grid.side, p % grid.width * grid.side);
            picture.fill(top, left, grid.side, grid.side, [128, 128, 128]);
        }
        picture
    }

    fn predicted(
        &self,
        bk: &B,
        w: &Params<B>,
        sample: &MaskedSample,
        values: PixelValues,
    ) -> Picture {
        let (height, width) = self.model.config.encoder.image;
        let (grid, whole) = (self.grid(), !sample.mask.contains(&true));
        let numbers = self.augment.normalise().apply(&sample.views.patch);
        let mut numbers: Vec<f64> = numbers.into_iter().map(f64::from).collect();
        let (batch, _) = self.batch(bk, std::slice::from_ref(sample));
        let said = self.model.logits(Ctx::new(bk, w), &batch).to_f64(bk);
        let asked = (0..grid.patches()).zip(self.asked(sample)).filter(|(_, asked)| *asked);
        let patches = asked.zip(said.chunks_exact(self.model.config.outputs()));
        for ((patch, _), said) in patches.filter(|((p, _), _)| whole || sample.mask[*p]) {
            let own: Vec<f64> = grid.places(patch).map(|i| numbers[i]).collect();
            let (mean, deviation) = match values {
                PixelValues::Plain => (0.0, 1.0),
                PixelValues::Normalised => patch_moments(&own),
            };
            for (i, x) in grid.places(patch).zip(said) {
                numbers[i] = mean + deviation * x;
            }
        }
        let (mean, std) = (self.augment.mean, self.augment.std);
        let unit = |(i, x): (usize, &f64)| {
            (x * f64::from(std[i % 3]) + f64::from(mean[i % 3])).clamp(0.0, 1.0) as f32
        };
        let unit: Vec<f32> = numbers.iter().enumerate().map(unit).collect();
        Picture::from_unit(&unit, height, width)
    }
}
