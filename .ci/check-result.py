#!/usr/bin/env python3
"""Checks the folder that `loadgen run --out` left: check-result.py FOLDER

Every attempt has one outcome and all completed; the interval log, read by an implementation of
HdrHistogram that is not ours, says the same as result.json, and so does metrics.prom, if it is
there, read by Prometheus' own client. Of a sum of shards each is checked, and their number of
connections is its own. Nothing here looks at how long anything took.
"""

import json
import pathlib
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from prometheus_client.parser import text_string_to_metric_families

LOWEST_NS, HIGHEST_NS, DIGITS = 1, 300 * 10**9, 3


def main(folder):
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    delay = result["histograms"]["accept_delay"]
    logged = read_log(folder / "run.hlog")
    logged_delay = logged.pop("accept_delay")
    attempted, outcomes = split_outcomes(result["outcomes"])
    checks = [
        ("schema_version", result["schema_version"], 2),
        ("sum of outcomes", sum(outcomes.values()), attempted),
        ("completed", outcomes["completed"], attempted),
        ("attempts, not none", attempted > 0, True),
        ("accept_delay.count", delay["count"], outcomes["completed"]),
        ("accept_delay.count in run.hlog", logged_delay.get_total_count(), delay["count"]),
        ("accept_delay.p99 in run.hlog", logged_delay.get_value_at_percentile(99), delay["p99"]),
    ]
    checks += [
        (f"{name}.count in run.hlog", histogram.get_total_count(), count_of(result, name))
        for name, histogram in logged.items()
    ]
    metrics = folder / "metrics.prom"
    if metrics.exists():
        checks += check_metrics(metrics.read_text(encoding="utf-8"), result)
    parts = [main(part) for part in sorted(folder.glob("shard-*"))]
    if parts:
        checks.append(("connections of the shards", sum(parts), attempted))
    wrong = [check for check in checks if check[1] != check[2]]
    if wrong:
        lines = [f"  {name} is {got}, expected {expected}" for name, got, expected in wrong]
        sys.exit("\n".join([f"{folder}:", *lines]))
    print(f"{folder}: {attempted} attempted and completed, {len(checks)} checks hold")
    return attempted


def check_metrics(text, result):
    """Each outcome and each phase, as Prometheus reads them."""
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    outcomes = split_outcomes(result["outcomes"])[1]
    checks = [
        (name, samples["loadgen_attempts_total", (("outcome", name),)], count)
        for name, count in outcomes.items()
    ]
    for phase, summary in result["histograms"].items():
        all_of_them = (("le", "+Inf"), ("phase", phase))
        p99 = (("phase", phase), ("quantile", "0.99"))
        checks += [
            (phase, samples["loadgen_phase_seconds_bucket", all_of_them], summary["count"]),
            (phase, samples["loadgen_phase_seconds_count", (("phase", phase),)], summary["count"]),
            (phase, samples["loadgen_phase_quantile_seconds", p99], summary["p99"] / 1e9),
        ]
    return checks


def split_outcomes(outcomes):
    """The number of attempts, and how they ended."""
    return outcomes["attempted"], {k: v for k, v in outcomes.items() if k != "attempted"}


def count_of(result, name):
    return result["histograms"][name]["count"]


def read_log(path):
    """All intervals of each phase, added up; what has no tag is accept_delay."""
    phases = {}
    reader = HistogramLogReader(str(path), new_histogram())
    while interval := reader.get_next_interval_histogram():
        name = interval.get_tag() or "accept_delay"
        phases.setdefault(name, new_histogram()).add(interval)
    return phases


def new_histogram():
    return HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
