//! One attempt from established to its outcome, without I/O.
//!
//! A [`Connection`] is told what happened and answers with the next [`Step`]. It is done when every
//! message came back and the accept was observed, as far as the run observes accepts. The client
//! always speaks first: a connection whose last ACK was dropped is only rescued by data.

use std::fmt;

use uring_echo::stamp::{ClockDomain, Stamp};

use crate::generate::attempt_recorder::{Accept, AttemptRecorder, Ending, Timeline};
use crate::model::outcome::Outcome;
use crate::observe::{Bracket, StampReader, StampReading};
use crate::plan::payload::{Payload, Window};

/// How the instant of accept is learned, decided before the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// From the server's stamp: every connection has to begin with one.
    Stamp,
    /// By looking at the server's end of the connection.
    Diag,
    /// Not at all.
    None,
}

/// What every connection of a run does.
#[derive(Debug)]
pub struct Script {
    /// What is sent.
    pub payload: Payload,
    /// How many messages, one after the other.
    pub messages: u32,
    /// Whether a message that no echo is expected of goes out first.
    pub send_first: bool,
    /// How accepts are observed.
    pub method: Method,
    /// Whose stamps may be subtracted from.
    pub clock_domain: ClockDomain,
}

/// What an event is judged by.
#[derive(Debug)]
pub struct Context<'a> {
    /// What is to be done.
    pub script: &'a Script,
    /// Where it is written down.
    pub recorder: &'a mut AttemptRecorder,
    /// When the event was seen, monotonic nanoseconds.
    pub now_ns: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something else has to happen first.
    Wait,
    /// This message goes out.
    Send(Window),
    /// Nothing: it is over.
    End(Ending),
}

/// One attempt whose connect was called.
#[derive(Debug)]
pub struct Connection {
    /// Its instants.
    pub times: Timeline,
    /// Which connection of the run it is: names the windows it sends.
    number: u64,
    /// As long as what comes in may be a stamp.
    stamp: Option<StampReader>,
    /// An accept that was seen before connect was seen to be complete.
    early: Option<Accept>,
    /// An accept that only counts if the peer did not reset the connection.
    unconfirmed: Option<Accept>,
    /// Messages that came back whole.
    echoed: u32,
    /// Bytes of the current message that came back.
    echoed_bytes: u32,
    /// When the current message was sent.
    sent_ns: u64,
    /// The message of [`Script::send_first`] went out.
    spoken: bool,
    /// The peer sends no more.
    peer_done: bool,
}

impl Method {
    /// The name on the command line and in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stamp => "stamp",
            Self::Diag => "diag",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Connection {
    /// Whose connect was just called.
    #[must_use]
    pub fn new(number: u64, times: Timeline) -> Self {
        Self {
            times,
            number,
            stamp: Some(StampReader::new()),
            early: None,
            unconfirmed: None,
            echoed: 0,
            echoed_bytes: 0,
            sent_ns: 0,
            spoken: false,
            peer_done: false,
        }
    }

    /// Whether a receive should be armed: the peer may have something to say.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.times.is_established() && !self.peer_done
    }

    /// Whether a message has come back.
    #[must_use]
    pub fn has_echoes(&self) -> bool {
        self.echoed > 0
    }

    /// The message of the last [`Step::Send`] goes out.
    pub fn sends(&mut self, now_ns: u64) {
        self.sent_ns = now_ns;
        self.spoken = true;
    }

    /// The kernel has taken a message.
    pub fn sent(&mut self, cx: &mut Context<'_>) -> Step {
        if cx.script.send_first { self.proceed(cx) } else { Step::Wait }
    }

    /// connect is complete.
    pub fn established(&mut self, cx: &mut Context<'_>) -> Step {
        cx.recorder.established(&mut self.times, cx.now_ns);
        match self.early.take().map(|accept| self.accept(accept, cx)) {
            Some(Err(ending)) => Step::End(ending),
            _ => self.proceed(cx),
        }
    }

    /// The kernel shows that a process holds the connection.
    pub fn seen_accepted(&mut self, bracket: Bracket, cx: &mut Context<'_>) -> Step {
        let accept = Accept::within(bracket);
        if !self.times.is_established() {
            self.early = Some(accept);
            return Step::Wait;
        }
        self.accepted(accept, cx)
    }

    /// The server's end was there and is gone: accepted and closed, unless the peer resets.
    pub fn seen_ended(&mut self, bracket: Bracket, cx: &mut Context<'_>) -> Step {
        if self.peer_done {
            return self.accepted(Accept::within(bracket), cx);
        }
        self.unconfirmed = Some(Accept::within(bracket));
        Step::Wait
    }

    /// The server has sent something or closed in good order, so it had accepted in this bracket.
    pub fn answered(&mut self, bracket: Bracket) {
        self.unconfirmed = Some(Accept::within(bracket));
    }

    /// Bytes from the server.
    pub fn received(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Step {
        cx.recorder.bytes_arrived(&mut self.times, cx.now_ns);
        if let Err(ending) = self.confirm(cx) {
            return Step::End(ending);
        }
        match self.take_stamp(bytes, cx) {
            Ok(rest) => self.take_echo(rest, cx),
            Err(ending) => Step::End(ending),
        }
    }

    /// The server closed its side in good order.
    pub fn peer_finished(&mut self, cx: &mut Context<'_>) -> Step {
        self.peer_done = true;
        if let Err(ending) = self.confirm(cx) {
            return Step::End(ending);
        }
        if cx.script.method == Method::Stamp && !self.times.is_accepted() {
            return Step::End(Outcome::StampInvalid.into());
        }
        if self.echoed < cx.script.messages {
            return Step::End(Outcome::ClosedEarly.into());
        }
        self.proceed(cx)
    }

    /// What the attempt is if it is given up now.
    #[must_use]
    pub fn given_up(&self, script: &Script) -> Outcome {
        if !self.times.is_established() {
            return Outcome::ConnectTimeout;
        }
        if script.method == Method::None || self.times.is_accepted() {
            return Outcome::EchoTimeout;
        }
        match &self.stamp {
            Some(reader) if !reader.held().is_empty() => Outcome::StampInvalid,
            _ => Outcome::NeverAccepted,
        }
    }

    /// The next message if there is one; the end if nothing else is missing.
    fn proceed(&mut self, cx: &mut Context<'_>) -> Step {
        let speaks_first = cx.script.send_first && !self.spoken;
        if self.echoed < cx.script.messages || speaks_first {
            return Step::Send(self.window(cx.script));
        }
        if cx.script.method == Method::None || self.times.is_accepted() {
            return Step::End(Outcome::Completed.into());
        }
        Step::Wait
    }

    fn window(&self, script: &Script) -> Window {
        script.payload.window(self.number, self.echoed)
    }

    fn accepted(&mut self, accept: Accept, cx: &mut Context<'_>) -> Step {
        if let Err(ending) = self.accept(accept, cx) {
            return Step::End(ending);
        }
        let all_said = self.spoken || !cx.script.send_first;
        let all_echoed = self.echoed == cx.script.messages && all_said;
        if all_echoed { Step::End(Outcome::Completed.into()) } else { Step::Wait }
    }

    fn accept(&mut self, accept: Accept, cx: &mut Context<'_>) -> Result<(), Ending> {
        cx.recorder.accepted(&mut self.times, accept).map_err(|_| Outcome::ClockError.into())
    }

    fn confirm(&mut self, cx: &mut Context<'_>) -> Result<(), Ending> {
        match self.unconfirmed.take() {
            Some(accept) => self.accept(accept, cx),
            None => Ok(()),
        }
    }

    /// Takes what belongs to a stamp off the front and gives back the rest.
    fn take_stamp<'b>(
        &mut self,
        bytes: &'b [u8],
        cx: &mut Context<'_>,
    ) -> Result<&'b [u8], Ending> {
        let Some(reader) = &mut self.stamp else { return Ok(bytes) };
        let required = cx.script.method == Method::Stamp;
        let reading = reader.push(bytes);
        let nothing_held = reader.held().is_empty();
        match reading {
            StampReading::NeedMore => return Ok(&[]),
            StampReading::Stamp { stamp, taken } => {
                self.stamp = None;
                if required {
                    self.accept(stamped(&stamp, &self.times, cx)?, cx)?;
                }
                return Ok(&bytes[taken..]);
            }
            _ if required => return Err(Outcome::StampInvalid.into()),
            // No message contains the first byte of a stamp, so these are not ours.
            StampReading::Invalid(_) | StampReading::NotAStamp
                if cx.script.messages > 0 && !nothing_held =>
            {
                return Err(Outcome::EchoMismatch.into());
            }
            StampReading::Invalid(_) | StampReading::NotAStamp => self.stamp = None,
        }
        Ok(bytes)
    }

    fn take_echo(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Step {
        let script = cx.script;
        if script.messages == 0 {
            return self.proceed(cx);
        }
        if bytes.is_empty() {
            return Step::Wait;
        }
        let all_echoed = self.echoed == script.messages;
        let window = self.window(script);
        if all_echoed || !script.payload.matches(window, self.echoed_bytes, bytes) {
            return Step::End(Outcome::EchoMismatch.into());
        }
        cx.recorder.received(&self.times, bytes.len());
        #[expect(clippy::cast_possible_truncation, reason = "a match is no longer than a message")]
        let len = bytes.len() as u32;
        self.echoed_bytes += len;
        if self.echoed_bytes < script.payload.size() {
            return Step::Wait;
        }
        cx.recorder.echoed(&self.times, cx.now_ns.saturating_sub(self.sent_ns));
        self.echoed += 1;
        self.echoed_bytes = 0;
        self.proceed(cx)
    }
}

/// What a stamp says, unless it is of a clock that is not that of the run, or contradicts ours.
fn stamped(stamp: &Stamp, times: &Timeline, cx: &mut Context<'_>) -> Result<Accept, Ending> {
    if !stamp.clock_domain.compares_with(cx.script.clock_domain) {
        return Err(Outcome::ClockError.into());
    }
    let accept = cx.recorder.stamped(times, stamp.accepted_monotonic_ns, cx.now_ns);
    accept.ok_or_else(|| Outcome::ClockError.into())
}

#[cfg(test)]
mod tests;
