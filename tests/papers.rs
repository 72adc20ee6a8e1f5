//! The notes in `papers/` and the source say the same.
//!
//! Every path in an equation table is a function of the source; every `Deviation:` of the source is
//! listed in a note under the module it stands in, and the other way round; every command of a table
//! of figures exists. What the papers claim and a short run can confirm is in `papers/claims.rs`.

mod claims;
mod source;

use source::{functions, rust_files};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// File name and text of every note but the list of them.
fn notes() -> Vec<(String, String)> {
    let files = std::fs::read_dir(root().join("papers")).unwrap().map(|f| f.unwrap().path());
    let named =
        |path: PathBuf| (path.file_name().unwrap().to_str().unwrap().to_string(), read(&path));
    let mut notes: Vec<_> = files.map(named).filter(|(name, _)| name != "README.md").collect();
    notes.sort();
    notes
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Lines between the heading `## title` and the next one.
fn section<'a>(name: &str, text: &'a str, title: &str) -> Vec<&'a str> {
    let heading = format!("## {title}");
    let mut lines = text.lines().skip_while(|l| *l != heading);
    assert!(lines.next().is_some(), "papers/{name} has no section `{heading}`");
    lines.take_while(|l| !l.starts_with("## ")).collect()
}

/// Rows of a section's table without its head; a `|` of a formula is written `\|`.
fn rows(name: &str, text: &str, title: &str) -> Vec<Vec<String>> {
    let table = section(name, text, title).into_iter().filter(|l| l.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        let line = line.replace("\\|", "\u{0}");
        let cells = line.trim_matches('|').split('|');
        cells.map(|c| c.trim().replace('\u{0}', "|")).collect()
    };
    let rows: Vec<_> = table.skip(2).map(cells).collect();
    assert!(!rows.is_empty(), "papers/{name}: the table of `{title}` is empty");
    rows
}

/// What stands between backticks.
fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Whether `module::function` or `module::Type::method` is in the source.
fn resolves(path: &str) -> bool {
    let parts: Vec<&str> = path.split("::").collect();
    (1..parts.len()).any(|n| {
        let file = source::module(&root().join("src"), &parts[..n]);
        file.is_some_and(|file| functions(&read(&file)).contains(&parts[n..].join("::")))
    })
}

#[test]
fn every_equation_links_to_functions_that_exist() {
    for (name, text) in notes() {
        for row in rows(&name, &text, "Equations") {
            let links = code(&row[1]);
            assert!(!links.is_empty(), "papers/{name}: no link for `{}`", row[0]);
            for link in links {
                assert!(resolves(link), "papers/{name}: there is no function `{link}`");
            }
        }
    }
}

#[test]
fn a_renamed_function_does_not_resolve() {
    for there in [
        "ops::gelu::GeluOp::gelu_backward",
        "ops::gelu::gelu_piece_backward", // inside `simd_fn!`
        "models::dvae::Dvae::tokens",
        "layers::init::depth_scaled",
    ] {
        assert!(resolves(there), "{there}");
    }
    for gone in [
        "ops::gelu::GeluOp::gelu_backwards",
        "ops::gelu::gelu_backward", // a method, not a function
        "ops::gelu",
        "models::dvae::Encoder::tokens",
        "models::vqvae::Dvae::tokens",
    ] {
        assert!(!resolves(gone), "{gone}");
    }
}

/// Notes give the module of each deviation first, so that a reader finds the other half.
#[test]
fn deviations_stand_in_the_source_and_in_a_note() {
    let mut in_source = BTreeMap::<String, usize>::new();
    for (module, file) in rust_files(&root().join("src")) {
        let found = read(&file).matches("Deviation:").count();
        if found > 0 {
            in_source.insert(module, found);
        }
    }
    let mut in_notes = BTreeMap::<String, usize>::new();
    for (name, text) in notes() {
        for bullet in section(&name, &text, "Deviations").into_iter().filter(|l| l.starts_with('*'))
        {
            let module = bullet.strip_prefix("* `").and_then(|rest| rest.split_once("`: "));
            let Some((module, _)) = module else {
                panic!("papers/{name}: a deviation starts with its module: {bullet}")
            };
            *in_notes.entry(module.to_string()).or_default() += 1;
        }
    }
    assert_eq!(in_source, in_notes, "deviations by module: source, notes");
}

#[test]
fn every_figure_has_its_scale_command_and_result() {
    for (name, text) in notes() {
        for row in rows(&name, &text, "Figures") {
            assert_eq!(row.len(), 4, "papers/{name}: {row:?}");
            assert!(row.iter().all(|cell| !cell.is_empty()), "papers/{name}: {row:?}");
            let commands = code(&row[2]);
            let not_run = row[3] == "not run";
            assert!(not_run || !commands.is_empty(), "papers/{name}: no command in {row:?}");
            for command in commands {
                exists(&name, command);
            }
        }
    }
}

/// Whether a command of a note can be given: its script, subcommand or test is there.
fn exists(note: &str, command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let found = match words[..] {
        ["cargo", "test", "--release", "--test", program, ref filter @ ..] => {
            let program = read(&root().join("tests").join(program).with_extension("rs"));
            let has_module = |f: &str| {
                f.strip_suffix("::").is_some_and(|m| program.contains(&format!("mod {m};")))
            };
            filter.first().is_none_or(|f| has_module(f) || has_test("tests", f))
        }
        ["cargo", "test", "--release", "--lib", filter] => has_test("src", filter),
        ["beit", command, ..] => {
            let help = Command::new(env!("CARGO_BIN_EXE_beit")).args([command, "--help"]).output();
            help.unwrap().status.success()
        }
        [script, ..] => root().join(script).is_file(),
        [] => false,
    };
    assert!(found, "papers/{note}: there is no `{command}`");
}

/// Whether a file below `folder` has a test of this name.
fn has_test(folder: &str, name: &str) -> bool {
    let files = rust_files(&root().join(folder));
    files.into_iter().any(|(_, file)| read(&file).contains(&format!("fn {name}(")))
}

#[test]
fn the_list_names_every_note() {
    let list = read(&root().join("papers/README.md"));
    for (name, _) in notes() {
        assert!(list.contains(&format!("({name})")), "papers/README.md does not name {name}");
    }
}
