//! Checkpoints of PyTorch: what is read of them, and what is refused.
//!
//! The files were written by torch 2.15 (`15_weights.json` has the versions). The larger ones are read from the
//! folder that `BEIT_FIXTURES` names, or `../shared/fixtures`, where they are.

use crate::fixtures::{fixture, zip_of};
use beit::weights::{Dtype, PthTensor, TensorFile, write_pth};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A file of the case; nothing where it is not here, which is said.
fn stored(name: &str) -> Option<PathBuf> {
    let other = std::env::var_os("BEIT_FIXTURES").map(PathBuf::from);
    let other =
        other.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"));
    let places = [fixture("15_weights"), other.join("15_weights")];
    let found = places.into_iter().map(|place| place.join(name)).find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: {name} is neither in tests/fixtures nor where BEIT_FIXTURES says");
    }
    found
}

fn read(name: &str) -> TensorFile {
    TensorFile::read_any(&fixture(&format!("15_weights/{name}"))).unwrap()
}

fn about() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("15_weights.json")).unwrap()).unwrap()
}

fn message<T>(outcome: beit::Result<T>) -> String {
    outcome.err().expect("an error").to_string()
}

/// Every tensor of `a` is in `b`, of the same type, shape and values.
fn assert_same(a: &TensorFile, b: &TensorFile) {
    assert_eq!(a.shapes(), b.shapes());
    for (name, info) in a.tensors() {
        assert_eq!(info.dtype, b.tensors()[name].dtype, "{name}");
        match info.dtype {
            Some(Dtype::I64) => assert_eq!(a.i64s(name).unwrap(), b.i64s(name).unwrap(), "{name}"),
            _ => assert_eq!(a.f32s(name).unwrap(), b.f32s(name).unwrap(), "{name}"),
        }
    }
}

/// The two that are too large to be stored.
fn made(name: &str) -> Option<Vec<u8>> {
    match name {
        "deep_json.safetensors" => Some([&100_000u64.to_le_bytes()[..], &[b'['; 100_000]].concat()),
        "deep_nesting.pth" => {
            let pickle = [&b"\x80\x02]"[..], &[0x85; 200_000], b"."].concat();
            Some(zip_of(&[("archive/data.pkl", &pickle), ("archive/version", b"3\n")]))
        }
        _ => None,
    }
}

#[test]
fn hostile_files_are_refused_and_odd_ones_read() {
    let reasons = [
        ("code_system.pth", "asks for posix.system"),
        ("code_builtins_eval.pth", "asks for __builtin__.eval"),
        ("code_stack_global.pth", "the instruction 0x93"),
        ("code_inst.pth", "the instruction 0x69"),
        ("stride_zero_bomb.pth", "more elements than the 4 that are stored"),
        ("negative_stride.pth", "its strides [-2, 1] are negative"),
        ("offset_beyond.pth", "does not lie within the 4 elements"),
        ("count_larger_than_file.pth", "5 elements take 20 bytes, entry data/0 has 16"),
        ("size_overflow.pth", "is absurd"),
        ("count_2_63.pth", "absurd number of elements"),
        ("missing_storage.pth", "there is no entry data/7"),
        ("path_escape.pth", "there is no entry data/../../0"),
        ("unknown_storage.pth", "asks for torch.ComplexFloatStorage"),
        ("self_reference.pth", "into itself"),
        ("deep_nesting.pth", "nests deeper than 64"),
        ("memo_missing.pth", "takes what it did not keep (5)"),
        ("stack_underflow.pth", "takes more than there is"),
        ("no_stop.pth", "ends without its last instruction"),
        ("trailing_string_length.pth", "a text of 2147483647 bytes, more than follow"),
        ("deflated.pth", "entry archive/data.pkl is compressed"),
        ("bad_crc.pth", "entry archive/data/0 does not fit its checksum"),
        ("big_endian.pth", "big-endian"),
        ("no_pickle.pth", "ends without its last instruction"),
        ("protocol_4.pth", "is of protocol 4, not 2"),
        ("truncated.pth", "no zip directory at its end"),
        ("empty.pth", "it is empty"),
        ("not_zip.pth", "no zip directory at its end"),
        ("deep_json.safetensors", "no format that is read here"),
    ];
    let verdicts = about()["hostile"].as_object().unwrap().clone();
    assert_eq!(verdicts.len(), 39);
    let folder = TempDir::new().unwrap();
    for (name, verdict) in &verdicts {
        let path = match made(name) {
            None => fixture("15_weights/hostile").join(name),
            Some(bytes) => {
                std::fs::write(folder.path().join(name), bytes).unwrap();
                folder.path().join(name)
            }
        };
        let outcome = TensorFile::read_any(&path);
        if verdict[0] == "accept" {
            let mut want = [0.0, 1.0, 2.0, 3.0];
            if name == "ok_transposed.pth" {
                want.swap(1, 2);
            }
            assert_eq!(outcome.unwrap().f32s("w").unwrap(), (vec![2, 2], want.into()), "{name}");
            continue;
        }
        let text = message(outcome);
        let want = reasons.iter().find(|(of, _)| of == name).map_or("", |(_, want)| want);
        assert!(text.contains(want) && text.contains(&**name), "want {want:?} in {text:?}");
        assert!(!want.is_empty() || name.ends_with(".safetensors"), "{name}: {text}");
    }
}

#[test]
fn both_forms_and_all_wrappings_hold_the_same_tensors() {
    let mim = read("unilm_mim.pth");
    assert_eq!(mim.metadata()["root"], "model");
    assert_eq!(mim.tensors().len(), 70);
    assert_same(&mim, &read("unilm_mim_legacy.pth"));
    assert_same(&mim, &read("unilm_mim_with_args.pth"));
    let index = mim.i64s("rel_pos_bias.relative_position_index").unwrap();
    assert_eq!((index.0, index.1.len()), (vec![17, 17], 289));

    let cls = read("unilm_cls_bare.pth");
    assert_eq!(cls.metadata()["root"], "");
    let half = read("unilm_cls_f16.pth");
    assert_eq!(cls.shapes(), half.shapes());
    for (name, info) in cls.tensors().iter().filter(|(_, info)| info.dtype == Some(Dtype::F32)) {
        assert_eq!(half.tensors()[name].dtype, Some(Dtype::F16));
        let rounded =
            cls.f32s(name).unwrap().1.iter().map(|x| half::f16::from_f32(*x).to_f32()).collect();
        assert_eq!(half.f32s(name).unwrap(), (info.shape.clone(), rounded), "{name}");
    }
    if let Some(path) = stored("unilm_cls_module.pth") {
        let module = TensorFile::read_any(&path).unwrap();
        assert_eq!(module.metadata()["root"], "module");
        assert_same(&cls, &module);
    }

    let timm = read("timm_cls.pth");
    assert_same(&timm, &read("timm_cls.safetensors"));
    for name in timm.tensors().keys() {
        assert_eq!(timm.f32s(name).unwrap(), cls.f32s(name).unwrap(), "{name}");
    }
    if let Some(path) = stored("unilm_seg.pth") {
        let seg = TensorFile::read_any(&path).unwrap();
        assert_eq!(seg.metadata()["root"], "state_dict");
        assert!(seg.tensors().contains_key("decode_head.conv_seg.weight"));
        assert!(seg.tensors().keys().all(|name| !name.starts_with("meta")));
    }
}

#[test]
fn strides_offsets_and_shared_numbers_are_honoured() {
    let want = TensorFile::read(&fixture("15_weights.safetensors")).unwrap();
    for file in ["odd_tensors.pth", "odd_tensors_legacy.pth"] {
        let odd = read(file);
        for name in ["transposed", "slice"] {
            let want = want.f32s(&format!("odd/{name}")).unwrap();
            assert_eq!(odd.f32s(name).unwrap(), want, "{file} {name}");
        }
    }
    let odd = read("odd_tensors.pth");
    let counted: Vec<f32> = (0..24).map(|i| i as f32).collect();
    for name in ["shared_a", "shared_b", "param", "bf16"] {
        assert_eq!(odd.f32s(name).unwrap(), (vec![4, 6], counted.clone()), "{name}");
    }
    assert_eq!(odd.f32s("scalar").unwrap(), (vec![], vec![2.5]));
    assert_eq!(odd.f32s("empty").unwrap(), (vec![0, 3], vec![]));
    assert_eq!(odd.i64s("i64").unwrap(), (vec![2], vec![1, -2]));
    assert_eq!(odd.tensors()["bool"].dtype, None);
    assert!(message(odd.f32s("bool")).contains("tensor bool is of an unknown type"));
}

#[test]
fn whole_modules_are_read_without_their_classes() {
    let about = about();
    for (file, kind) in
        [("dalle_tiny_encoder.pkl", "encoder"), ("dalle_tiny_decoder_legacy.pkl", "decoder")]
    {
        let Some(path) = stored(file) else { continue };
        let read = TensorFile::read_any(&path).unwrap();
        let want = about["dalle_state"][kind].as_object().unwrap();
        assert!(read.tensors().keys().eq(std::collections::BTreeSet::from_iter(want.keys())));
        for (name, want) in want {
            let (shape, values) = read.f32s(name).unwrap();
            assert_eq!(serde_json::json!(shape), want[0], "{name}");
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            let sum: String =
                Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(want[1], *sum, "{name}");
        }
        let class = if kind == "encoder" { "Encoder" } else { "Decoder" };
        let metadata = read.metadata();
        assert_eq!(metadata["module"], format!("dall_e.{kind}.{class}"));
        for (key, want) in
            [("root", ""), ("n_hid", "64"), ("n_blk_per_group", "1"), ("vocab_size", "512")]
        {
            assert_eq!(metadata[key], want, "{file} {key}");
        }
        // Four groups of one block: 1 / 4².
        assert_eq!(metadata["blocks.group_1.block_1.post_gain"], "0.0625");
    }
}

#[test]
fn what_is_written_is_read_and_lies_at_multiples_of_64() {
    let shapes: [(&str, &[usize], Dtype); 4] = [
        ("blocks.0.w", &[2, 3], Dtype::F32),
        ("index", &[4], Dtype::I64),
        ("scalar", &[], Dtype::F32),
        ("empty", &[0, 3], Dtype::F32),
    ];
    let tensors = shapes.map(|(name, shape, dtype)| PthTensor { name, shape, dtype });
    let floats: Vec<f32> = (0..6).map(|i| 0.1 * i as f32).collect();
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let contents = [
        bytes(&floats),
        [3i64, -1, 1 << 40, 0].iter().flat_map(|x| x.to_le_bytes()).collect(),
        bytes(&[2.5]),
        vec![],
    ];
    let mut file = Vec::new();
    let write = |number: usize, to: &mut dyn Write| {
        contents[number].chunks(5).try_for_each(|chunk| to.write_all(chunk))
    };
    write_pth(&mut file, "model", &tensors, write).unwrap();
    for content in &contents[..3] {
        let at = file.windows(content.len()).position(|bytes| bytes == content).unwrap();
        assert_eq!(at % 64, 0);
    }

    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.pth");
    std::fs::write(&path, &file).unwrap();
    let read = TensorFile::read_any(&path).unwrap();
    assert_eq!(read.metadata()["root"], "model");
    assert_eq!(read.tensors().len(), 4);
    assert_eq!(read.f32s("blocks.0.w").unwrap(), (vec![2, 3], floats));
    assert_eq!(read.i64s("index").unwrap(), (vec![4], vec![3, -1, 1 << 40, 0]));
    assert_eq!(read.f32s("scalar").unwrap(), (vec![], vec![2.5]));
    assert_eq!(read.f32s("empty").unwrap(), (vec![0, 3], vec![]));

    // One byte more or less anywhere behind the contents is found.
    for cut in 1..200 {
        std::fs::write(&path, &file[..file.len() - cut]).unwrap();
        assert!(TensorFile::read_any(&path).is_err(), "{cut}");
    }
}
