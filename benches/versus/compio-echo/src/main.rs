//! `compio-echo ADDR`: a TCP echo server on compio's io_uring driver, one thread.
//!
//! A task per connection with one buffer that travels into the kernel and back; every byte is
//! written before the next is read, and the end of the peer's stream is passed back.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use compio::BufResult;
use compio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::Runtime;

fn main() -> ExitCode {
    peer::run("compio-echo", |addr| Runtime::new()?.block_on(serve(addr)))
}

async fn serve(addr: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::from_std(peer::listen(addr)?)?;
    peer::announce(listener.local_addr()?);
    loop {
        match listener.accept().await {
            // What a peer does wrong is its own loss: nobody is there to be told.
            Ok((stream, _)) => compio::runtime::spawn(echo(stream)).detach(),
            Err(_) => compio::runtime::time::sleep(peer::PAUSE).await,
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(peer::BUFFER);
    loop {
        let BufResult(read, filled) = stream.read(buffer).await;
        if read? == 0 {
            return stream.shutdown().await;
        }
        let BufResult(written, sent) = stream.write_all(filled).await;
        written?;
        buffer = sent;
        buffer.clear();
    }
}
