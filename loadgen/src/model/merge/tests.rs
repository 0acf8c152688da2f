use super::*;
use crate::model::evidence::{CpuUse, KernelCounters, QueueEvidence, QueuePoint};
use crate::model::interval::Interval;
use crate::model::outcome::Outcomes;

const SECOND: u64 = 1_000_000_000;

/// A run of two seconds from this second on, with these samples in each.
fn run(id: &str, second: u64, samples: &[u64]) -> RunResult {
    let mut histogram = new_histogram();
    samples.iter().for_each(|ns| histogram.saturating_record(*ns));
    let summary = Summary::of(&histogram);
    let count = samples.len() as u64;
    let outcomes =
        |count| Outcomes { attempted: count, ended: [("completed".into(), count)].into() };
    let interval = |start| Interval {
        start_ns: start * SECOND,
        length_ns: SECOND,
        outcomes: outcomes(count),
        warmup_excluded: 0,
        histograms: [("accept_delay".to_owned(), summary.clone())].into(),
    };
    let mut both = histogram.clone();
    both.add(&histogram).unwrap();
    let (begin, end) = (second * SECOND, (second + 2) * SECOND);
    let mut result = RunResult {
        run_id: id.into(),
        times: Some(Times {
            load_began: begin,
            measured_from: begin,
            measured_to: end,
            load_ended: end,
        }),
        outcomes: outcomes(2 * count),
        histograms: [("accept_delay".to_owned(), Summary::of(&both))].into(),
        intervals: vec![interval(0), interval(1)],
        ..RunResult::default()
    };
    result.target.addr = "127.0.0.1:7".into();
    result.generator.target_rate = Some(100.0);
    let cpu = CpuUse { cpu_ns: SECOND, cores: 0.5, busiest_thread_cores: 0.5, threads: 1 };
    result.generator.cpu = Some(cpu);
    result.evidence.server_cpu = Some(cpu);
    result.evidence.kernel =
        Some(KernelCounters { listen_overflows: 5, ..KernelCounters::default() });
    let series = vec![QueuePoint { at_ns: SECOND, depth: 4 }];
    let queue =
        QueueEvidence { limit: 9, depth_max: 4, samples: 10, series, ..QueueEvidence::default() };
    result.evidence.accept_queue = Some(queue);
    result
}

fn merged(parts: impl IntoIterator<Item = RunResult>) -> Result<Merged, MergeError> {
    let mut merge = Merge::default();
    for (index, part) in parts.into_iter().enumerate() {
        merge.add(&format!("part {index}"), part)?;
    }
    merge.finish()
}

fn refusal(parts: impl IntoIterator<Item = RunResult>) -> String {
    merged(parts).expect_err("not to be merged").to_string()
}

fn shard(id: &str, index: u32, count: u32) -> RunResult {
    RunResult { shard: Some(Shard { index, count }), ..run(id, 0, &[1000]) }
}

#[test]
fn histograms_outcomes_and_intervals_are_added_exactly() {
    let sum = merged([run("a", 0, &[3, 4_000]), run("b", 60, &[7, 299 * SECOND])]).unwrap().result;
    let mut expected = new_histogram();
    for ns in [3, 4_000, 7, 299 * SECOND] {
        expected.record_n(ns, 2).unwrap();
    }
    assert_eq!(sum.histograms["accept_delay"].histogram().unwrap(), expected);
    assert_eq!((sum.outcomes.attempted, sum.outcomes.finished()), (8, 8));
    let starts: Vec<u64> = sum.intervals.iter().map(|i| i.start_ns / SECOND).collect();
    assert_eq!(starts, [0, 1, 60, 61], "one after the other");
    let (first, rest) = sum.intervals.split_first().unwrap();
    let all = rest.iter().try_fold(first.clone(), |sum, next| sum.merged(next)).unwrap();
    assert_eq!((all.outcomes, all.histograms), (sum.outcomes, sum.histograms));
    assert_eq!(sum.generator.target_rate, Some(100.0), "two rounds have the rate of one");
    assert_eq!(sum.generator.cpu.unwrap().cores, 0.5);
    assert_eq!(sum.evidence.kernel.unwrap().listen_overflows, 10);
    let series = sum.evidence.accept_queue.unwrap().series;
    let instants: Vec<u64> = series.iter().map(|point| point.at_ns / SECOND).collect();
    assert_eq!(instants, [1, 61], "from the begin of the first");
    assert_eq!(sum.merged, ["a", "b"]);
}

#[test]
fn parts_of_the_same_time_are_added_and_their_evidence_is_counted_once() {
    let all = merged([shard("a", 0, 2), shard("b", 1, 2)]).unwrap();
    let sum = all.result;
    assert_eq!((sum.shard, sum.intervals.len()), (None, 2));
    assert_eq!(sum.intervals[0].outcomes.attempted, 2);
    assert_eq!(sum.generator.target_rate, Some(200.0));
    assert_eq!(sum.generator.cpu.unwrap().cores, 1.0, "each has a generator of its own");
    assert_eq!(sum.evidence.server_cpu.unwrap().cpu_ns, SECOND, "and both the same server");
    assert_eq!(sum.evidence.kernel.unwrap().listen_overflows, 5);
    assert_eq!(sum.evidence.accept_queue.unwrap().samples, 10);
    assert_eq!(all.notes, [Note::EvidenceShared { parts: 1 }]);
}

#[test]
fn servers_of_different_machines_are_different_servers() {
    let of = |id: &str, domain: &str| {
        let mut result = run(id, 0, &[1000]);
        result.target.clock_domain = Some(domain.into());
        result
    };
    let all = merged([of("a", "1"), of("b", "2")]).unwrap();
    assert_eq!(all.result.evidence.kernel.unwrap().listen_overflows, 10);
    assert!(all.notes.is_empty(), "{:?}", all.notes);
}

#[test]
fn what_must_not_be_merged_is_refused_by_name() {
    let same = refusal([run("a", 0, &[1]), run("a", 0, &[1])]);
    assert!(same.contains("part 1 and part 0 are the same run (a)"), "{same}");
    let again = merged([run("a", 0, &[1]), run("b", 0, &[1])]).unwrap().result;
    let again = refusal([RunResult { run_id: "c".into(), ..again }, run("b", 0, &[1])]);
    assert!(again.contains("the same run (b)"), "{again}");
    let twice = refusal([shard("a", 1, 3), shard("b", 1, 3)]);
    assert!(twice.contains("part 1 and part 0 are both shard 1 of 3"), "{twice}");
    let missing = refusal([shard("a", 0, 4), shard("b", 2, 4)]);
    assert!(missing.contains("shard 1, 3 of 4") && missing.contains("missing"), "{missing}");
    let other = refusal([shard("a", 0, 2), run("b", 0, &[1])]);
    assert!(other.contains("a whole run") && other.contains("shard 0 of 2"), "{other}");
    assert!(refusal([]).contains("no result"));
    let hold = RunResult { kind: Kind::Hold, ..run("a", 0, &[1]) };
    assert!(refusal([hold]).contains("Hold"));
    let mut damaged = run("a", 0, &[1]);
    damaged.intervals[1].histograms.get_mut("accept_delay").unwrap().hdr_v2_deflate_base64 =
        "AAAA".into();
    assert!(refusal([damaged]).contains("part 0: accept_delay: the histogram's payload"));
}

#[test]
fn what_the_parts_differ_in_is_left_out_and_said() {
    let mut other = run("b", 9, &[1000]);
    other.server.engine = Some("epoll".into());
    other.target.addr = "127.0.0.1:8".into();
    let mut one = run("a", 0, &[1000]);
    one.server.engine = Some("uring".into());
    one.labels.insert("k".into(), "v".into());
    let all = merged([one, other]).unwrap();
    assert_eq!((all.result.server.engine, all.result.labels.len()), (None, 0));
    assert_eq!(all.result.target.addr, "127.0.0.1:7, 127.0.0.1:8");
    let fields = vec!["server.engine".to_owned()];
    assert_eq!(all.notes, [Note::PartsDiffer { fields }]);
}

#[test]
fn there_are_never_too_many_intervals() {
    let rounds = (0..500).map(|i| run(&i.to_string(), i * 10, &[1000 + i]));
    let sum = merged(rounds).unwrap().result;
    assert!(sum.intervals.len() <= crate::model::interval::INTERVALS_MAX);
    assert!(sum.intervals.len() > 100, "{}", sum.intervals.len());
    let attempted: u64 = sum.intervals.iter().map(|i| i.outcomes.attempted).sum();
    assert_eq!((attempted, sum.outcomes.attempted), (1000, 1000));
}
