use std::net::{TcpListener, TcpStream};

use super::super::observation::{ObservationKind, VANISHED_AFTER_NS};
use uring_echo::clock::monotonic_ns;

use super::*;

const QUEUED: SocketSample = SocketSample::Queued;
const ACCEPTED: SocketSample = SocketSample::Accepted { inode: super::super::Inode(1) };
const ABSENT: SocketSample = SocketSample::Absent { listener: true };

/// Answers by the client's port; every sample takes 1 µs.
struct FakeSampler {
    now_ns: u64,
    answers: [SocketSample; 4],
    sampled: Vec<u16>,
    fails: Option<Errno>,
}

impl SocketSampler for FakeSampler {
    fn sample(&mut self, _server: SocketAddr, client: SocketAddr) -> io::Result<SocketSample> {
        if let Some(errno) = self.fails {
            return Err(errno.into());
        }
        self.sampled.push(client.port());
        self.now_ns += 1_000;
        Ok(self.answers[usize::from(client.port())])
    }

    fn sampled_ns(&self) -> u64 {
        self.now_ns
    }
}

fn watch() -> DiagWatch<FakeSampler> {
    let answers = [QUEUED; 4];
    let fake = FakeSampler { now_ns: 0, answers, sampled: Vec::new(), fails: None };
    DiagWatch::with_sampler(fake, 4, Patience::OWN_CPU)
}

fn add(watch: &mut DiagWatch<FakeSampler>, key: u16, since_ns: u64) {
    let client = SocketAddr::from(([127, 0, 0, 1], key));
    watch.add(u32::from(key), client, client, since_ns);
}

fn pass(watch: &mut DiagWatch<FakeSampler>, now_ns: u64, budget: u32) -> Vec<Observation> {
    let mut observations = Vec::new();
    watch.sampler.now_ns = now_ns;
    watch.sampler.sampled.clear();
    watch.pass(now_ns, budget, &mut |observation| observations.push(observation)).unwrap();
    observations
}

fn bracket(earliest_ns: u64, latest_ns: u64) -> Bracket {
    Bracket { earliest_ns, latest_ns }
}

#[test]
fn an_accept_lies_between_the_samples_around_it() {
    let mut watch = watch();
    add(&mut watch, 1, 500);
    assert_eq!(pass(&mut watch, 10_000, 9), []);
    watch.sampler.answers[1] = ACCEPTED;
    let kind = ObservationKind::Accepted;
    let expected = Observation { key: 1, since_ns: 500, bracket: bracket(10_000, 21_000), kind };
    assert_eq!(pass(&mut watch, 20_000, 9), [expected]);
    assert_eq!((watch.watched(), watch.next_due_ns()), (0, None));
}

#[test]
fn an_accept_before_the_first_sample_lies_after_the_connect() {
    let mut watch = watch();
    add(&mut watch, 1, 500);
    watch.sampler.answers[1] = ACCEPTED;
    let observed = pass(&mut watch, 10_000, 9);
    assert_eq!(observed[0].bracket, bracket(500, 11_000));
    assert_eq!(observed[0].bracket.middle_ns(), 5_750);
    assert_eq!(observed[0].bracket.half_width_ns(), 5_250);
}

#[test]
fn an_answer_ends_the_bracket_of_the_accept() {
    let mut watch = watch();
    add(&mut watch, 1, 500);
    assert_eq!(pass(&mut watch, 10_000, 9), []);
    assert_eq!(watch.answered(1, 15_000), Some(bracket(10_000, 15_000)));
    assert_eq!((watch.answered(1, 16_000), watch.watched()), (None, 0));
}

#[test]
fn a_connection_that_was_queued_and_is_closed_was_accepted() {
    for gone in [ABSENT, SocketSample::Ended] {
        let mut watch = watch();
        add(&mut watch, 1, 0);
        pass(&mut watch, 10_000, 9);
        watch.sampler.answers[1] = gone;
        let observed = pass(&mut watch, 20_000, 9);
        assert_eq!(observed[0].kind, ObservationKind::EndedUnseen);
        assert_eq!(observed[0].bracket, bracket(10_000, 21_000));
    }
}

#[test]
fn a_connection_that_is_closed_at_the_first_sample_was_accepted() {
    let mut watch = watch();
    add(&mut watch, 1, 0);
    watch.sampler.answers[1] = SocketSample::Ended;
    assert_eq!(pass(&mut watch, 10_000, 9)[0].kind, ObservationKind::EndedUnseen);
}

#[test]
fn one_that_was_queued_when_it_was_added_and_is_absent_was_accepted() {
    let mut watch = watch();
    let client = SocketAddr::from(([127, 0, 0, 1], 1));
    watch.add_queued(1, client, client, 500);
    watch.sampler.answers[1] = ABSENT;
    let observed = pass(&mut watch, 10_000, 9);
    assert_eq!(observed[0].kind, ObservationKind::EndedUnseen);
    assert_eq!(observed[0].bracket, bracket(500, 11_000));
}

#[test]
fn a_connection_that_is_absent_for_long_enough_has_vanished() {
    let mut watch = watch();
    add(&mut watch, 1, 0);
    watch.sampler.answers[1] = ABSENT;
    assert_eq!(pass(&mut watch, 10_000, 9), []);
    assert_eq!(pass(&mut watch, VANISHED_AFTER_NS, 9), []);
    let observed = pass(&mut watch, VANISHED_AFTER_NS * 2, 9);
    assert_eq!(observed[0].kind, ObservationKind::Vanished);
    assert_eq!(observed[0].bracket, bracket(0, 11_000));
}

#[test]
fn a_connection_that_appears_after_absence_was_not_accepted_before() {
    let mut watch = watch();
    add(&mut watch, 1, 0);
    watch.sampler.answers[1] = ABSENT;
    assert_eq!(pass(&mut watch, 10_000, 9), []);
    assert_eq!(pass(&mut watch, 990_000_000, 9), []);
    watch.sampler.answers[1] = ACCEPTED;
    let observed = pass(&mut watch, 1_010_000_000, 9);
    assert_eq!(observed[0].bracket, bracket(990_000_000, 1_010_001_000));
}

#[test]
fn one_sample_without_the_connection_does_not_end_the_wait() {
    let mut watch = watch();
    add(&mut watch, 1, 0);
    let steps = [(SocketSample::Handshake, 10_000), (ABSENT, 20_000), (QUEUED, 30_000)];
    for (sample, now_ns) in steps {
        watch.sampler.answers[1] = sample;
        assert_eq!(pass(&mut watch, now_ns, 9), []);
    }
    watch.sampler.answers[1] = ACCEPTED;
    assert_eq!(pass(&mut watch, 40_000, 9)[0].bracket, bracket(30_000, 41_000));
}

#[test]
fn a_connection_is_sampled_once_a_pass_and_less_often_with_age() {
    let mut watch = watch();
    add(&mut watch, 1, 0);
    pass(&mut watch, 640_000, 9);
    assert_eq!(watch.sampler.sampled, [1]);
    assert_eq!(watch.next_due_ns(), Some(641_000 + 641_000 / 64));
    pass(&mut watch, 645_000, 9);
    assert!(watch.sampler.sampled.is_empty());
}

#[test]
fn a_pass_keeps_its_budget_and_continues_with_the_longest_overdue() {
    let mut watch = watch();
    for key in 0..4 {
        add(&mut watch, key, u64::from(key));
    }
    pass(&mut watch, 10_000, 3);
    assert_eq!(watch.sampler.sampled, [0, 1, 2]);
    pass(&mut watch, 20_000, 3);
    assert_eq!(watch.sampler.sampled, [3, 0, 1]);
}

#[test]
fn connections_added_again_or_removed_leave_no_growing_heap() {
    let mut watch = watch();
    for since_ns in 0..1_000 {
        add(&mut watch, 1, since_ns);
        add(&mut watch, 2, since_ns);
        watch.remove(2);
    }
    assert_eq!(watch.watched(), 1);
    assert!(watch.due.capacity() < 20);
    pass(&mut watch, 10_000, 9);
    assert_eq!(watch.sampler.sampled, [1]);
}

#[test]
fn a_sample_that_fails_for_lack_of_memory_is_counted_and_repeated() {
    let mut watch = watch();
    add(&mut watch, 1, 0);
    for errno in [Errno::AGAIN, Errno::NOBUFS, Errno::NOMEM] {
        watch.sampler.fails = Some(errno);
        assert_eq!(pass(&mut watch, 10_000, 9), []);
        watch.prewarm(SocketAddr::from(([127, 0, 0, 1], 1))).unwrap();
    }
    assert_eq!((watch.take_missed(), watch.take_missed()), (3, 0), "rehearsals do not count");
    watch.sampler.fails = None;
    watch.sampler.answers[1] = ACCEPTED;
    assert_eq!(pass(&mut watch, 20_000, 9)[0].bracket, bracket(0, 21_000));
    assert_eq!(watch.sampler.sampled, [1]);
}

#[test]
fn a_sample_that_fails_otherwise_is_an_error() {
    let mut watch = watch();
    add(&mut watch, 1, 0);
    watch.sampler.fails = Some(Errno::PERM);
    let failed = watch.pass(10_000, 9, &mut |_| {}).unwrap_err();
    assert_eq!((failed.kind(), watch.watched()), (io::ErrorKind::PermissionDenied, 1));
}

#[test]
fn a_real_accept_is_observed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut watch = DiagWatch::open(1, Patience::OWN_CPU).unwrap();
    let mut observed = Vec::new();
    let since_ns = monotonic_ns();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    watch.add(0, client.peer_addr().unwrap(), client.local_addr().unwrap(), since_ns);
    watch.pass(monotonic_ns(), 1, &mut |o| observed.push(o)).unwrap();
    assert!(observed.is_empty());
    let before_ns = monotonic_ns();
    let _server = listener.accept().unwrap();
    let after_ns = monotonic_ns();
    while observed.is_empty() {
        watch.pass(monotonic_ns(), 1, &mut |o| observed.push(o)).unwrap();
    }
    assert_eq!(observed[0].kind, ObservationKind::Accepted);
    assert!(observed[0].bracket.earliest_ns <= after_ns);
    assert!(observed[0].bracket.latest_ns >= before_ns);
}

#[test]
fn beside_a_server_an_old_connection_is_sampled_at_intervals_worth_a_sleep() {
    let shared = Patience::SHARED_CPU;
    assert_eq!(shared.interval_ns(64), 1);
    assert_eq!(shared.interval_ns(250_000), 250_000 / 64);
    assert_eq!(shared.interval_ns(1_000_000), 60_000);
    assert_eq!(shared.interval_ns(64_000_000), 1_000_000);
    assert_eq!(Patience::OWN_CPU.interval_ns(1_000_000), 1_000_000 / 64);
}
