//! Connects that the path answers with an ICMP error, made by a packet filter or by routes in a
//! network namespace of their own.

use std::process::Command;

use serde_json::Value;

/// Runs `prepare`, then loadgen, in a new network namespace; prints that it skips and returns
/// `None` where that is not possible.
fn run_apart(prepare: &str, args: &str) -> Option<Value> {
    let loadgen = env!("CARGO_BIN_EXE_loadgen");
    let script = format!(
        "ip link set lo up && {prepare} || exit 97
         exec {loadgen} run {args} --quiet --json -"
    );
    let output = Command::new("unshare").args(["-n", "sh", "-c", &script]).output();
    let skipped = match &output {
        Err(error) => Some(error.to_string()),
        Ok(output) if matches!(output.status.code(), Some(0 | 4)) => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
    };
    if let Some(reason) = skipped {
        eprintln!("SKIPPED, no namespace with {prepare:?}: {reason}");
        return None;
    }
    Some(serde_json::from_slice(&output.unwrap().stdout).unwrap())
}

fn check(prepare: &str, target: &str, outcome: &str, errno: i32) {
    for transport in ["uring", "epoll"] {
        let args = format!("{target} --rate 300 --connections 20 --observe none --timeout 5s");
        let Some(result) = run_apart(prepare, &format!("{args} --transport {transport}")) else {
            continue;
        };
        assert_eq!(result["outcomes"][outcome], 20, "{prepare}: {:#}", result["outcomes"]);
        assert_eq!(result["errnos"][0]["errno"], errno, "{prepare}");
        assert_eq!(result["verdict"]["valid"], false, "{prepare}");
    }
}

#[test]
fn an_answer_of_a_packet_filter_is_no_connection() {
    let kinds = [
        ("icmp-port-unreachable", "refused", 111),
        ("icmp-host-unreachable", "unreachable", 113),
        ("icmp-net-unreachable", "unreachable", 101),
        ("icmp-admin-prohibited", "unreachable", 113),
        ("icmp-proto-unreachable", "unreachable", 92),
        ("tcp-reset", "refused", 111),
    ];
    for (kind, outcome, errno) in kinds {
        let filter = "iptables -w -A INPUT -p tcp --dport 4444 --syn -j REJECT --reject-with";
        check(&format!("{filter} {kind}"), "127.0.0.1:4444", outcome, errno);
    }
}

#[test]
fn an_answer_of_a_packet_filter_to_ipv6_is_no_connection() {
    let kinds =
        [("icmp6-port-unreachable", "refused", 111), ("icmp6-adm-prohibited", "unreachable", 13)];
    for (kind, outcome, errno) in kinds {
        let filter = "ip6tables -w -A INPUT -p tcp --dport 4444 --syn -j REJECT --reject-with";
        check(&format!("{filter} {kind}"), "[::1]:4444", outcome, errno);
    }
}

#[test]
fn a_route_that_leads_nowhere_is_unreachable() {
    for (route, errno) in [("unreachable", 113), ("prohibit", 13), ("blackhole", 22)] {
        let prepare = format!("ip route add {route} 192.0.2.0/24");
        check(&prepare, "192.0.2.1:4444", "unreachable", errno);
    }
}
