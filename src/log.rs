//! The log: lines of many threads, written by one.
//!
//! A thread that logs appends its line to a queue of bounded size and goes on. Only the log thread
//! writes, so a reader that stalls, has gone away, or a disk that is full delays and ends nothing
//! else. A line that does not fit, or that could not be written, is counted as lost; the next one
//! that can be written says how many were.

use std::convert::Infallible;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

use crate::sys::threads::{self, ThreadError};

/// Bytes of lines that may wait to be written.
const CAPACITY: usize = 1 << 20;
/// How long the end of the process waits for the last lines to be written.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The log of this process, once it was started.
static LOG: OnceLock<Log> = OnceLock::new();

/// A queue of lines and the thread that writes them.
#[derive(Clone, Debug)]
pub struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// A line was queued.
    queued: Condvar,
    /// Everything queued has been written.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    /// The log thread is writing lines that it took out.
    writing: bool,
    lost: u64,
}

/// Starts the log thread, which calls `confine` first and then writes to standard error.
///
/// # Errors
/// If the thread cannot be started; nothing is logged then.
pub fn start(confine: impl FnOnce() + Send + 'static) -> Result<Log, LogError> {
    let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(LogError::Stderr)?;
    let log = Log::start(stderr, confine)?;
    Ok(LOG.get_or_init(|| log).clone())
}

/// Waits until every line is written, for at most `limit`.
pub fn flush(limit: Duration) {
    if let Some(log) = LOG.get() {
        log.flush(limit);
    }
}

/// Lines that were logged and never written, since the start of the process.
#[must_use]
pub fn lost_lines() -> u64 {
    LOG.get().map_or(0, |log| log.0.lock().lost)
}

/// Writes `text` to standard error, behind what is logged already: what a process says last. It
/// waits for at most [`FLUSH_TIMEOUT`] if there is a log thread, and writes by itself if there is
/// none.
pub fn last_words(text: &str) {
    let Some(log) = LOG.get() else {
        // Where standard error is broken there is nobody to tell.
        let (Ok(()) | Err(_)) = io::stderr().write_all(text.as_bytes());
        return;
    };
    log.append(text.as_bytes(), usize::MAX);
    log.flush(FLUSH_TIMEOUT);
}

/// A log that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Standard error is closed.
    #[error("standard error cannot be logged to: {0}")]
    Stderr(#[source] io::Error),
    /// There is no thread for it.
    #[error(transparent)]
    Thread(#[from] ThreadError),
}

impl Log {
    fn start(file: OwnedFd, confine: impl FnOnce() + Send + 'static) -> Result<Self, ThreadError> {
        let log = Self(Arc::default());
        log.0.lock().lines.reserve(CAPACITY);
        let shared = Arc::clone(&log.0);
        let (confined, is_confined) = mpsc::channel();
        threads::spawn("log", move || {
            confine();
            // Dropped and not sent: the channel is closed also if `confine` panics.
            drop(confined);
            shared.write_to(&file);
        })?;
        // The filter that ends the process for calls such as those of `confine` comes later, and
        // would find them still to come on a machine so busy that the thread has not run yet.
        let Err(mpsc::RecvError) = is_confined.recv() as Result<Infallible, _>;
        Ok(log)
    }

    fn append(&self, line: &[u8], capacity: usize) {
        let mut queue = self.0.lock();
        if queue.lines.len().saturating_add(line.len()) > capacity {
            queue.lost += 1;
            return;
        }
        queue.lines.extend_from_slice(line);
        drop(queue);
        self.0.queued.notify_one();
    }

    fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut queue = self.0.lock();
        while queue.writing || !queue.lines.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.0.idle.wait_timeout(queue, left);
            queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log thread: it ends with the process.
    fn write_to(&self, file: &OwnedFd) {
        let mut output = Output { file, torn: false };
        let mut batch = Vec::with_capacity(CAPACITY);
        let (mut reported, mut last_error) = (0, None);
        loop {
            self.take(&mut batch);
            match output.write(&batch) {
                Ok(()) => self.report_lost(&mut reported, last_error.take()),
                Err(Unwritten { at, errno }) => {
                    let lines = batch[at..].iter().filter(|&&byte| byte == b'\n').count();
                    self.lock().lost += lines as u64;
                    last_error = Some(errno);
                }
            }
            batch.clear();
        }
    }

    /// Waits for lines and takes all of them.
    fn take(&self, batch: &mut Vec<u8>) {
        let mut queue = self.lock();
        queue.writing = false;
        while queue.lines.is_empty() {
            self.idle.notify_all();
            queue = self.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.writing = true;
        std::mem::swap(&mut queue.lines, batch);
    }

    /// Only after a success: the report of a loss is a line itself.
    fn report_lost(&self, reported: &mut u64, error: Option<Errno>) {
        let lost = self.lock().lost;
        let lines = lost - std::mem::replace(reported, lost);
        match error {
            _ if lines == 0 => {}
            Some(error) => warn!(lines, %error, "log lines were lost: writing them failed"),
            None => warn!(lines, "log lines were lost: whoever reads standard error is too slow"),
        }
    }
}

/// Where lines go. The file may be a pipe, a terminal or a socket that others share, and whoever
/// shares it may have made it non-blocking.
struct Output<'a> {
    file: &'a OwnedFd,
    /// The last write ended in the middle of a line.
    torn: bool,
}

/// How far a write came.
struct Unwritten {
    at: usize,
    errno: Errno,
}

impl Output<'_> {
    fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        if self.torn {
            self.write_bytes(b"\n").map_err(|failed| Unwritten { at: 0, ..failed })?;
            self.torn = false;
        }
        self.write_bytes(lines).inspect_err(|failed| {
            self.torn = failed.at > 0 && lines[failed.at - 1] != b'\n';
        })
    }

    fn write_bytes(&self, bytes: &[u8]) -> Result<(), Unwritten> {
        let mut at = 0;
        while at < bytes.len() {
            match rustix::io::write(self.file, &bytes[at..]) {
                Ok(written) => at += written,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_writable(),
                Err(errno) => return Err(Unwritten { at, errno }),
            }
        }
        Ok(())
    }

    fn wait_writable(&self) {
        // An error of the file is reported by the next write.
        let (Ok(_) | Err(_)) = poll(&mut [PollFd::new(self.file, PollFlags::OUT)], None);
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Takes one line, which the subscriber writes in one piece.
#[derive(Debug)]
pub struct Line<'a>(&'a Log);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.append(line, CAPACITY);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn log_to(file: impl Into<OwnedFd>) -> Log {
        Log::start(file.into(), || {}).expect("a thread")
    }

    fn pipe() -> (File, OwnedFd) {
        let (reader, writer) = io::pipe().expect("a pipe");
        (File::from(OwnedFd::from(reader)), writer.into())
    }

    #[test]
    fn lines_come_whole_and_in_order_and_a_flush_waits_for_them() {
        let (mut reader, writer) = pipe();
        let log = log_to(writer);
        for number in 0..1000 {
            log.append(format!("line {number}\n").as_bytes(), CAPACITY);
        }
        log.flush(Duration::from_secs(60));
        let mut text = vec![0; 9 * 1000 - 110];
        reader.read_exact(&mut text).expect("written before the flush returned");
        let text = String::from_utf8(text).expect("ASCII");
        assert!(text.lines().enumerate().all(|(n, line)| line == format!("line {n}")), "{text}");
    }

    #[test]
    fn the_thread_is_confined_before_anything_else_happens() {
        let confined = Arc::new(AtomicBool::new(false));
        let there = Arc::clone(&confined);
        let confine = move || {
            std::thread::sleep(Duration::from_millis(50));
            there.store(true, Ordering::Release);
        };
        let (_reader, writer) = pipe();
        Log::start(writer, confine).expect("a thread");
        assert!(confined.load(Ordering::Acquire));
    }

    #[test]
    fn whoever_logs_does_not_wait_for_a_reader_and_losses_are_counted() {
        let (reader, writer) = pipe();
        let log = log_to(writer);
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        let count = 4 * CAPACITY / line.len();
        (0..count).for_each(|_| log.append(&line, CAPACITY));
        let lost = usize::try_from(log.0.lock().lost).expect("a count");
        assert!(lost >= count / 4 && lost < count, "{lost} of {count}");
        log.flush(Duration::from_millis(10));
        drop(reader);
    }

    #[test]
    fn what_cannot_be_written_is_lost_and_the_log_goes_on() {
        let full = File::options().write(true).open("/dev/full").expect("a device");
        let (reader, gone) = pipe();
        drop(reader);
        for log in [log_to(full), log_to(gone)] {
            log.append(b"one\ntwo\n", CAPACITY);
            log.flush(Duration::from_secs(60));
            log.append(b"three\n", CAPACITY);
            log.flush(Duration::from_secs(60));
            assert_eq!(log.0.lock().lost, 3);
        }
    }

    #[test]
    fn a_file_that_others_made_non_blocking_gets_everything() {
        let (mut reader, writer) = pipe();
        rustix::io::ioctl_fionbio(&writer, true).expect("a pipe");
        let log = log_to(writer);
        let text = [b"y".repeat(199), b"\n".to_vec()].concat().repeat(2000);
        log.append(&text, CAPACITY);
        let mut read = vec![0; text.len()];
        reader.read_exact(&mut read).expect("all of it, once there is room");
        assert!(read == text);
        assert_eq!(log.0.lock().lost, 0);
    }
}
