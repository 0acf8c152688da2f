//! What the shard does about peers that read slowly, and about events that cannot be.

use super::examples::{Harness, LIMITS};
use super::{Event, Limits, Nanos, RecvEnd};

const BUFFERS: Limits = Limits { buffer_size: 32, credit: 64, ..LIMITS };

#[test]
fn who_reads_slowly_is_read_slowly() {
    let mut harness = Harness::with_connections(BUFFERS, 1);
    harness.received(0, 0, 32);
    assert!(harness.recv_ended(0, RecvEnd::Complete).is_empty(), "one buffer is its share");
    assert_eq!(harness.sent(0, 20), ["watch 0"], "12 bytes are left");
    assert_eq!(harness.writable(0), ["send 0 b0:20+12"]);
    assert_eq!(harness.sent(0, 12), ["release b0", "watch 0"], "is there room for more?");
    assert_eq!(harness.writable(0), ["recv 0"]);
    harness.received(0, 1, 32);
    assert_eq!(harness.sent(0, 32), ["release b1"]);
    assert_eq!(harness.recv_ended(0, RecvEnd::Complete), ["watch 0"], "it is watched for a while");
    assert_eq!(harness.stats().stalls, 1);
}

#[test]
fn small_rests_share_a_buffer() {
    let mut harness = Harness::with_connections(BUFFERS, 3);
    for who in 0..3 {
        harness.received(usize::from(who), who, 32);
        harness.recv_ended(usize::from(who), RecvEnd::Complete);
    }
    assert_eq!(harness.sent(0, 31), ["watch 0"], "the first keeps its place");
    assert_eq!(harness.sent(1, 30), ["copy b1:30+2 to b0:0", "release b1", "watch 1"]);
    assert_eq!(harness.sent(2, 31), ["copy b2:31+1 to b0:2", "release b2", "watch 2"]);
    assert_eq!(harness.writable(0), ["send 0 b0:31+1"]);
    assert_eq!(harness.sent(0, 1), ["watch 0"]);
    assert_eq!(harness.writable(1), ["send 1 b0:0+2"]);
    assert_eq!(harness.sent(1, 2), ["watch 1"]);
    assert_eq!(harness.writable(2), ["send 2 b0:2+1"]);
    assert_eq!(harness.sent(2, 1), ["release b0", "watch 2"], "the last one frees it");
}

#[test]
fn who_does_not_read_is_given_up() {
    let timed = Limits { write_timeout: Some(Nanos(80)), ..BUFFERS };
    let mut harness = Harness::with_connections(timed, 2);
    harness.received(0, 0, 32);
    harness.received(1, 1, 32);
    harness.sent(1, 32);
    assert_eq!(harness.sent(0, 0), ["cancel recv 0", "watch 0", "ask 0"]);
    assert!(harness.unsent(0, Some(0)).is_empty(), "nothing was ever sent");
    assert!(harness.tick_at(89).is_empty(), "1 waits for nothing");
    assert_eq!(harness.tick_at(90), ["ask 0"]);
    assert_eq!(harness.unsent(0, Some(0)), ["cancel all 0", "release b0"]);
    assert_eq!(harness.stats().write_timeouts, 1);
}

#[test]
fn who_takes_a_little_is_not() {
    let timed = Limits { write_timeout: Some(Nanos(80)), ..BUFFERS };
    let mut harness = Harness::with_connections(timed, 1);
    harness.received(0, 0, 32);
    assert_eq!(harness.sent(0, 10), ["cancel recv 0", "watch 0", "ask 0"]);
    assert!(harness.unsent(0, Some(9)).is_empty());
    assert_eq!(harness.tick_at(90), ["ask 0"]);
    assert!(harness.unsent(0, Some(5)).is_empty(), "4 bytes are enough");
    assert_eq!(harness.shard.deadline(), Some(Nanos(180)), "for as long as before");
    assert_eq!(harness.tick_at(180), ["ask 0"]);
    assert_eq!(harness.unsent(0, Some(2)), ["cancel all 0", "release b0"], "3 are not");
}

#[test]
fn when_the_pool_is_empty_who_held_buffers_for_longest_goes() {
    let mut harness = Harness::with_connections(Limits { buffers: 2, ..BUFFERS }, 3);
    for who in 0..2 {
        harness.now = Nanos(u64::from(who));
        harness.received(usize::from(who), who, 32);
        harness.recv_ended(usize::from(who), RecvEnd::Complete);
        harness.sent(usize::from(who), 1);
    }
    assert!(harness.recv_ended(2, RecvEnd::NoBuffers).is_empty(), "they may have room in a moment");
    assert_eq!(harness.shard.deadline(), Some(Nanos(25)));
    assert_eq!(harness.tick_at(25), ["cancel all 0", "release b0", "recv 2"]);
    assert_eq!(harness.stats().evicted, 1);
}

#[test]
fn an_event_that_cannot_be_costs_its_connection_alone() {
    let mut harness = Harness::with_connections(BUFFERS, 2);
    assert_eq!(harness.sent(0, 1), ["cancel all 0"], "nothing was sent");
    assert_eq!(harness.recv_ended(0, RecvEnd::Cancelled), ["drop 0"]);
    assert!(harness.recv_ended(0, RecvEnd::Complete).is_empty(), "nor is anything received");
    assert_eq!(harness.received(0, 3, 32), ["release b3"], "its buffer is not lost");
    assert!(harness.closed(0).is_empty());
    assert_eq!(harness.received(1, 0, 32), ["send 1 b0:0+32"], "the other is served");
    assert_eq!(harness.sent(1, 33), ["cancel all 1"], "more than there was");
    let failed = Event::SendFailed { conn: harness.conns[1] };
    assert_eq!(harness.handle(failed), ["release b0"]);
    assert_eq!(harness.stats().slips, 4);
}
