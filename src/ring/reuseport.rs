//! Which of the listening sockets that share an address a connection goes to.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// Has the kernel put a connection into the queue of the `n`-th socket that began to listen among
/// those that share the address of `listener`, where `n` is the place in `cpus` of the CPU that
/// handles its SYN. A CPU that is not there leaves the choice to the kernel's hash
/// (SO_ATTACH_REUSEPORT_CBPF, socket(7)).
///
/// # Errors
/// EINVAL without SO_REUSEPORT on the socket, or for more than 2,047 CPUs.
pub fn steer_by_filter(listener: BorrowedFd<'_>, cpus: &[u32]) -> Result<(), Errno> {
    let mut program = filter(cpus);
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the option takes a `sock_fprog`, of which the kernel copies `len` instructions during
    // the call, and there are as many behind the pointer.
    unsafe { set(listener, libc::SO_ATTACH_REUSEPORT_CBPF, &program) }
}

/// Undoes [`steer_by_filter`], whichever process did it (SO_DETACH_REUSEPORT_BPF, Linux 5.3).
///
/// # Errors
/// ENOENT if there is no filter, EINVAL without SO_REUSEPORT on the socket.
pub fn forget_cpus(listener: BorrowedFd<'_>) -> Result<(), Errno> {
    let unused: libc::c_int = 0;
    // SAFETY: the option takes an int, which it ignores.
    unsafe { set(listener, libc::SO_DETACH_REUSEPORT_BPF, &unused) }
}

/// # Safety
/// The option `name` of SOL_SOCKET must take a `T`, and whatever that points to must be there
/// during the call.
unsafe fn set<T>(socket: BorrowedFd<'_>, name: libc::c_int, value: &T) -> Result<(), Errno> {
    let len = libc::socklen_t::try_from(size_of::<T>()).expect("a small structure");
    let (fd, value) = (socket.as_raw_fd(), std::ptr::from_ref(value).cast());
    // SAFETY: the kernel reads `len` bytes behind `value`, which are there while it is borrowed;
    // what they mean is the caller's promise. The descriptor is open while it is borrowed.
    let result = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, value, len) };
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
    }
    Ok(())
}

/// Of the CPU that runs the filter (linux/filter.h).
#[allow(clippy::cast_sign_loss, reason = "an offset that means something else")]
const THIS_CPU: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;
/// No socket has this place.
const BY_HASH: u32 = u32::MAX;

/// "If this is CPU `cpus[n]`, then `n`" for each of them.
fn filter(cpus: &[u32]) -> Vec<libc::sock_filter> {
    let mut program = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, THIS_CPU)];
    for (place, cpu) in (0..).zip(cpus) {
        program.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, *cpu));
        program.push(instruction(libc::BPF_RET | libc::BPF_K, 0, place));
    }
    program.push(instruction(libc::BPF_RET | libc::BPF_K, 0, BY_HASH));
    program
}

/// One that skips `otherwise` others if its condition does not hold.
fn instruction(code: u32, otherwise: u8, k: u32) -> libc::sock_filter {
    let code = u16::try_from(code).expect("codes have 16 bits");
    libc::sock_filter { code, jt: 0, jf: otherwise, k }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    use socket2::{Domain, Socket, Type};

    use super::*;

    /// `count` sockets on one address, in the order in which they began to listen.
    fn group(count: usize) -> (Vec<TcpListener>, SocketAddr) {
        let mut addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let listen = |_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_reuse_port(true).expect("known");
            socket.bind(&addr.into()).expect("bound");
            socket.listen(64).expect("listening");
            socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
            let listener = TcpListener::from(socket);
            addr = listener.local_addr().expect("bound");
            listener
        };
        let listeners = (0..count).map(listen).collect();
        (listeners, addr)
    }

    /// This thread, and what it sends over loopback, on one CPU.
    fn stay_on(cpu: usize) {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set).expect("a CPU of this process");
    }

    fn cpus() -> Vec<usize> {
        let allowed = sched_getaffinity(None).expect("a thread");
        (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect()
    }

    #[test]
    fn a_connection_goes_to_the_place_of_its_cpu() {
        let (listeners, addr) = group(3);
        for cpu in cpus() {
            stay_on(cpu);
            let named = u32::try_from(cpu).expect("a number");
            for place in 0..3 {
                let mut list = [u32::MAX - 1; 3];
                list[place] = named;
                steer_by_filter(listeners[0].as_fd(), &list).expect("attached");
                for _ in 0..8 {
                    let _client = TcpStream::connect(addr).expect("listening");
                    listeners[place].accept().expect("in this queue");
                }
            }
        }
        forget_cpus(listeners[1].as_fd()).expect("detached, by whatever socket of the group");
        assert_eq!(forget_cpus(listeners[0].as_fd()), Err(Errno::NOENT));
    }

    #[test]
    fn a_cpu_without_a_place_leaves_it_to_the_hash() {
        let (listeners, addr) = group(2);
        steer_by_filter(listeners[0].as_fd(), &[u32::MAX - 1, u32::MAX - 1]).expect("attached");
        let _clients: Vec<_> =
            (0..48).map(|_| TcpStream::connect(addr).expect("listening")).collect();
        for listener in &listeners {
            listener.accept().expect("one of 48, but for once in 2^47");
        }
    }

    #[test]
    fn a_socket_of_its_own_has_nobody_to_share_with() {
        let alone = TcpListener::bind("127.0.0.1:0").expect("a listener");
        assert_eq!(steer_by_filter(alone.as_fd(), &[0]), Err(Errno::INVAL));
        assert_eq!(forget_cpus(alone.as_fd()), Err(Errno::INVAL));
    }
}
