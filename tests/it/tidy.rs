//! House rules about lines, functions and files.

use syn::visit::{self, Visit};
use syn::{Block, ImplItemFn, ItemFn, Signature, TraitItemFn};

use crate::sources::{Source, assert_none, sources};

const LINES_PER_FUNCTION: usize = 70;
const MEDIAN_LINES_PER_FUNCTION: usize = 10;
const LINES_PER_FILE: usize = 500;
const COLUMNS: usize = 100;

/// Every folder of the workspace with sources.
const EVERYWHERE: [&str; 5] = ["src", "loadgen", "tests", "benches", "fuzz"];

/// Lines of all sources for which `wrong` holds, as `path:line`.
fn lines_where(wrong: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut offenders = Vec::new();
    for Source { path, text } in sources(&EVERYWHERE) {
        let numbered = text.lines().enumerate().filter(|(_, line)| wrong(&path, line));
        offenders.extend(numbered.map(|(index, line)| format!("{path}:{}: {line}", index + 1)));
    }
    offenders
}

fn is_code(line: &str) -> bool {
    !line.trim_start().starts_with("//")
}

#[test]
fn unsafe_code_is_behind_the_fence() {
    let words = [concat!("unsafe", " {"), concat!("unsafe", " fn"), concat!("unsafe", " impl")];
    let offenders = lines_where(|path, line| {
        let fenced = path.starts_with("src/ring/");
        !fenced && is_code(line) && words.iter().any(|word| line.contains(word))
    });
    assert_none("only src/ring/ may hold unsafe code", &offenders);
}

#[test]
fn the_echo_core_does_no_io() {
    let banned = [
        "std::io",
        "std::net",
        "std::fs",
        "std::time",
        "std::thread",
        "std::os",
        "libc",
        "rustix",
        "io_uring",
        "socket2",
        "println!",
        "eprintln!",
        "tracing",
    ];
    let offenders = lines_where(|path, line| {
        let core = path.starts_with("src/echo/") || path.starts_with("src/slots");
        core && is_code(line) && banned.iter().any(|word| line.contains(word))
    });
    assert_none("src/echo/ decides and does no I/O", &offenders);
}

#[test]
fn nothing_is_left_to_do() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let offenders = lines_where(|_, line| words.iter().any(|word| line.contains(word)));
    assert_none("unfinished work belongs in an issue", &offenders);
}

#[test]
fn lines_fit_the_page() {
    let offenders = lines_where(|_, line| line.chars().count() > COLUMNS);
    assert_none("lines have at most 100 columns", &offenders);
}

#[test]
fn files_are_short() {
    let lengths = sources(&EVERYWHERE).into_iter().map(|s| (s.text.lines().count(), s.path));
    let long = lengths.filter(|(lines, _)| *lines > LINES_PER_FILE);
    let long: Vec<_> = long.map(|(lines, path)| format!("{path}: {lines} lines")).collect();
    assert_none("files have at most 500 lines", &long);
}

#[test]
fn functions_fit_a_screen() {
    let long = functions(&EVERYWHERE).into_iter().filter(|f| f.lines > LINES_PER_FUNCTION);
    let long: Vec<_> = long.map(|f| format!("{}: {} lines", f.place, f.lines)).collect();
    assert_none("functions have at most 70 lines", &long);
}

#[test]
fn half_of_all_functions_are_short() {
    for folder in ["src", "loadgen/src"] {
        let mut lengths: Vec<_> = functions(&[folder]).iter().map(|f| f.lines).collect();
        lengths.sort_unstable();
        let median = lengths[lengths.len() / 2];
        println!("{folder}: {} functions, median {median} lines", lengths.len());
        assert!(median <= MEDIAN_LINES_PER_FUNCTION, "{folder}: a median of {median} lines");
    }
}

/// A function with a body, from its `fn` line to its closing brace.
struct Function {
    place: String,
    lines: usize,
}

fn functions(folders: &[&str]) -> Vec<Function> {
    let mut all = Vec::new();
    for source in sources(folders) {
        let mut reader = Reader { path: &source.path, found: Vec::new() };
        reader.visit_file(&source.parse());
        all.extend(reader.found);
    }
    all
}

struct Reader<'a> {
    path: &'a str,
    found: Vec<Function>,
}

impl Reader<'_> {
    fn function(&mut self, signature: &Signature, body: &Block) {
        let first = signature.ident.span().start().line;
        let lines = body.brace_token.span.close().end().line + 1 - first;
        self.found.push(Function { place: format!("{}:{first}", self.path), lines });
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }
}
