//! Folders as they are found: other endings, names in other code pages, links in circles, things that are
//! no files.

use super::{message, open, png, scene};
use beit::data::decode::{DecodeOptions, decode};
use beit::data::{Dataset, Loader, LoaderConfig, Source};
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Name and class of everything listed.
fn listed(source: &Source) -> Vec<(String, Option<u32>)> {
    (0..source.len()).map(|i| (source.name(i), source.label(i))).collect()
}

/// Why the image of that name cannot be read.
fn reason(source: &Source, name: &str) -> String {
    let i = (0..source.len()).find(|&i| source.name(i) == name);
    message(source.load(i.unwrap_or_else(|| panic!("{name} is listed"))))
}

#[test]
fn endings_and_contents_say_what_is_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let image = png(&scene(0));
    let others = ["a/1.bmp", "b/2.TIF", "c/3.tiff", "d/4.gif", "e/5.ppm", "e/6.pgm", "f/7.png"];
    let contents = ["g/8.jfif", "g/9", "g/10.txt", "g/11.jpg_original"];
    for name in others.into_iter().chain(contents) {
        write(folder.path(), name, &image);
    }
    assert_eq!(open(folder.path()).unwrap().remark(), None);
    let texts = ["g/x.txt", "g/y.TXT", "h/z.txt", "i/README", "i/deep/raw.cr2"];
    for name in texts {
        write(folder.path(), name, b"P5 is the fifth, BMW a car");
    }
    write(folder.path(), "h/new.avif", b"\0\0\0\x1cftypavif\0\0\0\0");
    fs::create_dir(folder.path().join("j")).unwrap();
    let source = open(folder.path()).unwrap();
    let names: Vec<_> = listed(&source).into_iter().map(|(name, _)| name).collect();
    let mut wanted: Vec<_> = others.into_iter().chain(contents).collect();
    wanted.sort();
    assert_eq!(names, wanted);
    assert_eq!(source.classes(), ["a", "b", "c", "d", "e", "f", "g"]);
    let wanted = "left out 3 .txt, 1 without ending, 1 .avif, 1 .cr2; no image in the class folders h, \
                  i, j";
    assert_eq!(source.remark().unwrap(), format!("{}: {wanted}", folder.path().display()));

    let none = tempfile::tempdir().unwrap();
    write(none.path(), "a/x.heic", b"\0\0\0\x18ftypheic");
    let text = message(open(none.path()));
    assert!(text.contains("no images") && text.contains("there are 1 .heic"), "{text}");
}

#[test]
fn texts_beside_the_images_are_not_all_opened() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..1100 {
        write(folder.path(), &format!("{i:04}.txt"), b"a caption");
    }
    // Behind the thousandth text nobody looks any more.
    for name in ["0500b.txt", "1050b.txt", "1050.png", "1050.jfif"] {
        write(folder.path(), name, &png(&scene(0)));
    }
    let source = open(folder.path()).unwrap();
    let names: Vec<_> = listed(&source).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["0500b.txt", "1050.jfif", "1050.png", "1050b.txt"]);
    fs::remove_file(folder.path().join("0500b.txt")).unwrap();
    let source = open(folder.path()).unwrap();
    assert_eq!(source.len(), 2);
    assert!(source.remark().unwrap().ends_with("left out 1101 .txt"), "{:?}", source.remark());
}

#[cfg(target_os = "linux")]
#[test]
fn class_names_of_another_code_page_stay_apart() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    // Dog, bird and fish in Shift-JIS.
    for name in [b"\x8c\xa2", b"\x92\xb9", b"\x8b\x9b"] {
        let class = folder.path().join(OsStr::from_bytes(name));
        fs::create_dir(&class).unwrap();
        fs::write(class.join("0.png"), png(&scene(0))).unwrap();
    }
    let source = open(folder.path()).unwrap();
    assert_eq!(source.classes(), [r"\x8B\x9B", r"\x8C\xA2", r"\x92\xB9"]);
    let wanted = [(r"\x8B\x9B/0.png", 0), (r"\x8C\xA2/0.png", 1), (r"\x92\xB9/0.png", 2)];
    assert_eq!(listed(&source), wanted.map(|(name, class)| (name.to_owned(), Some(class))));
}

/// A folder with good images in the class `a` and everything that hangs or ends a walk in `b`.
#[cfg(unix)]
fn hostile(folder: &Path) {
    use std::os::unix::fs::symlink;
    for i in 0..5 {
        write(folder, &format!("a/{i}.png"), &png(&scene(i)));
        write(folder, "b/good.png", &png(&scene(i)));
    }
    for (target, link) in [
        ("..", "b/above"),
        ("/", "b/root"),
        (".", "b/self.png"),
        ("nowhere.png", "b/dangling.png"),
        ("ring.png", "b/ring.png"),
        ("/dev/zero", "b/endless.jpg"),
        ("/dev/null", "b/null"),
        ("a", "linked"),
    ] {
        symlink(target, folder.join(link)).unwrap();
    }
    for name in ["b/fifo", "b/fifo.png"] {
        let made = std::process::Command::new("mkfifo").arg(folder.join(name)).status().unwrap();
        assert!(made.success());
    }
    drop(std::os::unix::net::UnixListener::bind(folder.join("b/socket.jpg")).unwrap());
    let sparse = fs::File::create(folder.join("b/sparse.jpg")).unwrap();
    sparse.set_len(5 << 30).unwrap();
    symlink("sparse.jpg", folder.join("b/sparse_link.png")).unwrap();
}

/// What is unreadable in [`hostile`], and how its reason ends.
#[cfg(unix)]
const HOSTILE: [(&str, &str); 12] = [
    ("b/above", "is a link to a folder above"),
    ("b/dangling.png", "No such file or directory (os error 2)"),
    ("b/endless.jpg", "is a device, not a file"),
    ("b/fifo", "is a FIFO (named pipe), not a file"),
    ("b/fifo.png", "is a FIFO (named pipe), not a file"),
    ("b/null", "is a device, not a file"),
    ("b/ring.png", "Too many levels of symbolic links (os error 40)"),
    ("b/root", "is a link to a folder above"),
    ("b/self.png", "is a link to a folder above"),
    ("b/socket.jpg", "is a socket, not a file"),
    ("b/sparse.jpg", "not a JPEG, PNG, WebP, BMP, TIFF, GIF or PNM image"),
    ("b/sparse_link.png", "not a JPEG, PNG, WebP, BMP, TIFF, GIF or PNM image"),
];

#[cfg(unix)]
#[test]
fn what_hangs_or_never_ends_is_an_unreadable_image() {
    let folder = tempfile::tempdir().unwrap();
    hostile(folder.path());
    let source = Arc::new(open(folder.path()).unwrap());
    assert_eq!(source.classes(), ["a", "b", "linked"]);
    let bad = (0..source.len()).filter(|&i| source.load(i).is_err()).map(|i| source.name(i));
    assert_eq!(bad.collect::<Vec<_>>(), HOSTILE.map(|(name, _)| name));
    for (name, end) in HOSTILE {
        let text = reason(&source, name);
        assert!(text.contains(name) && text.ends_with(end), "{text}");
        // The same for a file that is named on the command line.
        let path = folder.path().join(name);
        assert!(path.is_dir() || message(decode(&path, &DecodeOptions::default())).contains(name));
    }
    let items = source.len();
    let run = |max_bad| {
        let cfg = LoaderConfig { max_bad, ..LoaderConfig::new(items, 1) };
        let mut loader = Loader::new(source.clone(), cfg, |_, _| ()).unwrap();
        loader.next_batch().map(|_| loader.bad_images().len())
    };
    assert_eq!(run(1.0).unwrap(), HOSTILE.len());
    assert!(message(run(0.01)).contains("of 23 images cannot be read"), "{}", message(run(0.01)));
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_listed_is_an_unreadable_image() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a/0.png", &png(&scene(0)));
    let shut = folder.path().join("shut");
    fs::create_dir(&shut).unwrap();
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o000)).unwrap();
    // No permission holds back root; a folder that was removed while open does, where there is /proc.
    let gone = tempfile::tempdir().unwrap();
    let held = fs::File::open(gone.path()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&held);
    let open_folder = format!("/proc/self/fd/{number}");
    drop(gone);
    let mut wanted = Vec::new();
    if Path::new(&open_folder).is_dir() {
        symlink(&open_folder, folder.path().join("gone")).unwrap();
        wanted.push("gone");
    }
    if fs::read_dir(&shut).is_err() {
        wanted.push("shut");
    }
    assert!(!wanted.is_empty(), "this test needs /proc or a user who is not root");
    let source = open(folder.path()).unwrap();
    assert_eq!(source.len(), 1 + wanted.len());
    for name in wanted {
        assert!(reason(&source, name).contains(&format!("{name}: cannot be listed:")));
    }
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn one_bad_image_of_a_few_is_allowed_and_more_name_what_would_do() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..40 {
        write(folder.path(), &format!("{i:02}.png"), &png(&scene(i)));
    }
    let epoch = |max_bad| {
        let cfg = LoaderConfig { max_bad, ..LoaderConfig::new(40, 1) };
        let source = Arc::new(open(folder.path()).unwrap());
        let mut loader = Loader::new(source, cfg, |_, _| ()).unwrap();
        loader.next_batch().map(|_| loader.bad_images().len())
    };
    let default = LoaderConfig::new(40, 1).max_bad;
    write(folder.path(), "07.png", b"cut");
    assert_eq!(epoch(default).unwrap(), 1);
    assert!(message(epoch(0.0)).contains("1 of 40 images"));
    write(folder.path(), "09.png", b"cut");
    let text = message(epoch(default));
    assert!(text.contains("2 of 40 images") && text.contains("--set max_bad=0.05:"), "{text}");
    assert_eq!(epoch(0.05).unwrap(), 2);
}
