//! No text of others reaches the terminal raw: names of files, classes and tensors, summaries, settings.

use beit::weights::{Slice, View, load_model, save_model};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Retitles a window, forges a line, turns the rest around.
const HOSTILE: &str = "x\u{1b}]0;owned\u{7}\nbeit: all is well\r\u{202e}\u{9b}2J";

/// Runs the program; its two outputs hold the escapes and nothing that acts. Returns them and whether it
/// succeeded.
fn said(folder: &Path, arguments: &[&str]) -> (String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_beit"));
    let output = command.args(arguments).current_dir(folder).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let acts = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!text.contains(acts), "{arguments:?}: {text:?}");
    assert!(!text.lines().any(|line| line.starts_with("beit: all is well")), "{text}");
    (text, output.status.success())
}

#[test]
fn tensor_names_and_summaries() {
    let folder = TempDir::new().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/versions/2/dvae");
    let model = load_model(&fixture).unwrap();
    let values: Vec<_> = model
        .tensors
        .shapes()
        .into_keys()
        .map(|name| (name.clone(), model.tensors.f32s(&name).unwrap()))
        .chain([(HOSTILE.to_owned(), (vec![1], vec![1.0]))])
        .collect();
    let views: Vec<View> = values
        .iter()
        .map(|(name, (shape, values))| View::new(name, shape, Slice::F32(values)))
        .collect();
    save_model(folder.path(), &model.config, None, &views).unwrap();
    for summary in [HOSTILE.to_owned(), serde_json::json!({ HOSTILE: HOSTILE }).to_string()] {
        std::fs::write(folder.path().join("summary.json"), &summary).unwrap();
        let (text, good) = said(folder.path(), &["info", "."]);
        let name = r"  x\u{1b}]0;owned\u{7}\nbeit: all is well\r\u{202e}\u{9b}2J [1]";
        assert!(good && text.lines().any(|line| line == name), "{text}");
        assert!(text.contains("summary: "), "{text}");
    }
    // The name of a tensor that is refused, and a field of the configuration.
    let entry = serde_json::json!({ HOSTILE: { "dtype": HOSTILE } }).to_string();
    let bytes = [&(entry.len() as u64).to_le_bytes()[..], entry.as_bytes()].concat();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    let (text, good) = said(folder.path(), &["info", "."]);
    assert!(!good && text.contains(r"tensor x\u{1b}]0;owned"), "{text}");
    std::fs::copy(fixture.join("model.safetensors"), folder.path().join("model.safetensors"))
        .unwrap();
    let text = serde_json::json!({ "format": "beit", "edited": true, "kind": "dvae", HOSTILE: 1 });
    std::fs::write(folder.path().join("config.json"), text.to_string()).unwrap();
    let (text, good) = said(folder.path(), &["info", "."]);
    assert!(!good && text.contains("unknown field `x"), "{text}");
}

#[cfg(unix)]
#[test]
fn names_of_files_classes_and_settings() {
    let folder = TempDir::new().unwrap();
    let image = image::RgbImage::from_fn(8, 8, |x, y| image::Rgb([x as u8 * 30, y as u8 * 30, 9]));
    let put = |place: &str, name: &str| {
        let class = folder.path().join(place);
        std::fs::create_dir_all(&class).unwrap();
        image.save_with_format(class.join(name), image::ImageFormat::Png).unwrap();
    };
    for i in 0..20 {
        put("data", &format!("{i}.png"));
    }
    std::fs::write(folder.path().join("data").join(format!("{HOSTILE}.png")), "broken").unwrap();
    let small = "train-tokenizer --device cpu --threads 1 --batch 10 --epochs 1 --data data --set width=4 \
                 --set init_width=1 --set vocab=2 --set blocks=1 --set groups=1 --set image_size=2 \
                 --set max_bad=0.1";
    let small: Vec<&str> = small.split_whitespace().collect();
    let out = format!("out {HOSTILE}");
    let (text, good) = said(folder.path(), &[&small[..], &["--out", &out]].concat());
    assert!(
        good && text.contains(r"skipped: data/x\u{1b}]0;owned\u{7}\nbeit: all is well"),
        "{text}"
    );
    assert!(text.contains(r"report: out x\u{1b}]0"), "{text}");
    let page = std::fs::read_to_string(folder.path().join(&out).join("report.html")).unwrap();
    assert!(!page.contains(['\u{1b}', '\u{7}']));
    // Classes that differ; a setting and a device that do not exist.
    for (place, class) in [("a", "one"), ("a", HOSTILE), ("b", "one"), ("b", "two")] {
        put(&format!("{place}/{class}"), "i.png");
    }
    let probe = ["probe", "--model", "random", "--device", "cpu", "--train", "a", "--test", "b"];
    assert!(!said(folder.path(), &probe).1);
    let key = format!("{HOSTILE}=1");
    let settings = [&small[..], &["--out", "new", "--set", &key]].concat();
    assert!(!said(folder.path(), &settings).1);
    let precision = format!("precision={HOSTILE}");
    let settings = [&small[..], &["--out", "new", "--set", &precision]].concat();
    assert!(!said(folder.path(), &settings).1);
    assert!(!said(folder.path(), &["info", HOSTILE]).1);
}
