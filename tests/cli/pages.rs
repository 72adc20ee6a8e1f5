//! Pages and TensorBoard records of finished runs.

use super::{beit, folder, text};
use libtest_mimic::{Failed, Trial};

/// The trials.
pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("pages/runs_say_how_they_came_about", how_runs_came_about),
        Trial::test("pages/a_probe_says_how_it_came_about", how_a_probe_came_about),
        Trial::test("pages/pictures_are_in_the_events", pictures_in_the_events),
    ]
}

fn read(path: &str) -> Result<String, Failed> {
    Ok(std::fs::read_to_string(folder().join(path))?)
}

fn holds(page: &str, wanted: &[&str]) -> Result<(), Failed> {
    match wanted.iter().find(|want| !page.contains(**want)) {
        Some(want) => Err(format!("no {want} in {page}").into()),
        None => Ok(()),
    }
}

fn how_runs_came_about() -> Result<(), Failed> {
    for (run, steps) in [("tokenizer", 1), ("beit", 1)] {
        let page = read(&format!("{run}/report.html"))?;
        let settings = read(&format!("{run}/config.toml"))?.trim_end().replace('"', "&quot;");
        holds(
            &page,
            &[
                "<td>data</td><td>synthetic:32</td>",
                "<td>images</td><td>28 to train on, 4 others to measure on</td>",
                &format!("<td>optimizer steps</td><td>{steps}</td>"),
                "<td>device</td><td>the CPU in f32</td>",
                concat!("<td>version</td><td>", env!("CARGO_PKG_VERSION")),
                &format!("--out {run}</td>"),
                "<td>time</td><td>",
                settings.lines().last().unwrap_or("no settings"),
            ],
        )?;
        if page.contains(">chance</title>") || page.contains("masked | tokens decoded\"") {
            return Err(format!("{run}: a chart of a constant, or an idle column").into());
        }
    }
    Ok(())
}

fn how_a_probe_came_about() -> Result<(), Failed> {
    let line = "probe --model random --train left --test left --epochs 2 --out paged";
    let output = beit(folder(), line).output()?;
    if !output.status.success() {
        return Err(text(&output).into());
    }
    holds(
        &read("paged/report.html")?,
        &[
            "<td>left to fit on, left to measure on</td>",
            "<td>6 fitted, 6 measured</td>",
            "Always the most frequent class of the measured images, a, would be right for 0.333.",
            "<td>c</td><td class=n>2</td><td class=n>2</td>",
            "knn_k = 20",
        ],
    )
}

/// The records of an event file: a length, its checksum, that many bytes, their checksum.
fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(12) {
        let length = u64::from_le_bytes(head[..8].try_into().expect("eight bytes")) as usize;
        records.push(&rest[..length]);
        bytes = &rest[length + 4..];
    }
    records
}

fn pictures_in_the_events() -> Result<(), Failed> {
    for (run, caption, columns) in [
        ("tokenizer", "original | tokens decoded", 2),
        ("beit", "original | masked | tokens decoded | predicted tokens decoded", 4),
    ] {
        let bytes = std::fs::read(folder().join(run).join("events.out.tfevents.0.beit"))?;
        let find = |record: &[u8], part: &[u8]| record.windows(part.len()).position(|w| w == part);
        let all = records(&bytes);
        let with = |record: &&&[u8]| find(record, caption.as_bytes()).is_some();
        let record = all.iter().find(with).ok_or_else(|| format!("{run}: no picture"))?;
        let start = find(record, b"\x89PNG").ok_or("no PNG in the record")?;
        let picture = image::load_from_memory(&record[start..])?;
        // Six images, of 32 pixels four times enlarged, with six pixels between them.
        let want = (columns * 128 + (columns - 1) * 6, 6 * 128 + 5 * 6);
        if (picture.width(), picture.height()) != want {
            return Err(format!("{run}: {}x{}", picture.width(), picture.height()).into());
        }
    }
    Ok(())
}
