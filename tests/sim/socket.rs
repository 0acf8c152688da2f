//! One accepted socket: its operations in the kernel, and their state as the shard sees it.

use uring_echo::echo::{ConnId, MAX_SPANS, Nanos, Source, Span};

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) client: usize,
    pub(crate) conn: Option<ConnId>,
    pub(crate) recv: Option<RecvOp>,
    pub(crate) send: Option<SendOp>,
    pub(crate) watch: Option<WatchOp>,
    /// It is asked how many bytes are unsent.
    pub(crate) asked: bool,
    pub(crate) close: Option<Close>,
    pub(crate) view: ShardView,
}

/// An armed receive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecvOp {
    pub(crate) cancelled: bool,
    /// Not tried yet: an empty pool ends it even if there is nothing to read.
    pub(crate) fresh: bool,
    /// Bytes it may still bring.
    pub(crate) left: u32,
}

/// A send in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendOp {
    pub(crate) cancelled: bool,
    pub(crate) what: Payload,
}

/// A wait until the socket is writable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WatchOp {
    pub(crate) cancelled: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload {
    Greeting { offset: u32, len: u32 },
    Spans { count: usize, spans: [Span; MAX_SPANS] },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Close {
    pub(crate) orderly: bool,
}

/// The state as the shard sees it, which is ahead of or behind that of the kernel.
#[derive(Debug, Default)]
pub(crate) struct ShardView {
    /// From the arming until the end is delivered.
    pub(crate) receiving: bool,
    pub(crate) cancelling: bool,
    /// The receive was armed because a buffer was released, and nothing of it was delivered since.
    pub(crate) woken: bool,
    pub(crate) sending: Option<Payload>,
    pub(crate) watching: bool,
    pub(crate) asking: bool,
    /// A send was not taken whole: the next receive is armed when the socket is writable.
    pub(crate) looks_first: bool,
    /// It was writable, and nothing was sent since.
    pub(crate) writable: bool,
    /// Since when the shard waits for room.
    pub(crate) watch_at: Nanos,
    /// When it was told last how many bytes are unsent.
    pub(crate) granted_at: Nanos,
    /// Bytes of which the shard was told that the socket took them.
    pub(crate) taken: u32,
    /// Bytes the client had read when the shard was last told how many are unsent.
    pub(crate) mark: Option<u32>,
    /// The shard was told last that the client took too little since.
    pub(crate) stuck: bool,
    /// Whether its accept has been delivered.
    pub(crate) is_known: bool,
    pub(crate) eof: bool,
    pub(crate) broken: bool,
    pub(crate) refused: bool,
    pub(crate) aborted: bool,
    pub(crate) closing: bool,
    /// An empty pool ended its last receive.
    pub(crate) starved: bool,
    pub(crate) active_at: Nanos,
}

impl Socket {
    pub(crate) fn new(client: usize) -> Self {
        Self {
            client,
            conn: None,
            recv: None,
            send: None,
            watch: None,
            asked: false,
            close: None,
            view: ShardView::default(),
        }
    }

    /// The shard uses the id `conn`, always the same for one socket.
    pub(crate) fn check_conn(&mut self, conn: ConnId) {
        assert_eq!(*self.conn.get_or_insert(conn), conn, "a socket has two connections");
        assert!(!self.view.closing, "{conn:?} acts after its close");
    }
}

impl Payload {
    pub(crate) fn of(source: Source<'_>) -> Self {
        match source {
            Source::Greeting { offset, len } => Self::Greeting { offset, len },
            Source::Spans(from) => {
                let mut spans = [Span { buf: uring_echo::echo::BufId(0), offset: 0, len: 0 }; 16];
                spans[..from.len()].copy_from_slice(from);
                Self::Spans { count: from.len(), spans }
            }
        }
    }

    pub(crate) fn spans(&self) -> &[Span] {
        match self {
            Self::Greeting { .. } => &[],
            Self::Spans { count, spans } => &spans[..*count],
        }
    }

    pub(crate) fn len(&self) -> u32 {
        match self {
            Self::Greeting { len, .. } => *len,
            Self::Spans { .. } => self.spans().iter().map(|span| span.len).sum(),
        }
    }
}
