//! Which samples sit at the instants at which the kernel repeats a SYN.

use hdrhistogram::Histogram;

use crate::model::evidence::RetransmissionSchedule;
use crate::model::outcome::Phase;
use crate::model::result::RunResult;

/// Seconds after the first SYN at which Linux repeats it (tcp_syn_linear_timeouts = 4, the default
/// since 6.5). Without linear time-outs they are 1, 3, 7: among these.
const RETRANSMITS_S: [u64; 7] = [1, 2, 3, 4, 5, 7, 11];

/// Counts the samples at those instants.
pub fn on_schedule(result: &RunResult) -> RetransmissionSchedule {
    let count = |phase| {
        let histogram = result.sampled(phase).and_then(|summary| summary.histogram().ok());
        histogram.map_or(0, |histogram| near_retransmits(&histogram))
    };
    RetransmissionSchedule {
        connect: count(Phase::Connect),
        accept_delay: count(Phase::AcceptDelay),
    }
}

fn near_retransmits(histogram: &Histogram<u64>) -> u64 {
    RETRANSMITS_S.iter().map(|&second| count_near(histogram, second * 1_000_000_000)).sum()
}

/// Kernel timers fire late, by up to 1/40 of their time (7.12 s was measured for 7 s), and the
/// scheduler adds its part; a little below is allowed for the histogram's own width.
fn count_near(histogram: &Histogram<u64>, at_ns: u64) -> u64 {
    const BELOW_NS: u64 = 10_000_000;
    const ABOVE_MIN_NS: u64 = 60_000_000;
    let above_ns = ABOVE_MIN_NS.max(at_ns / 40);
    histogram.count_between(at_ns - BELOW_NS, at_ns + above_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::{Summary, new_histogram};

    fn of_ms(samples: &[u64]) -> Summary {
        let mut histogram = new_histogram();
        samples.iter().for_each(|ms| histogram.saturating_record(ms * 1_000_000));
        Summary::of(&histogram)
    }

    #[test]
    fn samples_on_the_schedule_are_counted_and_others_are_not() {
        let connect = [1000, 1033, 2030, 4080, 7120, 0, 200, 960, 1500, 6000, 8000];
        let histograms =
            [("connect".into(), of_ms(&connect)), ("accept_delay".into(), of_ms(&[1050]))];
        let result = RunResult { histograms: histograms.into(), ..RunResult::default() };
        let expected = RetransmissionSchedule { connect: 5, accept_delay: 1 };
        assert_eq!(on_schedule(&result), expected);
    }
}
