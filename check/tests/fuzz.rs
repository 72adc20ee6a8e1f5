//! Right gradients are never called wrong, and wrong ones never pass where the report says it could see.
//!
//! Families of functions with random parameters ([`case::Family`]), each function once with its right
//! gradient and once with a wrong one: one element off by a factor between 1e-7 and 1, of the wrong sign or
//! missing, or a mistake of the family's own. A table is printed before anything is asserted.
//!
//! * `BEIT_FUZZ=200000`: right functions in all, and as many wrong ones;
//! * `BEIT_SEED=7`: other parameters;
//! * `BEIT_FUZZ_FAMILY=relu`: only families with this in their name;
//! * `BEIT_FUZZ_TABLE=check/tests/fuzz/table.md`: the table goes to this file, too.

#[path = "fuzz/bumps.rs"]
mod bumps;
#[path = "fuzz/cancelling.rs"]
mod cancelling;
#[path = "fuzz/case.rs"]
mod case;
#[path = "fuzz/deep.rs"]
mod deep;
#[path = "fuzz/kinks.rs"]
mod kinks;
#[path = "fuzz/kinks_at.rs"]
mod kinks_at;
#[path = "fuzz/l1.rs"]
mod l1;
#[path = "fuzz/layers.rs"]
mod layers;
#[path = "fuzz/precision.rs"]
mod precision;
#[path = "fuzz/scales.rs"]
mod scales;
#[path = "fuzz/smooth.rs"]
mod smooth;
#[path = "fuzz/sound.rs"]
mod sound;
#[path = "fuzz/steps.rs"]
mod steps;
#[path = "fuzz/tally.rs"]
mod tally;
#[path = "fuzz/twin.rs"]
mod twin;
#[path = "fuzz/waves.rs"]
mod waves;
#[path = "fuzz/zeros.rs"]
mod zeros;

use case::{Draw, Family};
use std::env::var;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope};
use tally::{Row, Tally};

/// Right functions, and as many wrong ones, where no variable says otherwise.
const FUNCTIONS: usize = 4000;
/// Of smooth functions so many may be inconclusive.
const OPEN: f64 = 0.02;

fn families() -> Vec<Family> {
    let all = [
        smooth::families(),
        layers::families(),
        waves::families(),
        bumps::families(),
        kinks::families(),
        kinks_at::families(),
        l1::families(),
        steps::families(),
        scales::families(),
        cancelling::families(),
        precision::families(),
        deep::families(),
        zeros::families(),
    ];
    let only = var("BEIT_FUZZ_FAMILY").unwrap_or_default();
    all.into_iter().flatten().filter(|f| f.name.contains(&only)).collect()
}

/// The number in a variable of the environment.
fn number(name: &str, default: usize) -> usize {
    match var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, no number")),
        Err(_) => default,
    }
}

/// Both twins of so many functions of a family.
fn row(family: &Family, seed: usize, functions: usize) -> Row {
    let mut row = Row::new(family);
    for trial in 0..functions {
        let draw = || Draw::new(seed, family.name, trial);
        row.right(trial, twin::right(&(family.make)(&mut draw())));
        if let Some(judged) = twin::wrong(family, draw()) {
            row.wrong(trial, judged);
        }
    }
    row
}

/// The rows of all families, in order, from as many threads as there are cores.
fn rows(families: &[Family], seed: usize, functions: usize) -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let work = || {
        let take = || next.fetch_add(1, Ordering::Relaxed);
        let mine = std::iter::repeat_with(take).take_while(|i| *i < families.len());
        mine.map(|i| (i, row(&families[i], seed, functions))).collect::<Vec<_>>()
    };
    let mut all = scope(|s| {
        let threads = available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| s.spawn(work)).collect();
        let parts = threads.into_iter().map(|t| t.join().expect("a family panics"));
        parts.flatten().collect::<Vec<_>>()
    });
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, row)| row).collect()
}

#[test]
fn right_gradients_pass_and_wrong_ones_do_not() {
    let families = families();
    let (all, seed) = (number("BEIT_FUZZ", FUNCTIONS), number("BEIT_SEED", 1));
    let tally = Tally::new(rows(&families, seed, all.div_ceil(families.len())), seed);
    println!("{tally}\n{}", tally.examples());
    if let Ok(path) = var("BEIT_FUZZ_TABLE") {
        std::fs::write(&path, tally.to_string()).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
    let sum = tally.sum();
    let mut wrongs = Vec::new();
    if sum.right.fail > 0 {
        wrongs.push(format!("{} right gradients are called wrong", sum.right.fail));
    }
    if sum.wrong.seen > 0 {
        wrongs.push(format!("{} wrong gradients pass above the stated resolution", sum.wrong.seen));
    }
    let smooth = tally.smooth();
    let open = smooth.right.open as f64 / smooth.right.total().max(1) as f64;
    if open > OPEN {
        wrongs.push(format!("{:.1} % of the smooth functions are inconclusive", 100.0 * open));
    }
    assert!(wrongs.is_empty(), "{}", wrongs.join("; "));
}

#[test]
fn there_are_families_enough() {
    assert!(families().len() >= 40 || var("BEIT_FUZZ_FAMILY").is_ok());
}
