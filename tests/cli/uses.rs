//! `beit predict`, `embed`, `tokenize` and `evaluate` on small models: rows and arrays in the order of the images,
//! the same on any number of threads, with a place for what cannot be read.

use super::{beit, fails, folder, text};
use beit::data::{Source, SourceOptions, Split};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::Once;

/// The trials.
pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("uses/rows_are_in_order_on_any_threads", rows_in_order),
        Trial::test("uses/an_unreadable_image_has_its_row", unreadable_row),
        Trial::test("uses/a_closed_pipe_ends_it_quietly", closed_pipe),
        Trial::test("uses/evaluation_counts_what_is_predicted", evaluation),
        Trial::test("uses/arrays_are_in_the_order_of_their_lists", arrays),
        Trial::test("uses/tokens_are_a_grid_an_image", tokens),
    ];
    let refused = FAILS.iter().map(|&(name, line, named)| {
        Trial::test(format!("uses/refused_{name}"), move || {
            photos();
            fails(line, named)
        })
    });
    trials.extend(refused);
    trials
}

const FAILS: &[(&str, &str, &str)] = &[
    ("encoder", "predict --model beit images", "`beit finetune --model` makes a classifier of it"),
    ("tokenizer", "evaluate --model tokenizer --data images", "is a tokenizer, want a classifier"),
    ("no_model", "predict --model nowhere images", "nowhere: no such run folder or file"),
    ("no_images", "predict --model classifier", "IMAGE|SRC"),
    ("empty_folder", "predict --model classifier images empty", "empty: no images"),
    ("no_such_image", "predict --model classifier images no.png --out new", "no.png"),
    ("top_0", "predict --model classifier images --top 0", "--top"),
    ("format", "predict --model classifier images --format xml", "csv"),
    ("share", "predict --model classifier images --max-bad 2", "from 0 to 1"),
    ("rows_into_a_folder", "predict --model classifier images --out empty", "empty is a folder"),
    ("no_classes", "evaluate --model classifier --data images", "into a folder of its name"),
    (
        "other_classes",
        "evaluate --model classifier --data left",
        "does not know \"a\", \"b\", \"c\"",
    ),
    ("block", "embed --model beit --data images --block 3 --out new", "blocks 1 to 2"),
    ("block_0", "embed --model beit --data images --block 0 --out new", "blocks 1 to 2"),
    ("no_encoder", "embed --model tokenizer --data images --out new", "want an encoder"),
    ("no_tokenizer", "tokenize --tokenizer beit --data images --out new", "want a tokenizer"),
    ("arrays_in_a_run", "embed --model beit --data images --out beit", "beit is not empty"),
];

/// A folder of three images and one file that is none.
fn photos() {
    static MADE: Once = Once::new();
    MADE.call_once(|| {
        let photos = folder().join("mixed");
        std::fs::create_dir(&photos).unwrap();
        for (name, side) in [("a, b.png", 9), ("c.png", 40), ("e.png", 33)] {
            let pixels = (0..side * 20 * 3).map(|i| (i * 11 % 253) as u8).collect();
            let image = image::RgbImage::from_raw(20, side, pixels).unwrap();
            image.save(photos.join(name)).unwrap();
        }
        std::fs::write(photos.join("d.png"), "cut").unwrap();
    });
}

/// What a command prints, where it succeeds.
fn done(line: &str) -> Result<String, Failed> {
    photos();
    let output = beit(folder(), line).output()?;
    if !output.status.success() {
        return Err(text(&output).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn json_rows(rows: &str) -> Result<Vec<Value>, Failed> {
    Ok(rows.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn rows_in_order() -> Result<(), Failed> {
    let given = "predict --model classifier images/square.png synthetic:20 mixed images/other.png --top 3 \
                 --batch 8";
    for format in ["table", "csv", "jsonl"] {
        let line = |more: &str| format!("{given} --format {format} {more}");
        let rows = done(&line("--threads 1"))?;
        assert_eq!(done(&line("--threads 16"))?, rows, "{format}");
        done(&line("--threads 3 --out rows.txt"))?;
        assert_eq!(std::fs::read_to_string(folder().join("rows.txt"))?, rows, "{format}");
        assert_eq!(rows.lines().count(), 26 + usize::from(format == "csv"), "{rows}");
    }
    let rows = json_rows(&done(&format!("{given} --format jsonl"))?)?;
    let names: Vec<&str> = rows.iter().filter_map(|row| row["image"].as_str()).collect();
    let scenes: Vec<String> = (0..20).map(|i| format!("synthetic:20#{i}")).collect();
    let mixed = ["mixed/a, b.png", "mixed/c.png", "mixed/d.png", "mixed/e.png", "images/other.png"];
    assert_eq!(names[0], "images/square.png");
    assert_eq!(names[1..21], scenes);
    assert_eq!(names[21..], mixed);
    // Two files of the same pixels.
    assert_eq!(rows[0]["top"], rows[25]["top"]);
    let tops = rows.iter().filter_map(|row| row["top"].as_array());
    for top in tops {
        let p: Vec<f64> = top.iter().filter_map(|g| g["probability"].as_f64()).collect();
        assert!(p.len() == 3 && p.is_sorted_by(|a, b| a >= b) && p[0] <= 1.0, "{top:?}");
    }
    Ok(())
}

fn unreadable_row() -> Result<(), Failed> {
    let csv = done("predict --model classifier mixed --top 1 --format csv")?;
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(rows[0], "image,class_1,probability_1,error");
    assert!(rows[1].starts_with("\"mixed/a, b.png\",") && rows[1].ends_with(','), "{csv}");
    assert!(rows[3].starts_with("mixed/d.png,,,\"not a JPEG, PNG, "), "{csv}");
    // One is put up with, but not where none is to be; every image has its row all the same.
    let line = "predict --model classifier mixed --format jsonl --max-bad 0";
    let output = beit(folder(), line).output()?;
    let (said, status) = (String::from_utf8_lossy(&output.stderr), output.status.code());
    let rows = json_rows(&String::from_utf8(output.stdout.clone())?)?;
    assert!(rows.len() == 4 && rows[2]["error"].is_string() && status == Some(1), "{said}");
    assert!(said.contains("skipped: mixed/d.png: not a JPEG"), "{said}");
    assert!(said.contains("1 of 4 images cannot be read, more than --max-bad 0 allows"), "{said}");
    let all = beit(folder(), "predict --model classifier mixed/d.png --max-bad 1").output()?;
    let said = String::from_utf8_lossy(&all.stderr);
    assert!(said.contains("beit: none of 1 images can be read: mixed/d.png: not a"), "{said}");
    assert_eq!((all.status.code(), text(&all).lines().count()), (Some(1), 5), "{said}");
    Ok(())
}

fn closed_pipe() -> Result<(), Failed> {
    let mut command = beit(folder(), "predict --model classifier synthetic:2000 --batch 4");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut first = String::new();
    BufReader::new(child.stdout.take().ok_or("piped")?).read_line(&mut first)?;
    let output = child.wait_with_output()?;
    let said = text(&output);
    assert!(first.starts_with("synthetic:2000#0: "), "{first}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked") && !said.contains("beit: "), "{said}");
    Ok(())
}

fn evaluation() -> Result<(), Failed> {
    let said = done("evaluate --model classifier --data synthetic:30 --json ev.json --out ev")?;
    let summary: Value = serde_json::from_slice(&std::fs::read(folder().join("ev.json"))?)?;
    let source = Source::open("synthetic:30", &SourceOptions::new(Split::Test, 0))?;
    let rows = json_rows(&done("predict --model classifier synthetic:30 --format jsonl")?)?;
    let class = |i: usize| json!(source.classes()[source.label(i).unwrap_or(0) as usize]);
    let count = |k: usize| {
        let right = |i: &usize| (0..k).any(|r| rows[*i]["top"][r]["class"] == class(*i));
        (0..30).filter(right).count() as f64 / 30.0
    };
    let figures = &summary["figures"];
    assert_eq!((&figures["top1"], &figures["top5"]), (&json!(count(1)), &json!(count(5))));
    assert_eq!(figures["images"], 30);
    let top1 = format!("{:.3}", count(1));
    let page = std::fs::read_to_string(folder().join("ev/report.html"))?;
    assert!(said.contains("evaluation of classifier on 30 images of synthetic:30\n"), "{said}");
    assert!(said.contains(&format!("top-1                   {top1} (")), "{said}");
    assert!(page.contains(&top1) && page.contains("The most confident mistakes"), "{page}");
    let again: Value = serde_json::from_slice(&std::fs::read(folder().join("ev/summary.json"))?)?;
    assert_eq!(again, summary);
    Ok(())
}

/// Type, extents and values of a `.npy` file.
fn npy(path: &Path) -> Result<(String, Vec<usize>, Vec<u8>), Failed> {
    let bytes = std::fs::read(path)?;
    let header = String::from_utf8(bytes[10..256].to_vec())?;
    let between = |from: &str, to: &str| {
        let rest = header.split_once(from).ok_or("no such key")?.1;
        rest.split_once(to).map(|(found, _)| found.to_owned()).ok_or("no end")
    };
    let shape = between("'shape': (", ")")?;
    let shape = shape.split(", ").filter(|n| !n.is_empty()).map(str::parse);
    Ok((between("'descr': '", "'")?, shape.collect::<Result<_, _>>()?, bytes[256..].to_vec()))
}

fn features(line: &str, out: &str) -> Result<(Vec<usize>, Vec<f32>), Failed> {
    done(&format!("embed {line} --out {out}"))?;
    let (descr, shape, bytes) = npy(&folder().join(out).join("features.npy"))?;
    assert_eq!(descr, "<f4");
    let values: Vec<f32> =
        bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    assert_eq!(values.len(), shape.iter().product::<usize>());
    Ok((shape, values))
}

fn arrays() -> Result<(), Failed> {
    for model in ["beit", "classifier"] {
        let line = format!("--model {model} --data mixed");
        let out = |what: &str| format!("features_{model}_{what}");
        let (shape, patches) = features(&format!("{line} --what patches"), &out("patches"))?;
        let (of_means, means) = features(&line, &out("means"))?;
        assert_eq!((&shape[..], &of_means[..]), (&[3, 64, 32][..], &[3, 32][..]));
        for (patches, mean) in patches.chunks_exact(64 * 32).zip(means.chunks_exact(32)) {
            for (c, mean) in mean.iter().enumerate() {
                let sum: f32 = patches.iter().skip(c).step_by(32).sum();
                assert!((sum / 64.0 - mean).abs() < 1e-4, "{sum} {mean}");
            }
        }
        let list = |name: &str| std::fs::read_to_string(folder().join(out("means")).join(name));
        assert_eq!(list("paths.txt")?, "mixed/a, b.png\nmixed/c.png\nmixed/e.png\n");
        assert!(list("unreadable.txt")?.starts_with("mixed/d.png: not a JPEG"));
        let one = format!("{line} --batch 1 --threads 1 --block 2");
        assert_eq!(features(&one, &out("one"))?.1, means, "the last block, image by image");
        assert_ne!(features(&format!("{line} --block 1"), &out("block_1"))?.1, means);
        assert_eq!(features(&format!("{line} --what class"), &out("class"))?.0, [3, 32]);
    }
    done("embed --model beit --data images --format safetensors --out features_st")?;
    let written = folder().join("features_st");
    assert!(written.join("features.safetensors").exists());
    assert!(!written.join("unreadable.txt").exists());
    // More than are put up with: nothing is left under a name of ours.
    let line = "embed --model beit --data mixed --max-bad 0 --out features_none";
    assert_eq!(beit(folder(), line).output()?.status.code(), Some(1));
    let left = std::fs::read_dir(folder().join("features_none"))?;
    let left: Vec<_> = left.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    assert_eq!(left, [".lock"]);
    Ok(())
}

fn tokens() -> Result<(), Failed> {
    done("tokenize --tokenizer tokenizer --data mixed --out tokens_mixed")?;
    let (descr, shape, bytes) = npy(&folder().join("tokens_mixed/tokens.npy"))?;
    assert_eq!((descr.as_str(), &shape[..], bytes.len()), ("<u2", &[3, 8, 8][..], 3 * 64 * 2));
    let tokens: Vec<u16> = bytes.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b)).collect();
    assert!(tokens.iter().all(|&token| token < 32), "{tokens:?}");
    let paths = std::fs::read_to_string(folder().join("tokens_mixed/paths.txt"))?;
    assert_eq!(paths.lines().count(), 3);
    let line = "tokenize --tokenizer tokenizer --data synthetic:20 --batch 8 --threads";
    done(&format!("{line} 1 --out tokens_1"))?;
    done(&format!("{line} 16 --out tokens_16"))?;
    let read = |out: &str| std::fs::read(folder().join(out).join("tokens.npy"));
    assert_eq!(read("tokens_1")?, read("tokens_16")?);
    Ok(())
}
