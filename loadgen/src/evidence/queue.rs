//! The accept queue over the run: its depth as extremes, as a mean over time, and as a series.

use std::io;

use super::ListenerSampler;
use crate::model::evidence::{QUEUE_POINTS_MAX, QueueEvidence, QueuePoint};

/// Samples the accept queue and adds the samples up.
pub(super) struct QueueMeter {
    listener: Box<dyn ListenerSampler + Send>,
    evidence: QueueEvidence,
    series: Series,
    /// Queued connections of all listeners multiplied with nanoseconds, and the nanoseconds.
    weighted: (f64, f64),
    last_ns: Option<u64>,
    /// Drops in the first and in the last sample.
    drops: Option<(u64, u64)>,
    first_error: Option<io::Error>,
}

impl QueueMeter {
    pub(super) fn new(listener: Box<dyn ListenerSampler + Send>, period_ns: u64) -> Self {
        Self {
            listener,
            evidence: QueueEvidence::default(),
            series: Series { points: Vec::new(), span_ns: period_ns },
            weighted: (0.0, 0.0),
            last_ns: None,
            drops: None,
            first_error: None,
        }
    }

    /// Takes a sample at `at_ns` from the begin of the load.
    #[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 53 bits")]
    pub(super) fn sample(&mut self, at_ns: u64) {
        let depth = match self.listener.sample() {
            Ok(depth) => depth,
            Err(error) => {
                self.evidence.samples_failed += 1;
                self.first_error.get_or_insert(error);
                return;
            }
        };
        self.evidence.samples += 1;
        self.evidence.listeners = self.evidence.listeners.max(depth.listeners);
        self.evidence.limit = self.evidence.limit.max(depth.limit);
        self.evidence.depth_max = self.evidence.depth_max.max(depth.queued_max);
        self.series.add(QueuePoint { at_ns, depth: depth.queued_max });
        // The first sample stands for an instant of its own, so that a single one has a mean.
        let weight_ns = self.last_ns.map_or(1, |last_ns| at_ns.saturating_sub(last_ns)) as f64;
        self.weighted.0 += f64::from(depth.queued) * weight_ns;
        self.weighted.1 += weight_ns;
        self.last_ns = Some(at_ns);
        let first = self.drops.map_or(depth.drops, |(first, _)| first);
        self.drops = Some((first, depth.drops));
    }

    /// The evidence, of as many samples as were `wanted`; `None` without any.
    pub(super) fn finish(self, wanted: u64, unreadable: &mut Vec<String>) -> Option<QueueEvidence> {
        if let Some(error) = self.first_error {
            unreadable.push(format!("accept queue: {error}"));
        }
        let (sum, time) = self.weighted;
        (self.evidence.samples > 0).then(|| QueueEvidence {
            depth_mean: sum / time,
            samples_wanted: Some(wanted),
            series: self.series.points,
            drops: self.drops.map(|(first, last)| last.saturating_sub(first)),
            ..self.evidence
        })
    }
}

/// A bounded series: its points are longer the longer the run is.
struct Series {
    points: Vec<QueuePoint>,
    /// Length of a point.
    span_ns: u64,
}

impl Series {
    fn add(&mut self, sample: QueuePoint) {
        match self.points.last_mut() {
            Some(last) if sample.at_ns < last.at_ns + self.span_ns => {
                last.depth = last.depth.max(sample.depth);
            }
            _ => self.points.push(sample),
        }
        if self.points.len() > QUEUE_POINTS_MAX {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.span_ns *= 2;
        let merged = self.points.chunks(2).map(|pair| QueuePoint {
            at_ns: pair[0].at_ns,
            depth: pair.iter().map(|point| point.depth).max().unwrap_or(0),
        });
        self.points = merged.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::QueueDepth;

    struct FakeListener(Vec<io::Result<QueueDepth>>);

    impl ListenerSampler for FakeListener {
        fn sample(&mut self) -> io::Result<QueueDepth> {
            self.0.pop().unwrap_or_else(|| Err(io::Error::other("over")))
        }
    }

    fn depth(queued: u32) -> io::Result<QueueDepth> {
        Ok(QueueDepth {
            listeners: 2,
            queued,
            queued_max: queued - 1,
            limit: 128,
            drops: queued.into(),
        })
    }

    fn meter(latest_first: Vec<io::Result<QueueDepth>>) -> QueueMeter {
        QueueMeter::new(Box::new(FakeListener(latest_first)), 10)
    }

    #[test]
    fn depth_is_averaged_over_time_and_not_over_the_samples() {
        let mut meter = meter(vec![depth(3), Err(io::Error::other("once")), depth(9), depth(5)]);
        for at_ns in [0, 10, 20, 60] {
            meter.sample(at_ns);
        }
        let mut unreadable = Vec::new();
        let evidence = meter.finish(6, &mut unreadable).unwrap();
        let expected = (5.0 + 9.0 * 10.0 + 3.0 * 50.0) / 61.0;
        assert_eq!((evidence.depth_max, evidence.depth_mean), (8, expected));
        assert_eq!((evidence.samples, evidence.samples_wanted), (3, Some(6)));
        assert_eq!((evidence.samples_failed, evidence.limit), (1, 128));
        assert_eq!(unreadable, ["accept queue: once"]);
        let series = [(0, 4), (10, 8), (60, 2)];
        assert_eq!(evidence.series, series.map(|(at_ns, depth)| QueuePoint { at_ns, depth }));
    }

    #[test]
    fn a_queue_whose_samples_all_fail_is_unreadable() {
        let (mut meter, mut unreadable) = (meter(vec![]), Vec::new());
        meter.sample(0);
        assert_eq!(meter.finish(1, &mut unreadable), None);
        assert_eq!(unreadable, ["accept queue: over"]);
    }

    #[test]
    fn a_long_series_keeps_its_extremes_in_a_bounded_number_of_points() {
        let mut series = Series { points: Vec::new(), span_ns: 10 };
        for n in 0..10_000 {
            series.add(QueuePoint { at_ns: n * 10, depth: u32::from(n == 7_777) * 42 });
            assert!(series.points.len() <= QUEUE_POINTS_MAX);
        }
        assert!(series.points.len() > QUEUE_POINTS_MAX / 4, "{}", series.points.len());
        assert!(series.points.is_sorted_by_key(|point| point.at_ns));
        let deepest = series.points.iter().find(|point| point.depth == 42).unwrap();
        assert!((77_770 - series.span_ns..=77_770).contains(&deepest.at_ns), "{deepest:?}");
    }
}
