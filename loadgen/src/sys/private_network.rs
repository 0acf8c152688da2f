//! A network namespace for this process alone, with a hash table of TCP sockets of its own.
//!
//! The process moves into it and stays what it is: no program is started, so that its id, signals,
//! files and exit status are what they were.

use std::fs;
use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use rustix::process::{getegid, geteuid};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use uring_echo::sys::procfs::{seccomp_mode, sysctl_number};

/// A network namespace that this process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateNetwork {
    /// Buckets of the hash table of its TCP sockets; `None` before Linux 6.1, which does not tell.
    pub hash_buckets: Option<u64>,
    /// Why that table is the machine's, if it is.
    pub shared_because: Option<String>,
}

/// The namespace could not be made.
#[derive(Debug, thiserror::Error)]
#[error(
    "--private-network: {tried} failed: {cause}; likely cause: {likely}; remedy: run it as root, \
     or where that is allowed by hand (unshare -n sh -c 'ip link set lo up; exec loadgen hold …'), \
     or without --private-network on the network that is here"
)]
pub struct NoPrivateNetwork {
    tried: &'static str,
    cause: io::Error,
    likely: String,
}

impl NoPrivateNetwork {
    fn of(tried: &'static str, cause: impl Into<io::Error>) -> Self {
        let likely = likely_cause(sysctl_number, seccomp_mode(), Path::new(OWN_NETWORK).exists());
        Self { tried, cause: cause.into(), likely }
    }
}

/// Moves the calling thread, and whatever it starts from here on, into a new network namespace
/// whose loopback is up. Its hash table of TCP sockets has `buckets` if the kernel can give it one
/// of its own (Linux 6.1). Whoever may not make such a namespace makes a user namespace around it,
/// as itself and without the capabilities of one; the process must have a single thread then
/// (unshare(2)).
///
/// # Errors
/// [`NoPrivateNetwork`].
pub fn enter(buckets: u32) -> Result<PrivateNetwork, NoPrivateNetwork> {
    let inside_user_namespace = new_network()?;
    let unsized_because = resize(buckets).err();
    loopback_up().map_err(|cause| NoPrivateNetwork::of("starting its loopback", cause))?;
    if inside_user_namespace {
        let back = "giving back the capabilities in its user namespace";
        drop_capabilities().map_err(|cause| NoPrivateNetwork::of(back, cause))?;
    }
    Ok(seen(sysctl_number(TABLE), unsized_because))
}

/// Buckets of the hash table that this network namespace uses, as far as the kernel tells.
#[must_use]
pub fn hash_buckets() -> Option<u64> {
    sysctl_number::<i64>(TABLE).map(i64::unsigned_abs)
}

/// What the kernel says of its table: less than 0 is the size of one that is shared.
fn seen(table: Option<i64>, unsized_because: Option<String>) -> PrivateNetwork {
    let is_own = table.is_some_and(|buckets| buckets > 0);
    let no_memory = || "the kernel had no memory for one of its own".to_owned();
    PrivateNetwork {
        hash_buckets: table.map(i64::unsigned_abs),
        shared_because: (!is_own).then(|| unsized_because.unwrap_or_else(no_memory)),
    }
}

/// Whether it took a user namespace.
fn new_network() -> Result<bool, NoPrivateNetwork> {
    let failed = |tried, error: nix::Error| NoPrivateNetwork::of(tried, error);
    match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => return Ok(false),
        Err(nix::Error::EPERM) => {}
        Err(error) => return Err(failed("making a network namespace", error)),
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let user = "making a user namespace, without which this user may make no network namespace,";
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| failed(user, error))?;
    let mapping = "mapping this user into a user namespace";
    become_oneself(uid, gid).map_err(|cause| NoPrivateNetwork::of(mapping, cause))?;
    let inside = "making a network namespace in a user namespace";
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| failed(inside, error))?;
    Ok(true)
}

/// Whoever has no other privilege may map itself only, and must give up setgroups(2) before
/// (user_namespaces(7)).
fn become_oneself(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

/// The sysctl is of the namespace in which another is made, so it takes two: one to set it in, and
/// one whose table that is.
fn resize(buckets: u32) -> Result<(), String> {
    let name = CHILDS_TABLE.replace('/', ".");
    fs::write(format!("/proc/sys/{CHILDS_TABLE}"), buckets.to_string()).map_err(
        |error| match error.kind() {
            io::ErrorKind::NotFound => format!("there is no {name} (Linux before 6.1)"),
            _ => format!("{name} cannot be written ({error})"),
        },
    )?;
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("the namespace that would have its own cannot be made ({error})"))
}

/// Otherwise this process would seem to be exempt from limits of the machine.
fn drop_capabilities() -> rustix::io::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, sets)
}

/// What `ip link set lo up` does (rtnetlink(7)). The kernel answers while it takes the request.
fn loopback_up() -> io::Result<()> {
    let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
    // No protocol is the first one, NETLINK_ROUTE.
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    send(&socket, &loopback_up_request(), SendFlags::empty())?;
    let mut answer = [0; 128];
    let (len, _) = recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    acknowledged(&answer[..len])
}

/// A `struct nlmsghdr` and a `struct ifinfomsg`.
fn loopback_up_request() -> [u8; REQUEST_LEN] {
    let mut request = [0; REQUEST_LEN];
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &32_u32.to_ne_bytes());
    put(4, &RTM_NEWLINK.to_ne_bytes());
    put(6, &(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    put(20, &LOOPBACK.to_ne_bytes());
    put(24, &IFF_UP.to_ne_bytes());
    put(28, &IFF_UP.to_ne_bytes());
    request
}

/// An answer has a header and an errno, less than 0 or 0.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    match answer.get(16..).and_then(|rest| rest.first_chunk()).map(|raw| i32::from_ne_bytes(*raw)) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno.wrapping_neg())),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is cut short")),
    }
}

/// What denies namespaces here, as far as it can be seen.
fn likely_cause(
    sysctl: impl Fn(&str) -> Option<u64>,
    seccomp_mode: Option<u32>,
    kernel_has_them: bool,
) -> String {
    if !kernel_has_them {
        return "this kernel has no network namespaces (CONFIG_NET_NS)".into();
    }
    if let Some((name, value)) = DENY.iter().find(|(name, value)| sysctl(name) == Some(*value)) {
        return format!("{} is {value}", name.replace('/', "."));
    }
    match seccomp_mode {
        Some(2) => "a seccomp filter, as containers have (docker run --cap-add SYS_ADMIN)".into(),
        _ => "unknown: no sysctl and no seccomp filter denies it, a security module may".into(),
    }
}

const OWN_NETWORK: &str = "/proc/self/ns/net";
/// Buckets of the table of this namespace, and of those that are made in it; below /proc/sys.
const TABLE: &str = "net/ipv4/tcp_ehash_entries";
const CHILDS_TABLE: &str = "net/ipv4/tcp_child_ehash_entries";
/// Settings that deny namespaces, with the value that does.
const DENY: [(&str, u64); 4] = [
    ("user/max_net_namespaces", 0),
    ("user/max_user_namespaces", 0),
    ("kernel/unprivileged_userns_clone", 0),
    ("kernel/apparmor_restrict_unprivileged_userns", 1),
];
const REQUEST_LEN: usize = 32;
const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
/// The index of lo in every namespace.
const LOOPBACK: i32 = 1;
const IFF_UP: u32 = 0x1;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt;
    use std::thread;

    use super::*;

    #[test]
    fn the_kernel_says_whose_table_it_is() {
        let own = PrivateNetwork { hash_buckets: Some(4096), shared_because: None };
        assert_eq!(seen(Some(4096), None), own);
        assert_eq!(seen(Some(4096), Some("not written".into())), own, "an inherited setting");
        let shared = seen(Some(-262_144), Some("not written".into()));
        assert_eq!(shared.hash_buckets, Some(262_144));
        assert_eq!(shared.shared_because.as_deref(), Some("not written"));
        let silent = seen(Some(-262_144), None).shared_because.expect("shared");
        assert!(silent.contains("no memory"), "{silent}");
        assert_eq!(seen(None, Some("Linux 6.0".into())).hash_buckets, None);
    }

    #[test]
    fn what_denies_namespaces_is_looked_for() {
        let with = |name: &'static str, value| move |asked: &str| (asked == name).then_some(value);
        let cause = |sysctl: (&'static str, u64), seccomp, has| {
            likely_cause(with(sysctl.0, sysctl.1), Some(seccomp), has)
        };
        let none = ("user/max_user_namespaces", 0);
        assert_eq!(cause(none, 2, true), "user.max_user_namespaces is 0");
        let some = ("user/max_user_namespaces", 96_000);
        assert!(cause(some, 2, true).contains("--cap-add SYS_ADMIN"));
        assert!(cause(some, 0, true).contains("unknown"));
        assert!(cause(none, 0, false).contains("CONFIG_NET_NS"));
    }

    #[test]
    fn an_answer_is_an_errno() {
        let answer = |errno: i32| [&[0; 16][..], &errno.to_ne_bytes()].concat();
        assert!(acknowledged(&answer(0)).is_ok());
        let denied = acknowledged(&answer(-1)).expect_err("EPERM");
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
        assert!(acknowledged(&[0; 18]).is_err());
    }

    /// A thread can have a namespace of its own, as root.
    #[test]
    fn a_thread_finds_itself_alone_with_its_loopback() {
        let namespace = || fs::metadata("/proc/thread-self/ns/net").expect("a Linux").ino();
        let outside = namespace();
        let entered = thread::spawn(move || {
            let entered = enter(1000)?;
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has its address");
            TcpStream::connect(listener.local_addr().expect("bound")).expect("and is up");
            assert_ne!(namespace(), outside);
            Ok::<_, NoPrivateNetwork>(entered)
        });
        match entered.join().expect("no assertion failed") {
            Ok(PrivateNetwork { hash_buckets, shared_because: None }) => {
                assert_eq!(hash_buckets, Some(1024), "the next power of two");
            }
            Ok(PrivateNetwork { shared_because: Some(why), .. }) => eprintln!("shared: {why}"),
            Err(error) => eprintln!("SKIPPED: {error}"),
        }
        assert_eq!(namespace(), outside, "the others stay");
    }
}
