//! The claims of ARCHITECTURE.md, checked against the source: which module may import which, that no files import one
//! another in a circle, and that the cores are pure.
//!
//! Only what ships is looked at: items under `#[cfg(test)]` are left out, and so are files that only they declare.

#![allow(clippy::unwrap_used)]

mod source;

use std::collections::{BTreeMap, BTreeSet};

use source::{Import, Source};

/// Parts of `std` that the cores may use.
const PURE_STD: [&str; 10] = [
    "borrow",
    "cmp",
    "collections",
    "fmt",
    "iter",
    "mem",
    "num",
    "ops",
    "sync::Arc",
    "time::Duration",
];

/// Crates that the cores may use: plain data and error types.
const PURE_CRATES: [&str; 3] = ["serde", "serde_json", "thiserror"];

/// Crates that live in one place each.
const CONFINED: [(&str, &str); 2] = [
    ("rusqlite", "src/store/sqlite/"),
    ("backoff", "src/api/retry.rs"),
];

/// What ARCHITECTURE.md allows: the rows of its table of modules, whose first cell is `` `src/<module>` `` and whose last
/// cell names the modules it may import.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string("ARCHITECTURE.md").unwrap();
    let mut allowed = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `src/")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let module = cells[0].trim_matches('`').trim_start_matches("src/");
        let modules = cells[cells.len() - 1].split(',').map(str::trim);
        let modules = modules
            .filter(|module| *module != "nothing")
            .map(|module| module.trim_matches('`').to_owned());
        allowed.insert(module.trim_end_matches(".rs").to_owned(), modules.collect());
    }
    assert!(
        allowed.len() > 8,
        "ARCHITECTURE.md has no table of modules: {allowed:?}"
    );
    allowed
}

#[test]
fn modules_import_only_what_the_architecture_allows() {
    let allowed = allowed();
    let source = Source::read();
    let mut wrong = Vec::new();
    for (file, imports) in source.files() {
        let Some(module) = Source::top_module(file) else {
            continue;
        };
        let modules = allowed
            .get(&module)
            .unwrap_or_else(|| panic!("ARCHITECTURE.md does not name src/{module}"));
        for other in imports
            .iter()
            .filter_map(|import| source.top_module_of(import))
        {
            if other != module && !modules.contains(&other) {
                wrong.push(format!("{file} imports {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for module in allowed.keys() {
        let known = source
            .files()
            .any(|(file, _)| Source::top_module(file).as_deref() == Some(module));
        assert!(
            known,
            "ARCHITECTURE.md names src/{module}, which does not exist"
        );
    }
}

#[test]
fn no_files_import_one_another_in_a_circle() {
    let source = Source::read();
    let graph: BTreeMap<String, BTreeSet<String>> = source
        .files()
        .map(|(file, imports)| {
            let targets = imports.iter().filter_map(|import| source.file_of(import));
            (
                file.to_owned(),
                targets.filter(|target| target != file).collect(),
            )
        })
        .collect();
    if let Some(circle) = circle(&graph) {
        panic!("files that import one another: {}", circle.join(" -> "));
    }
}

#[test]
fn the_cores_have_no_input_output_clock_or_randomness() {
    let source = Source::read();
    let core = |file: &str| file.starts_with("src/sync/") || file.starts_with("src/delivery/");
    let mut wrong = Vec::new();
    let mut files = 0;
    for (file, imports) in source.files().filter(|(file, _)| core(file)) {
        files += 1;
        for import in imports {
            if !is_pure(import) {
                wrong.push(format!("{file} uses {}", import.join("::")));
            }
        }
    }
    assert!(files > 10, "the cores were not found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn some_crates_stay_where_they_belong() {
    let source = Source::read();
    for (name, place) in CONFINED {
        let users: Vec<&str> = source
            .files()
            .filter(|(_, imports)| imports.iter().any(|import| import[0] == name))
            .map(|(file, _)| file)
            .collect();
        assert!(!users.is_empty(), "nobody uses {name}");
        for user in users {
            assert!(
                user.starts_with(place),
                "{user} uses {name}, which belongs to {place}"
            );
        }
    }
}

/// Whether a core may use this path. The clock is reached by a function called `now`, whatever its type.
fn is_pure(import: &Import) -> bool {
    let first = import[0].as_str();
    let path = import[1..].join("::");
    match first {
        "crate" => import.last().is_none_or(|last| last != "now"),
        "std" => PURE_STD
            .iter()
            .any(|pure| path == *pure || path.starts_with(&format!("{pure}::"))),
        _ => PURE_CRATES.contains(&first),
    }
}

/// Some circle of the graph, its first file repeated at its end.
fn circle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    let mut path = Vec::new();
    graph
        .keys()
        .find_map(|file| follow(graph, file, &mut path, &mut done))
}

fn follow(
    graph: &BTreeMap<String, BTreeSet<String>>,
    file: &str,
    path: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(start) = path.iter().position(|earlier| earlier == file) {
        let mut circle = path[start..].to_vec();
        circle.push(file.to_owned());
        return Some(circle);
    }
    if done.contains(file) {
        return None;
    }
    path.push(file.to_owned());
    for next in graph.get(file).into_iter().flatten() {
        if let Some(circle) = follow(graph, next, path, done) {
            return Some(circle);
        }
    }
    path.pop();
    done.insert(file.to_owned());
    None
}

#[test]
fn circles_are_found() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            graph
                .entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
        }
        graph
    };
    assert_eq!(circle(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    let found = circle(&graph(&[("a", "b"), ("b", "c"), ("c", "b")])).unwrap();
    assert_eq!(found, ["b", "c", "b"]);
}
