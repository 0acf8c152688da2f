//! The cause named is the cause.

use std::net::TcpStream;
use std::time::Duration;

use crate::support::{
    beside_python, beside_python_as, in_namespace, json, loadgen, said, serving, stderr,
};

fn has(codes: &[String], code: &str) -> bool {
    codes.iter().any(|it| it == code)
}

/// Holds what it accepts until the client is gone.
fn hold(mut stream: TcpStream, _: usize) {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // A reset is an end as well.
    std::io::copy(&mut stream, &mut std::io::sink()).unwrap_or(0);
}

const DEFERRING: &str = "s.setsockopt(6, 9, 5)
s.listen(128)
held = []
while True: held.append(s.accept())
";

#[test]
fn a_server_that_wants_data_first_is_called_deferred() {
    let run = |flags: &str| {
        format!(
            "$LOADGEN run 127.0.0.1:7700 --observe diag --rate 100 --connections 120 --timeout \
             400ms {flags} --json -"
        )
    };
    let Some(output) = beside_python(DEFERRING, &run("")) else { return };
    let result = json(&output);
    let (codes, text) = said(&result);
    assert!(has(&codes, "deferred") && !has(&codes, "never_accepted"), "{codes:?}");
    assert!(text.contains("--send-first") && !text.contains("SYN cookie"), "{text}");
    assert!(stderr(&output).contains("--send-first"), "{}", stderr(&output));
    let output = beside_python(DEFERRING, &run("--send-first")).expect("it ran before");
    let result = json(&output);
    assert_eq!(result["outcomes"]["completed"], 120, "{:#}", result["outcomes"]);
    assert_eq!(result["histograms"]["accept_delay"]["count"], 120);
    assert!(!has(&said(&result).0, "deferred"), "{:#}", result["verdict"]);
}

/// Another listener of the namespace has a full queue and drops SYNs all the time.
#[test]
fn drops_of_another_listener_are_not_blamed_on_this_one() {
    let server = "s.listen(128)
o = socket.socket(); o.bind((\"127.0.0.1\", 7701)); o.listen(0)
def knock():
  while True:
    c = socket.socket(); c.setblocking(False)
    c.connect_ex((\"127.0.0.1\", 7701)); time.sleep(0.01); kept.append(c)
kept = []
threading.Thread(target=knock, daemon=True).start()
while True: s.accept()[0].close()
";
    let run = "$LOADGEN run 127.0.0.1:7700 --observe diag --rate 100 --connections 120 --json -";
    let Some(output) = beside_python(server, run) else { return };
    let result = json(&output);
    let overflows = result["evidence"]["kernel"]["listen_overflows"].as_u64().unwrap();
    assert!(overflows > 0, "{:#}", result["evidence"]);
    assert_eq!(result["evidence"]["accept_queue"]["drops"], 0, "{:#}", result["evidence"]);
    assert!(!has(&said(&result).0, "accept_queue_overflowed"), "{:#}", result["verdict"]);
}

/// Waits of about a second, and no segment that was sent again.
#[test]
fn a_stall_is_not_the_kernels_retransmission() {
    let args = "run --rate 100 --duration 3s --json - --quiet -- --stall 1100ms/1500ms";
    let Some(output) = in_namespace(&format!("$LOADGEN {args}")) else { return };
    let result = json(&output);
    let max = result["histograms"]["accept_delay"]["max"].as_u64().unwrap();
    assert!(max > 900_000_000, "{max}");
    let schedule = &result["evidence"]["retransmission_schedule"];
    let retransmitted = result["evidence"]["kernel"]["tcp_syn_retrans"].as_u64().unwrap();
    if retransmitted == 0 {
        assert_eq!((&schedule["connect"], &schedule["accept_delay"]), (&0.into(), &0.into()));
        assert!(!has(&said(&result).0, "retransmission_schedule"), "{:#}", result["verdict"]);
    }
}

#[test]
fn a_dropped_syn_is_the_kernels_retransmission() {
    let server = "s.listen(0)
held = []
while True: held.append(s.accept()); time.sleep(0.05)
";
    let run = "$LOADGEN run 127.0.0.1:7700 --observe diag --burst 3 --timeout 2500ms --json -";
    let Some(output) = beside_python(server, run) else { return };
    let result = json(&output);
    let schedule = &result["evidence"]["retransmission_schedule"];
    assert!(schedule["connect"].as_u64() > Some(0), "{:#}", result["evidence"]);
    let (codes, _) = said(&result);
    assert!(has(&codes, "retransmission_schedule") && has(&codes, "accept_queue_overflowed"));
}

#[test]
fn cookies_for_everybody_are_no_full_syn_queue() {
    let run = "run --rate 200 --connections 120 --json - --quiet -- --engine epoll";
    let script = format!("sysctl -qw net.ipv4.tcp_syncookies=2 && $LOADGEN {run}");
    let Some(output) = in_namespace(&script) else { return };
    let (codes, _) = said(&json(&output));
    assert!(has(&codes, "syn_cookies_always") && !has(&codes, "syn_queue_full"), "{codes:?}");
}

#[test]
fn a_silent_server_under_observe_stamp_sends_no_stamp() {
    let addr = serving(1000, |stream, number| {
        std::thread::spawn(move || hold(stream, number));
    });
    let run = format!("run {addr} --observe stamp --rate 500 --connections 100 --timeout 300ms");
    let result = json(&loadgen(&format!("{run} --json -")));
    assert_eq!(result["outcomes"]["stamp_invalid"], 100, "{:#}", result["outcomes"]);
    let (_, text) = said(&result);
    assert!(!text.contains("stopped accepting") && text.contains("--stamp"), "{text}");
}

#[test]
fn an_immediate_reset_is_a_reset_and_no_unfinished_wait() {
    let addr = serving(10_000, |stream, _| {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let run = format!("run {addr} --messages 1 --rate 300 --connections 150 --json -");
    let result = json(&loadgen(&run));
    assert_eq!(result["outcomes"]["reset_after_connect"], 150, "{:#}", result["outcomes"]);
    let (codes, _) = said(&result);
    assert!(has(&codes, "reset") && !has(&codes, "unfinished"), "{codes:?}");
}

#[test]
fn a_redirected_port_is_named_with_where_it_leads() {
    let redirect = "iptables -t nat -A OUTPUT -p tcp --dport 4444 -j REDIRECT --to-ports 7700";
    let run = format!("{redirect} || exit 77; $LOADGEN run 127.0.0.1:4444 --observe diag");
    let server = "s.listen(128)\nwhile True: s.accept()\n";
    let Some(output) = beside_python(server, &run) else { return };
    if output.status.code() == Some(77) {
        eprintln!("SKIPPED, iptables cannot redirect here: {}", stderr(&output));
        return;
    }
    assert!(stderr(&output).contains("end at 127.0.0.1:7700"), "{}", stderr(&output));
}

/// The embedded server in the namespace of a process that sleeps, at the other end of a cable.
const ELSEWHERE: &str = "unshare --net sleep 60 & OTHER=$!; \
    until [ $(readlink /proc/$OTHER/ns/net) != $(readlink /proc/$$/ns/net) ]; do sleep 0.05; done; \
    ip link add here type veth peer name there netns $OTHER; \
    nsenter -t $OTHER -n ip addr add 10.9.8.2/24 dev there; \
    nsenter -t $OTHER -n ip link set there up; \
    ip addr add 10.9.8.1/24 dev here; ip link set here up; \
    nsenter -t $OTHER -n $LOADGEN __serve --listen 10.9.8.2:7700 --stamp --engine epoll \
    2>/dev/null & SERVER=$!; ";

#[test]
fn a_stamping_server_in_another_namespace_is_said_to_be_there() {
    let end = "status=$?; kill $SERVER $OTHER; exit $status";
    let run = "$LOADGEN run 10.9.8.2:7700 --wait-for-server 30s --rate 200 --connections 120";
    let script = |flags: &str| format!("{{ {ELSEWHERE} {run} {flags}; {end}; }}");
    let Some(output) = in_namespace(&script("--observe diag")) else { return };
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        told.contains("another network namespace") && told.contains("--observe stamp"),
        "{told}"
    );
    let output = in_namespace(&script("--json -")).expect("it was possible before");
    let result = json(&output);
    assert_eq!(result["target"]["observe"], "stamp");
    assert_eq!(result["evidence"]["accept_queue"], serde_json::Value::Null);
}

#[test]
fn a_known_proxy_that_listens_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = folder.path().join("docker-proxy");
    let link = format!(
        "ln -s $(python3 -c 'import os; print(os.readlink(\"/proc/self/exe\"))') {0} && PYTHON={0}",
        proxy.display()
    );
    let server = "s.listen(128)\nwhile True: s.accept()[0].close()\n";
    let run = "$LOADGEN run 127.0.0.1:7700 --rate 200 --connections 120 --json -";
    let Some(output) = beside_python_as(&link, server, run) else { return };
    let result = json(&output);
    assert_eq!(result["server"]["processes"][0]["name"], "docker-proxy", "{:#}", result["server"]);
    assert!(has(&said(&result).0, "proxy_process"), "{:#}", result["verdict"]);
}
