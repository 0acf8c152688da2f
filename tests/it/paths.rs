//! Which paths of its own crate a source file mentions, however they are written: in `use` items
//! with groups, renames and globs, inline in code, and in the arguments of macros and attributes.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Macro, Meta, UseTree, Visibility};

/// A path as a list of names, starting below the crate's root.
pub(crate) type ModulePath = Vec<String>;

/// One path that was mentioned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) line: usize,
    /// Absolute and with every `self` and `super` resolved; empty for the root itself, as in
    /// `use crate::*` or `use super as root`.
    pub(crate) path: ModulePath,
    /// The name under which a `pub use` exports it; a glob exports `*`.
    pub(crate) exported_as: Option<String>,
}

/// The mentions in `file`, which is module `module` of the crate that others call `crate_name`.
pub(crate) fn mentions(file: &syn::File, module: &[String], crate_name: &str) -> Vec<Mention> {
    let mut reader = Reader {
        module: module.to_vec(),
        children: children(&file.items),
        crate_name,
        found: Vec::new(),
    };
    reader.visit_file(file);
    reader.found
}

struct Reader<'a> {
    module: ModulePath,
    /// Modules declared in `module`: paths may start with their names.
    children: Vec<String>,
    crate_name: &'a str,
    found: Vec<Mention>,
}

fn children(items: &[Item]) -> Vec<String> {
    let modules = items.iter().filter_map(|item| match item {
        Item::Mod(module) => Some(module.ident.to_string()),
        _ => None,
    });
    modules.collect()
}

impl Reader<'_> {
    fn mention(&mut self, span: Span, names: &[String], exported_as: Option<String>) {
        if let Some(path) = self.resolve(names) {
            self.found.push(Mention { line: span.start().line, path, exported_as });
        }
    }

    /// The absolute form of a path as written; `None` if it leads to another crate or to a name
    /// that a `use` item has brought here, which is a mention of its own.
    fn resolve(&self, names: &[String]) -> Option<ModulePath> {
        let first = names.first()?.as_str();
        let (mut path, mut rest) = match first {
            "crate" => (Vec::new(), &names[1..]),
            "self" => (self.module.clone(), &names[1..]),
            "super" => (self.module.clone(), names),
            _ if self.children.iter().any(|child| child == first) => (self.module.clone(), names),
            _ if first == self.crate_name => (Vec::new(), &names[1..]),
            _ => return None,
        };
        while rest.first().is_some_and(|name| name == "super") {
            path.pop();
            rest = &rest[1..];
        }
        path.extend(rest.iter().filter(|name| *name != "self").cloned());
        Some(path)
    }

    fn read_use(&mut self, before: &[String], tree: &UseTree, is_public: bool) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.read_use(&with(&path.ident), &path.tree, is_public),
            UseTree::Name(name) => {
                let names = with(&name.ident);
                let exported = names.iter().rfind(|name| *name != "self").cloned();
                self.mention(name.ident.span(), &names, exported.filter(|_| is_public));
            }
            UseTree::Rename(rename) => {
                let exported = is_public.then(|| rename.rename.to_string());
                self.mention(rename.ident.span(), &with(&rename.ident), exported);
            }
            UseTree::Glob(glob) => {
                let exported = is_public.then(|| "*".to_owned());
                self.mention(glob.star_token.spans[0], before, exported);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.read_use(before, tree, is_public));
            }
        }
    }

    /// Tokens that no syntax is known for: every `a::b::c` in them may be a path.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.read_tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let mut names = vec![first.to_string()];
                    while let Some(name) = name_after_colons(&tokens[at + 1..]) {
                        names.push(name);
                        at += 3;
                    }
                    if names.len() > 1 {
                        self.mention(first.span(), &names, None);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }
}

/// The name in `:: name`, if the tokens start so.
fn name_after_colons(tokens: &[TokenTree]) -> Option<String> {
    match tokens {
        [TokenTree::Punct(a), TokenTree::Punct(b), TokenTree::Ident(name), ..]
            if a.as_char() == ':' && b.as_char() == ':' =>
        {
            Some(name.to_string())
        }
        _ => None,
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let Some((_, items)) = &item.content else { return visit::visit_item_mod(self, item) };
        let outer = std::mem::replace(&mut self.children, children(items));
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
        self.children = outer;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_public = !matches!(item.vis, Visibility::Inherited);
        if item.leading_colon.is_none() {
            self.read_use(&[], &item.tree, is_public);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if path.leading_colon.is_none() && names.len() > 1 {
            self.mention(path.segments[0].ident.span(), &names, None);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast Macro) {
        self.read_tokens(mac.tokens.clone());
        visit::visit_macro(self, mac);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.read_tokens(list.tokens.clone());
        }
        visit::visit_attribute(self, attribute);
    }
}

/// The mentions in `source`, as text, of a file that is module `a::b`.
fn read(source: &str) -> Vec<String> {
    let file = syn::parse_file(source).expect("Rust");
    let module = ["a", "b"].map(str::to_owned);
    let found = mentions(&file, &module, "this_crate");
    found.into_iter().map(|mention| mention.path.join("::")).collect()
}

#[test]
fn a_path_is_found_in_every_spelling() {
    for (source, expected) in [
        ("use crate::ring::Ring;", &["ring::Ring"][..]),
        ("use crate::{echo, ring};", &["echo", "ring"]),
        (
            "use crate::ring::{self, token::{Op, Token}};",
            &["ring", "ring::token::Op", "ring::token::Token"],
        ),
        ("use crate::ring as other;", &["ring"]),
        ("use crate::{echo::Shard, ring as other};", &["echo::Shard", "ring"]),
        ("pub use crate::ring::Ring;", &["ring::Ring"]),
        ("pub(crate) use crate::ring::*;", &["ring"]),
        ("use super::c::X;", &["a::c::X"]),
        ("use super::super::ring::Ring;", &["ring::Ring"]),
        ("use self::d::X;", &["a::b::d::X"]),
        ("use this_crate::ring::Ring;", &["ring::Ring"]),
        ("fn f() { crate::ring::x::f(); }", &["ring::x::f"]),
        ("fn f(x: super::super::ring::X) -> Vec<crate::echo::Y> {}", &["ring::X", "echo::Y"]),
        ("fn f() { match x { crate::ring::Op::Recv => {} } }", &["ring::Op::Recv"]),
        ("impl crate::ring::Verb for X {}", &["ring::Verb"]),
        ("fn f() { use crate::ring::Ring; }", &["ring::Ring"]),
        ("fn f() { assert!(a, \"{}\", [crate::ring::x()]); }", &["ring::x"]),
        ("macro_rules! m { () => { $crate::ring::x() } }", &["ring::x"]),
        ("#[arg(value_parser = crate::ring::parse(1))] struct A;", &["ring::parse"]),
        ("mod tests { use super::*; use super::super::c::X; }", &["a::b", "a::c::X"]),
        ("mod d; use d::X; fn f() { d::g() }", &["a::b::d::X", "a::b::d::g"]),
        ("use crate::*;", &[""]),
        ("use super::super as root;", &[""]),
    ] {
        assert_eq!(read(source), expected, "{source}");
    }
}

#[test]
fn paths_of_other_crates_and_local_names_are_not_found() {
    for source in [
        "use std::{fs, io}; use serde::Serialize;",
        "use ::ring::Ring; fn f() { ::ring::x() }",
        "fn f() { Vec::<u8>::new(); ring::x(); Self::g(); X::Y }",
        "fn f() { println!(\"crate::ring::x\") } // crate::ring::x",
    ] {
        assert_eq!(read(source), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn exports_have_the_names_they_are_exported_under() {
    let file =
        syn::parse_file("pub use c::{X, Y as Z, d::{self}}; use c::W; mod c;").expect("Rust");
    let found = mentions(&file, &[], "this_crate");
    let names: Vec<_> = found.into_iter().map(|found| found.exported_as).collect();
    assert_eq!(names, [Some("X".into()), Some("Z".into()), Some("d".into()), None]);
}
