//! `monoio-echo ADDR`: a TCP echo server on monoio's io_uring driver, one thread.
//!
//! A task per connection with one buffer that travels into the kernel and back; every byte is
//! written before the next is read, and the end of the peer's stream is passed back.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};

/// Submission entries: at monoio's default of 1024 its queue is the limit, not the kernel.
const ENTRIES: u32 = 4096;

fn main() -> ExitCode {
    peer::run("monoio-echo", |addr| {
        let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(ENTRIES);
        builder.enable_timer().build()?.block_on(serve(addr))
    })
}

async fn serve(addr: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::from_std(peer::listen(addr)?)?;
    peer::announce(listener.local_addr()?);
    loop {
        match listener.accept().await {
            // What a peer does wrong is its own loss: nobody is there to be told.
            Ok((stream, _)) => drop(monoio::spawn(echo(stream))),
            Err(_) => monoio::time::sleep(peer::PAUSE).await,
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(peer::BUFFER);
    loop {
        let (read, filled) = stream.read(buffer).await;
        if read? == 0 {
            return stream.shutdown().await;
        }
        let (written, sent) = stream.write_all(filled).await;
        written?;
        buffer = sent;
        buffer.clear();
    }
}
