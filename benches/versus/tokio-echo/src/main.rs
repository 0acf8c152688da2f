//! `tokio-echo ADDR`: a TCP echo server as one would write it on tokio.
//!
//! A task per connection with one buffer, so memory is bounded and a slow reader stops only itself;
//! the end of the peer's stream is passed back once everything owed is sent.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use bytes::BytesMut;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BUFFER: usize = 16 << 10;
const BACKLOG: i32 = 4096;
/// A pause after accept failed for want of descriptors, which the next close may bring.
const PAUSE: Duration = Duration::from_millis(10);

#[tokio::main]
async fn main() -> ExitCode {
    let Some(Ok(addr)) = env::args().nth(1).map(|addr| addr.parse()) else {
        eprintln!("usage: tokio-echo ADDR");
        return 2.into();
    };
    match listen(addr) {
        Ok(listener) => serve(&listener).await,
        Err(error) => eprintln!("tokio-echo: {addr}: {error}"),
    }
    ExitCode::FAILURE
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn serve(listener: &TcpListener) {
    eprintln!("listening {:?}", listener.local_addr());
    loop {
        match listener.accept().await {
            // What a peer does wrong is its own loss: nobody is there to be told.
            Ok((stream, _)) => drop(tokio::spawn(echo(stream))),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(BUFFER);
    while stream.read_buf(&mut buffer).await? > 0 {
        stream.write_all(&buffer).await?;
        buffer.clear();
    }
    stream.shutdown().await
}
