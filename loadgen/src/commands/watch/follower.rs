//! Connections that are followed one by one until they are accepted.

use std::io;
use std::net::SocketAddr;

use crate::observe::{DiagWatch, Patience};

/// Follows queued connections by exact look-ups, as many as there is room for.
pub(super) struct Follower {
    diag: DiagWatch,
    /// By key.
    followed: Box<[Followed]>,
    free: Vec<u32>,
    /// Connections for which there was no room.
    pub(super) refused: u64,
}

/// What is known of a connection when it is followed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Followed {
    pub(super) server: SocketAddr,
    pub(super) client: SocketAddr,
    /// When it arrived.
    pub(super) since_ns: u64,
    /// When it was known to wait.
    pub(super) seen_ns: u64,
    /// What the caller wants back with it.
    pub(super) mark: f64,
}

/// As many as a queue of the default limit (`net.core.somaxconn`) holds.
const FOLLOWED_MAX: u32 = 4096;
/// Look-ups of one tick, some 3 µs each.
const LOOKS: u32 = 32;

impl Follower {
    pub(super) fn open() -> io::Result<Self> {
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        let empty = Followed { server: nobody, client: nobody, since_ns: 0, seen_ns: 0, mark: 0.0 };
        Ok(Self {
            diag: DiagWatch::open(FOLLOWED_MAX, Patience::SHARED_CPU)?,
            followed: vec![empty; FOLLOWED_MAX as usize].into_boxed_slice(),
            free: (0..FOLLOWED_MAX).rev().collect(),
            refused: 0,
        })
    }

    /// Begins to follow one.
    pub(super) fn follow(&mut self, one: Followed) {
        let Some(key) = self.free.pop() else {
            self.refused += 1;
            return;
        };
        self.followed[key as usize] = one;
        self.diag.add_queued(key, one.server, one.client, one.seen_ns);
    }

    /// Looks at those that are due. Passes each that was accepted to `ended`, with when.
    pub(super) fn pass(
        &mut self,
        now_ns: u64,
        mut ended: impl FnMut(&Followed, u64),
    ) -> io::Result<()> {
        let (followed, free) = (&self.followed, &mut self.free);
        self.diag.pass(now_ns, LOOKS, &mut |seen| {
            free.push(seen.key);
            ended(&followed[seen.key as usize], seen.bracket.middle_ns());
        })?;
        Ok(())
    }
}
