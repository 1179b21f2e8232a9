//! Check for circular dependencies between the modules of a crate.
//!
//! Every path that starts with `crate`, `self` or `super` is a dependency of the module that contains it; re-exported
//! names belong to the module that defines them. Cycles are sought among siblings: a folder and the files in it may use
//! each other. Tests are ignored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, UseTree};

/// Path from the root of the crate to a module or an item.
type Names = Vec<String>;

/// Checks every crate of the workspace in the current folder.
///
/// # Errors
///
/// If there is a cycle, or a file cannot be parsed.
pub fn check() -> anyhow::Result<()> {
    let mut cycles = Vec::new();
    for folder in crates()? {
        let source = Source::read(&folder.join("src"))?;
        cycles.extend(source.cycles().into_iter().map(|cycle| format!("{}: {cycle}", folder.display())));
    }
    match cycles.is_empty() {
        true => Ok(()),
        false => bail!(
            "circular dependencies between modules; move their shared items to a lower module\n{}",
            cycles.join("\n")
        ),
    }
}

/// Folders of the packages.
fn crates() -> anyhow::Result<Vec<PathBuf>> {
    let mut folders = vec![PathBuf::from(".")];
    for entry in fs::read_dir(".").context("cannot list the workspace")? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file() && path.join("src").is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

/// Modules of a crate with the paths in them.
#[derive(Default)]
struct Source {
    modules: BTreeSet<Names>,
    tests: BTreeSet<Names>,
    /// Module and name → the path that is re-exported under this name.
    exports: BTreeMap<Names, Names>,
    /// Module and a path in it.
    uses: BTreeSet<(Names, Names)>,
}

impl Source {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut source = Self::default();
        source.read_folder(folder, &[])?;
        Ok(source)
    }

    fn read_folder(&mut self, folder: &Path, module: &[String]) -> anyhow::Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
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
                self.read_file(&text, inside).with_context(|| format!("cannot parse {}", path.display()))?;
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

    /// Module that defines the item at `path`.
    fn module_of(&self, path: &[String]) -> Names {
        let mut path = path.to_vec();
        // A name may be re-exported through several modules.
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

    /// Each cycle as text, e.g. `a -> b -> a`.
    fn cycles(&self) -> Vec<String> {
        // Parent module → child → the siblings that the child uses.
        let mut graphs: BTreeMap<Names, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (module, path) in self.uses.iter().filter(|(module, _)| !self.is_test(module)) {
            let target = self.module_of(path);
            let shared = module.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (module.get(shared), target.get(shared)) {
                let graph = graphs.entry(module[..shared].to_vec()).or_default();
                graph.entry(from.clone()).or_default().insert(to.clone());
            }
        }
        let mut cycles = Vec::new();
        for (parent, graph) in &graphs {
            let mut seen = BTreeSet::new();
            for start in graph.keys() {
                if let Some(cycle) = cycle_through(graph, start).filter(|_| !seen.contains(start)) {
                    seen.extend(cycle.iter().cloned());
                    cycles.push(format!("{}{}", prefix(parent), cycle.join(" -> ")));
                }
            }
        }
        cycles
    }
}

fn prefix(parent: &[String]) -> String {
    if parent.is_empty() { String::new() } else { format!("in {}: ", parent.join("::")) }
}

/// A shortest cycle through `start`.
fn cycle_through(graph: &BTreeMap<String, BTreeSet<String>>, start: &String) -> Option<Vec<String>> {
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

/// Visitor that collects the paths in a file.
struct Reader<'a> {
    source: &'a mut Source,
    module: Names,
}

impl Reader<'_> {
    /// The path from the root of the crate, if `path` starts with `crate`, `self` or `super`.
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

    /// Collects the paths in a `use`, each with the name that it imports.
    fn flatten(&mut self, tree: &UseTree, before: &[String], imports: &mut Vec<(String, Names)>) {
        let with = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.flatten(&path.tree, &with(&path.ident), imports),
            UseTree::Name(name) if name.ident == "self" => imports.push((String::new(), before.to_vec())),
            UseTree::Name(name) => imports.push((name.ident.to_string(), with(&name.ident))),
            UseTree::Rename(rename) => imports.push((rename.rename.to_string(), with(&rename.ident))),
            UseTree::Glob(_) => imports.push((String::new(), before.to_vec())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.flatten(tree, before, imports)),
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
        let mut imports = Vec::new();
        self.flatten(&item.tree, &[], &mut imports);
        for (name, path) in imports {
            self.note(&path);
            // The path in `pub use child::Name` is relative to the module itself.
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

    /// Collects paths that start with `crate` from the tokens of a macro.
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

    fn cycles(files: &[(&str, &str)]) -> Vec<String> {
        let mut source = Source::default();
        for (module, text) in files {
            let module = module.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect();
            source.read_file(text, module).unwrap();
        }
        source.cycles()
    }

    #[test]
    fn cycles_are_found_through_uses_paths_and_re_exports() {
        let root = ("", "mod a; mod b; mod c; pub use c::Thing;");
        let one_way =
            [root, ("a", "use crate::b::B;"), ("b", "use crate::Thing; pub struct B;"), ("c", "pub struct Thing;")];
        assert!(cycles(&one_way).is_empty());
        let back =
            [root, ("a", "use crate::b::B;"), ("b", "fn f() -> crate::Thing { crate::Thing }"), ("c", "use super::a;")];
        assert_eq!(cycles(&back), ["a -> b -> c -> a"]);
        let in_macro = [root, ("a", "fn f() { println!(\"{}\", crate::b::B) }"), ("b", "use crate::a::{self, A};")];
        assert_eq!(cycles(&in_macro), ["a -> b -> a"]);
    }

    #[test]
    fn a_folder_and_its_files_may_use_each_other_but_not_in_a_cycle_of_files() {
        let parent = ("a", "mod x; mod y; use x::X; pub struct A;");
        assert!(cycles(&[parent, ("a::x", "use super::A; use super::y::Y;"), ("a::y", "use super::A;")]).is_empty());
        let cycle = [parent, ("a::x", "use super::y::Y;"), ("a::y", "use super::x::X;")];
        assert_eq!(cycles(&cycle), ["in a: x -> y -> x"]);
    }

    #[test]
    fn tests_are_ignored() {
        let test = "#[cfg(test)] mod tests { use crate::b::B; }";
        assert!(cycles(&[("a", test), ("b", "use crate::a::A;")]).is_empty());
    }
}
