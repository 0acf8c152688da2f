//! Parses the server's log line by line, in either of its two formats.

use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model::server::Server;

/// What a line of the log is to the parent process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The ready line: the server listens.
    Listening(SocketAddr, Server),
    /// A message to print for the user.
    Message(String),
    /// A line to discard.
    Routine,
}

/// The server's description from the ready line in `log` that names the port of `target`; the last
/// such line, if the server was started more than once. `None` if there is none.
pub fn server_in_log(log: &str, target: SocketAddr) -> Option<Server> {
    let ready = log.lines().rev().filter_map(|line| match parse_line(line) {
        Line::Listening(addr, server) => Some((addr, server)),
        Line::Message(text) => text_fields(&text).and_then(|fields| listening(&fields)),
        Line::Routine => None,
    });
    let mut at_target = ready.filter(|(addr, _)| addr.port() == target.port());
    at_target.next().map(|(_, server)| server)
}

/// Parses a line in tracing-subscriber's JSON format. A line in any other format is a message: a
/// panic, or an error from before logging was set up.
pub(super) fn parse_line(line: &str) -> Line {
    let Ok(record) = serde_json::from_str::<Record>(line) else {
        return message_unless_blank(line);
    };
    let fields = &record.fields;
    if let Some((addr, server)) = listening(fields) {
        return Line::Listening(addr, server);
    }
    if matches!(record.level.as_str(), "WARN" | "ERROR") {
        return Line::Message(readable(&record.level, fields));
    }
    Line::Routine
}

#[derive(Deserialize)]
struct Record {
    level: String,
    fields: Map<String, Value>,
}

fn message_unless_blank(line: &str) -> Line {
    if line.trim().is_empty() { Line::Routine } else { Line::Message(line.to_owned()) }
}

fn readable(level: &str, fields: &Map<String, Value>) -> String {
    let mut line = format!("{level} {}", text(fields, "message").unwrap_or_default());
    for (name, value) in fields.iter().filter(|(name, _)| *name != "message") {
        line.push_str(&format!(" {name}={}", plain(value)));
    }
    line
}

/// The fields of a line in the text format: `TIME LEVEL TARGET: listening addr=… engine="…" …`.
fn text_fields(line: &str) -> Option<Map<String, Value>> {
    let (_, mut rest) = line.split_once(": listening ")?;
    let mut fields = Map::new();
    fields.insert("message".into(), "listening".into());
    while let Some((name, value)) = rest.trim_start().split_once('=') {
        let (value, after) = split_value(value);
        fields.insert(name.into(), value);
        rest = after;
    }
    Some(fields)
}

/// The leading value (a quoted string, a list, or all up to the next space) and what follows it.
fn split_value(text: &str) -> (Value, &str) {
    if text.starts_with(['"', '[']) {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        if let Some(Ok(value)) = values.next() {
            return (plain(&value).into(), &text[values.byte_offset()..]);
        }
    }
    let (value, rest) = text.split_once(' ').unwrap_or((text, ""));
    (value.into(), rest)
}

/// The address and description from the ready line, which is logged at every level.
fn listening(fields: &Map<String, Value>) -> Option<(SocketAddr, Server)> {
    if text(fields, "message")? != "listening" {
        return None;
    }
    let addr = text(fields, "addr")?.parse().ok()?;
    let server = Server {
        engine: text(fields, "engine"),
        accept: text(fields, "accept"),
        workers: number(fields, "workers"),
        backlog_effective: number(fields, "backlog_effective"),
        busy_poll: text(fields, "busy_poll"),
        degraded: semicolon_list(fields, "degraded"),
        processes: Vec::new(),
        argv: json_list(fields, "argv"),
    };
    Some((addr, server))
}

/// A field that is not empty, as text.
fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    fields.get(name).map(plain).filter(|text| !text.is_empty())
}

/// A number; tracing writes a value recorded by Debug or Display as a string, numbers too.
fn number(fields: &Map<String, Value>, name: &str) -> Option<u64> {
    text(fields, name)?.parse().ok()
}

/// A list of texts; tracing has no lists, so the server joins this one with `; `.
fn semicolon_list(fields: &Map<String, Value>, name: &str) -> Vec<String> {
    let joined = text(fields, name).unwrap_or_default();
    joined.split("; ").filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// A list that the server writes as JSON, because its items may contain any character.
fn json_list(fields: &Map<String, Value>, name: &str) -> Vec<String> {
    let list = text(fields, name).and_then(|text| serde_json::from_str(&text).ok());
    list.unwrap_or_default()
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
        "workers":1,"backlog_effective":4096,"busy_poll":"auto","degraded":"",
        "argv":"[\"--stall\",\"100ms/2s\"]"},"target":"uring_echo"}"#;

    const IN_TEXT: &str = "2025-01-01T00:00:00Z  INFO uring_echo::ready: listening \
        addr=127.0.0.1:1234 engine=\"uring\" accept=\"reuseport\" workers=1 backlog=9 \
        backlog_effective=4096 busy_poll=\"auto\" degraded=\"\" argv=[\"--stall\",\"100ms/2s\"]";

    fn expected() -> Server {
        Server {
            engine: Some("uring".into()),
            accept: Some("reuseport".into()),
            workers: Some(1),
            backlog_effective: Some(4096),
            busy_poll: Some("auto".into()),
            degraded: Vec::new(),
            processes: Vec::new(),
            argv: vec!["--stall".into(), "100ms/2s".into()],
        }
    }

    fn target() -> SocketAddr {
        "127.0.0.1:1234".parse().unwrap()
    }

    #[test]
    fn the_ready_line_gives_the_address_and_the_description() {
        assert_eq!(parse_line(LISTENING), Line::Listening(target(), expected()));
    }

    #[test]
    fn the_description_is_found_in_a_log_of_either_format() {
        let in_json = LISTENING.replace('\n', " ");
        for line in [in_json.as_str(), IN_TEXT] {
            let log = format!("first\n{line}\nlast");
            assert_eq!(server_in_log(&log, target()), Some(expected()), "{line}");
            assert_eq!(server_in_log(&log, "127.0.0.1:9".parse().unwrap()), None);
        }
        let again = IN_TEXT.replace("workers=1", "workers=2");
        let restarted = server_in_log(&format!("{IN_TEXT}\n{again}"), target()).unwrap();
        assert_eq!(restarted.workers, Some(2));
        assert_eq!(server_in_log("nothing of the kind", target()), None);
    }

    #[test]
    fn lists_and_numbers_are_parsed_as_tracing_writes_them() {
        let line = LISTENING
            .replace(r#""degraded":"""#, r#""degraded":"no napi; no IORING_OP_LISTEN""#)
            .replace(r#""workers":1"#, r#""workers":"1""#);
        let Line::Listening(_, server) = parse_line(&line) else { panic!("{line}") };
        let degraded = vec!["no napi".into(), "no IORING_OP_LISTEN".into()];
        assert_eq!(server, Server { degraded, ..expected() });
    }

    #[test]
    fn warnings_are_messages() {
        let line = r#"{"level":"WARN","fields":{"message":"backlog capped","limit":4096,
            "by":"somaxconn"}}"#;
        let message = Line::Message("WARN backlog capped by=somaxconn limit=4096".into());
        assert_eq!(parse_line(line), message);
    }

    #[test]
    fn info_and_blank_lines_are_routine() {
        let line = r#"{"level":"INFO","fields":{"message":"draining"}}"#;
        assert_eq!(parse_line(line), Line::Routine);
        assert_eq!(parse_line("  "), Line::Routine);
    }

    #[test]
    fn a_line_in_another_format_is_a_message() {
        for line in ["thread 'main' panicked at src/main.rs:1:1:", "{\"level\":3}", "42"] {
            assert_eq!(parse_line(line), Line::Message(line.to_owned()));
        }
    }
}
