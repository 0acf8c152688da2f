//! `compio-echo ADDR`: a TCP echo server on compio's io_uring driver, one thread.
//!
//! A task per connection with one buffer that travels into the kernel and back; every byte is
//! written before the next is read, and the end of the peer's stream is passed back.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use compio::BufResult;
use compio::driver::ProactorBuilder;
use compio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::{Runtime, RuntimeBuilder};
use futures_lite::StreamExt;

/// Submission entries: its default is 1024.
const CAPACITY: u32 = 4096;

fn main() -> ExitCode {
    peer::run("compio-echo", |addr| runtime()?.block_on(serve(addr)))
}

/// The ring that compio's documentation advises for a runtime of one thread.
fn runtime() -> io::Result<Runtime> {
    let mut proactor = ProactorBuilder::new();
    proactor.capacity(CAPACITY).single_issuer(true).defer_taskrun(true);
    RuntimeBuilder::new().with_proactor(proactor).build()
}

async fn serve(addr: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::from_std(peer::listen(addr)?)?;
    peer::announce(listener.local_addr()?);
    let mut incoming = listener.incoming();
    while let Some(accepted) = incoming.next().await {
        match accepted {
            // What a peer does wrong is its own loss: nobody is there to be told.
            Ok(stream) => compio::runtime::spawn(echo(stream)).detach(),
            Err(_) => compio::runtime::time::sleep(peer::PAUSE).await,
        }
    }
    Err(io::Error::other("no more connections can come"))
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
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
