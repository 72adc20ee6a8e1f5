//! What reading and exporting take of memory, counted by the allocator; a program of its own, so that nobody else
//! allocates.

mod fixtures;

use beit::cpu::Cpu;
use beit::data::Image;
use beit::data::decode::{DecodeOptions, decode_bytes};
use beit::models::config::EncoderConfig;
use beit::models::kind::ModelConfig;
use beit::params::{Params, initial_values};
use beit::weights::exchange::{ExportFormat, export, save_imported};
use beit::weights::{ORIGINAL, TensorFile, load_model, save_onnx, save_weights};
use fixtures::{fixture, kinds, zip_of};
use peak_alloc::PeakAlloc;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Held by the one test that counts.
static ALONE: Mutex<()> = Mutex::new(());

/// Kilobytes that were taken at most while `bytes` were decoded with a budget of so many megabytes, and the outcome.
fn decoded(bytes: &[u8], memory: usize) -> (usize, Result<Image, String>) {
    let options = DecodeOptions { memory, ..DecodeOptions::default() };
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let image = decode_bytes(bytes, Path::new("x"), &options);
    let taken = ALLOCATOR.peak_usage() - before;
    (taken >> 10, image.map_err(|e| e.to_string()))
}

/// `count` bytes 0 as zlib packs them, with the fixed codes of deflate: runs of 258 in 13 bits.
fn packed_zeros(count: usize) -> Vec<u8> {
    let (mut bytes, mut bit) = (vec![0x78, 0x01], 0);
    let mut put = |code: u32, length: u32| {
        for i in (0..length).rev() {
            if bit % 8 == 0 {
                bytes.push(0);
            }
            *bytes.last_mut().unwrap() |= ((code >> i & 1) as u8) << (bit % 8);
            bit += 1;
        }
    };
    // The last block, of fixed codes; a literal 0; runs, at the distance 1; the end.
    put(0b110, 3);
    put(0b0011_0000, 8);
    (0..count / 258).for_each(|_| put(0b1_1000_1010_0000, 13));
    put(0, 7);
    bytes.extend([0; 4]); // a checksum that nobody should get to
    bytes
}

/// A PNG with one more chunk behind its header.
fn with_chunk(png: &[u8], name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let body = [&name[..], content].concat();
    let crc = !body.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ (0xEDB8_8320 & (c & 1).wrapping_neg()))
    });
    let length = (content.len() as u32).to_be_bytes();
    [&png[..33], &length, &body, &crc.to_be_bytes(), &png[33..]].concat()
}

#[test]
fn decoding_takes_no_more_than_it_claims() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let kinds = kinds();
    // The first use of anything that is made once.
    decoded(&kinds[0].file, 0).1.unwrap();

    let png = kinds.iter().find(|kind| kind.name == "PNG palette").unwrap();
    let zeros = [&b"c\0\0"[..], &packed_zeros(60 << 20)].concat();
    for name in [b"iCCP", b"zTXt"] {
        let (taken, image) = decoded(&with_chunk(&png.file, name, &zeros), 0);
        assert_eq!(image.unwrap().pixels, png.pixels);
        assert!(taken < 5 << 10, "{taken} kB");
    }

    // A WebP whose EXIF chunk claims 64 MB, and a TIFF whose tags claim four million values.
    let webp = kinds.iter().find(|kind| kind.name == "WebP turned 2").unwrap();
    let exif = webp.file.windows(4).position(|name| name == b"EXIF").unwrap();
    let with_length = |length: u32| {
        let mut file = webp.file.clone();
        file[exif + 4..exif + 8].copy_from_slice(&length.to_le_bytes());
        decoded(&file, 0)
    };
    let (taken, image) = with_length(64 << 20);
    assert_eq!(image.unwrap_err(), "x: the WebP data is truncated");
    assert!(taken < 100, "{taken} kB");
    let length = u32::from_le_bytes(webp.file[exif + 4..exif + 8].try_into().unwrap());
    assert_eq!(with_length(length).1.unwrap().pixels, webp.pixels);
    let tiff = kinds.iter().find(|kind| kind.name == "TIFF raw").unwrap();
    for tag in 0..u16::from_le_bytes(tiff.file[8..10].try_into().unwrap()) {
        let mut file = tiff.file.clone();
        file[10 + 12 * usize::from(tag) + 4..][..4].copy_from_slice(&(4_u32 << 20).to_le_bytes());
        let (taken, image) = decoded(&file, 0);
        let text = image.unwrap_err();
        assert!(text.contains("claims 4194304 values, more than the file holds"), "{text}");
        assert!(taken < 100, "{taken} kB");
    }

    let (taken, image) = decoded(&std::fs::read(fixture("images/jpeg_9999_tiny.jpg")).unwrap(), 0);
    assert!(image.unwrap_err().contains("9999x9999 pixels, more than"));
    assert!(taken < 100, "{taken} kB");

    for kind in kinds.iter().filter(|kind| kind.name.ends_with("of one colour")) {
        let mut widths = Vec::new();
        for memory in 1..14 {
            let (taken, image) = decoded(&kind.file, memory);
            assert!(taken <= memory << 10, "{}: {taken} kB of {memory} MB", kind.name);
            match image {
                Ok(image) => {
                    assert!(image.pixels.iter().all(|p| p.abs_diff(kind.pixels[0]) < 2));
                    widths.push(image.width);
                }
                Err(text) => assert!(text.contains("set decode_memory to more"), "{text}"),
            }
        }
        widths.dedup();
        let smaller = if kind.name.starts_with("JPEG") { &[250, 500][..] } else { &[] };
        assert_eq!(widths, [smaller, &[kind.width]].concat(), "{} high {}", kind.name, kind.height);
    }
}

#[test]
fn an_onnx_file_takes_two_of_its_tensors() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let sizes = EncoderConfig { depth: 10, ..EncoderConfig::small() }.with_width(192);
    let config = ModelConfig::Beit(sizes.with_vocab(2));
    let entries = config.layout(&Cpu::<f32>::new());
    let entries = entries.iter().flat_map(|p| ORIGINAL.entries(p));
    let elements: BTreeMap<String, usize> =
        entries.map(|e| (e.name, e.shape.iter().product())).collect();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("model.onnx");
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    save_onnx(&path, &config, None, &|name| Ok(vec![0.5; elements[name]])).unwrap();
    let taken = ALLOCATOR.peak_usage() - before;
    let (largest, file) = (4 * elements.values().max().unwrap(), path.metadata().unwrap().len());
    assert!(file > 17 << 20 && largest < 1 << 20);
    // Besides: pieces of the file, and all nodes.
    assert!(taken < 2 * largest + (1 << 20), "{taken} bytes for {file} with tensors of {largest}");
}

/// Whatever the size of the file, what is taken is a piece of it and what its header says.
#[test]
fn models_go_in_and_out_without_being_in_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let sizes = EncoderConfig { depth: 10, ..EncoderConfig::small() }.with_width(192);
    let config = ModelConfig::Beit(sizes.with_vocab(2));
    let folder = tempfile::TempDir::new().unwrap();
    let at = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let bk = Cpu::<f32>::new();
    let layout = config.layout(&bk);
    let w = Params::from_host(&bk, &layout, &initial_values(&layout, 1));
    save_weights(&bk, &at("own"), &config, None, &w).unwrap();
    drop(w);
    let measured = |what: &str, work: &dyn Fn()| {
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        work();
        let taken = ALLOCATOR.peak_usage() - before;
        assert!(taken < 1 << 20, "{what}: {taken} bytes");
    };
    let into = |from: &str, format: ExportFormat, to: &str| {
        let model = load_model(&folder.path().join(from)).unwrap();
        export(&model, format, &at(to)).unwrap();
    };
    let import = |from: &str, to: &str| {
        let model = load_model(&folder.path().join(from)).unwrap();
        save_imported(&at(to), &model).unwrap();
    };
    measured("to hf", &|| into("own", ExportFormat::HuggingFace, "hf"));
    measured("to unilm", &|| into("own", ExportFormat::Unilm, "unilm"));
    measured("from hf", &|| import("hf", "from-hf"));
    measured("from unilm", &|| import("unilm/model.pth", "from-unilm"));
    let file = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let own = file("own/model.safetensors");
    assert!(own.len() > 17 << 20);
    for back in ["from-hf", "from-unilm"] {
        let back = file(&format!("{back}/model.safetensors"));
        // The header has the checksum of the configuration.
        assert!(back.len() == own.len() && back[1 << 16..] == own[1 << 16..]);
    }
}

/// Pickles whose parts take many times their length, and files with nothing but a directory.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let pickle = |begin: &[u8], part: &[u8], times: usize| {
        let pickle = [&b"\x80\x02"[..], begin, &part.repeat(times), b"."].concat();
        zip_of(&[("a/data.pkl", &pickle)])
    };
    let slots: Vec<u8> =
        (0..1u32 << 20).flat_map(|slot| [&b"r"[..], &slot.to_le_bytes()].concat()).collect();
    let names: Vec<String> = (0..60_000).map(|i| format!("a/{i}")).collect();
    let entries: Vec<_> = names.iter().map(|name| (&**name, &[][..])).collect();
    let deep = [&100_000u64.to_le_bytes()[..], &[b'['; 100_000]].concat();
    vec![
        ("tuples", pickle(b"]", b")", 20 << 20)),
        ("lists in lists", pickle(b"]", b"]a", 5 << 20)),
        ("marks", pickle(b"]", b"(", 20 << 20)),
        ("an empty memo", pickle(b"Nr\xff\xff\xff\x7f", b"", 1)),
        ("a full memo", pickle(b"]", &slots, 1)),
        ("dicts", pickle(b"}q\0", b"}K\x01Ns", 4 << 20)),
        ("keys", pickle(b"}", b"K\x01Ns", 4 << 20)),
        ("dicts in a dict", pickle(b"}(", b"N}", 4 << 20)),
        ("entries", zip_of(&entries)),
        ("tuples in a small file", pickle(b"]", b")", 200_000)),
        ("brackets", deep),
    ]
}

#[test]
fn files_of_weights_take_no_more_than_twice_their_length() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::TempDir::new().unwrap();
    let mut files: Vec<_> = std::fs::read_dir(fixture("15_weights/hostile")).unwrap().collect();
    files.extend(std::fs::read_dir(fixture("15_weights")).unwrap());
    let mut files: Vec<_> = files.into_iter().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    for (name, bytes) in bombs() {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        files.push(folder.path().join(name));
    }
    for path in files {
        let length = path.metadata().unwrap().len() as usize;
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let outcome = TensorFile::read_any(&path);
        let taken = ALLOCATOR.peak_usage() - before;
        let refused = outcome.err().map(|e| e.to_string());
        eprintln!("{}: {length} bytes, {taken} taken", path.display());
        // A small file may take 8 MB.
        assert!(taken < length + length.max(8 << 20), "{}: {taken} of {length}", path.display());
        assert_eq!(
            refused.is_some(),
            path.starts_with(&folder) || is_hostile(&path),
            "{refused:?}"
        );
    }
}

fn is_hostile(path: &Path) -> bool {
    let inside = path.parent().unwrap().ends_with("hostile");
    inside && !path.file_name().unwrap().to_str().unwrap().starts_with("ok")
}
