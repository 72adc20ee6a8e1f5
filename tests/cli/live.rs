//! Pages that answer to whoever points at them: what they hold, and what they do in a browser.

use super::{beit, folder, text};
use beit::apply::attention::{AttentionMap, attention_rows};
use beit::cpu::Cpu;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The trials.
pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("live/attention_is_that_of_the_model", attention_is_the_models),
        Trial::test("live/several_images_have_a_page_each", several_images),
        Trial::test("live/ratios_have_their_columns", ratios),
        Trial::test("live/the_atlas_counts_codes", atlas_counts),
        Trial::test("live/the_map_shows_every_image", map_shows_all),
        Trial::test("live/pages_answer_in_a_browser", in_a_browser),
    ]
}

fn page(line: &str, out: &str) -> Result<String, Failed> {
    let output = beit(folder(), &format!("{line} --out {out}")).output()?;
    if !output.status.success() {
        return Err(text(&output).into());
    }
    Ok(std::fs::read_to_string(folder().join(out))?)
}

/// Text of a script element.
fn inside<'a>(page: &'a str, id: &str) -> Result<&'a str, Failed> {
    let begin = format!(" id={id}>");
    let (_, rest) = page.split_once(&begin).ok_or_else(|| format!("no {id}"))?;
    Ok(rest.split_once("</script>").ok_or("no end")?.0)
}

fn about(page: &str) -> Result<Value, Failed> {
    Ok(serde_json::from_str(inside(page, "about")?)?)
}

fn from_base64(text: &str) -> Vec<u8> {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let six = |c| LETTERS.find(c).expect("a letter of base64") as u32;
    let letters: Vec<u32> = text.trim_end_matches('=').chars().map(six).collect();
    let bytes = letters.chunks(4).flat_map(|four| {
        let word = (0..).zip(four).fold(0, |word, (i, six)| word | six << (18 - 6 * i));
        word.to_be_bytes()[1..four.len()].to_vec()
    });
    bytes.collect()
}

/// The numbers of a page are those of the picture, to half a step.
fn attention_is_the_models() -> Result<(), Failed> {
    let page = page("attention --model beit --image images/square.png", "one.html")?;
    let (about, values) = (about(&page)?, from_base64(inside(&page, "values")?));
    assert_eq!(about["layers"], serde_json::json!([0, 1]));
    assert_eq!((&about["grid"], &about["start"]), (&[8, 8].into(), &[4, 4].into()));
    let scales = from_base64(inside(&page, "scales")?);
    let number = |i: usize| f32::from_le_bytes(scales[4 * i..4 * i + 4].try_into().unwrap());
    let (model, image) = (folder().join("beit"), folder().join("images/square.png"));
    for (layer, patch) in [(0, (0, 0)), (1, (3, 5))] {
        let map = AttentionMap {
            model: &model,
            image: &image,
            patch,
            layer: Some(layer),
            normalise: None,
        };
        let rows = attention_rows(&Cpu::<f32>::new(), &map)?;
        let mean = (0..64).map(|i| rows.heads.iter().map(|head| head[i]).sum::<f64>() / 2.0);
        let maps = [rows.heads[0].clone(), rows.heads[1].clone(), mean.collect()];
        for (m, want) in maps.iter().enumerate() {
            let row = (layer * 3 + m) * 64 + patch.0 * 8 + patch.1;
            let scale = f64::from(number(2 * row));
            for (q, want) in values[row * 64..].iter().zip(want) {
                assert!((f64::from(*q) * scale - want).abs() <= 0.501 * scale, "{q}, {want}");
            }
            let class = 1.0 - want.iter().sum::<f64>();
            assert!((f64::from(number(2 * row + 1)) - class).abs() < 1e-5);
        }
    }
    Ok(())
}

/// At another size, which follows the image's aspect.
fn several_images() -> Result<(), Failed> {
    let line = "attention --model beit --image images/square.png images/other.png --image-size 20 --layer 1 \
                --patch 2,5 --out many.html";
    let output = beit(folder(), line).output()?;
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "many-1.html\nmany-2.html\n");
    for (file, image) in [("many-1.html", "square.png"), ("many-2.html", "other.png")] {
        let page = std::fs::read_to_string(folder().join(file))?;
        // 40x48 pixels, of which the short side becomes 20 and the long one 24.
        assert!(page.contains("The image at 20x24 pixels, 5x6 patches"), "{file}");
        assert!(page.contains(&format!("Attention: {image}")), "{file}");
        let about = about(&page)?;
        assert_eq!((&about["layers"], &about["start"]), (&[1].into(), &[2, 5].into()));
    }
    Ok(())
}

fn ratios() -> Result<(), Failed> {
    let line = "reconstruct --tokenizer tokenizer --model beit --data synthetic:4 --images 2 --ratios 0.25,0.75";
    let html = page(line, "ratios.html")?;
    assert_eq!((html.matches("<figure>").count(), html.matches("<h3>scene ").count()), (12, 2));
    for want in ["original", "tokens decoded", " of 16 right", "tokens predicted"] {
        assert!(html.contains(want), "no {want}");
    }
    assert!(!html.contains("<script"));
    page(line, "ratios.png").err().ok_or("a picture is no text")?;
    let picture = image::open(folder().join("ratios.png"))?;
    assert_eq!((picture.width(), picture.height()), (6 * 128 + 5 * 6, 2 * 128 + 6));
    Ok(())
}

fn atlas_counts() -> Result<(), Failed> {
    let line = "atlas --tokenizer tokenizer --data synthetic:6 --images 4";
    let page = page(line, "atlas.html")?;
    let about = about(&page)?;
    let numbers = |key: &str| -> Vec<u64> {
        about[key].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
    };
    let (counts, order, examples) = (numbers("counts"), numbers("order"), numbers("examples"));
    assert_eq!((counts.len(), counts.iter().sum::<u64>()), (32, 4 * 64));
    assert!(order.is_sorted_by(|&a, &b| counts[a as usize] >= counts[b as usize]));
    for code in 0..32 {
        let shown = examples.iter().filter(|e| **e == code).count() as u64;
        assert!(
            shown <= counts[code as usize].min(4) && (shown > 0) == (counts[code as usize] > 0)
        );
    }
    let used = counts.iter().filter(|n| **n > 0).count();
    assert!(page.contains(&format!("{used} of 32 codes occur at 256 places of 4 images")));
    Ok(())
}

fn map_shows_all() -> Result<(), Failed> {
    let page_of = |more: &str, out| page(&format!("map --model beit --data {more}"), out);
    let page = page_of("left", "left.html")?;
    let know = about(&page)?;
    assert_eq!(know["names"].as_array().map(Vec::len), Some(6));
    assert_eq!(know["labels"], serde_json::json!([0, 0, 1, 1, 2, 2]));
    // All six are one image: no variance.
    assert_eq!(know["shares"], serde_json::json!([0.0, 0.0]));
    let line = "synthetic:20 --images 12 --block 1 --what class";
    let (one, three) = (
        page_of(&format!("{line} --threads 1"), "map_1.html")?,
        page_of(&format!("{line} --threads 3"), "map_3.html")?,
    );
    assert_eq!(about(&one)?, about(&three)?, "threads change nothing");
    assert!(
        one.contains("An embedding is the class token that block 1 puts out, without norm: 32")
    );
    let know = about(&one)?;
    assert_eq!(know["points"].as_array().map(Vec::len), Some(12));
    let share = |i: usize| know["shares"][i].as_f64().unwrap_or_default();
    assert!(share(0) >= share(1) && share(1) > 0.0 && share(0) + share(1) <= 1.0);
    Ok(())
}

/// Needs a Python (`PYTHON`, else `python3`) with Playwright, and Chromium; says so where they are absent.
fn in_a_browser() -> Result<(), Failed> {
    page("attention --model beit --image images/square.png --image-size 32,40", "seen_1.html")?;
    page(
        "reconstruct --tokenizer tokenizer --model beit --data images --ratios 0.2,0.6",
        "seen_2.html",
    )?;
    page("atlas --tokenizer tokenizer --data synthetic:4", "seen_3.html")?;
    page("map --model beit --data synthetic:12", "seen_4.html")?;
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pages/browser.py");
    let pages = (1..=4).map(|n| format!("seen_{n}.html"));
    let run = Command::new(&python).arg(script).args(pages).current_dir(folder()).output();
    let Ok(output) = run else {
        eprintln!("skipped: no {python} (PYTHON names another)");
        return Ok(());
    };
    let said = text(&output);
    if !output.status.success() {
        return Err(said.into());
    }
    eprintln!("{}", said.trim());
    Ok(())
}
