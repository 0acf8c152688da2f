//! A small HTTP endpoint on a thread of its own, for metrics and probes: of either program.
//!
//! It is to harm nobody, whoever connects: at most [`MOST_CONNECTIONS`] at a time (the others wait
//! in the accept queue), one request each, 5 s for its header and 10 s for everything. Whatever it
//! needs of the system is there before its thread starts, which afterwards makes only the calls
//! that the sandbox has a table of.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::sys::threads::{self, ThreadError};

/// The content type of OpenMetrics, as scrapers ask for it.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of anything that is for people.
pub const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// Connections at a time.
pub const MOST_CONNECTIONS: usize = 16;
/// How long requests that are being answered may take once the endpoint is to stop.
const GRACE: Duration = Duration::from_secs(1);
/// Before the next accept, where one failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The time that a client has.
#[derive(Clone, Copy)]
struct Patience {
    /// For the header of a request.
    header: Duration,
    /// From the accept to the close.
    whole: Duration,
}

const PATIENCE: Patience =
    Patience { header: Duration::from_secs(5), whole: Duration::from_secs(10) };

/// What is answered to a path.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// What the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A line of plain text.
    #[must_use]
    pub fn text(status: StatusCode, line: &str) -> Self {
        Self { status, content_type: PLAIN_TEXT, body: format!("{line}\n") }
    }

    /// There is nothing at this path.
    #[must_use]
    pub fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "not found")
    }
}

/// Why an endpoint did not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The system refused the listener, or what is needed to wait for connections.
    #[error("HTTP endpoint {addr}: {source}")]
    Os {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused a thread.
    #[error(transparent)]
    Thread(#[from] ThreadError),
}

/// A running endpoint; it ends with the process, or with [`Self::stop`].
#[derive(Debug)]
pub struct Endpoint {
    addr: SocketAddr,
    stop: Stop,
    thread: JoinHandle<()>,
}

/// Stops an endpoint from elsewhere.
#[derive(Clone, Debug)]
pub struct Stop(Arc<Notify>);

impl Stop {
    /// Closes the listener; requests that are being answered are finished.
    pub fn stop(&self) {
        self.0.notify_one();
    }
}

impl Endpoint {
    /// Answers requests for a path with what `answer` returns, on a new thread named `name`.
    ///
    /// # Errors
    /// [`HttpError`]; nothing is left running.
    pub fn start(
        name: &str,
        listener: TcpListener,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Result<Self, HttpError> {
        Self::start_with(PATIENCE, name, listener, answer)
    }

    fn start_with(
        patience: Patience,
        name: &str,
        listener: TcpListener,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Result<Self, HttpError> {
        let addr = listener.local_addr().unwrap_or_else(|_| ([0, 0, 0, 0], 0).into());
        let failed = |source| HttpError::Os { addr, source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let listener = in_runtime(&runtime, listener).map_err(failed)?;
        let stop = Stop(Arc::new(Notify::new()));
        let Stop(stopped) = stop.clone();
        let thread = threads::spawn(name, move || {
            runtime.block_on(async {
                let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
                tokio::select! {
                    () = serve(listener, patience, Arc::new(answer), &places) => {}
                    () = stopped.notified() => {}
                }
                // All of them are free when nobody is being answered.
                let all = u32::try_from(MOST_CONNECTIONS).expect("a few");
                if timeout(GRACE, places.acquire_many(all)).await.is_err() {
                    debug!("an HTTP request was cut off");
                }
            });
        })?;
        Ok(Self { addr, stop, thread })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes the listener; requests that are being answered are finished.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// For stopping it from elsewhere.
    #[must_use]
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// Stops it, and waits until what is being asked is answered, for at most a second.
    pub fn end(self) {
        self.stop.stop();
        if self.thread.join().is_err() {
            warn!("the thread of an HTTP endpoint has panicked");
        }
    }
}

fn in_runtime(runtime: &Runtime, listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    let _entered = runtime.enter();
    tokio::net::TcpListener::from_std(listener)
}

/// Accepts, one connection per free place.
async fn serve<F>(
    listener: tokio::net::TcpListener,
    patience: Patience,
    answer: Arc<F>,
    places: &Arc<Semaphore>,
) where
    F: Fn(&str) -> Answer + Send + Sync + 'static,
{
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = exchange(stream, patience.header, Arc::clone(&answer));
                tokio::spawn(async move {
                    if timeout(patience.whole, connection).await.is_err() {
                        debug!("an HTTP client was too slow");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "the HTTP endpoint could not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One request and its answer. A scraper that comes back after some seconds connects again.
async fn exchange<F>(stream: tokio::net::TcpStream, for_header: Duration, answer: Arc<F>)
where
    F: Fn(&str) -> Answer + Send + Sync + 'static,
{
    let respond = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &*answer);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(for_header);
    connection.keep_alive(false).writev(false).max_buf_size(16 << 10);
    if let Err(error) = connection.serve_connection(TokioIo::new(stream), respond).await {
        debug!(%error, "an HTTP connection ended early");
    }
}

fn respond(request: &Request<Incoming>, answer: &impl Fn(&str) -> Answer) -> Response<String> {
    let readable = matches!(*request.method(), Method::GET | Method::HEAD);
    let Answer { status, content_type, body } = match readable {
        true => answer(request.uri().path()),
        false => Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD"),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !readable {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn endpoint() -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let patience = Patience { header: Duration::from_millis(300), ..PATIENCE };
        Endpoint::start_with(patience, "http", listener, |path| match path {
            "/known" => Answer::text(StatusCode::OK, "known"),
            _ => Answer::not_found(),
        })
        .expect("a thread")
    }

    fn connect(endpoint: &Endpoint) -> TcpStream {
        let stream = TcpStream::connect(endpoint.addr()).expect("listening");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        stream
    }

    fn ask(mut stream: &TcpStream, request: &str) -> String {
        write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answered and closed");
        text
    }

    #[test]
    fn a_path_is_answered_and_a_method_that_changes_things_is_not() {
        let endpoint = endpoint();
        let answer = |request| ask(&connect(&endpoint), request);
        let known = answer("GET /known?of=nothing");
        assert!(known.starts_with("HTTP/1.1 200 OK\r\n"), "{known}");
        assert!(known.ends_with("\r\n\r\nknown\n"), "{known}");
        assert!(answer("GET /").starts_with("HTTP/1.1 404 "));
        let head = answer("HEAD /known");
        assert!(head.contains("content-length: 6\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        let refused = answer("POST /known");
        assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
        assert!(refused.contains("allow: GET, HEAD\r\n"), "{refused}");
        assert!(answer("nonsense").starts_with("HTTP/1.1 400 "));
    }

    #[test]
    fn clients_that_say_nothing_keep_others_waiting_and_no_longer_than_they_may() {
        let endpoint = endpoint();
        let silent: Vec<_> = (0..MOST_CONNECTIONS).map(|_| connect(&endpoint)).collect();
        let last = ask(&connect(&endpoint), "GET /known");
        assert!(last.starts_with("HTTP/1.1 200 "), "{last}");
        for mut stream in silent {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).expect("closed by the endpoint");
        }
    }

    #[test]
    fn a_stopped_endpoint_answers_what_it_was_asked_and_is_gone() {
        let endpoint = endpoint();
        let mut asking = connect(&endpoint);
        ask(&connect(&endpoint), "GET /known");
        write!(asking, "GET /known HTTP/1.1\r\n").expect("the one before it is accepted too");
        endpoint.stop();
        let refused = || TcpStream::connect(endpoint.addr()).is_err();
        let until = std::time::Instant::now() + LIMIT;
        while !refused() {
            assert!(std::time::Instant::now() < until, "it still listens");
            std::thread::sleep(Duration::from_millis(2));
        }
        write!(asking, "Host: x\r\n\r\n").expect("still open");
        let mut text = String::new();
        asking.read_to_string(&mut text).expect("answered");
        assert!(text.ends_with("known\n"), "{text}");
        endpoint.end();
    }
}
