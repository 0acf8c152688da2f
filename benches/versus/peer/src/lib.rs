//! What every peer has in common, so that their sources show only what differs: the address from
//! the command line, a listening socket with the same backlog and TCP_NODELAY, the same buffer size
//! and the same pause when accept fails.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of the one buffer that a connection reads into: the same for all.
pub const BUFFER: usize = 16 << 10;
const BACKLOG: i32 = 4096;
/// How long to wait after accept failed for want of descriptors, which the next close may bring.
pub const PAUSE: Duration = Duration::from_millis(10);

/// Runs `serve` on the address that the command line gives first; it returns only with an error.
pub fn run(name: &str, serve: impl FnOnce(SocketAddr) -> io::Result<()>) -> ExitCode {
    let Some(Ok(addr)) = std::env::args().nth(1).map(|addr| addr.parse()) else {
        eprintln!("usage: {name} ADDR");
        return 2.into();
    };
    if let Err(error) = serve(addr) {
        eprintln!("{name}: {addr}: {error}");
    }
    ExitCode::FAILURE
}

/// A non-blocking listening socket at `addr`, as the runtimes want it.
///
/// # Errors
/// What socket(2), bind(2) or listen(2) said.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it (Linux), so that no server pays a call per connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Tells whoever started the peer that it serves.
pub fn announce(addr: SocketAddr) {
    eprintln!("listening {addr}");
}
