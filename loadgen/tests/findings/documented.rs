//! docs/findings.md has every code that a verdict can carry, and none that it cannot.

use std::collections::BTreeSet;

const SOURCE: &str = include_str!("../../src/model/verdict.rs");
const PAGE: &str = include_str!("../../../docs/findings.md");

/// The variants of an enum of the source, as serde writes them.
fn codes(name: &str) -> BTreeSet<String> {
    let start = SOURCE.find(&format!("pub enum {name} {{")).expect("the enum is there");
    let body = SOURCE[start..].lines().skip(1).take_while(|line| *line != "}");
    let variants = body.filter_map(|line| line.strip_prefix("    "));
    let variants = variants.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let named = variants.map(|line| line.trim_end_matches([' ', '{', ',']));
    named.map(snake_case).collect()
}

fn snake_case(name: &str) -> String {
    let mut code = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !code.is_empty() {
            code.push('_');
        }
        code.push(c.to_ascii_lowercase());
    }
    code
}

/// The codes in the first column of the table below a heading.
fn documented(heading: &str) -> BTreeSet<String> {
    let section = PAGE.split("\n## ").find(|part| part.starts_with(heading)).expect("a heading");
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `"));
    cells.map(|cell| cell.split('`').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn every_code_is_documented_and_nothing_else() {
    let (reasons, advice) = (codes("Reason"), codes("Advice"));
    assert!(reasons.contains("generator_lag") && advice.contains("accept_not_observed"));
    assert_eq!(documented("Reasons"), reasons);
    assert_eq!(documented("Advice"), advice);
}
