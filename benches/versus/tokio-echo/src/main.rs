//! `tokio-echo ADDR [multi-thread|current-thread]`: a TCP echo server as one would write it on
//! tokio.
//!
//! A task per connection with one buffer, so memory is bounded and a slow reader stops only itself;
//! the end of the peer's stream is passed back once everything owed is sent.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    peer::run("tokio-echo", |addr| {
        let mut builder = match std::env::args().nth(2).as_deref() {
            Some("current-thread") => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        };
        builder.enable_all().build()?.block_on(serve(addr))
    })
}

async fn serve(addr: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::from_std(peer::listen(addr)?)?;
    peer::announce(listener.local_addr()?);
    loop {
        match listener.accept().await {
            // What a peer does wrong is its own loss: nobody is there to be told.
            Ok((stream, _)) => drop(tokio::spawn(echo(stream))),
            Err(_) => tokio::time::sleep(peer::PAUSE).await,
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(peer::BUFFER);
    while stream.read_buf(&mut buffer).await? > 0 {
        stream.write_all(&buffer).await?;
        buffer.clear();
    }
    stream.shutdown().await
}
