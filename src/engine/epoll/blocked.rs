//! Sends for which the socket had no space, kept until it is writable.

use crate::echo::{MAX_SPANS, Span};

/// The bytes of a blocked send.
#[derive(Clone, Copy, Debug)]
pub(super) enum BlockedSend {
    /// `len` staged bytes from `start` on.
    Staged { start: usize, len: usize },
    /// Spans of the pool, kept under this index of [`Spans`].
    Spans(u16),
}

/// The spans of blocked sends. Each holds at least one buffer of the pool, so there are as many
/// entries as buffers.
pub(super) struct Spans {
    places: Vec<(u8, [Span; MAX_SPANS])>,
    free: Vec<u16>,
}

impl Spans {
    pub(super) fn new(buffers: u16) -> Self {
        let none = Span { buf: crate::echo::BufId(0), offset: 0, len: 0 };
        Self {
            places: vec![(0, [none; MAX_SPANS]); usize::from(buffers)],
            free: (0..buffers).rev().collect(),
        }
    }

    pub(super) fn keep(&mut self, spans: &[Span]) -> u16 {
        let index = self.free.pop().expect("fewer sends than buffers");
        let (count, place) = &mut self.places[usize::from(index)];
        *count = u8::try_from(spans.len()).expect("at most MAX_SPANS");
        place[..spans.len()].copy_from_slice(spans);
        index
    }

    pub(super) fn get(&self, index: u16) -> &[Span] {
        let (count, place) = &self.places[usize::from(index)];
        &place[..usize::from(*count)]
    }

    pub(super) fn forget(&mut self, index: u16) {
        self.free.push(index);
    }
}
