//! What is wrong with a set of imports: one that goes up or beside, one that goes around.

use super::source::{Crate, Import};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The floors from the top down, as the table of `lib.rs` under "How it hangs together" has them: the names
/// in the first cell of each row. Modules of one row do not see each other.
pub fn floors(lib: &str) -> Vec<Vec<String>> {
    let section = lib.lines().skip_while(|l| !l.starts_with("//! # How it hangs together")).skip(1);
    let section = section.take_while(|l| !l.starts_with("//! # "));
    let rows = section.filter_map(|l| l.strip_prefix("//! | ")?.split('|').next());
    let name = |link: &str| link.trim_start_matches("mod@").into();
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(name).collect();
    rows.map(names).filter(|names: &Vec<String>| !names.is_empty()).collect()
}

/// The top-level module of a file.
fn floor(file: &str) -> &str {
    file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// One line for each module that no floor has, each import that goes up or beside, and each circle.
pub fn complaints(all: &Crate, imports: &[Import], floors: &[Vec<String>]) -> Vec<String> {
    let rank: BTreeMap<&str, usize> = (floors.iter().enumerate())
        .flat_map(|(i, row)| row.iter().map(move |name| (name.as_str(), i)))
        .collect();
    let modules: BTreeSet<&str> = all.modules[0].children.keys().map(String::as_str).collect();
    let unknown = modules.iter().filter(|name| !rank.contains_key(**name));
    let mut found: Vec<String> =
        unknown.map(|name| format!("lib.rs lists no floor for module {name}")).collect();
    let gone = rank.keys().filter(|name| !modules.contains(**name));
    found.extend(gone.map(|name| format!("lib.rs lists a floor {name}, which is no module")));
    for Import { from, to, line } in imports.iter().filter(|i| i.from != "lib.rs") {
        let (above, below) = (floor(from), floor(to));
        if let (Some(a), Some(b)) = (rank.get(above), rank.get(below))
            && above != below
            && a >= b
        {
            let way = if a == b { "beside" } else { "above" };
            found.push(format!("src/{from}:{line} imports src/{to}: {below} lies {way} {above}"));
        }
        if to == "lib.rs" {
            found.push(format!("src/{from}:{line} names an item of lib.rs, which has none"));
        }
    }
    found.extend(circles(all, imports));
    found
}

/// The shortest circle in each knot of each folder: among the modules in it, each with all that lies
/// below it, and the folder's own file.
fn circles(all: &Crate, imports: &[Import]) -> Vec<String> {
    let mut found = Vec::new();
    let folders = (1..all.modules.len()).filter(|&m| !all.modules[m].children.is_empty());
    for folder in folders {
        let unit: BTreeMap<&str, usize> = (0..all.modules.len())
            .filter_map(|m| Some((all.modules[m].file.as_str(), part_of(all, folder, m)?)))
            .collect();
        let mut edges: BTreeMap<usize, BTreeMap<usize, &Import>> = BTreeMap::new();
        for import in imports {
            if let (Some(&a), Some(&b)) = (unit.get(&*import.from), unit.get(&*import.to))
                && a != b
            {
                edges.entry(a).or_default().entry(b).or_insert(import);
            }
        }
        let mut nodes: BTreeSet<usize> = edges.keys().copied().collect();
        let shortest = |nodes: &BTreeSet<usize>| {
            nodes.iter().filter_map(|&n| around(&edges, nodes, n)).min_by_key(Vec::len)
        };
        while let Some(circle) = shortest(&nodes) {
            nodes.remove(&unit[&*circle[0].from]);
            let step = |i: &&Import| format!("src/{}:{} imports src/{}", i.from, i.line, i.to);
            found.push(format!(
                "circle: {}",
                circle.iter().map(step).collect::<Vec<_>>().join(", ")
            ));
        }
    }
    found
}

/// The child of `folder` that module `m` lies in; the folder itself for its own file.
fn part_of(all: &Crate, folder: usize, mut m: usize) -> Option<usize> {
    if m == folder {
        return Some(folder);
    }
    // A module inside a file belongs to the file.
    let file = &all.modules[folder].file;
    while m != 0 {
        let parent = all.modules[m].parent;
        if parent == folder {
            return Some(if all.modules[m].file == *file { folder } else { m });
        }
        m = parent;
    }
    None
}

/// The shortest way from a node back to itself.
fn around<'a>(
    edges: &BTreeMap<usize, BTreeMap<usize, &'a Import>>,
    nodes: &BTreeSet<usize>,
    start: usize,
) -> Option<Vec<&'a Import>> {
    let mut ways: BTreeMap<usize, Vec<&Import>> = BTreeMap::new();
    let mut queue = VecDeque::from([(start, Vec::new())]);
    while let Some((at, way)) = queue.pop_front() {
        for (&next, &import) in edges.get(&at).into_iter().flatten() {
            let mut longer: Vec<&Import> = way.clone();
            longer.push(import);
            if next == start {
                return Some(longer);
            }
            if nodes.contains(&next) && !ways.contains_key(&next) {
                ways.insert(next, longer.clone());
                queue.push_back((next, longer));
            }
        }
    }
    None
}
