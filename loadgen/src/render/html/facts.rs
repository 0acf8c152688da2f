//! Kernel evidence, load, server, generator and environment: every field of the result that is
//! there, also those that this version does not know.

use maud::{Markup, html};
use serde_json::{Map, Value};

use crate::model::result::RunResult;
use crate::render::units;

/// Parts of a result and what they are called.
const PARTS: [(&str, &str); 8] = [
    ("hold", "Connections held"),
    ("watch", "Watched listener"),
    ("evidence", "Kernel evidence"),
    ("target", "Target"),
    ("server", "Server"),
    ("load", "Load"),
    ("generator", "Generator"),
    ("environment", "Environment"),
];
/// Longest list of plain values that is shown.
const LIST_MAX: usize = 64;

pub(super) fn all(result: &RunResult) -> Markup {
    let text = result.to_json();
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    // What is not a measurement of its own has no more than the place where it was made.
    let parts = if super::is_judged(result) { &PARTS[..] } else { &PARTS[PARTS.len() - 1..] };
    let parts = parts.iter().map(|(field, title)| (*field, *title, rows(&value[*field])));
    html! {
        h2 { "Evidence and environment" }
        div.facts {
            @for (field, title, rows) in parts {
                @if !rows.is_empty() {
                    section class=(field) {
                        h3 { (title) }
                        table { tbody { @for (name, text) in rows {
                            tr { th scope="row" { (name) } td { (text) } }
                        } } }
                    }
                }
            }
        }
    }
}

fn rows(part: &Value) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    if let Value::Object(fields) = part {
        collect(fields, "", &mut rows);
    }
    rows
}

/// Fields of fields carry the names of both.
fn collect(fields: &Map<String, Value>, prefix: &str, rows: &mut Vec<(String, String)>) {
    for (name, value) in fields {
        let full = format!("{prefix}{name}");
        match value {
            Value::Object(inner) => collect(inner, &format!("{full}."), rows),
            _ => rows.extend(text(name, value).map(|text| (full, text))),
        }
    }
}

/// Nothing where there is nothing to tell, or where it is a series, which the charts show.
fn text(name: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(match (number.as_u64(), number.as_f64()) {
            (Some(ns), _) if name.ends_with("_ns") => units::duration(ns),
            (Some(n), _) if name.ends_with("seed") || name.ends_with("pid") => n.to_string(),
            (Some(n), _) => units::count(n),
            (None, Some(n)) => format!("{n:.3}"),
            (None, None) => number.to_string(),
        }),
        Value::Array(list) if list.len() > LIST_MAX => None,
        Value::Array(list) => {
            let plain: Option<Vec<String>> = list.iter().map(|item| text(name, item)).collect();
            plain.filter(|texts| !texts.is_empty()).map(|texts| texts.join(", "))
        }
        Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_named_by_their_path_and_numbers_are_readable() {
        let part = json!({
            "timeout_ns": 10_000_000_000u64, "nofile": {"soft": 20_000, "hard": null},
            "degraded": [], "argv": ["--stall", "1ms/1s"], "series": [{"at": 1}], "cores": 0.98432,
            "seed": 12_345
        });
        let mut shown = rows(&part);
        shown.sort();
        let expected = [
            ("argv", "--stall, 1ms/1s"),
            ("cores", "0.984"),
            ("nofile.soft", "20,000"),
            ("seed", "12345"),
            ("timeout_ns", "10.0s"),
        ];
        assert_eq!(shown, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
        assert!(rows(&Value::Null).is_empty());
    }
}
