//! Which module may use which: imports go one way.

use std::collections::{BTreeMap, BTreeSet};

use crate::paths::{Mention, ModulePath, mentions};
use crate::sources::{Source, assert_none, sources};

/// A top-level module with those that it may use. `lib` and `main` are the two roots.
type Edges = &'static [(&'static str, &'static [&'static str])];

/// The server, from the top down.
const SERVER: Edges = &[
    ("main", &["cli"]),
    ("lib", &["config", "server"]),
    (
        "cli",
        &[
            "config", "doctor", "engine", "log", "notify", "ping", "sandbox", "server", "shutdown",
            "stamp", "values", "version",
        ],
    ),
    ("doctor", &["config", "engine", "listen", "ring", "sandbox", "stamp", "sys"]),
    (
        "server",
        &[
            "admin", "clock", "config", "engine", "health", "http", "listen", "metrics", "notify",
            "sandbox", "shutdown", "stamp", "sys", "takeover",
        ],
    ),
    ("admin", &["clock", "engine", "health", "http", "log", "ring", "sys", "version"]),
    ("health", &["clock", "engine", "shutdown", "stamp", "sys"]),
    (
        "engine",
        &["clock", "config", "echo", "metrics", "ring", "shutdown", "slots", "stamp", "sys"],
    ),
    ("takeover", &["shutdown"]),
    ("shutdown", &["log", "sys"]),
    ("log", &["sys"]),
    ("http", &["sys"]),
    ("listen", &["ring", "sys"]),
    ("sandbox", &["config", "stamp", "sys"]),
    ("config", &["stamp"]),
    ("ping", &["stamp"]),
    ("echo", &["slots"]),
    ("ring", &["sys"]),
    ("sys", &["values"]),
    ("notify", &["clock"]),
    ("clock", &[]),
    ("metrics", &[]),
    ("slots", &[]),
    ("stamp", &[]),
    ("values", &[]),
    ("version", &[]),
];

/// The layers of loadgen, from the top down. Only commands read what was typed; `render` and
/// `analyse` see results, never what recorded them.
const LOADGEN_LAYERS: Edges = &[
    ("main", &["cli", "commands", "server"]),
    ("testing", &["cli", "commands", "plan"]),
    (
        "commands",
        &[
            "cli",
            "render",
            "analyse",
            "generate",
            "observe",
            "evidence",
            "server",
            "plan",
            "model",
            "sys",
            "echo_client",
        ],
    ),
    ("cli", &["model"]),
    ("render", &["model", "sys"]),
    ("analyse", &["model"]),
    ("generate", &["observe", "plan", "model", "sys"]),
    ("observe", &["evidence", "model", "sys"]),
    ("evidence", &["model", "sys"]),
    ("server", &["model", "sys"]),
    ("plan", &["model", "sys", "echo_client"]),
    ("model", &[]),
    ("sys", &[]),
    ("echo_client", &[]),
    ("lib", &[]),
];

/// What a command line means, for the tests of any layer.
const TEST_SUPPORT: &str = "testing";

/// A crate whose modules are walled off from each other.
struct Walled {
    folder: &'static str,
    name: &'static str,
    edges: Edges,
}

const CRATES: [Walled; 2] = [
    Walled { folder: "src", name: "uring_echo", edges: SERVER },
    Walled { folder: "loadgen/src", name: "loadgen", edges: LOADGEN_LAYERS },
];

/// A file with its place in the crate and everything it mentions.
struct Module {
    file: String,
    path: ModulePath,
    mentions: Vec<Mention>,
}

impl Module {
    fn read(source: &Source, folder: &str, name: &str) -> Self {
        let path = module_path(&source.path, folder);
        let mentions = mentions(&source.parse(), &path, name);
        Self { file: source.path.clone(), path, mentions }
    }

    /// The name of the top-level module it belongs to.
    fn top(&self) -> &str {
        match self.path.first() {
            Some(first) => first,
            None if self.file.ends_with("main.rs") => "main",
            None => "lib",
        }
    }
}

/// `src/engine/epoll/pool.rs` is `engine::epoll::pool`.
fn module_path(file: &str, folder: &str) -> ModulePath {
    let inside = file.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
    let inside = inside.and_then(|rest| rest.strip_suffix(".rs")).expect("a file in the folder");
    let names = inside.split('/').filter(|name| !["lib", "main", "mod"].contains(name));
    names.map(str::to_owned).collect()
}

impl Walled {
    fn modules(&self) -> Vec<Module> {
        let read = |source: &Source| Module::read(source, self.folder, self.name);
        sources(&[self.folder]).iter().map(read).collect()
    }

    fn allowed(&self, top: &str) -> Option<&'static [&'static str]> {
        self.edges.iter().find(|(name, _)| *name == top).map(|(_, allowed)| *allowed)
    }

    /// Mentions that the table does not allow.
    fn violations(&self, modules: &[Module]) -> Vec<String> {
        let exports = Exports::of(modules);
        let mut found = Vec::new();
        for module in modules {
            let top = module.top();
            let Some(allowed) = self.allowed(top) else {
                found.push(format!("{}: not in the table", module.file));
                continue;
            };
            for mention in &module.mentions {
                let target = exports.resolve(&mention.path);
                let Some(target) = target.first().map(String::as_str) else {
                    if !module.path.is_empty() {
                        found.push(format!("{}:{}: names the root", module.file, mention.line));
                    }
                    continue;
                };
                if target != top && target != TEST_SUPPORT && !allowed.contains(&target) {
                    let (file, line) = (&module.file, mention.line);
                    found.push(format!("{file}:{line}: {top} may not use {target}"));
                }
            }
        }
        found
    }
}

/// What modules re-export, so that a path through a re-export is taken for what it leads to.
struct Exports(BTreeMap<ModulePath, ModulePath>);

impl Exports {
    fn of(modules: &[Module]) -> Self {
        let mut all = BTreeMap::new();
        for module in modules {
            for mention in &module.mentions {
                if let Some(name) = &mention.exported_as {
                    all.insert(
                        [&module.path[..], std::slice::from_ref(name)].concat(),
                        mention.path.clone(),
                    );
                }
            }
        }
        Self(all)
    }

    /// What `path` leads to. A re-export by another top-level module is that module's own: whoever
    /// uses `engine::Stats` uses the engine.
    fn resolve(&self, path: &[String]) -> ModulePath {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let export = (1..=path.len()).find_map(|end| {
                let target = self.0.get(&path[..end])?;
                let stays = end == 1 || target.first() == path.first();
                stays.then(|| [target, &path[end..]].concat())
            });
            match export {
                Some(target) => path = target,
                None => break,
            }
        }
        path
    }
}

#[test]
fn modules_use_only_what_their_table_allows() {
    for walled in CRATES {
        let violations = walled.violations(&walled.modules());
        assert_none("a module uses one that it may not know", &violations);
    }
}

#[test]
fn the_tables_themselves_point_down_only() {
    for Walled { edges, folder, .. } in CRATES {
        for (at, (name, allowed)) in edges.iter().enumerate() {
            let below: Vec<_> = edges[at + 1..].iter().map(|(name, _)| *name).collect();
            let up: Vec<_> = allowed.iter().filter(|target| !below.contains(target)).collect();
            assert!(up.is_empty(), "{folder}: {name} would use {up:?}, not below it");
        }
    }
}

/// A module and a submodule of it are one thing in several files; any other two files of the
/// server use each other in one direction at most.
#[test]
fn files_of_the_server_form_no_circle() {
    let modules = CRATES[0].modules();
    let exports = Exports::of(&modules);
    let paths: BTreeSet<&[String]> = modules.iter().map(|module| &module.path[..]).collect();
    let file_of = |path: &[String]| {
        (0..=path.len()).rev().map(|end| path[..end].to_vec()).find(|p| paths.contains(&p[..]))
    };
    let mut uses: BTreeMap<ModulePath, BTreeSet<ModulePath>> = BTreeMap::new();
    for module in &modules {
        let own = module.mentions.iter().filter(|mention| mention.exported_as.is_none());
        let targets = own.filter_map(|mention| file_of(&exports.resolve(&mention.path)));
        let apart = targets.filter(|t| !t.starts_with(&module.path) && !module.path.starts_with(t));
        uses.entry(module.path.clone()).or_default().extend(apart);
    }
    assert_eq!(circle(uses), Vec::<String>::new(), "these files use each other in a circle");
}

/// Takes away whatever uses nothing that is left, until nothing changes: what remains is a circle,
/// and whatever leads to one.
fn circle(mut uses: BTreeMap<ModulePath, BTreeSet<ModulePath>>) -> Vec<String> {
    loop {
        let left: BTreeSet<ModulePath> = uses.keys().cloned().collect();
        uses.retain(|_, targets| targets.iter().any(|target| left.contains(target)));
        if uses.len() == left.len() {
            return left.into_iter().map(|path| path.join("::")).collect();
        }
    }
}

/// What the wall around `walled` says about `text` as the text of `file`.
fn planted_in(walled: &Walled, file: &str, text: &str, root: &str) -> Vec<String> {
    let source = Source { path: file.to_owned(), text: text.to_owned() };
    let root = Source { path: format!("{}/lib.rs", walled.folder), text: root.to_owned() };
    let modules = [source, root].map(|source| Module::read(&source, walled.folder, walled.name));
    walled.violations(&modules)
}

fn planted(file: &str, text: &str) -> Vec<String> {
    planted_in(&CRATES[0], file, text, "pub use server::Server; mod server;")
}

#[test]
fn a_layer_of_loadgen_that_uses_one_above_it_is_found() {
    for (file, text) in [
        ("render/terminal/run.rs", "use crate::generate::recorder::Recording;"),
        ("analyse/verdict.rs", "use crate::{model::result::RunResult, generate};"),
        ("model/result.rs", "fn f() { crate::sys::time::nanos(d) }"),
        ("generate/event_loop.rs", "use crate::cli::run::RunArgs;"),
        ("plan/preflight.rs", "use super::super::evidence as kernel;"),
        ("elsewhere.rs", ""),
    ] {
        let file = format!("loadgen/src/{file}");
        assert_eq!(planted_in(&CRATES[1], &file, text, "").len(), 1, "{file}: {text}");
    }
    let below = "use crate::{model::result::RunResult, sys::time};";
    assert!(planted_in(&CRATES[1], "loadgen/src/render/hlog.rs", below, "").is_empty());
}

#[test]
fn a_planted_upward_use_is_found_in_every_spelling() {
    for text in [
        "use crate::ring::Ring;",
        "use crate::{slots, ring};",
        "use crate::{slots::Slots, ring::{token::Token}};",
        "use crate::ring as elsewhere;",
        "use super::super::ring::Ring;",
        "mod tests { use super::super::super::ring::Ring; }",
        "fn f() { crate::ring::x::f(); }",
        "fn f() { assert_eq!(1, crate::ring::x::f()); }",
        "pub use crate::ring::Ring;",
        "pub(super) use crate::ring::*;",
        "use crate::Server;",
        "use uring_echo::ring::Ring;",
        "use crate as root;",
        "use super::super::*;",
    ] {
        assert_eq!(planted("src/echo/shard.rs", text).len(), 1, "{text}");
    }
}

#[test]
fn what_is_allowed_is_left_alone() {
    for text in [
        "use crate::slots::Slots; use super::Event; use super::super::slots::SlotId;",
        "mod tests { use super::*; use crate::echo::Shard; }",
        "use std::fmt; fn f() { ring::x() }",
    ] {
        assert_eq!(planted("src/echo/shard.rs", text), Vec::<String>::new(), "{text}");
    }
    assert_eq!(planted("src/elsewhere.rs", "").len(), 1, "a module that the table does not list");
}
