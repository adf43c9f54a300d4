//! The modules of a crate, and where a path leads.

use std::collections::BTreeMap;

use crate::Result;
use crate::architecture::scan::{Child, Mention, Scan};
use crate::architecture::sources::Sources;

/// A crate: a library, or a program.
#[derive(Debug)]
pub(super) struct Tree {
    /// The package's folder, with the name of the program if it is one.
    pub(super) name: String,
    /// The root first.
    modules: Vec<Module>,
}

/// A module, in a file of its own or inline.
#[derive(Debug)]
struct Module {
    file: String,
    /// The names from the root to this module.
    path: Vec<String>,
    parent: usize,
    children: BTreeMap<String, usize>,
    scan: Scan,
}

/// A path, and the modules that it goes through up to the one that defines its last name.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) file: &'a str,
    pub(super) line: usize,
    pub(super) import: String,
    /// The room with the path; `None` in the root.
    pub(super) from: Option<&'a str>,
    /// The rooms on the way, without the root.
    pub(super) rooms: Vec<&'a str>,
    /// The path takes a name from the root that only a re-export puts there.
    pub(super) is_facade: bool,
    /// The crate that the path begins with, where that is another one.
    pub(super) other: Option<String>,
}

impl Tree {
    /// Reads each crate of the sources.
    pub(super) fn all(sources: &Sources) -> Result<Vec<Self>> {
        let trees = sources.paths().filter_map(|path| Some((name(path)?, path)));
        trees.map(|(name, root)| Self::read(sources, name, root)).collect()
    }

    fn read(sources: &Sources, name: String, root: &str) -> Result<Self> {
        let mut tree = Self { name, modules: Vec::new() };
        tree.add(sources, root, Vec::new(), 0, scan(sources, root)?)?;
        Ok(tree)
    }

    /// Adds a module and those below it.
    fn add(
        &mut self,
        sources: &Sources,
        file: &str,
        path: Vec<String>,
        parent: usize,
        mut scan: Scan,
    ) -> Result<usize> {
        let index = self.modules.len();
        let children = std::mem::take(&mut scan.children);
        let below = path.clone();
        let module =
            Module { file: file.to_owned(), path, parent, children: BTreeMap::new(), scan };
        self.modules.push(module);
        for Child { name, content } in children {
            let path = [below.as_slice(), std::slice::from_ref(&name)].concat();
            let (file, scan) = match content {
                Some(scan) => (file.to_owned(), scan),
                None => {
                    let root = &self.modules[0].file;
                    let file = file_of(sources, root, &path)
                        .ok_or_else(|| format!("{file}: module `{name}` has no file"))?;
                    let scan = self::scan(sources, &file)?;
                    (file, scan)
                }
            };
            let child = self.add(sources, &file, path, index, scan)?;
            self.modules[index].children.insert(name, child);
        }
        Ok(index)
    }

    /// Returns the top-level modules, in order.
    pub(super) fn rooms(&self) -> impl Iterator<Item = &str> {
        self.modules[0].children.keys().map(String::as_str)
    }

    /// Returns every path that leads out of its module, or to another crate.
    pub(super) fn found(&self) -> impl Iterator<Item = Found<'_>> {
        let modules = self.modules.iter().enumerate();
        modules.flat_map(move |(index, module)| {
            module.scan.mentions.iter().filter_map(move |mention| self.find(index, mention))
        })
    }

    fn find(&self, from: usize, mention: &Mention) -> Option<Found<'_>> {
        let module = &self.modules[from];
        let first = mention.path.first()?;
        let is_anchored = matches!(first.as_str(), "crate" | "self" | "super");
        let mut way = Vec::new();
        let mut other = None;
        if !(is_anchored || mention.is_use) || !self.follow(from, &mention.path, &mut way, DEPTH) {
            way.clear();
            other = Some(first.clone());
        }
        let is_facade = from != 0 && way.first() == Some(&0) && self.is_facade(from, mention);
        let mut rooms: Vec<&str> = way.iter().filter_map(|&index| self.room(index)).collect();
        rooms.dedup();
        let mut import = mention.path.join("::");
        if mention.is_glob {
            import += "::*";
        }
        let (file, line, from) = (module.file.as_str(), mention.line, self.room(from));
        Some(Found { file, line, import, from, rooms, is_facade, other })
    }

    /// Tells a path whose first name after the root is a re-export.
    fn is_facade(&self, from: usize, mention: &Mention) -> bool {
        let Some((start, rest)) = self.start(from, &mention.path) else { return false };
        let root = &self.modules[0];
        start == 0
            && rest.first().map_or(mention.is_glob, |name| {
                !root.children.contains_key(name)
                    && !root.scan.items.contains(name)
                    && (root.scan.names.contains_key(name) || !root.scan.globs.is_empty())
            })
    }

    /// Resolves `crate`, `self` and `super`; returns the module, and the rest of the path.
    fn start<'p>(&self, from: usize, path: &'p [String]) -> Option<(usize, &'p [String])> {
        let mut at = from;
        let mut rest = path;
        while let Some((first, more)) = rest.split_first() {
            match first.as_str() {
                "crate" => at = 0,
                "super" => at = self.modules[at].parent,
                "self" => {}
                name if rest.len() == path.len() => {
                    let module = &self.modules[at];
                    let names = &module.scan.names;
                    // A `use` does not find itself.
                    let is_known = module.children.contains_key(name)
                        || names.get(name).is_some_and(|paths| !paths.iter().any(|p| p == path));
                    return is_known.then_some((at, rest));
                }
                _ => break,
            }
            rest = more;
        }
        Some((at, rest))
    }

    /// Pushes the modules that a path goes through; returns `false` if it leaves the crate.
    fn follow(&self, from: usize, path: &[String], way: &mut Vec<usize>, depth: u32) -> bool {
        let Some((mut at, mut rest)) = self.start(from, path) else { return false };
        let Some(depth) = depth.checked_sub(1) else { return false };
        while let Some((name, more)) = rest.split_first() {
            way.push(at);
            let module = &self.modules[at];
            if let Some(&child) = module.children.get(name) {
                (at, rest) = (child, more);
                continue;
            }
            if module.scan.items.contains(name) {
                return true;
            }
            if let Some(paths) = module.scan.names.get(name) {
                let mut is_ours = false;
                for target in paths {
                    is_ours |= self.follow(at, &[target, more].concat(), way, depth);
                }
                return is_ours;
            }
            for glob in &module.scan.globs {
                let target = [glob.as_slice(), rest].concat();
                let mut further = Vec::new();
                if self.defines(at, glob, name) && self.follow(at, &target, &mut further, depth) {
                    way.extend(further);
                    return true;
                }
            }
            // A macro made it.
            return true;
        }
        way.push(at);
        true
    }

    /// Tells whether the module at a path has the name.
    fn defines(&self, from: usize, path: &[String], name: &str) -> bool {
        let mut way = Vec::new();
        let found = self.follow(from, path, &mut way, DEPTH).then(|| way.last()).flatten();
        found.is_some_and(|&index| {
            let module = &self.modules[index];
            module.children.contains_key(name)
                || module.scan.items.contains(name)
                || module.scan.names.contains_key(name)
        })
    }

    fn room(&self, index: usize) -> Option<&str> {
        self.modules[index].path.first().map(String::as_str)
    }
}

fn scan(sources: &Sources, file: &str) -> Result<Scan> {
    let text = sources.get(file).ok_or_else(|| format!("{file} is missing"))?;
    let parsed = syn::parse_file(text).map_err(|error| {
        let place = error.span().start();
        format!("{file}:{}: {error}", place.line)
    })?;
    Ok(Scan::of(&parsed.items))
}

/// The file of a module that is not inline: `a/b.rs` or `a/b/mod.rs`, from the root's folder.
fn file_of(sources: &Sources, root: &str, path: &[String]) -> Option<String> {
    let (folder, _) = root.rsplit_once('/')?;
    let stem = format!("{folder}/{}", path.join("/"));
    let files = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
    files.into_iter().find(|file| sources.get(file).is_some())
}

/// The name of the crate whose root is that file: `images` for `images/src/lib.rs`,
/// `examples crit` for `examples/src/bin/crit/main.rs`.
fn name(path: &str) -> Option<String> {
    let (package, file) = path.split_once("/src/")?;
    match file.split('/').collect::<Vec<_>>()[..] {
        ["lib.rs"] => Some(package.to_owned()),
        ["main.rs"] => Some(format!("{package} main")),
        ["bin", file] => Some(format!("{package} {}", file.strip_suffix(".rs")?)),
        ["bin", folder, "main.rs"] => Some(format!("{package} {folder}")),
        _ => None,
    }
}

/// Re-exports of re-exports are followed so far. Code that compiles has no endless ones.
const DEPTH: u32 = 16;
