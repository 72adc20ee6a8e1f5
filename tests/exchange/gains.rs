//! The gain of a tokenizer's residual paths, which the original keeps in every block of its modules (`post_gain`) and
//! this program computes.

use super::saved;
use crate::fixtures::zip_of;
use beit::models::config::DvaeConfig;
use beit::models::kind::ModelConfig;
use beit::weights::{Project, Stated, load_model, load_model_as};
use std::path::Path;
use tempfile::TempDir;

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// As a signed number of four bytes.
fn whole(number: usize) -> Vec<u8> {
    [b"J", &(number as u32).to_le_bytes()[..]].concat()
}

/// A module with these fields, pickled.
fn module(class: &str, fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries = fields.iter().map(|(key, value)| [text(key), value.clone()].concat());
    let class = format!("c{}\n", class.replace(' ', "\n")).into_bytes();
    [class, b")\x81".to_vec(), dict(&entries.collect::<Vec<_>>()), b"b".to_vec()].concat()
}

fn dict(entries: &[Vec<u8>]) -> Vec<u8> {
    [b"}(", &entries.concat()[..], b"u"].concat()
}

/// A part of a saved tokenizer as a whole module, whose blocks of the encoder's groups have this gain.
fn write_module(own: &Path, part: &str, gain: f64, to: &Path) {
    let model = load_model(own).unwrap();
    let (mut entries, mut parameters) = (Vec::new(), Vec::new());
    let (mut files, mut modules) = (Vec::new(), Vec::new());
    for (i, (name, shape)) in model.tensors.shapes().iter().enumerate() {
        let Some(name) = name.strip_prefix(&format!("{part}.")) else { continue };
        let (_, values) = model.tensors.f32s(&format!("{part}.{name}")).unwrap();
        let numbers = [b"((", &text("storage")[..], b"ctorch\nFloatStorage\n"].concat();
        let numbers =
            [numbers, text(&i.to_string()), text("cpu"), whole(values.len()), b"tQ".to_vec()]
                .concat();
        let strides = (0..shape.len()).map(|axis| whole(shape[axis + 1..].iter().product()));
        let tuple = |numbers: Vec<u8>| [b"(", &numbers[..], b"t"].concat();
        let (extents, strides) = (
            tuple(shape.iter().flat_map(|n| whole(*n)).collect()),
            tuple(strides.flatten().collect()),
        );
        let head = b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec();
        let tensor = [head, numbers, whole(0), extents, strides, b"\x89}tR".to_vec()].concat();
        parameters.push([text(name), tensor].concat());
        files.push((
            format!("a/data/{i}"),
            values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(),
        ));
        if let Some((block, _)) = name.split_once(".res_path.conv_1.w") {
            let float = [b"G", &gain.to_be_bytes()[..]].concat();
            let class = format!("dall_e.{part} EncoderBlock");
            let fields = [("post_gain", float), ("_parameters", b"}".to_vec())];
            modules.push([text(block), module(&class, &fields)].concat());
        }
    }
    assert!(!modules.is_empty());
    let fields = [("_parameters", dict(&parameters)), ("_modules", dict(&modules))];
    let root = module(&format!("dall_e.{part} Part"), &fields);
    entries.push(("a/data.pkl".to_owned(), [&b"\x80\x02"[..], &root, b"."].concat()));
    entries.extend(files);
    let named: Vec<_> = entries.iter().map(|(name, bytes)| (&**name, &bytes[..])).collect();
    std::fs::write(to.join(format!("{part}.pkl")), zip_of(&named)).unwrap();
}

/// 1/n² of the n blocks of all groups, as `post_gain = 1 / (self.n_layers ** 2)` has it; in the original, n is 8.
#[test]
fn the_gain_of_the_blocks_is_that_of_the_file() {
    let test = DvaeConfig::test();
    for (groups, blocks_per_group, gain) in
        [(3, 1, 1.0 / 9.0), (2, 2, 1.0 / 16.0), (4, 2, 1.0 / 64.0)]
    {
        let (own, theirs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let sizes = DvaeConfig { groups, blocks_per_group, image: (16, 16), ..test.clone() };
        saved(own.path(), &ModelConfig::Dvae(sizes.clone()));
        let stated =
            Stated { project: Some(Project::Dalle), image: Some((16, 16)), ..Stated::default() };
        let read = |encoders: f64, decoders: f64| {
            write_module(own.path(), "encoder", encoders, theirs.path());
            write_module(own.path(), "decoder", decoders, theirs.path());
            load_model_as(theirs.path(), &stated).map_err(|e| e.to_string())
        };
        let found = read(gain, gain).unwrap();
        assert_eq!(found.config, ModelConfig::Dvae(sizes));
        for (wrong, part) in [(gain * 4.0, "encoder"), (gain.sqrt(), "decoder"), (1.0, "decoder")] {
            let (a, b) = if part == "encoder" { (wrong, gain) } else { (gain, wrong) };
            let text = read(a, b).map(drop).unwrap_err();
            assert!(
                text.contains(&format!("{part}.pkl: blocks.group_1.block_1.post_gain is")),
                "{text}"
            );
            assert!(text.contains(&format!("want {gain}: 1/n² of n blocks")), "{text}");
        }
    }
}
