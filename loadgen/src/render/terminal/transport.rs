//! What carried the connections on either side, and why it was not io_uring.

use super::{WIDTH, wrap};
use crate::model::result::RunResult;

/// The line that names transport and engine, broken if it is long; nothing where neither is known.
pub(super) fn transport_and_engine(result: &RunResult) -> Vec<String> {
    let (generator, server) = (&result.generator, &result.server);
    let transport = generator.transport.as_ref().map(|name| format!("transport {name}"));
    let engine = server.engine.as_ref().map(|name| format!("server: engine {name}"));
    let (why_transport, why_engine) = (denial(&generator.degraded), denial(&server.degraded));
    let reason = |why: Option<&String>| why.map_or_else(String::new, |why| format!(" ({why})"));
    // One reason for both stands behind the second.
    let shared = engine.is_some() && why_transport == why_engine;
    let why_transport = why_transport.filter(|_| !shared);
    let sides = [
        transport.map(|name| name + &reason(why_transport)),
        engine.map(|name| name + &reason(why_engine)),
    ];
    let sides: Vec<String> = sides.into_iter().flatten().collect();
    if sides.is_empty() { Vec::new() } else { wrap(&sides.join("; "), WIDTH, "  ") }
}

/// What either side had to do without besides.
pub(super) fn degraded(result: &RunResult) -> Vec<String> {
    let sides = [("generator", &result.generator.degraded), ("server", &result.server.degraded)];
    let lines = sides.into_iter().flat_map(|(side, all)| {
        let others = all.iter().filter(|line| Some(*line) != denial(all));
        others.map(move |what| format!("{side} degraded: {what}"))
    });
    lines.collect()
}

/// The line that tells why there was no ring.
fn denial(degraded: &[String]) -> Option<&String> {
    degraded.iter().find(|line| line.starts_with("io_uring: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(transport: &str, engine: &str, denied: [&str; 2]) -> RunResult {
        let mut result = RunResult::default();
        let [generator, server] = denied.map(|why| vec!["no napi".to_owned(), why.to_owned()]);
        (result.generator.transport, result.generator.degraded) =
            (Some(transport.into()), generator);
        (result.server.engine, result.server.degraded) = (Some(engine.into()), server);
        result
    }

    #[test]
    fn transport_and_engine_are_named_and_why() {
        let line = |result: &RunResult| transport_and_engine(result).join(" ");
        assert_eq!(
            line(&result("uring", "uring", ["x", "x"])),
            "transport uring; server: engine uring"
        );
        let denied = "io_uring: denied";
        let both = result("epoll", "epoll", [denied, denied]);
        assert_eq!(line(&both), "transport epoll; server: engine epoll (io_uring: denied)");
        assert_eq!(degraded(&both), ["generator degraded: no napi", "server degraded: no napi"]);
        let one = result("epoll", "uring", [denied, "x"]);
        assert_eq!(line(&one), "transport epoll (io_uring: denied); server: engine uring");
        assert_eq!(line(&RunResult::default()), "");
    }
}
