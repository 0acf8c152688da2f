//! What made connections wait or get lost, as far as there is evidence for it.
//!
//! Counters of the network namespace count for the server only where its listener is in it, and
//! only together with the drops at that listener, which are its own.

use crate::model::evidence::Throttling;
use crate::model::outcome::Outcome;
use crate::model::result::RunResult;
use crate::model::verdict::Advice;

/// Everything that was found.
pub(super) fn advice(result: &RunResult) -> Vec<Advice> {
    let mut advice = queue(result);
    advice.extend(waits(result));
    advice.extend(proxy(result));
    let evidence = &result.evidence;
    let stopped = |throttled: Option<Throttling>| throttled.filter(|it| it.periods > 0);
    advice.extend(stopped(evidence.generator_throttled).map(
        |Throttling { periods, stopped_ns }| Advice::GeneratorThrottled { periods, stopped_ns },
    ));
    advice.extend(
        stopped(evidence.server_throttled).map(|Throttling { periods, stopped_ns }| {
            Advice::ServerThrottled { periods, stopped_ns }
        }),
    );
    advice
}

/// Drops at this server's listeners.
fn drops(result: &RunResult) -> u64 {
    result.evidence.accept_queue.as_ref().and_then(|queue| queue.drops).unwrap_or(0)
}

/// Overflows of this server's accept queues, at most: those of the namespace, of which each is a
/// drop at its listener.
fn overflows(result: &RunResult) -> u64 {
    result.evidence.kernel.map_or(0, |kernel| kernel.listen_overflows.min(drops(result)))
}

/// Connections whose handshake went on for the server although the client was established, without
/// an overflow. (An ACK without data that a deferring listener does not take is a drop as well.)
fn deferred(result: &RunResult) -> u64 {
    let schedule = result.evidence.retransmission_schedule.unwrap_or_default();
    let in_handshake = result.evidence.unaccepted.map_or(0, |shown| shown.handshake);
    let explained = result.evidence.accept_queue.is_some() && overflows(result) == 0;
    if explained { schedule.handshake_repeated + in_handshake } else { 0 }
}

/// What was dropped or not kept before a connection was in the accept queue.
fn queue(result: &RunResult) -> Vec<Advice> {
    let evidence = &result.evidence;
    let (Some(kernel), Some(queue)) = (evidence.kernel, &evidence.accept_queue) else {
        return Vec::new();
    };
    let mut advice = Vec::new();
    let drops = drops(result);
    let (cookies, syns) = (kernel.syncookies_sent, kernel.tcp_req_q_full_drop.min(drops));
    let overflows = overflows(result);
    if overflows > 0 {
        let (limit, somaxconn) = (Some(queue.limit), evidence.settings.somaxconn);
        advice.push(Advice::AcceptQueueOverflowed { count: overflows, limit, somaxconn });
    }
    if drops > 0 && overflows == 0 && syns == 0 && deferred(result) == 0 {
        advice.push(Advice::ListenerDropped { count: drops });
    }
    match (cookies, evidence.settings.tcp_syncookies) {
        (1.., Some(2)) => advice.push(Advice::SynCookiesAlways { cookies }),
        (0, _) if syns == 0 => {}
        _ => advice.push(Advice::SynQueueFull { cookies, dropped: syns }),
    }
    advice
}

/// What kept established connections from being accepted. A handshake that goes on for the server
/// although the client is established has lost its last ACK to a full queue; without an overflow
/// the server wants data first.
fn waits(result: &RunResult) -> Vec<Advice> {
    let schedule = result.evidence.retransmission_schedule.unwrap_or_default();
    let shown = result.evidence.unaccepted;
    let deferred = deferred(result);
    let mut advice = Vec::new();
    let repeated = if deferred > 0 { 0 } else { schedule.handshake_repeated };
    let count = schedule.connect.max(schedule.accept_delay + repeated);
    if count > 0 {
        advice.push(Advice::RetransmissionSchedule { count });
    }
    if deferred > 0 {
        advice.push(Advice::Deferred { count: deferred });
    }
    let count = result.outcomes.of(Outcome::NeverAccepted);
    let in_handshake = shown.map_or(0, |shown| shown.handshake);
    if count > if deferred > 0 { in_handshake } else { 0 } {
        advice.push(Advice::NeverAccepted { count, shown });
    }
    advice
}

/// Connections that were reset once they were established: by the kernel or by the server.
pub(super) fn resets(result: &RunResult) -> Vec<Advice> {
    let by_kernel = resets_on_overflow(result);
    let by_server = result.outcomes.of(Outcome::ResetAfterConnect) - by_kernel;
    let by_kernel = (by_kernel > 0).then_some(Advice::ResetOnOverflow { count: by_kernel });
    let by_server = (by_server > 0).then_some(Advice::Reset { count: by_server });
    by_kernel.into_iter().chain(by_server).collect()
}

/// Resets that are the kernel's way to say that the accept queue is full, where it is told to say
/// it: of connections that cannot have been accepted.
pub(super) fn resets_on_overflow(result: &RunResult) -> u64 {
    match result.evidence.settings.tcp_abort_on_overflow {
        None | Some(0) => 0,
        Some(_) => result.outcomes.of(Outcome::ResetAfterConnect).min(overflows(result)),
    }
}

/// A published container port, or a port that a virtual network forwards.
fn proxy(result: &RunResult) -> Option<Advice> {
    let known = |name: &str| PROXIES.into_iter().find(|proxy| name.starts_with(proxy));
    let mut processes = result.server.processes.iter();
    processes.find_map(|process| {
        Some(Advice::ProxyProcess { proxy: known(&process.name)?, pid: process.pid })
    })
}

/// Processes that accept in place of a server that somebody else runs. haproxy, envoy are servers
/// that a user chose: they are named in the report and no more.
const PROXIES: [&str; 8] = [
    "docker-proxy",
    "rootlessport",
    "rootlesskit",
    "slirp4netns",
    "pasta",
    "passt",
    "gvproxy",
    "kube-proxy",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::evidence::{
        Evidence, KernelCounters, QueueEvidence, RetransmissionSchedule, Unaccepted,
    };
    use crate::model::server::Process;

    /// A server whose listener dropped so many, in a namespace with so many overflows.
    fn run(drops: Option<u64>, listen_overflows: u64) -> RunResult {
        let kernel = Some(KernelCounters { listen_overflows, ..KernelCounters::default() });
        let queue = QueueEvidence { drops, limit: 5, ..QueueEvidence::default() };
        let accept_queue = drops.map(|_| queue);
        let evidence = Evidence { kernel, accept_queue, ..Evidence::default() };
        RunResult { evidence, ..RunResult::default() }
    }

    #[test]
    fn overflows_of_others_are_not_this_servers() {
        let own = Advice::AcceptQueueOverflowed { count: 3, limit: Some(5), somaxconn: None };
        assert_eq!(advice(&run(Some(3), 508)), [own]);
        assert_eq!(advice(&run(Some(0), 508)), [], "another listener's");
        assert_eq!(advice(&run(None, 508)), [], "the listener is in another namespace");
        assert_eq!(advice(&run(Some(3), 0)), [Advice::ListenerDropped { count: 3 }]);
    }

    #[test]
    fn a_handshake_that_goes_on_without_a_drop_is_deferred() {
        let unaccepted = Some(Unaccepted { handshake: 7, ..Unaccepted::default() });
        let schedule = RetransmissionSchedule { handshake_repeated: 2, ..Default::default() };
        let with = |drops, overflows| {
            let mut result = run(drops, overflows);
            result.evidence.unaccepted = unaccepted;
            result.evidence.retransmission_schedule = Some(schedule);
            result.outcomes.ended = [("never_accepted".into(), 7)].into();
            advice(&result)
        };
        assert_eq!(with(Some(0), 9), [Advice::Deferred { count: 9 }]);
        assert_eq!(with(Some(4), 0), [Advice::Deferred { count: 9 }], "ACKs not taken are drops");
        let dropped = with(Some(4), 9);
        assert_eq!(dropped[1], Advice::RetransmissionSchedule { count: 2 });
        assert_eq!(dropped[2], Advice::NeverAccepted { count: 7, shown: unaccepted });
    }

    #[test]
    fn resets_are_the_kernels_where_it_is_told_to_reset_and_the_queue_was_full() {
        let with = |abort, overflows| {
            let mut result = run(Some(9), overflows);
            result.evidence.settings.tcp_abort_on_overflow = abort;
            result.outcomes.ended = [("reset_after_connect".into(), 7)].into();
            resets(&result)
        };
        let (kernel, server) =
            (|count| Advice::ResetOnOverflow { count }, |count| Advice::Reset { count });
        assert_eq!(with(Some(1), 5), [kernel(5), server(2)]);
        assert_eq!(with(Some(1), 9), [kernel(7)]);
        assert_eq!(with(Some(1), 0), [server(7)]);
        assert_eq!(with(Some(0), 5), [server(7)]);
        assert_eq!(with(None, 5), [server(7)]);
        assert_eq!(resets(&run(None, 0)), []);
    }

    #[test]
    fn cookies_for_every_connection_are_no_full_queue() {
        let mut result = run(Some(0), 0);
        result.evidence.kernel.as_mut().unwrap().syncookies_sent = 50;
        let full = Advice::SynQueueFull { cookies: 50, dropped: 0 };
        assert_eq!(advice(&result), [full]);
        result.evidence.settings.tcp_syncookies = Some(2);
        assert_eq!(advice(&result), [Advice::SynCookiesAlways { cookies: 50 }]);
    }

    #[test]
    fn quotas_and_proxies_are_told() {
        let mut result = run(Some(0), 0);
        result.evidence.generator_throttled = Some(Throttling { periods: 4, stopped_ns: 9 });
        result.evidence.server_throttled = Some(Throttling::default());
        let process = |name: &str| Process { pid: 7, name: name.into() };
        result.server.processes = vec![process("haproxy"), process("docker-proxy")];
        let proxy = Advice::ProxyProcess { proxy: "docker-proxy", pid: 7 };
        let throttled = Advice::GeneratorThrottled { periods: 4, stopped_ns: 9 };
        assert_eq!(advice(&result), [proxy, throttled]);
    }
}
