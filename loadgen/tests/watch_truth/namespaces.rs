//! Listeners in network namespaces of other processes.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

use loadgen::model::result::RunResult;
use loadgen::model::watch::LIMIT_UNKNOWN;
use tempfile::TempDir;

use crate::inside::{As, Programs, is_root, unshared};

const SERVES: &str = "WATCH_TRUTH_SERVES";

/// Not a test by itself: a server in the namespace that it is started in, with three connections
/// in its queue. Ends with its standard input.
#[test]
fn a_server_of_the_tests_here() {
    if std::env::var_os(SERVES).is_none() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let _waiting: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
    println!("listening {}", addr.port());
    std::io::stdout().flush().unwrap();
    let _end = std::io::stdin().read_line(&mut String::new());
}

struct Server {
    child: Child,
    port: u16,
    programs: Programs,
}

impl Server {
    fn start(user: As) -> Option<Self> {
        let name = "namespaces::a_server_of_the_tests_here";
        let script = format!("\"$0\" --exact {name} --nocapture");
        let Some(mut command) = unshared(user, &script) else {
            eprintln!("SKIPPED: no network namespace can be made as that user");
            return None;
        };
        let programs = Programs::copied();
        Self::of(command.arg(&programs.this).env(SERVES, "1"), programs)
    }

    fn of(command: &mut Command, programs: Programs) -> Option<Self> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("unshare runs");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = |line: String| line.split("listening ").nth(1)?.trim().parse().ok();
        let Some(port) = lines.map_while(Result::ok).find_map(told) else {
            eprintln!("SKIPPED: no network namespace can be made as that user");
            child.wait().expect("it has ended");
            return None;
        };
        Some(Self { child, port, programs })
    }

    /// Watches its address with these arguments, as nobody or as the user of the tests.
    fn watch(&self, args: &str, user: As) -> Output {
        let mut command = match (user, is_root()) {
            (As::Nobody, true) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
                command.arg(&self.programs.loadgen);
                command
            }
            _ => Command::new(&self.programs.loadgen),
        };
        let addr = format!("127.0.0.1:{}", self.port);
        let args = args.replace("PID", &self.child.id().to_string());
        command.args(["watch", &addr, "--duration", "500ms", "--json", "-"]);
        command.args(args.split_whitespace()).output().expect("loadgen starts")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

fn check_seen(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    let result = RunResult::parse(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    let watch = result.watch.expect("the part of watch");
    assert_eq!((watch.depth, watch.members.len()), (3, 1), "{watch:?}");
}

#[test]
fn a_listener_of_another_namespace_is_watched_from_within() {
    let user = if is_root() { As::Root } else { As::Nobody };
    let Some(server) = Server::start(user) else { return };
    let outside = server.watch("", As::Root);
    let said = String::from_utf8_lossy(&outside.stderr).into_owned();
    assert!(outside.status.code() == Some(1) && said.contains("--pid"), "{said}");
    check_seen(&server.watch("--pid PID", As::Root));
    check_seen(&server.watch("--netns /proc/PID/ns/net", As::Root));
}

/// A path to a namespace without a process, as ip-netns(8) makes it.
#[test]
fn a_namespace_is_named_by_its_path() {
    if !is_root() {
        return eprintln!("SKIPPED: binding a namespace to a path takes root");
    }
    let Some(server) = Server::start(As::Root) else { return };
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("namespace");
    std::fs::write(&path, "").unwrap();
    let of = format!("/proc/{}/ns/net", server.child.id());
    let bound = Command::new("mount").arg("--bind").arg(of).arg(&path).status();
    if !bound.is_ok_and(|status| status.success()) {
        return eprintln!("SKIPPED: a namespace cannot be mounted");
    }
    let output = server.watch(&format!("--netns {}", path.display()), As::Root);
    assert!(Command::new("umount").arg(&path).status().unwrap().success());
    check_seen(&output);
}

#[test]
fn another_users_namespace_is_refused_with_what_it_takes() {
    if !is_root() {
        return eprintln!("SKIPPED: it takes root to have another user's namespace");
    }
    let Some(server) = Server::start(As::Root) else { return };
    let output = server.watch("--netns /proc/PID/ns/net", As::Nobody);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("it takes root") && said.contains("sidecar"), "{said}");
}

/// With a process to name, what `/proc` shows of its namespace is watched all the same.
#[test]
fn another_users_namespace_is_watched_from_outside() {
    if !is_root() {
        return eprintln!("SKIPPED: it takes root to have another user's namespace");
    }
    let Some(server) = Server::start(As::Root) else { return };
    let output = server.watch("--pid PID", As::Nobody);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("watching what /proc"), "{said}");
    let watch = RunResult::parse(&output.stdout).unwrap().watch.expect("the part of watch");
    assert_eq!((watch.depth, watch.limit), (3, LIMIT_UNKNOWN), "{watch:?}");
    assert_eq!((watch.mode.as_str(), watch.mean_wait_ns), ("depth", None), "{watch:?}");
    assert!(watch.resolution_ns >= 200_000_000, "{watch:?}");
    let refused = server.watch("--pid PID --mode sampled", As::Nobody);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("it takes root"), "{said}");
}

/// As rootless containers have it: a user namespace of the same user around it.
#[test]
fn the_same_users_namespace_needs_no_root() {
    let script = "ip link set lo up && exec \"$0\" --exact \"$1\" --nocapture";
    let unshare = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", script];
    let programs = Programs::copied();
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];
    let words = nobody.iter().filter(|_| is_root()).chain(&unshare).copied();
    let words: Vec<&str> = words.collect();
    let mut command = Command::new(words[0]);
    let command = command.args(&words[1..]).arg(&programs.this);
    let command = command.arg("namespaces::a_server_of_the_tests_here").env(SERVES, "1");
    let Some(server) = Server::of(command, programs) else { return };
    check_seen(&server.watch("--pid PID", As::Nobody));
}

#[test]
fn a_watch_ends_with_the_namespace() {
    if !is_root() {
        return eprintln!("SKIPPED: entering another namespace takes root");
    }
    let Some(server) = Server::start(As::Root) else { return };
    let mut command = Command::new(&server.programs.loadgen);
    let addr = format!("127.0.0.1:{}", server.port);
    command.args(["watch", &addr, "--json", "-", "--pid", &server.child.id().to_string()]);
    let mut watch = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stderr.take().unwrap());
    lines.read_line(&mut String::new()).unwrap();
    drop(server);
    let output = watch.wait_with_output().unwrap();
    let result = RunResult::parse(&output.stdout).unwrap();
    let problem = result.problems.join(" ");
    assert_eq!(output.status.code(), Some(1), "{problem}");
    assert!(problem.contains("its processes have ended"), "{problem}");
}
