//! The server's log in JSON, line by line.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What the server says of itself when it begins to listen; a part of the result file.
/// A field that it does not mention is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// What drives its workers, such as `uring`.
    pub engine: String,
    /// How workers share the address, such as `reuseport`.
    pub accept: String,
    /// How many workers there are.
    pub workers: u64,
    /// How many connections a queue holds by the kernel's account.
    pub backlog_effective: u64,
    /// How it waits for completions, such as `auto`.
    pub busy_poll: String,
    /// What it does without because the kernel or a limit refused it.
    pub degraded: Vec<String>,
}

/// What a line of the log means here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The server listens.
    Listening(SocketAddr, ServerInfo),
    /// For a person to read.
    Tell(String),
    /// Nothing to do.
    Routine,
}

/// Reads a line as tracing-subscriber's JSON format writes it. What is not in that format is for a
/// person: a panic, or a message from before the log was set up.
pub(super) fn parse_line(line: &str) -> Line {
    let Ok(record) = serde_json::from_str::<Record>(line) else {
        return tell_unless_blank(line);
    };
    let message = text(&record.fields, "message");
    let addr = record.fields.get("addr").and_then(Value::as_str).map(str::parse);
    match (message.as_str(), addr) {
        ("listening", Some(Ok(addr))) => Line::Listening(addr, facts(&record.fields)),
        _ if matches!(record.level.as_str(), "WARN" | "ERROR") => {
            Line::Tell(readable(&record.level, &message, &record.fields))
        }
        _ => Line::Routine,
    }
}

#[derive(Deserialize)]
struct Record {
    level: String,
    fields: Map<String, Value>,
}

fn tell_unless_blank(line: &str) -> Line {
    if line.trim().is_empty() { Line::Routine } else { Line::Tell(line.to_owned()) }
}

fn readable(level: &str, message: &str, fields: &Map<String, Value>) -> String {
    let mut line = format!("{level} {message}");
    for (name, value) in fields.iter().filter(|(name, _)| *name != "message") {
        line.push_str(&format!(" {name}={}", plain(value)));
    }
    line
}

fn facts(fields: &Map<String, Value>) -> ServerInfo {
    ServerInfo {
        engine: text(fields, "engine"),
        accept: text(fields, "accept"),
        workers: number(fields, "workers"),
        backlog_effective: number(fields, "backlog_effective"),
        busy_poll: text(fields, "busy_poll"),
        degraded: list(fields, "degraded"),
    }
}

fn text(fields: &Map<String, Value>, name: &str) -> String {
    fields.get(name).map(plain).unwrap_or_default()
}

/// tracing writes what it knows only as Debug or Display as a string, numbers too.
fn number(fields: &Map<String, Value>, name: &str) -> u64 {
    match fields.get(name) {
        Some(Value::String(digits)) => digits.parse().unwrap_or_default(),
        Some(value) => value.as_u64().unwrap_or_default(),
        None => 0,
    }
}

/// tracing has no lists: the server joins them with `; `.
fn list(fields: &Map<String, Value>, name: &str) -> Vec<String> {
    let joined = text(fields, name);
    joined.split("; ").filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// A string without its quotes, anything else as JSON writes it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENING: &str = r#"{"timestamp":"2025-01-01T00:00:00Z","level":"INFO","fields":{
        "message":"listening","addr":"127.0.0.1:1234","engine":"uring","accept":"reuseport",
        "workers":1,"backlog_effective":4096,"busy_poll":"auto","degraded":""},
        "target":"uring_echo"}"#;

    fn expected() -> ServerInfo {
        ServerInfo {
            engine: "uring".into(),
            accept: "reuseport".into(),
            workers: 1,
            backlog_effective: 4096,
            busy_poll: "auto".into(),
            degraded: Vec::new(),
        }
    }

    #[test]
    fn listening_carries_the_address_and_the_facts() {
        let addr = "127.0.0.1:1234".parse().unwrap();
        assert_eq!(parse_line(LISTENING), Line::Listening(addr, expected()));
    }

    #[test]
    fn lists_and_numbers_in_the_ways_tracing_writes_them() {
        let cases = [
            (r#""degraded":"no napi""#, vec!["no napi"]),
            (
                r#""degraded":"no napi; no IORING_OP_LISTEN""#,
                vec!["no napi", "no IORING_OP_LISTEN"],
            ),
        ];
        for (written, degraded) in cases {
            let line = LISTENING
                .replace(r#""degraded":"""#, written)
                .replace(r#""workers":1"#, r#""workers":"1""#);
            let Line::Listening(_, facts) = parse_line(&line) else { panic!("{line}") };
            let degraded = degraded.into_iter().map(str::to_owned).collect();
            assert_eq!(facts, ServerInfo { degraded, ..expected() });
        }
    }

    #[test]
    fn warnings_are_told_in_words() {
        let line = r#"{"level":"WARN","fields":{"message":"backlog capped","limit":4096,
            "by":"somaxconn"}}"#;
        let told = Line::Tell("WARN backlog capped by=somaxconn limit=4096".into());
        assert_eq!(parse_line(line), told);
    }

    #[test]
    fn routine_is_not_told() {
        let line = r#"{"level":"INFO","fields":{"message":"draining"}}"#;
        assert_eq!(parse_line(line), Line::Routine);
        assert_eq!(parse_line("  "), Line::Routine);
    }

    #[test]
    fn what_is_not_json_is_told_as_it_is() {
        for line in ["thread 'main' panicked at src/main.rs:1:1:", "{\"level\":3}", "42"] {
            assert_eq!(parse_line(line), Line::Tell(line.to_owned()));
        }
    }
}
