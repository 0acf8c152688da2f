//! What a piece of advice means, or what to do about it.

use std::borrow::Cow;

use crate::model::evidence::Unaccepted;
use crate::model::verdict::Advice;
use crate::render::units;

/// Every kind has its words; they follow what was noticed and a colon.
pub(super) fn meaning(advice: &Advice) -> Cow<'static, str> {
    Cow::Borrowed(match advice {
        Advice::AcceptQueueOverflowed { limit, somaxconn, .. } => {
            return format!("{OVERFLOWED}; {}", which_binds(*limit, *somaxconn)).into();
        }
        Advice::AcceptQueueNearlyFull { limit, somaxconn, .. } => {
            return format!("{NEARLY_FULL}; {}", which_binds(Some(*limit), *somaxconn)).into();
        }
        Advice::ListenerStuck { .. } => LISTENER_STUCK,
        Advice::LateTicks { .. } => LATE_TICKS,
        Advice::DepthAlone => DEPTH_ALONE,
        Advice::WaitsSampled { .. } => WAITS_SAMPLED,
        Advice::RetransmissionSchedule { .. } => RETRANSMISSION_SCHEDULE,
        Advice::SynQueueFull { .. } => SYN_QUEUE_FULL,
        Advice::ConntrackLost { .. } => CONNTRACK_LOST,
        Advice::ConntrackNearlyFull { .. } => CONNTRACK_NEARLY_FULL,
        Advice::Unfinished { .. } => UNFINISHED,
        Advice::Refused { .. } => REFUSED,
        Advice::LocalPortExhausted { .. } => LOCAL_PORT_EXHAUSTED,
        Advice::FdLimit { .. } => FD_LIMIT,
        Advice::StampInvalid { .. } => STAMP_INVALID,
        Advice::SamplesMissed { .. } => SAMPLES_MISSED,
        Advice::AcceptNotObserved => ACCEPT_NOT_OBSERVED,
        Advice::ClosedLoop { .. } => CLOSED_LOOP,
        Advice::BurstEntry { .. } => BURST_ENTRY,
        Advice::NeverAccepted { shown: None, .. } => NOT_ACCEPTED_IN_TIME,
        Advice::NeverAccepted { shown: Some(shown), .. } => why_unaccepted(*shown),
        Advice::ListenerDropped { .. } => LISTENER_DROPPED,
        Advice::Deferred { .. } => DEFERRED,
        Advice::SynCookiesAlways { .. } => SYN_COOKIES_ALWAYS,
        Advice::GeneratorThrottled { .. } => GENERATOR_THROTTLED,
        Advice::ServerThrottled { .. } => SERVER_THROTTLED,
        Advice::ProxyProcess { .. } => PROXY_PROCESS,
        Advice::Reset { .. } => RESET,
        Advice::ResetOnOverflow { .. } => RESET_ON_OVERFLOW,
    })
}

/// By the place where most were.
fn why_unaccepted(shown: Unaccepted) -> &'static str {
    let Unaccepted { queued, handshake, lost, elsewhere } = shown;
    match queued.max(handshake).max(lost).max(elsewhere) {
        0 => "what the kernel had of them could not be read",
        most if most == queued => "the server did not call accept within --timeout",
        most if most == handshake => {
            "the accept queue was full when their last ACK came: raise the server's backlog, or \
             accept faster"
        }
        most if most == lost => {
            "the kernel kept nothing of them, which happens to connections made with SYN cookies \
             that find the accept queue full: raise the server's backlog, or send data first"
        }
        _ => {
            "their other end is in another network namespace or on another host, where only a \
             stamp tells of accepts"
        }
    }
}

/// The limit is the smaller of backlog and somaxconn: which of the two to raise.
fn which_binds(limit: Option<u32>, somaxconn: Option<u64>) -> String {
    let Some(limit) = limit else { return "raise the server's backlog, or accept faster".into() };
    let of_whom = default_of(limit);
    let shown = units::count(limit.into());
    match somaxconn {
        Some(somaxconn) if u64::from(limit) >= somaxconn => format!(
            "the queue is limited to {shown} by net.core.somaxconn: raise that, and the server's \
             backlog with it, or accept faster"
        ),
        Some(somaxconn) => format!(
            "the queue is limited to {shown} by the server's backlog{of_whom}: raise it \
             (net.core.somaxconn allows {}), or accept faster",
            units::count(somaxconn)
        ),
        None => format!(
            "the queue is limited to {shown}{of_whom}: raise the server's backlog, or accept faster"
        ),
    }
}

/// Whose default a backlog is.
fn default_of(backlog: u32) -> &'static str {
    match backlog {
        511 => ", the default of Node.js, nginx, Apache and Redis",
        128 => ", the default of many runtimes and of old kernels",
        100 => ", the default of Python's asyncio",
        50 => ", the default of Java's ServerSocket",
        5 => ", the default of Python's socketserver",
        _ => "",
    }
}

const OVERFLOWED: &str = "\
    up to so many clients waited a second and more until the kernel sent their SYN again, or \
    took themselves for connected";
const NEARLY_FULL: &str = "nothing was dropped yet";
const LISTENER_STUCK: &str = "it is stuck, or blocked in something else than accept";
const LATE_TICKS: &str = "\
    waits are told longer than they were: watch with a longer --interval, or on a less busy \
    machine";
const DEPTH_ALONE: &str =
    "stalls are seen, connections that come and go between two samples are not";
const WAITS_SAMPLED: &str = "\
    percentiles are those of the longer waits, and vary from watch to watch";
const RETRANSMISSION_SCHEDULE: &str = "\
    these connections sent a segment again, as the kernel does there after a dropped SYN or \
    handshake; that wait is its retry timer, not the server's work";
const SYN_QUEUE_FULL: &str = "\
    raise the server's backlog; with cookies a connection may look established and never be \
    accepted";
const CONNTRACK_LOST: &str =
    "raise net.netfilter.nf_conntrack_max or run in a network namespace of its own";
const CONNTRACK_NEARLY_FULL: &str = "\
    when it is full the kernel drops SYNs silently; lower the rate or raise \
    net.netfilter.nf_conntrack_max";
const UNFINISHED: &str = "in accept_response they count as \"at least this long\"";
const REFUSED: &str = "\
    nothing listens at the address, the server closed its listener, or a packet filter rejects the \
    port";
const LOCAL_PORT_EXHAUSTED: &str = "\
    add addresses with --source (127.1.0.0/24 works on loopback without set-up) or use --close \
    rst";
const FD_LIMIT: &str = "\
    lower --max-in-flight, or raise ulimit -n or what the kernel may use for sockets \
    (net.ipv4.tcp_mem, the memory limit of a container)";
const STAMP_INVALID: &str = "start uring-echo serve with --stamp, or use --observe diag";
const SAMPLES_MISSED: &str = "\
    the brackets around those accepts are wider, as diag_resolution shows; free some memory, \
    or use --observe stamp with uring-echo";
const ACCEPT_NOT_OBSERVED: &str = "\
    use --observe diag for a server in this network namespace, or stamp for uring-echo serve \
    --stamp";
const CLOSED_LOOP: &str = "\
    while it stalls nothing is attempted, so a stall has few samples and the percentiles hide \
    it; --rate plans ahead and shows it";
const BURST_ENTRY: &str = "\
    one thread enters the kernel once per connect, so the burst is no single instant: \
    accept_delay counts from each connect, accept_response from the instant planned; more \
    --threads enter it sooner";
const NOT_ACCEPTED_IN_TIME: &str =
    "the server did not accept them within --timeout, or their end is not visible here";
const LISTENER_DROPPED: &str = "\
    its accept queue was not full; memory for sockets, a packet filter or a listener that was \
    closed are other causes (nstat -az TcpExt*)";
const DEFERRED: &str = "\
    deferred: the server wants data first (TCP_DEFER_ACCEPT, as Apache, nginx with deferred \
    and haproxy with defer-accept set it), and is told of a connection without only after a \
    second or never; send some with --send-first, or with --messages to a server that echoes";
const SYN_COOKIES_ALWAYS: &str = "\
    so they say nothing about the SYN queue; a connection whose cookie comes back to a full \
    accept queue looks established and is never accepted";
const GENERATOR_THROTTLED: &str = "\
    while it is stopped nothing is called or observed, and all delays look longer: raise its \
    quota, or lower the rate; more threads use it up sooner";
const SERVER_THROTTLED: &str =
    "what waited then waited for the quota and not for the server's work: raise its quota";
const PROXY_PROCESS: &str = "\
    its accepts are what was measured, not those of the server behind it: measure at the \
    server's own address, inside its network namespace";
const RESET: &str = "\
    it closed them with data unread or with SO_LINGER 0, or stopped listening while they were \
    queued; those whose accept was not seen are in accept_response as \"at least this long\"";
const RESET_ON_OVERFLOW: &str = "\
    the accept queue was full when their last ACK came: raise the server's backlog, or accept \
    faster";
