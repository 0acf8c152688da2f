//! One connection: read, write all of it, read again.

use std::cell::Cell;
use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;
use tracing::debug;

use super::counters::Counters;
use crate::config::Config;
use crate::echo::Stats;
use crate::stamp::FRAME_LEN;

/// The counter of the reason why a connection was aborted.
pub(super) type Counter = fn(&mut Stats);

/// Settings shared by all connections.
pub(super) struct ConnectionOptions {
    buffer: usize,
    read: Option<Limit>,
    write: Option<Limit>,
}

/// How long an operation may take, and the counter of those that take longer.
#[derive(Clone, Copy)]
struct Limit {
    after: Duration,
    counter: Counter,
}

impl ConnectionOptions {
    pub(super) fn new(config: &Config) -> Self {
        let limit = |counter: Counter| move |after| Limit { after, counter };
        let idle = config.idle_timeout.map(limit(|stats| stats.idle_timeouts += 1));
        let write = config.write_timeout.map(limit(|stats| stats.write_timeouts += 1));
        Self {
            buffer: config.buffer_size.get() as usize,
            read: idle,
            write: idle.into_iter().chain(write).min_by_key(|limit| limit.after),
        }
    }
}

/// An accepted socket, open until this is dropped.
pub(super) struct Connection {
    stream: TcpStream,
    aborted: Cell<bool>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, aborted: Cell::new(false) }
    }

    /// Shuts the socket down, which ends its operations in flight.
    pub(super) fn abort(&self, counters: &Counters, counter: Counter) {
        if self.aborted.replace(true) {
            return;
        }
        counters.update(counter);
        // Fails if the peer has ended the connection: then its operations end by themselves.
        if let Err(error) = self.stream.shutdown(Shutdown::Both) {
            debug!(%error, "shutting down a connection that is cut short");
        }
    }

    /// Sends the greeting, then echoes until the peer's end of stream; a connection that breaks
    /// before is counted.
    pub(super) async fn run(
        &self,
        options: &ConnectionOptions,
        counters: &Counters,
        greeting: Option<[u8; FRAME_LEN]>,
    ) {
        let echoed = self.echo(options, counters, greeting).await;
        if self.aborted.get() {
            return;
        }
        counters.update(|stats| match echoed {
            Ok(()) => stats.finished += 1,
            Err(_) => stats.reset += 1,
        });
    }

    async fn echo(
        &self,
        options: &ConnectionOptions,
        counters: &Counters,
        greeting: Option<[u8; FRAME_LEN]>,
    ) -> io::Result<()> {
        if self.aborted.get() {
            return Ok(());
        }
        let mut buf = Vec::with_capacity(options.buffer);
        if let Some(frame) = greeting {
            buf.extend_from_slice(&frame);
            buf = self.send(buf, FRAME_LEN, options, counters).await?;
        }
        while !self.aborted.get() {
            let (read, filled) = self.within(options.read, counters, self.stream.read(buf)).await;
            let len = read?;
            if len == 0 {
                break;
            }
            counters.update(|stats| stats.bytes_in += len as u64);
            buf = self.send(filled, len, options, counters).await?;
        }
        Ok(())
    }

    /// Writes the first `len` bytes of `buf` and hands it back.
    async fn send(
        &self,
        mut buf: Vec<u8>,
        len: usize,
        options: &ConnectionOptions,
        counters: &Counters,
    ) -> io::Result<Vec<u8>> {
        let mut sent = 0;
        while sent < len {
            counters.update(|stats| stats.sends += 1);
            let write = self.stream.write(buf.slice(sent..len)).submit();
            let (written, slice) = self.within(options.write, counters, write).await;
            let part = written?;
            counters.update(|stats| stats.bytes_out += part as u64);
            sent += part;
            buf = slice.into_inner();
        }
        Ok(buf)
    }

    /// Awaits `operation`. After the limit the connection is aborted and the operation awaited all
    /// the same, because it owns the buffer and the descriptor.
    async fn within<T>(
        &self,
        limit: Option<Limit>,
        counters: &Counters,
        operation: impl Future<Output = T>,
    ) -> T {
        let mut operation = pin!(operation);
        if let Some(Limit { after, counter }) = limit {
            if let Ok(done) = timeout(after, operation.as_mut()).await {
                return done;
            }
            self.abort(counters, counter);
        }
        operation.await
    }
}
