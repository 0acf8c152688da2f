//! `--export`: metrics of the watch for scrapers, over HTTP.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use uring_echo::http::{Answer, Endpoint, HttpError, OPENMETRICS, StatusCode};

use super::WatchError;
use crate::model::watch_live::WatchSecond;
use crate::render::progress::say;
use crate::render::watch_metrics::WatchMetrics;
use crate::sys::processes::Owners;

/// The endpoint; it ends when dropped.
#[derive(Debug)]
pub(super) struct Exporter {
    metrics: Arc<Mutex<WatchMetrics>>,
    endpoint: Endpoint,
}

/// The listener of the endpoint: bound before the watcher enters another network namespace, where
/// no scraper would find it.
pub(super) fn bind(addr: SocketAddr) -> Result<TcpListener, WatchError> {
    TcpListener::bind(addr).map_err(|source| WatchError::Export { addr, source })
}

impl Exporter {
    /// Answers scrapes from now on. Its thread starts after the watcher has entered a namespace,
    /// which one with several threads may not do.
    pub(super) fn start(listener: TcpListener, watched: SocketAddr) -> Result<Self, HttpError> {
        let metrics = Arc::new(Mutex::new(WatchMetrics::new(watched.to_string())));
        let scraped = Arc::clone(&metrics);
        let endpoint = Endpoint::start("watch-export", listener, move |path| match path {
            "/metrics" => answer(&scraped),
            _ => Answer::not_found(),
        })?;
        say(&format!("metrics at http://{}/metrics", endpoint.addr()));
        Ok(Self { metrics, endpoint })
    }

    /// Takes a second.
    pub(super) fn second(&self, second: &WatchSecond<'_>, owners: &Owners) {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).advance(second, owners);
    }
}

/// The watcher waits for a copy to be made, and not for the text.
fn answer(metrics: &Mutex<WatchMetrics>) -> Answer {
    let metrics = metrics.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if !metrics.has_begun() {
        let line = "the first second of the watch is not over yet";
        return Answer::text(StatusCode::SERVICE_UNAVAILABLE, line);
    }
    Answer { status: StatusCode::OK, content_type: OPENMETRICS, body: metrics.text() }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.endpoint.stop();
    }
}
