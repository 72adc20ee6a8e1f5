//! Settings: layers, ranges, suggestions, and that what is written comes back.

use beit::config::{
    BertRun, DinoRun, Layers, MocoRun, Preset, PretrainRun, ProbeRun, RunConfig, TokenizerRun,
    document,
};
use std::io::Write;
use toml::Value;

fn set(entries: &[&str]) -> Layers {
    Layers { set: entries.iter().map(|s| (*s).to_owned()).collect(), ..Layers::default() }
}

fn refused(entries: &[&str]) -> String {
    let text = set(entries).resolve::<PretrainRun>().unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn later_layers_win() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "preset = 'small'\nlr = 1\nepochs = 7\nbatch = 32").unwrap();
    let layers = Layers {
        file: Some(file.path().to_path_buf()),
        set: vec!["epochs=8".into(), "batch = 16".into(), "mask_max_block=9".into()],
        flags: vec![("batch", Value::Integer(4))],
    };
    let config: PretrainRun = layers.resolve().unwrap();
    assert_eq!((config.common.preset, config.sizes.width), (Preset::Small, 384));
    assert_eq!((config.common.lr, config.common.epochs, config.common.batch), (1.0, 8, 4));
    assert_eq!(config.mask_max_block, Some(9));
}

#[test]
fn every_preset_is_valid_and_comes_back_from_its_file() {
    fn check<C: RunConfig + PartialEq + std::fmt::Debug>(preset: &str) {
        let preset = preset.parse().unwrap();
        let config = C::preset(preset);
        config.validate().unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let text = document(&config).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let layers = Layers { file: Some(file.path().to_path_buf()), ..Layers::default() };
        assert_eq!(layers.resolve::<C>().unwrap(), config);
        let table = toml::Table::try_from(&config).unwrap();
        let named = |name: &str| C::KEYS.iter().filter(|key| key.name == name).count();
        assert!(table.keys().all(|name| named(name) == 1), "{table:?}");
        let unset: Vec<_> = C::KEYS.iter().filter(|key| !table.contains_key(key.name)).collect();
        assert!(unset.iter().all(|key| key.name == "mask_max_block"), "{unset:?}");
        for key in C::KEYS {
            assert!(text.contains(key.name), "{} is not in config.toml", key.name);
            assert!(key.doc.len() > 10, "{} is not documented", key.name);
        }
    }
    for preset in Preset::NAMES {
        check::<TokenizerRun>(preset);
        check::<PretrainRun>(preset);
        check::<ProbeRun>(preset);
    }
}

#[test]
fn what_a_command_has_no_key_for_stays_as_the_preset_has_it() {
    fn check<C: RunConfig + PartialEq + std::fmt::Debug>(unlisted: &[&str], value: &str) {
        for preset in Preset::NAMES {
            let config = C::preset(preset.parse().unwrap());
            config.validate().unwrap();
            let all = toml::Table::try_from(&config).unwrap();
            let listed = |name: &&str| C::KEYS.iter().any(|key| key.name == *name);
            let mut others: Vec<&str> =
                all.keys().map(|name| &**name).filter(|n| !listed(n)).collect();
            others.sort_unstable();
            assert_eq!(others, unlisted, "{}", C::KIND);
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let text = document(&config).unwrap();
            assert!(unlisted.iter().all(|name| !text.contains(&format!("\n{name} ="))), "{text}");
            file.write_all(text.as_bytes()).unwrap();
            let layers = Layers { file: Some(file.path().to_path_buf()), ..Layers::default() };
            assert_eq!(layers.resolve::<C>().unwrap(), config);
        }
        for name in unlisted {
            let text = set(&[&format!("{name}={value}")]).resolve::<C>().unwrap_err().to_string();
            assert!(text.starts_with(&format!("unknown key {name} for {}", C::KIND)), "{text}");
        }
    }
    check::<DinoRun>(&["ema"], "0.5");
    check::<MocoRun>(&["accumulate"], "1");
    let of_images = [
        "decode_memory",
        "flip",
        "image_size",
        "max_bad",
        "orientation",
        "patch_size",
        "verify_data",
    ];
    check::<BertRun>(&of_images, "1");
}

#[test]
fn presets_name_a_tokenizer_that_fits() {
    for preset in [Preset::Tiny, Preset::Small, Preset::Base, Preset::Large] {
        let (dvae, beit) =
            (TokenizerRun::preset(preset).dvae(), PretrainRun::preset(preset).beit());
        assert_eq!((dvae.grid(), dvae.vocab), (beit.encoder.grid(), beit.outputs()), "{preset:?}");
    }
}

#[test]
fn unknown_key_suggests_the_nearest() {
    let text = refused(&["wieght_decay=0.1"]);
    assert_eq!(text, "unknown key wieght_decay for pretrain; did you mean weight_decay?");
    assert_eq!(refused(&["zzzzzzzzzz=1"]), "unknown key zzzzzzzzzz for pretrain");
    let text = refused(&["preset=tinny"]);
    assert!(text.ends_with("want one of tiny, small, base, large; did you mean tiny?"), "{text}");
}

#[test]
fn values_out_of_range_are_named_with_the_range() {
    let cases = [
        ("lr=nan", "lr = nan is not usable: want a number above 0, at most 10"),
        ("lr=inf", "lr = inf is not usable"),
        ("lr=-1", "lr = -1"),
        ("lr=fast", r#"lr = "fast" is not usable"#),
        ("batch=0", "batch = 0 is not usable: want a whole number from 1 to 1048576"),
        ("batch=2.5", "batch = 2.5 is not usable"),
        ("batch=1\nlr=2", "batch = "),
        ("seed=-1", "seed = -1 is not usable: want a whole number, 0 or more"),
        ("abs_pos=yes", r#"abs_pos = "yes" is not usable: want true or false"#),
        ("masking=blocks", "did you mean block?"),
        ("image_size=[32]", "image_size = [32] is not usable: want a side in pixels"),
        ("image_size=0", "image_size = 0 is not usable"),
        ("image_size=30", "image_size 30x30 is not divisible by patch_size 4"),
        ("heads=5", "width 128 is not divisible by heads 5"),
        ("accumulate=33", "accumulate 33 is more than the 32 images of a batch"),
        (
            "masked_patches=65",
            "masked_patches 65 leaves none of the 8x8 patches to be seen; set it to at most 63",
        ),
        ("masked_patches=64", "leaves none of the 8x8 patches to be seen; set it to at most 63"),
        (
            "patch_size=32",
            "an image is one patch, which cannot be hidden and seen; set patch_size below 32",
        ),
        ("mask_min_block=26", "mask_min_block 26 is above 25"),
        ("min_lr=1", "min_lr 1 is above lr 0.002"),
        ("masking=none", "no loss over masked ones; set loss_over=all"),
        ("target=pixel", "did you mean pixels?"),
        ("lr", "--set lr: want key=value"),
    ];
    for (entry, want) in cases {
        let text = set(&[entry]).resolve::<PretrainRun>().unwrap_err().to_string();
        assert!(text.contains(want), "want {want:?} in {text:?}");
    }
}

#[test]
fn targets_and_what_is_shown_must_fit() {
    let text = refused(&["target=normalised_pixels", "tokenizer=runs/tokenizer"]);
    let want = "target=normalised_pixels is read off the images and needs no tokenizer, but tokenizer is \
                runs/tokenizer; leave it out, or set target=tokens";
    assert_eq!(text, want);
    let text = refused(&["masking=none", "loss_over=all", "replace=random_patch"]);
    assert!(text.contains("masking=none hides no patch that replace=random_patch"), "{text}");
    // What the message about masking=none asks for is accepted, whatever the settings of masks are.
    let whole = ["masking=none", "loss_over=all", "masked_patches=900", "mask_min_block=901"];
    let config: PretrainRun = set(&whole).resolve().unwrap();
    assert_eq!(config.beit(), PretrainRun::preset(Preset::Tiny).beit());
    let config: PretrainRun = set(&["target=pixels", "loss_over=all"]).resolve().unwrap();
    assert_eq!(config.beit().outputs(), 48);
}

#[test]
fn what_a_message_about_masks_asks_for_is_accepted() {
    for masking in ["block", "block_exact", "random"] {
        let with =
            |patches: usize| [format!("masked_patches={patches}"), format!("masking={masking}")];
        let resolve = |patches| {
            let set = with(patches).to_vec();
            Layers { set, ..Layers::default() }.resolve::<PretrainRun>()
        };
        resolve(63).unwrap();
        let text = resolve(64).unwrap_err().to_string();
        assert!(text.ends_with("set it to at most 63"), "{masking}: {text}");
    }
    // The largest block cannot be more than all that is hidden.
    let text = refused(&["mask_min_block=26", "mask_max_block=30"]);
    assert!(text.ends_with("set it to at most 25"), "{text}");
    set(&["mask_min_block=25", "mask_max_block=30"]).resolve::<PretrainRun>().unwrap();
}

#[test]
fn rectangular_images_and_absurd_models() {
    let config: PretrainRun = set(&["image_size=[32, 48]", "lr=1e-3"]).resolve().unwrap();
    assert_eq!(config.beit().encoder.grid(), (8, 12));
    assert!(document(&config).unwrap().contains("image_size = [32, 48]"));
    assert!(refused(&["width=16384", "depth=256"]).contains("parameters; at most"));
}

#[test]
fn files_are_named_in_their_errors() {
    let check = |content: &str, want: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let layers = Layers { file: Some(file.path().to_path_buf()), ..Layers::default() };
        let text = layers.resolve::<PretrainRun>().unwrap_err().to_string();
        assert!(text.contains(want) && !text.contains('\n'), "want {want:?} in {text:?}");
        assert!(text.starts_with(&file.path().display().to_string()), "{text}");
    };
    check("lr = ", "not TOML");
    check("[train]\nlr = 1", "unknown key train");
    check("lr = true", "lr = true is not usable");
    check("command = 'probe'", r#"settings of "probe", not of "pretrain""#);
}

#[test]
fn settings_of_a_run_folder_are_checked_as_any_others() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("config.toml");
    for (line, want) in [
        ("width = 9223372036854775807", "want a whole number from 1 to 16384"),
        ("batch = 0", "batch = 0 is not usable"),
        ("lr = nan", "lr = nan is not usable"),
        ("masking = 'blok'", "did you mean block?"),
        ("flip = [1]", "flip = [1] is not usable"),
    ] {
        std::fs::write(&path, line).unwrap();
        let text = Layers::default().resolve_in::<PretrainRun>(folder.path()).unwrap_err();
        let text = text.to_string();
        assert!(text.starts_with(&path.display().to_string()), "{text}");
        assert!(text.contains(want), "want {want:?} in {text:?}");
    }
    std::fs::write(&path, "width = 64\nlr = 1\nkey_of_a_newer_version = 7").unwrap();
    let config: PretrainRun = Layers::default().resolve_in(folder.path()).unwrap();
    assert_eq!((config.sizes.width, config.common.lr), (64, 1.0));
}
