//! Migration from each version of the schema to the next, on the JSON values.
//!
//! A step moves and renames fields. A value that the older version did not record becomes `null` or
//! empty, never a guess.

use serde_json::{Map, Value, json};

/// Migrates a result of version `found` to the newest version.
pub(super) fn to_newest(value: Value, found: u64) -> Value {
    match found {
        1 => from_1(value),
        _ => value,
    }
}

fn from_1(mut value: Value) -> Value {
    let id = format!("v1-{:016x}", fnv1a(value.to_string().as_bytes()));
    let resolution = resolution(&value);
    let Some(fields) = value.as_object_mut() else { return value };
    let version = fields.remove("tool_version").unwrap_or_default();
    set(fields, "schema_version", json!(2));
    set(fields, "kind", json!("run"));
    set(fields, "run_id", json!(id));
    set(fields, "shard", Value::Null);
    set(fields, "tool", json!({"name": "loadgen", "version": version, "commit": null}));
    set(fields, "times", Value::Null);
    set(fields, "problems", json!([]));
    if let Some(target) = object(fields, "target") {
        set(target, "resolution", resolution);
    }
    if let Some(server) = object(fields, "server") {
        set(server, "argv", json!([]));
    }
    if let Some(generator) = object(fields, "generator") {
        set(generator, "transport", json!("uring"));
    }
    if let Some(evidence) = object(fields, "evidence") {
        rename(evidence, "syn_retry_ladder", "retransmission_schedule");
        rename(evidence, "looks_missed", "samples_missed");
    }
    each(fields.get_mut("intervals"), interval_from_1);
    if let Some(verdict) = object(fields, "verdict") {
        each(verdict.get_mut("reasons"), finding_from_1);
        each(verdict.get_mut("advice"), finding_from_1);
    }
    value
}

/// Version 1 kept only three counters and three percentiles of an interval.
fn interval_from_1(interval: &mut Value) {
    let Some(fields) = interval.as_object_mut() else { return };
    let mut outcomes = Map::new();
    for name in ["attempted", "completed", "failed"] {
        outcomes.insert(name.into(), fields.remove(name).unwrap_or_else(|| json!(0)));
    }
    set(fields, "outcomes", Value::Object(outcomes));
    set(fields, "histograms", json!({}));
}

/// Version 1 had `code: text` in one string.
fn finding_from_1(finding: &mut Value) {
    let Some(both) = finding.as_str() else { return };
    let (code, text) = both.split_once(": ").unwrap_or(("", both));
    let code = if code == "looks_missed" { "samples_missed" } else { code };
    let code = if code == "syn_retry_ladder" { "retransmission_schedule" } else { code };
    *finding = json!({"code": code, "text": text});
}

/// The resolution of diag observations, from the histogram of bracket widths.
fn resolution(value: &Value) -> Value {
    let summary = &value["histograms"]["diag_resolution"];
    match (summary["p50"].as_u64(), summary["p99"].as_u64()) {
        (Some(p50), Some(p99)) => json!({"p50_ns": p50, "p99_ns": p99}),
        _ => Value::Null,
    }
}

fn set(fields: &mut Map<String, Value>, name: &str, value: Value) {
    fields.insert(name.into(), value);
}

fn rename(fields: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = fields.remove(from) {
        set(fields, to, value);
    }
}

fn object<'a>(
    fields: &'a mut Map<String, Value>,
    name: &str,
) -> Option<&'a mut Map<String, Value>> {
    fields.get_mut(name)?.as_object_mut()
}

fn each(list: Option<&mut Value>, step: fn(&mut Value)) {
    list.and_then(Value::as_array_mut).into_iter().flatten().for_each(step);
}

/// A hash (FNV-1a) from which a result without a run id gets one that depends only on the file.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
