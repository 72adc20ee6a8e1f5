//! `beit pretrain` with other targets, masks and losses than BEiT's, and what its models are good for.

use super::{beit, fails, folder, text};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

/// The trials.
pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("ablations/pixels_from_pretraining_to_a_classifier", pixels),
        Trial::test("ablations/tokens_of_all_patches_of_a_whole_image", whole_image),
        Trial::test("ablations/a_tokenizer_is_asked_for_only_where_one_is_used", tokenizer),
    ]
}

const SIZES: &str = "--data synthetic:24 --val synthetic:4 --batch 8 --steps 1 --set width=32 --set depth=2 --set heads=2";

fn done(line: &str) -> Result<String, Failed> {
    let output = beit(folder(), line).output()?;
    let said = text(&output);
    if output.status.success() { Ok(said) } else { Err(format!("{line}: {said}").into()) }
}

fn has(text: &str, what: &str) -> Result<(), Failed> {
    if text.contains(what) { Ok(()) } else { Err(format!("no {what:?} in {text}").into()) }
}

fn summary(run: &str) -> Result<Value, Failed> {
    Ok(serde_json::from_slice(&std::fs::read(folder().join(run).join("summary.json"))?)?)
}

fn pixels() -> Result<(), Failed> {
    let said = done(&format!("pretrain {SIZES} --set target=pixels --init beit --out pixels"))?;
    has(&said, "pixel_head.weight")?;
    has(&said, "PSNR")?;
    let figures = summary("pixels")?;
    let of = |key: &str| figures[key].as_f64().ok_or(format!("no {key} in {figures}"));
    // Of the half-normalised view, whose deviation is 0.5: its squared error in 0..1 is a quarter.
    let psnr = -10.0 * (of("loss")? / 4.0).log10();
    assert!((psnr - of("psnr_db")?).abs() < 1e-6, "{figures}");
    assert!(of("constant_loss")? > 0.0 && figures.get("masked_accuracy").is_none(), "{figures}");
    let report = std::fs::read_to_string(folder().join("pixels/report.html"))?;
    has(&report, "original | shown | predicted pixels")?;
    has(&done("info pixels")?, "head over plain pixels")?;
    done("attention --model pixels --image images/square.png --patch 1,2 --out pixels.png")?;
    done("probe --model pixels --train synthetic:40 --test synthetic:20 --epochs 2")?;
    let said =
        done("finetune --model pixels --train synthetic:40 --batch 8 --steps 1 --out from_pixels")?;
    has(&said, "the head over pixels")?;
    let refused = "was pretrained with pixels as its target and predicts no tokens";
    let models = "--tokenizer tokenizer --model pixels --data synthetic:4";
    fails(&format!("elbo {models}"), refused)?;
    fails(&format!("reconstruct {models} --out x.png"), refused)
}

fn whole_image() -> Result<(), Failed> {
    let line = format!("pretrain {SIZES} --tokenizer tokenizer --set vocab=32 --set loss_over=all");
    let said = done(&format!("{line} --set masking=none --out whole"))?;
    has(&said, "pretraining, all patches of 4 images")?;
    let figures = summary("whole")?;
    assert!(figures["patch_accuracy"].is_f64(), "{figures}");
    assert!(figures.get("masked_accuracy").is_none(), "{figures}");
    // Where patches are replaced, those that are count as masked.
    done(&format!("{line} --set replace=random_patch --out replaced"))?;
    let figures = summary("replaced")?;
    assert!(figures["patch_accuracy"].is_f64() && figures["masked_accuracy"].is_f64(), "{figures}");
    Ok(())
}

fn tokenizer() -> Result<(), Failed> {
    fails(
        &format!("pretrain {SIZES} --out new"),
        "target=tokens needs a tokenizer: give --tokenizer",
    )?;
    let given = format!("pretrain {SIZES} --tokenizer tokenizer --set target=pixels --out new");
    fails(&given, "needs no tokenizer, but tokenizer is tokenizer; leave it out")?;
    let none = format!("pretrain {SIZES} --tokenizer tokenizer --set masking=none --out new");
    fails(&none, "set loss_over=all")
}
