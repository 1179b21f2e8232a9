//! No circular dependencies between the modules of a crate.
//!
//! Every path that begins with `crate`, `self` or `super` is a dependency of the module that it stands in; names that a
//! module re-exports belong to where they come from. Modules are compared with their siblings: a folder and the files in it
//! may use each other. Tests are left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, UseTree};

/// Names of modules from the root of the crate, and of an item in the last one.
type Names = Vec<String>;

/// Checks every crate of the workspace in the current folder.
pub fn check() -> anyhow::Result<()> {
    let mut circles = Vec::new();
    for folder in crates()? {
        let source = Source::read(&folder.join("src"))?;
        circles.extend(source.circles().into_iter().map(|circle| format!("{}: {circle}", folder.display())));
    }
    match circles.is_empty() {
        true => Ok(()),
        false => bail!(
            "modules that depend on each other in a circle; move what they share below them\n{}",
            circles.join("\n")
        ),
    }
}

/// Folders that hold a package.
fn crates() -> anyhow::Result<Vec<PathBuf>> {
    let mut folders = vec![PathBuf::from(".")];
    for entry in fs::read_dir(".").context("the workspace cannot be listed")? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file() && path.join("src").is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

/// The modules of a crate and the paths in them.
#[derive(Default)]
struct Source {
    modules: BTreeSet<Names>,
    tests: BTreeSet<Names>,
    /// Module and name → the path that is re-exported under it.
    exports: BTreeMap<Names, Names>,
    /// Module and the path that stands in it.
    uses: BTreeSet<(Names, Names)>,
}

impl Source {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut source = Self::default();
        source.read_folder(folder, &[])?;
        Ok(source)
    }

    fn read_folder(&mut self, folder: &Path, module: &[String]) -> anyhow::Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("{} cannot be listed", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let inside = match name.as_str() {
                "lib" | "main" | "mod" => module.to_vec(),
                _ => [module, &[name]].concat(),
            };
            if path.is_dir() {
                self.read_folder(&path, &inside)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path)?;
                self.read_file(&text, inside).with_context(|| format!("{} cannot be parsed", path.display()))?;
            }
        }
        Ok(())
    }

    fn read_file(&mut self, text: &str, module: Names) -> anyhow::Result<()> {
        let file = syn::parse_file(text)?;
        let mut reader = Reader { source: self, module };
        reader.source.modules.insert(reader.module.clone());
        reader.visit_file(&file);
        Ok(())
    }

    /// The module in which the item at `path` is written.
    fn module_of(&self, path: &[String]) -> Names {
        let mut path = path.to_vec();
        // A name may be re-exported several times over.
        for _ in 0..8 {
            let depth = (0..=path.len()).rev().find(|&depth| self.modules.contains(&path[..depth])).unwrap_or(0);
            let target = path.get(..depth + 1).and_then(|name| self.exports.get(name));
            let Some(target) = target.filter(|target| **target != path[..depth + 1]) else {
                path.truncate(depth);
                break;
            };
            path = [target, &path[depth + 1..]].concat();
        }
        path
    }

    fn is_test(&self, module: &[String]) -> bool {
        (1..=module.len()).any(|depth| self.tests.contains(&module[..depth]))
    }

    /// Each circle as text, e.g. `a -> b -> a`.
    fn circles(&self) -> Vec<String> {
        // Parent module → sibling → the siblings that it uses.
        let mut graphs: BTreeMap<Names, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (module, path) in self.uses.iter().filter(|(module, _)| !self.is_test(module)) {
            let target = self.module_of(path);
            let shared = module.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (module.get(shared), target.get(shared)) {
                let graph = graphs.entry(module[..shared].to_vec()).or_default();
                graph.entry(from.clone()).or_default().insert(to.clone());
            }
        }
        let mut circles = Vec::new();
        for (parent, graph) in &graphs {
            let mut seen = BTreeSet::new();
            for start in graph.keys() {
                if let Some(circle) = circle_through(graph, start).filter(|_| !seen.contains(start)) {
                    seen.extend(circle.iter().cloned());
                    circles.push(format!("{}{}", prefix(parent), circle.join(" -> ")));
                }
            }
        }
        circles
    }
}

fn prefix(parent: &[String]) -> String {
    if parent.is_empty() { String::new() } else { format!("in {}: ", parent.join("::")) }
}

/// A shortest circle from `start` back to it.
fn circle_through(graph: &BTreeMap<String, BTreeSet<String>>, start: &String) -> Option<Vec<String>> {
    let mut paths = VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(path) = paths.pop_front() {
        for to in path.last().and_then(|last| graph.get(*last)).into_iter().flatten() {
            let longer = [path.as_slice(), &[to]].concat();
            if to == start {
                return Some(longer.into_iter().cloned().collect());
            }
            if seen.insert(to) {
                paths.push_back(longer);
            }
        }
    }
    None
}

/// Collects the paths of a file.
struct Reader<'a> {
    source: &'a mut Source,
    module: Names,
}

impl Reader<'_> {
    /// From the root of the crate, if the path says where it begins.
    fn absolute(&self, path: &[String]) -> Option<Names> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([&self.module, rest].concat()),
            "super" => {
                let ups = path.iter().take_while(|name| *name == "super").count();
                let parent = self.module.get(..self.module.len().checked_sub(ups)?)?;
                Some([parent, &path[ups..]].concat())
            }
            _ => None,
        }
    }

    fn note(&mut self, path: &[String]) {
        if let Some(path) = self.absolute(path) {
            self.source.uses.insert((self.module.clone(), path));
        }
    }

    /// Every path of a `use`, and the name that it brings into the module.
    fn flatten(&mut self, tree: &UseTree, before: &[String], found: &mut Vec<(String, Names)>) {
        let with = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.flatten(&path.tree, &with(&path.ident), found),
            UseTree::Name(name) if name.ident == "self" => found.push((String::new(), before.to_vec())),
            UseTree::Name(name) => found.push((name.ident.to_string(), with(&name.ident))),
            UseTree::Rename(rename) => found.push((rename.rename.to_string(), with(&rename.ident))),
            UseTree::Glob(_) => found.push((String::new(), before.to_vec())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.flatten(tree, before, found)),
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        if is_test(&item.attrs) {
            self.source.tests.insert(self.module.clone());
        } else if item.content.is_some() {
            self.source.modules.insert(self.module.clone());
        }
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let mut found = Vec::new();
        self.flatten(&item.tree, &[], &mut found);
        for (name, path) in found {
            self.note(&path);
            // `pub use child::Name`: a path that begins in the module itself.
            let from = self.absolute(&path).unwrap_or_else(|| [self.module.as_slice(), &path].concat());
            if !matches!(item.vis, syn::Visibility::Inherited) && !name.is_empty() {
                self.source.exports.insert([self.module.as_slice(), &[name]].concat(), from);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&names);
        visit::visit_path(self, path);
    }

    /// Of a macro's tokens, paths that begin with `crate`.
    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let tokens = item.tokens.to_string();
        for path in tokens.split("crate ::").skip(1) {
            let names = path.split("::").map(str::trim).take_while(|name| {
                !name.is_empty() && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
            });
            let names: Names = std::iter::once("crate").chain(names).map(str::to_owned).collect();
            self.note(&names);
        }
        visit::visit_macro(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let mut source = Source::default();
        for (module, text) in files {
            let module = module.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect();
            source.read_file(text, module).unwrap();
        }
        source.circles()
    }

    #[test]
    fn circles_are_found_through_uses_paths_and_re_exports() {
        let root = ("", "mod a; mod b; mod c; pub use c::Thing;");
        let one_way =
            [root, ("a", "use crate::b::B;"), ("b", "use crate::Thing; pub struct B;"), ("c", "pub struct Thing;")];
        assert!(circles(&one_way).is_empty());
        let back =
            [root, ("a", "use crate::b::B;"), ("b", "fn f() -> crate::Thing { todo!() }"), ("c", "use super::a;")];
        assert_eq!(circles(&back), ["a -> b -> c -> a"]);
        let in_macro = [root, ("a", "fn f() { println!(\"{}\", crate::b::B) }"), ("b", "use crate::a::{self, A};")];
        assert_eq!(circles(&in_macro), ["a -> b -> a"]);
    }

    #[test]
    fn a_folder_and_its_files_may_use_each_other_but_not_in_a_circle_of_files() {
        let parent = ("a", "mod x; mod y; use x::X; pub struct A;");
        assert!(circles(&[parent, ("a::x", "use super::A; use super::y::Y;"), ("a::y", "use super::A;")]).is_empty());
        let circle = [parent, ("a::x", "use super::y::Y;"), ("a::y", "use super::x::X;")];
        assert_eq!(circles(&circle), ["in a: x -> y -> x"]);
    }

    #[test]
    fn tests_are_left_out() {
        let test = "#[cfg(test)] mod tests { use crate::b::B; }";
        assert!(circles(&[("a", test), ("b", "use crate::a::A;")]).is_empty());
    }
}
