//! When connections of one port are established, told by the kernel's tracepoint
//! `sock:inet_sock_set_state` through perf_event_open(2): no program is loaded into the kernel, and
//! what the filter leaves out costs nothing here.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use perf_event_open::config::{Clock, Cpu, Opts, Proc, SampleOn};
use perf_event_open::count::Counter;
use perf_event_open::event::tp::Tracepoint;
use perf_event_open::sample::Sampler;
use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use uring_echo::values::cpu_list;

use super::diag::{AF_INET, AF_INET6};

/// A connection whose handshake has ended at the server: it is in the accept queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Established {
    /// Monotonic nanoseconds.
    pub at_ns: u64,
    /// The server's end.
    pub server: SocketAddr,
    /// The client's.
    pub client: SocketAddr,
}

/// Why the tracepoint cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// tracefs does not show it.
    #[error(
        "reading the tracepoint sock:inet_sock_set_state in tracefs: {0}. It takes root \
         (CAP_SYS_ADMIN where /sys/kernel/tracing is not mounted) and a kernel with CONFIG_FTRACE"
    )]
    Tracepoint(io::Error),
    /// It cannot be opened.
    #[error(
        "perf_event_open of sock:inet_sock_set_state on CPU {cpu}: {cause} \
         (kernel.perf_event_paranoid is {paranoid}). It takes CAP_PERFMON or root outside user \
         namespaces, and a seccomp profile that allows the call"
    )]
    Open {
        /// The CPU.
        cpu: u32,
        /// What the kernel said.
        cause: io::Error,
        /// The setting, or why it cannot be read.
        paranoid: String,
    },
    /// Its buffer cannot be mapped.
    #[error(
        "mapping the buffer of sock:inet_sock_set_state: {0}. Raise kernel.perf_event_mlock_kb or \
         RLIMIT_MEMLOCK (ulimit -l)"
    )]
    Buffer(io::Error),
    /// The sockets of the port cannot be listed.
    #[error("listing the sockets of the port: {0}")]
    Sockets(io::Error),
}

/// The established connections of one port, in all network namespaces of the machine: the
/// tracepoint does not tell them apart.
pub struct EstablishedTrace {
    rings: Vec<Ring>,
    layout: Layout,
}

struct Ring {
    counter: Counter,
    sampler: Sampler,
}

/// Pages of a buffer as a power of two: 32 KiB hold some 300 connections of one CPU between two
/// reads.
const BUFFER_PAGES_LOG2: u8 = 3;

impl std::fmt::Debug for EstablishedTrace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EstablishedTrace").field("rings", &self.rings.len()).finish_non_exhaustive()
    }
}

impl EstablishedTrace {
    /// Begins to record the connections to local port `port`.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn open(port: u16) -> Result<Self, TraceError> {
        let tracefs = Tracefs::open().map_err(TraceError::Tracepoint)?;
        let id = tracefs.read("id").map_err(TraceError::Tracepoint)?;
        let id = id.trim().parse().map_err(|_| TraceError::Tracepoint(malformed()))?;
        let format = tracefs.read("format").map_err(TraceError::Tracepoint)?;
        let layout = Layout::parse(&format).ok_or_else(|| TraceError::Tracepoint(malformed()))?;
        let cpus = online().map_err(TraceError::Tracepoint)?;
        let rings = cpus.into_iter().map(|cpu| Ring::open(id, cpu, port));
        Ok(Self { rings: rings.collect::<Result<_, _>>()?, layout })
    }

    /// Passes every connection recorded since the last call to `each`, those of one CPU after the
    /// other. Returns how many were lost because a buffer was full.
    pub fn take(&mut self, mut each: impl FnMut(Established)) -> u64 {
        let mut lost = 0;
        for ring in &self.rings {
            let Some(records) = ring.sampler.iter() else { continue };
            let mut records = records.into_cow();
            while let Some(record) = records.lending_next() {
                match self.layout.record(record.as_raw().as_bytes()) {
                    Some(Record::Established(one)) => each(one),
                    Some(Record::Lost(count)) => lost += count,
                    None => {}
                }
            }
        }
        lost
    }
}

impl Ring {
    fn open(id: u64, cpu: u32, port: u16) -> Result<Self, TraceError> {
        let mut options = Opts { sample_on: SampleOn::Count(1), ..Opts::default() };
        options.sample_format.raw = true;
        options.record_id_format.time = true;
        options.timer = Some(Clock::Monotonic);
        let failed = |cause| TraceError::Open { cpu, cause, paranoid: paranoid() };
        let counter =
            Counter::new(Tracepoint { id }, (Proc::ALL, Cpu(cpu)), options).map_err(failed)?;
        // From TCP_SYN_RECV to TCP_ESTABLISHED (linux/tcp_states.h): the end of a handshake at the
        // side that listens.
        let filter = format!("sport=={port} && oldstate==3 && newstate==1");
        let filter = CString::new(filter).expect("it has no zero byte");
        counter.with_ftrace_filter(&filter).map_err(failed)?;
        let sampler = counter.sampler(BUFFER_PAGES_LOG2).map_err(TraceError::Buffer)?;
        counter.enable().map_err(failed)?;
        Ok(Self { counter, sampler })
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel also stops recording when the last descriptor is closed.
        drop(self.counter.disable());
    }
}

fn paranoid() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    text.map_or_else(|error| error.to_string(), |text| text.trim().to_owned())
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its description makes no sense")
}

fn online() -> io::Result<Vec<u32>> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online")?;
    let list = cpu_list(text.trim()).map_err(|error| io::Error::other(error.to_string()))?;
    list.0.iter().map(|cpu| u32::try_from(*cpu).map_err(|_| malformed())).collect()
}

/// The folder of the tracepoint, where the system mounted tracefs; else in a mount of it that only
/// this process sees and that ends with it.
enum Tracefs {
    Mounted(&'static str),
    Own(OwnedFd),
}

const EVENT: &str = "events/sock/inet_sock_set_state";

impl Tracefs {
    fn open() -> io::Result<Self> {
        let roots = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
        let there = |root: &&str| fs::exists(format!("{root}/{EVENT}")).unwrap_or(false);
        if let Some(root) = roots.into_iter().find(there) {
            return Ok(Self::Mounted(root));
        }
        let context = rustix::mount::fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(&context)?;
        let (flags, attributes) = (FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
        Ok(Self::Own(rustix::mount::fsmount(&context, flags, attributes)?))
    }

    fn read(&self, name: &str) -> io::Result<String> {
        match self {
            Self::Mounted(root) => fs::read_to_string(format!("{root}/{EVENT}/{name}")),
            Self::Own(mount) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let file = openat(mount, format!("{EVENT}/{name}"), flags, Mode::empty())?;
                io::read_to_string(File::from(file))
            }
        }
    }
}

/// Where the fields of the tracepoint lie; the kernel describes them in `format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    family: usize,
    server_port: usize,
    client_port: usize,
    server_v4: usize,
    client_v4: usize,
    server_v6: usize,
    client_v6: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Record {
    Established(Established),
    Lost(u64),
}

impl Layout {
    fn parse(format: &str) -> Option<Self> {
        let offset = |name: &str| {
            let line = format.lines().find(|line| {
                let field = line.split(';').next().unwrap_or("").trim_end_matches(']');
                let field = field.trim_end_matches(|c: char| c.is_ascii_digit());
                field.trim_end_matches('[').ends_with(&format!(" {name}"))
            })?;
            line.split_once("offset:")?.1.split(';').next()?.parse().ok()
        };
        Some(Self {
            family: offset("family")?,
            server_port: offset("sport")?,
            client_port: offset("dport")?,
            server_v4: offset("saddr")?,
            client_v4: offset("daddr")?,
            server_v6: offset("saddr_v6")?,
            client_v6: offset("daddr_v6")?,
        })
    }

    /// A record as perf_event_open(2) describes it: a header, then the time and the raw data.
    fn record(&self, bytes: &[u8]) -> Option<Record> {
        match u32::from_ne_bytes(*bytes.first_chunk()?) {
            PERF_RECORD_LOST => Some(Record::Lost(u64_at(bytes, HEADER_LEN + 8)?)),
            PERF_RECORD_SAMPLE => {
                let at_ns = u64_at(bytes, HEADER_LEN)?;
                let raw = bytes.get(HEADER_LEN + 12..)?;
                let family = u16::from_ne_bytes(*raw.get(self.family..)?.first_chunk()?);
                let (server, client) = match u8::try_from(family).ok()? {
                    AF_INET => (v4(raw, self.server_v4)?, v4(raw, self.client_v4)?),
                    AF_INET6 => (v6(raw, self.server_v6)?, v6(raw, self.client_v6)?),
                    _ => return None,
                };
                let port = |at: usize| Some(u16::from_ne_bytes(*raw.get(at..)?.first_chunk()?));
                let server = SocketAddr::new(server, port(self.server_port)?);
                let client = SocketAddr::new(client, port(self.client_port)?);
                Some(Record::Established(Established { at_ns, server, client }))
            }
            _ => None,
        }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn v4(raw: &[u8], at: usize) -> Option<IpAddr> {
    let bytes: [u8; 4] = *raw.get(at..)?.first_chunk()?;
    Some(IpAddr::V4(Ipv4Addr::from(bytes)))
}

/// IPv4 where it is mapped: a connection that a listener on `[::]` took.
fn v6(raw: &[u8], at: usize) -> Option<IpAddr> {
    let bytes: [u8; 16] = *raw.get(at..)?.first_chunk()?;
    Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
}

const HEADER_LEN: usize = 8;
const PERF_RECORD_LOST: u32 = 2;
const PERF_RECORD_SAMPLE: u32 = 9;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use proptest::prelude::*;
    use uring_echo::clock::monotonic_ns;

    use super::*;

    const FORMAT: &str = "\
name: inet_sock_set_state
format:
\tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;
\tfield:__u16 sport;\toffset:24;\tsize:2;\tsigned:0;
\tfield:__u16 dport;\toffset:26;\tsize:2;\tsigned:0;
\tfield:__u16 family;\toffset:28;\tsize:2;\tsigned:0;
\tfield:__u8 saddr[4];\toffset:32;\tsize:4;\tsigned:0;
\tfield:__u8 daddr[4];\toffset:36;\tsize:4;\tsigned:0;
\tfield:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;
\tfield:__u8 daddr_v6[16];\toffset:56;\tsize:16;\tsigned:0;
";

    #[test]
    fn the_layout_is_read_from_the_kernels_description() {
        let layout = Layout::parse(FORMAT).unwrap();
        assert_eq!((layout.family, layout.server_port, layout.client_port), (28, 24, 26));
        assert_eq!((layout.server_v4, layout.client_v4), (32, 36));
        assert_eq!((layout.server_v6, layout.client_v6), (40, 56));
        assert_eq!(Layout::parse("format: of something else"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_records_never_panic(bytes: Vec<u8>, kind in 0_u32..12) {
            let layout = Layout::parse(FORMAT).unwrap();
            let mut record = kind.to_ne_bytes().to_vec();
            record.extend(bytes);
            layout.record(&record);
        }
    }

    fn check(listener: &TcpListener, connect_to: SocketAddr) {
        let mut trace = match EstablishedTrace::open(connect_to.port()) {
            Ok(trace) => trace,
            Err(error) => return eprintln!("SKIPPED: {error}"),
        };
        let before = monotonic_ns();
        let stream = TcpStream::connect(connect_to).unwrap();
        let after = monotonic_ns();
        let mut seen = Vec::new();
        assert_eq!(trace.take(|one| seen.push(one)), 0);
        let [one] = seen[..] else { panic!("{seen:?}") };
        let client = stream.local_addr().unwrap();
        assert_eq!((one.server, one.client), (connect_to, client));
        assert!((before..=after).contains(&one.at_ns), "{before} {one:?} {after}");
        drop(listener.accept().unwrap());
        assert_eq!(trace.take(|one| panic!("{one:?}")), 0);
    }

    #[test]
    fn a_connection_is_told_with_its_instant_where_that_is_permitted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        check(&listener, listener.local_addr().unwrap());
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        check(&listener, SocketAddr::new("::1".parse().unwrap(), port));
        check(&listener, SocketAddr::new("127.0.0.1".parse().unwrap(), port));
    }
}
