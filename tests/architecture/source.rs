//! The source as a graph: files, the paths they use, and the files that these lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemUse, UseTree, Visibility};

/// A path that a file uses, from its crate on: `["crate", "store", "Store"]` or `["std", "fmt"]`.
pub type Import = Vec<String>;

/// The modules of the library, by their paths (`store::sqlite::rows`).
pub struct Source {
    modules: BTreeMap<String, Module>,
}

struct Module {
    file: String,
    imports: BTreeSet<Import>,
    /// Names that the module re-exports, with the paths they come from.
    exports: BTreeMap<String, Import>,
}

impl Source {
    /// Reads the library from `src/lib.rs` on.
    pub fn read() -> Self {
        let mut source = Self {
            modules: BTreeMap::new(),
        };
        source.read_module("", Path::new("src/lib.rs"));
        source
    }

    fn read_module(&mut self, module: &str, file: &Path) {
        let text = std::fs::read_to_string(file).unwrap();
        let parsed =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut uses = Uses {
            module,
            imports: BTreeSet::new(),
            exports: BTreeMap::new(),
            children: Vec::new(),
        };
        uses.visit_file(&parsed);
        let Uses {
            imports,
            exports,
            children,
            ..
        } = uses;
        let name = file.display().to_string();
        self.modules.insert(
            module.to_owned(),
            Module {
                file: name,
                imports,
                exports,
            },
        );
        let stem = file.file_stem().unwrap().to_str().unwrap();
        let folder = match stem {
            "lib" | "mod" => file.parent().unwrap().to_owned(),
            _ => file.with_extension(""),
        };
        for child in children {
            let path = [
                folder.join(format!("{child}.rs")),
                folder.join(&child).join("mod.rs"),
            ];
            let path = path.iter().find(|path| path.exists());
            let path = path.unwrap_or_else(|| panic!("{child} of {} is not found", file.display()));
            self.read_module(&join(module, &child), path);
        }
    }

    /// Every file with the paths it uses.
    pub fn files(&self) -> impl Iterator<Item = (&str, &BTreeSet<Import>)> {
        self.modules
            .values()
            .map(|module| (module.file.as_str(), &module.imports))
    }

    /// The top-level module of a file: the folder or file directly under `src`; none for `src/lib.rs`.
    pub fn top_module(file: &str) -> Option<String> {
        let rest = file.strip_prefix("src/")?;
        let module = rest.split('/').next()?.trim_end_matches(".rs");
        (module != "lib").then(|| module.to_owned())
    }

    /// The top-level module that a path leads to.
    pub fn top_module_of(&self, import: &Import) -> Option<String> {
        Self::top_module(&self.file_of(import)?)
    }

    /// The file that defines what a path names, re-exports followed.
    pub fn file_of(&self, import: &Import) -> Option<String> {
        if import.first()? != "crate" {
            return None;
        }
        let path = &import[1..];
        let longest = (0..=path.len())
            .rev()
            .find(|n| self.modules.contains_key(&path[..*n].join("::")))?;
        let module = &self.modules[&path[..longest].join("::")];
        match path.get(longest).and_then(|name| module.exports.get(name)) {
            Some(export) if export != import => self.file_of(export),
            _ => Some(module.file.clone()),
        }
    }
}

/// Collects what a file uses.
struct Uses<'a> {
    module: &'a str,
    imports: BTreeSet<Import>,
    exports: BTreeMap<String, Import>,
    children: Vec<String>,
}

impl Uses<'_> {
    /// `path` from its crate on; `None` for a path that begins in the module itself.
    fn absolute(&self, path: &[String]) -> Option<Import> {
        let (first, rest) = path.split_first()?;
        let mut base: Vec<&str> = self
            .module
            .split("::")
            .filter(|part| !part.is_empty())
            .collect();
        let mut rest = rest;
        match first.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                base.pop()?;
                while let Some((next, further)) =
                    rest.split_first().filter(|(next, _)| *next == "super")
                {
                    debug_assert_eq!(next, "super");
                    base.pop()?;
                    rest = further;
                }
            }
            _ => return Some(path.to_vec()),
        }
        let base = base.into_iter().map(str::to_owned);
        Some(
            std::iter::once("crate".to_owned())
                .chain(base)
                .chain(rest.iter().cloned())
                .collect(),
        )
    }

    fn use_tree(&mut self, tree: &UseTree, prefix: &mut Vec<String>, exported: bool) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.use_tree(&path.tree, prefix, exported);
                prefix.pop();
            }
            UseTree::Group(group) => group
                .items
                .iter()
                .for_each(|tree| self.use_tree(tree, prefix, exported)),
            UseTree::Name(name) => self.used(
                prefix,
                &name.ident.to_string(),
                &name.ident.to_string(),
                exported,
            ),
            UseTree::Rename(name) => self.used(
                prefix,
                &name.ident.to_string(),
                &name.rename.to_string(),
                exported,
            ),
            UseTree::Glob(_) => self.used(prefix, "self", "*", exported),
        }
    }

    fn used(&mut self, prefix: &[String], name: &str, known_as: &str, exported: bool) {
        let mut path = prefix.to_vec();
        if name != "self" {
            path.push(name.to_owned());
        }
        // `use sibling::Thing` in a `mod.rs` begins in the module itself.
        if self.children.contains(&path[0]) {
            path.insert(0, "self".to_owned());
        }
        let Some(import) = self.absolute(&path) else {
            return;
        };
        if exported {
            self.exports.insert(known_as.to_owned(), import);
        } else {
            self.imports.insert(import);
        }
    }
}

impl<'ast> Visit<'ast> for Uses<'_> {
    fn visit_file(&mut self, file: &'ast syn::File) {
        let declared = file.items.iter().filter_map(|item| match item {
            Item::Mod(module) if module.content.is_none() && !is_test(&module.attrs) => {
                Some(module.ident.to_string())
            }
            _ => None,
        });
        self.children = declared.collect();
        visit::visit_file(self, file);
    }

    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let exported = !matches!(item.vis, Visibility::Inherited);
        self.use_tree(&item.tree, &mut Vec::new(), exported);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        let begins = segments[0].as_str();
        if segments.len() > 1
            && matches!(
                begins,
                "crate" | "super" | "std" | "tokio" | "rusqlite" | "tracing"
            )
        {
            self.imports.extend(self.absolute(&segments));
        }
        // A clock is read by a call such as `Timestamp::now()`.
        if segments.len() > 1 && segments.last().is_some_and(|last| last == "now") {
            self.imports.insert(vec![
                "crate".to_owned(),
                segments[segments.len() - 2].clone(),
                "now".to_owned(),
            ]);
        }
        visit::visit_path(self, path);
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .meta
                .require_list()
                .is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

fn join(module: &str, child: &str) -> String {
    if module.is_empty() {
        child.to_owned()
    } else {
        format!("{module}::{child}")
    }
}
