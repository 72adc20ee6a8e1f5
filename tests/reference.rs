//! Every fixture case, the numbered ones from `tests/fixtures` or from the folder that `BEIT_FIXTURES` names.

use libtest_mimic::Arguments;
use std::path::PathBuf;

#[path = "reference/augment.rs"]
mod augment;
#[path = "reference/bert.rs"]
mod bert;
#[path = "reference/calibration.rs"]
mod calibration;
#[path = "reference/class_view.rs"]
mod class_view;
#[path = "reference/classifier.rs"]
mod classifier;
#[path = "reference/dino.rs"]
mod dino;
#[path = "reference/dvae.rs"]
mod dvae;
#[path = "reference/fixture.rs"]
mod fixture;
#[path = "reference/hf.rs"]
mod hf;
#[path = "reference/loss.rs"]
mod loss;
#[path = "reference/masks.rs"]
mod masks;
#[path = "reference/mim.rs"]
mod mim;
#[path = "reference/mixing.rs"]
mod mixing;
#[path = "reference/moco.rs"]
mod moco;
#[path = "reference/optim.rs"]
mod optim;
#[path = "reference/pixels.rs"]
mod pixels;
#[path = "reference/randaugment.rs"]
mod randaugment;
#[path = "reference/relpos.rs"]
mod relpos;
#[path = "reference/replay.rs"]
mod replay;
#[path = "reference/segmentation.rs"]
mod segmentation;
#[path = "reference/segmenter.rs"]
mod segmenter;
#[path = "reference/segops.rs"]
mod segops;
#[path = "reference/vae.rs"]
mod vae;
#[path = "reference/weights.rs"]
mod weights;

fn main() {
    let dir = std::env::var_os("BEIT_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
        PathBuf::from,
    );
    let cases = [
        mim::trials,
        bert::trials,
        calibration::trials,
        classifier::trials,
        dvae::trials,
        vae::trials,
        dino::trials,
        moco::trials,
        optim::trials,
        relpos::trials,
        augment::trials,
        loss::trials,
        masks::trials,
        randaugment::trials,
        mixing::trials,
        class_view::trials,
        pixels::trials,
        segmenter::trials,
        segops::trials,
        weights::trials,
        segmentation::trials,
    ];
    let trials = cases.into_iter().flat_map(|trials| trials(&dir)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
