//! `glommio-echo ADDR`: a TCP echo server on glommio, one executor.
//!
//! A task per connection with one buffer; every byte is written before the next is read, and the
//! end of the peer's stream is passed back. Its listener can only be made by glommio itself, with
//! the backlog of 1024 that it fixes, where the other peers have 4096.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::process::ExitCode;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{GlommioError, LocalExecutorBuilder, Placement};

/// Entries of each of its rings: its default is 128.
const DEPTH: usize = 4096;

type Result<T> = std::result::Result<T, GlommioError<()>>;

fn main() -> ExitCode {
    peer::run("glommio-echo", |addr| {
        let executor = LocalExecutorBuilder::new(Placement::Unbound).ring_depth(DEPTH).make();
        let executor = executor.map_err(|error| io::Error::other(error.to_string()))?;
        executor.run(serve(addr)).map_err(|error| io::Error::other(error.to_string()))
    })
}

async fn serve(addr: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(addr)?;
    peer::announce(listener.local_addr()?);
    loop {
        match listener.accept().await {
            // What a peer does wrong is its own loss: nobody is there to be told.
            Ok(stream) => drop(glommio::spawn_local(echo(stream)).detach()),
            Err(_) => glommio::timer::sleep(peer::PAUSE).await,
        }
    }
}

async fn echo(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; peer::BUFFER];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return stream.shutdown(Shutdown::Write).await;
        }
        stream.write_all(&buffer[..length]).await?;
    }
}
