//! Who is compared: a table of names and how to start what they name.

/// What a candidate is in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Ours,
    Peer,
    /// A yardstick, no server to deploy.
    Floor,
    /// Known to be incorrect, or so small that it is in few tables; never "the best peer".
    Outsider,
}

/// Where its program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Built from this repository, by the name of the binary.
    Built(&'static str),
    /// Built by a script of ours with a C compiler.
    Script { folder: &'static str },
    /// This program itself.
    Harness,
    /// Installed on this machine or not.
    System(&'static str),
}

/// A server that can take part. `{addr}`, `{port}`, `{cpu}`, `{work}` and `{config}` in its
/// arguments are filled in when it is started.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) program: Program,
    pub(crate) args: &'static [&'static str],
    /// Its arguments where it has all CPUs and pins nothing; none: it is not in such tables.
    pub(crate) free: &'static [&'static str],
    /// Text of the file that `{config}` names.
    pub(crate) config: Option<&'static str>,
    /// Says `listening` on stderr; of others a connection tells that they serve.
    pub(crate) announces: bool,
    pub(crate) echoes: bool,
    /// Never sleeps, however little there is to do.
    pub(crate) spins: bool,
    /// Tables it is in; all if none is named.
    pub(crate) tables: &'static [&'static str],
    pub(crate) about: &'static str,
}

const OURS: Candidate = Candidate {
    name: "uring",
    role: Role::Ours,
    program: Program::Built("uring-echo"),
    args: &[],
    free: &[],
    config: None,
    announces: true,
    echoes: true,
    spins: false,
    tables: &[],
    about: "",
};

const PEER: Candidate =
    Candidate { role: Role::Peer, args: &["{addr}"], tables: &[], about: "", ..OURS };

const SYSTEM: Candidate =
    Candidate { announces: false, echoes: false, tables: &["accept", "churn"], ..PEER };

/// The candidate whose numbers the first summary is about.
pub(crate) const SUBJECT: &str = "uring";
/// The same without spinning.
pub(crate) const SLEEPING: &str = "uring-sleeping";

macro_rules! serve {
    ($($flag:literal),*) => {
        &["serve", "--listen", "{addr}", "--workers", "1", "--cpus", "{cpu}", $($flag),*]
    };
}

/// As many workers as CPUs, wherever the scheduler puts them: the defaults.
macro_rules! serve_free {
    ($($flag:literal),*) => {
        &["serve", "--listen", "{addr}", $($flag),*]
    };
}

/// All candidates, in the order in which they are shown.
pub(crate) const CANDIDATES: &[Candidate] = &[
    Candidate {
        name: SUBJECT,
        args: serve!("--engine", "uring"),
        free: serve_free!("--engine", "uring"),
        about: "uring-echo, default flags (spins while waits are short)",
        ..OURS
    },
    Candidate {
        name: SLEEPING,
        args: serve!("--engine", "uring", "--busy-poll", "off"),
        free: serve_free!("--engine", "uring", "--busy-poll", "off"),
        about: "uring-echo --busy-poll off: CPU time comparable with those that never spin",
        ..OURS
    },
    Candidate {
        name: "epoll",
        args: serve!("--engine", "epoll"),
        free: serve_free!("--engine", "epoll"),
        about: "uring-echo --engine epoll",
        ..OURS
    },
    Candidate {
        name: "tokio-uring",
        args: serve!("--engine", "tokio-uring"),
        about: "uring-echo --engine tokio-uring",
        ..OURS
    },
    Candidate {
        name: "tokio",
        program: Program::Built("tokio-echo"),
        args: &["{addr}", "current-thread"],
        about: "tokio, current-thread runtime",
        ..PEER
    },
    Candidate {
        name: "mio",
        program: Program::Built("mio-echo"),
        about: "mio: edge-triggered epoll without a runtime",
        ..PEER
    },
    Candidate {
        name: "mio-spinning",
        program: Program::Built("mio-echo"),
        args: &["{addr}", "--spin"],
        spins: true,
        tables: &["accept", "churn", "grid", "streams", "latency"],
        about: "the same, asking again at once instead of sleeping",
        ..PEER
    },
    Candidate {
        name: "monoio",
        program: Program::Built("monoio-echo"),
        about: "monoio, io_uring driver",
        ..PEER
    },
    Candidate {
        name: "compio",
        program: Program::Built("compio-echo"),
        about: "compio, io_uring driver",
        ..PEER
    },
    Candidate {
        name: "glommio",
        program: Program::Built("glommio-echo"),
        about: "glommio, one executor (fixes its backlog at 1024)",
        ..PEER
    },
    Candidate {
        name: "tokio-threads",
        program: Program::Built("tokio-echo"),
        args: &["{addr}", "multi-thread"],
        free: &["{addr}", "multi-thread"],
        tables: &["torture", "classic"],
        about: "tokio, multi-thread runtime",
        ..PEER
    },
    Candidate {
        name: "nginx",
        program: Program::System("nginx"),
        args: &["-p", "{folder}", "-e", "stderr", "-c", "{config}"],
        config: Some(NGINX),
        about: "nginx stream module: accepts, answers a line, closes",
        ..SYSTEM
    },
    Candidate {
        name: "haproxy",
        program: Program::System("haproxy"),
        args: &["-db", "-q", "-f", "{config}"],
        config: Some(HAPROXY),
        about: "haproxy, one thread: accepts and waits for a request",
        ..SYSTEM
    },
    Candidate {
        name: "socat",
        role: Role::Outsider,
        program: Program::System("socat"),
        args: &["TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,backlog=4096,nodelay,fork", "PIPE"],
        echoes: true,
        tables: &["accept", "latency"],
        about: "socat: a process per connection",
        ..SYSTEM
    },
    Candidate {
        name: "c-uring-echo",
        role: Role::Outsider,
        program: Program::Script { folder: "c-uring-echo" },
        args: &["{port}"],
        announces: false,
        tables: &["accept", "churn", "latency", "torture"],
        about: "C, liburing, with the omissions usual in examples",
        ..PEER
    },
    Candidate {
        name: "floor-sleeping",
        role: Role::Floor,
        program: Program::Harness,
        args: &["floor", "{work}", "{addr}"],
        free: &["floor", "{work}", "{addr}"],
        tables: &["accept", "churn", "grid", "streams", "latency", "classic"],
        about: "a blocking accept loop; echoes with a thread per connection",
        ..PEER
    },
    Candidate {
        name: "floor-spinning",
        role: Role::Floor,
        program: Program::Harness,
        args: &["floor", "{work}", "{addr}", "--spin"],
        spins: true,
        tables: &["accept", "churn", "latency"],
        about: "a loop over non-blocking sockets that never sleeps",
        ..PEER
    },
];

const NGINX: &str = "\
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
{nginx-stream-module}
events { worker_connections 16384; multi_accept on; }
stream {
    server {
        listen {addr} backlog=4096;
        return \"accepted\\n\";
    }
}
";

const HAPROXY: &str = "\
global
    nbthread 1
    maxconn 4000
defaults
    mode http
    timeout client 10s
    timeout connect 10s
    timeout server 10s
frontend accepting
    bind {addr} backlog 4096
    http-request return status 200 content-type text/plain string accepted
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = CANDIDATES.iter().map(|candidate| candidate.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CANDIDATES.len());
    }

    #[test]
    fn tables_that_are_named_exist() {
        let effort = crate::tables::Effort::quick();
        let tables = crate::tables::all(&effort);
        for name in CANDIDATES.iter().flat_map(|candidate| candidate.tables) {
            assert!(tables.iter().any(|table| table.name == *name), "{name}");
        }
    }
}
