//! The names, imports and child modules in the syntax of one module.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// A path in the source, with its line.
#[derive(Clone, Debug)]
pub(super) struct Mention {
    pub(super) path: Vec<String>,
    pub(super) line: usize,
    /// The path ends in `::*`.
    pub(super) is_glob: bool,
    /// The path stands in a `use`, so that its first name may be a module or a name in scope.
    pub(super) is_use: bool,
}

/// A module that is declared in another.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) name: String,
    /// The content of `mod name { ... }`; `None` if a file has it.
    pub(super) content: Option<Scan>,
}

/// The content of a module.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) children: Vec<Child>,
    /// The names of the items that are defined in the module.
    pub(super) items: BTreeSet<String>,
    /// Each imported name, with the paths that it stands for.
    pub(super) names: BTreeMap<String, Vec<Vec<String>>>,
    /// The paths of imports that end in `::*`.
    pub(super) globs: Vec<Vec<String>>,
    /// Every path that may lead to another module.
    pub(super) mentions: Vec<Mention>,
}

impl Scan {
    /// Scans the items of a module.
    pub(super) fn of(items: &[Item]) -> Self {
        let mut scan = Self::default();
        for item in items {
            scan.item(item);
        }
        scan
    }

    fn item(&mut self, item: &Item) {
        if attributes(item).iter().any(is_for_tests) {
            return;
        }
        match item {
            Item::Mod(module) => {
                let content = module.content.as_ref().map(|(_, items)| Self::of(items));
                self.children.push(Child { name: plain(&module.ident), content });
            }
            Item::Use(item) => {
                for (name, mention) in leaves(&item.tree) {
                    match name {
                        Some(name) => {
                            self.names.entry(name).or_default().push(mention.path.clone());
                        }
                        None if mention.is_glob => self.globs.push(mention.path.clone()),
                        None => {}
                    }
                    self.mentions.push(mention);
                }
            }
            _ => {
                self.items.extend(defined(item));
                let mut paths = Paths(&mut self.mentions);
                paths.visit_item(item);
            }
        }
    }
}

/// Collects the paths below an item.
struct Paths<'a>(&'a mut Vec<Mention>);

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !attributes(item).iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !function.attrs.iter().any(is_for_tests) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if !attribute.path().is_ident("doc") {
            visit::visit_attribute(self, attribute);
        }
    }

    /// A visibility as `pub(in crate::room)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.0.extend(leaves(&item.tree).into_iter().map(|(_, mention)| mention));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|segment| plain(&segment.ident)).collect();
        if let Some(first) = path.segments.first() {
            self.push(names, first.ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(&call.tokens);
    }

    /// The tokens of an attribute may hold paths: `#[command(parser = crate::room::parse)]`.
    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.tokens(&list.tokens);
    }
}

impl Paths<'_> {
    fn push(&mut self, path: Vec<String>, line: usize) {
        if path.len() > 1 {
            self.0.push(Mention { path, line, is_glob: false, is_use: false });
        }
    }

    /// Finds the paths in tokens that are not parsed, because a macro gets them.
    fn tokens(&mut self, tokens: &TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut colons) = (0, 0);
        for token in tokens.clone() {
            match &token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.push(std::mem::take(&mut path), line);
                        line = ident.span().start().line;
                    }
                    path.push(plain(ident));
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => {
                    let is_tree = colons == 2 && !path.is_empty();
                    if is_tree {
                        // `use crate::{a, b}` inside of a macro.
                        self.group(&path, line, group.stream());
                    } else {
                        self.tokens(&group.stream());
                    }
                }
                _ => {}
            }
            self.push(std::mem::take(&mut path), line);
            colons = 0;
        }
        self.push(path, line);
    }

    /// Adds each path of `start::{...}`.
    fn group(&mut self, start: &[String], line: usize, tokens: TokenStream) {
        let mut found = Vec::new();
        Paths(&mut found).tokens(&tokens);
        let starts = tokens.into_iter().filter_map(|token| match token {
            TokenTree::Ident(ident) => Some(vec![plain(&ident)]),
            _ => None,
        });
        for path in found.into_iter().map(|mention| mention.path).chain(starts) {
            self.push([start, &path].concat(), line);
        }
    }
}

/// Returns the paths of a `use`, each with the name that it brings into scope.
fn leaves(tree: &UseTree) -> Vec<(Option<String>, Mention)> {
    let mut found = Vec::new();
    walk(tree, &[], 0, &mut found);
    found
}

/// Adds the paths below `start`, whose last name stands in `line`.
fn walk(tree: &UseTree, start: &[String], line: usize, found: &mut Vec<(Option<String>, Mention)>) {
    let mention = |ident: &Ident| {
        let is_self = ident == "self" && !start.is_empty();
        let last = if is_self { None } else { Some(plain(ident)) };
        let path: Vec<String> = start.iter().cloned().chain(last).collect();
        let name = path.last().cloned();
        let line = ident.span().start().line;
        (name, Mention { path, line, is_glob: false, is_use: true })
    };
    match tree {
        UseTree::Path(next) => {
            let path = [start, &[plain(&next.ident)]].concat();
            walk(&next.tree, &path, next.ident.span().start().line, found);
        }
        UseTree::Name(name) => found.push(mention(&name.ident)),
        UseTree::Rename(name) => {
            found.push((Some(plain(&name.rename)), mention(&name.ident).1));
        }
        UseTree::Glob(_) => {
            let path = start.to_vec();
            found.push((None, Mention { path, line, is_glob: true, is_use: true }));
        }
        UseTree::Group(group) => {
            group.items.iter().for_each(|tree| walk(tree, start, line, found));
        }
    }
}

/// Returns the names that an item defines. Those that a macro makes are not seen.
fn defined(item: &Item) -> Vec<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::ExternCrate(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        Item::Macro(item) => match &item.ident {
            Some(ident) => ident,
            None => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    vec![plain(name)]
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Tells `#[cfg(test)]` and `#[cfg(doctest)]`, alone or in an `all`.
fn is_for_tests(attribute: &Attribute) -> bool {
    fn names_test(tokens: TokenStream) -> bool {
        let mut after_not = false;
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(ident) => {
                after_not = ident == "not";
                ident == "test" || ident == "doctest"
            }
            TokenTree::Group(group) => !after_not && names_test(group.stream()),
            _ => false,
        })
    }
    let is_cfg = attribute.path().is_ident("cfg");
    is_cfg && attribute.meta.require_list().is_ok_and(|list| names_test(list.tokens.clone()))
}

/// The identifier without `r#`.
fn plain(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map_or_else(|| name.clone(), str::to_owned)
}
