//! `versus crowd ADDR`: the classic scene: a thread for each connection, which writes a message,
//! waits for its echo, compares it and goes on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::process;
use crate::span::Span;

/// Of a thread with two messages on the heap.
const STACK: usize = 64 << 10;
/// Whoever waits longer was left waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to send, for how long.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    addr: SocketAddr,
    /// Connections, and threads
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Bytes per message
    #[arg(long, default_value_t = 512)]
    size: usize,
    /// Milliseconds of load before the measurement
    #[arg(long, default_value_t = 300)]
    warmup: u64,
    #[command(flatten)]
    span: Span,
}

/// What was seen between the end of the warm-up and the end of the measurement.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CrowdResult {
    pub(crate) echoes: u64,
    /// Echoes of the client that had the fewest, as a share of the mean.
    pub(crate) fewest: f64,
    pub(crate) elapsed_ns: u64,
    pub(crate) client_cpu_ns: u64,
    pub(crate) server_cpu_ns: Option<u64>,
    /// Echoes from the first to the last.
    pub(crate) all_echoes: u64,
}

/// Runs the load and prints [`CrowdResult`] as JSON on stdout; `ready` goes to stderr once
/// connected, `done` once the last echo has come back.
pub(crate) fn run(options: &Options) -> Result<()> {
    let streams = (0..options.connections).map(|_| open(options.addr));
    let streams = streams.collect::<Result<Vec<_>>>()?;
    eprintln!("ready");
    options.span.settle();
    let crowd = Crowd::start(streams, options.size)?;
    thread::sleep(Duration::from_millis(options.warmup));
    let before = crowd.look(options.span.watch)?;
    thread::sleep(options.span.duration());
    let after = crowd.look(options.span.watch)?;
    let all_echoes = crowd.stop()?;
    println!("{}", serde_json::to_string(&before.until(&after, all_echoes))?);
    eprintln!("done");
    options.span.settle();
    Ok(())
}

fn open(addr: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(addr).with_context(|| format!("connecting to {addr}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The threads at work.
struct Crowd {
    members: Vec<Member>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    enough: AtomicBool,
    failure: Mutex<Option<String>>,
}

struct Member {
    echoes: Arc<Count>,
    thread: JoinHandle<()>,
}

/// On a cache line of its own: only its thread writes to it.
#[repr(align(64))]
#[derive(Default)]
struct Count(AtomicU64);

impl Crowd {
    fn start(streams: Vec<TcpStream>, size: usize) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let member = |(index, stream)| {
            let (echoes, shared) = (Arc::<Count>::default(), Arc::clone(&shared));
            let count = Arc::clone(&echoes);
            let thread = thread::Builder::new().stack_size(STACK).spawn(move || {
                if let Err(error) = echo(stream, message(index, size), &count, &shared.enough) {
                    let text = format!("connection {index}: {error:#}");
                    shared.failure.lock().expect("no panic").get_or_insert(text);
                }
            })?;
            Ok(Member { echoes, thread })
        };
        let members = streams.into_iter().enumerate().map(member).collect::<Result<_>>()?;
        Ok(Self { members, shared })
    }

    fn look(&self, server: Option<u32>) -> Result<Look> {
        Ok(Look {
            at: Instant::now(),
            echoes: self.members.iter().map(|member| member.echoes.0.load(Relaxed)).collect(),
            client_cpu_ns: process::own_cpu_ns(std::process::id())?,
            server_cpu_ns: server.map(process::own_cpu_ns).transpose()?,
        })
    }

    /// Ends after the echoes that are on their way; returns how many there were in all.
    fn stop(self) -> Result<u64> {
        self.shared.enough.store(true, Relaxed);
        let mut all = 0;
        for member in self.members {
            ensure!(member.thread.join().is_ok(), "a thread panicked");
            all += member.echoes.0.load(Relaxed);
        }
        match self.shared.failure.lock().expect("no panic").take() {
            Some(failure) => bail!(failure),
            None => Ok(all),
        }
    }
}

/// One reading of all clocks and counters.
struct Look {
    at: Instant,
    /// Of each client.
    echoes: Vec<u64>,
    client_cpu_ns: u64,
    server_cpu_ns: Option<u64>,
}

impl Look {
    fn until(&self, later: &Self, all_echoes: u64) -> CrowdResult {
        let server = later.server_cpu_ns.zip(self.server_cpu_ns);
        let each = || later.echoes.iter().zip(&self.echoes).map(|(later, before)| later - before);
        let (echoes, fewest) = (each().sum::<u64>(), each().min().unwrap_or_default());
        CrowdResult {
            echoes,
            fewest: fewest as f64 * self.echoes.len() as f64 / echoes.max(1) as f64,
            elapsed_ns: (later.at - self.at).as_nanos() as u64,
            client_cpu_ns: later.client_cpu_ns.saturating_sub(self.client_cpu_ns),
            server_cpu_ns: server.map(|(later, before)| later.saturating_sub(before)),
            all_echoes,
        }
    }
}

/// One connection's life.
fn echo(
    mut stream: TcpStream,
    message: Vec<u8>,
    echoes: &Count,
    enough: &AtomicBool,
) -> Result<()> {
    let mut back = vec![0; message.len()];
    while !enough.load(Relaxed) {
        stream.write_all(&message).context("sending")?;
        stream.read_exact(&mut back).context("waiting for the echo")?;
        ensure!(back == message, "other bytes came back than were sent");
        echoes.0.fetch_add(1, Relaxed);
    }
    Ok(())
}

/// Another one for each connection.
fn message(index: usize, size: usize) -> Vec<u8> {
    let mut state = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(byte).take(size).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Echoes, or answers with other bytes.
    fn serve(wrong: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let (mut from, mut to) = (&stream, &stream);
                    let mut buffer = [0; 64];
                    while from.read_exact(&mut buffer).is_ok() {
                        buffer[63] ^= u8::from(wrong);
                        to.write_all(&buffer).expect("the client reads");
                    }
                });
            }
        });
        addr
    }

    fn echoes(addr: SocketAddr) -> Result<u64> {
        let streams = (0..3).map(|_| open(addr).expect("connected")).collect();
        let crowd = Crowd::start(streams, 64)?;
        while crowd.look(None)?.echoes.iter().sum::<u64>() < 30
            && !crowd.members[0].thread.is_finished()
        {
            thread::yield_now();
        }
        crowd.stop()
    }

    #[test]
    fn the_fewest_are_a_share_of_the_mean() {
        let look =
            |echoes| Look { at: Instant::now(), echoes, client_cpu_ns: 0, server_cpu_ns: None };
        let seen = look(vec![5, 0, 1]).until(&look(vec![15, 20, 31]), 66);
        assert_eq!((seen.echoes, seen.fewest), (60, 0.5));
        assert_eq!(look(vec![7]).until(&look(vec![7]), 7).fewest, 0.0);
    }

    #[test]
    fn echoes_are_counted_and_compared() {
        assert!(echoes(serve(false)).expect("echoes") >= 30);
        let error = echoes(serve(true)).expect_err("wrong").to_string();
        assert!(error.contains("other bytes"), "{error}");
    }
}
