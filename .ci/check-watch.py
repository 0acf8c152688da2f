#!/usr/bin/env python3
"""Scrapes `loadgen watch --export` as Prometheus would: check-watch.py LOADGEN

A listener of this script is watched while it accepts connections of this script. What the endpoint
answers is read by Prometheus' own parser of OpenMetrics, twice: samples are what they have to be,
and counters rise. Nothing here looks at how long anything took.
"""

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

ROUNDS = 8
COUNTERS = ["accepts", "accept_queue_drops", "accept_queue_waiting_seconds", "watch_ticks"]


def main(loadgen):
    listener = socket.create_server(("127.0.0.1", 0), backlog=7)
    addr = "%s:%d" % listener.getsockname()
    command = [loadgen, "watch", addr, "--export", "127.0.0.1:0", "--mode", "depth"]
    watch = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        url = re.search(r"http://\S+", watch.stderr.readline()).group()
        serve(listener)
        first = scrape(url, addr)
        serve(listener)
        second = scrape(url, addr, after=first["watch_ticks_total"])
    finally:
        watch.send_signal(signal.SIGINT)
        watch.communicate()
    check("exit status", watch.returncode == 0, watch.returncode)
    for counter in COUNTERS:
        before, after = first[counter + "_total"], second[counter + "_total"]
        check(f"{counter} rises", before <= after, (before, after))
    accepts = second["accepts_total"]
    check("accepts", 0 < accepts <= 2 * ROUNDS, accepts)
    check("the histogram counts them", second["accept_delay_seconds_count"] == accepts, second)
    check("limit", second["accept_queue_limit"] == 7, second["accept_queue_limit"])
    print(f"{url}: {len(second)} samples, {accepts:.0f} of {2 * ROUNDS} accepts seen")


def serve(listener):
    """One after the other waits for a few samples."""
    for _ in range(ROUNDS):
        with socket.create_connection(listener.getsockname()):
            time.sleep(0.02)
            listener.accept()[0].close()
        time.sleep(0.02)


def scrape(url, addr, after=0):
    """Samples by name, as of a second that has ended since."""
    for _ in range(200):
        time.sleep(0.05)
        try:
            answer = urllib.request.urlopen(url, timeout=10)
        except urllib.error.HTTPError as error:
            check("before the first second", error.code == 503, error)
            continue
        kind = answer.headers["Content-Type"]
        check("content type", kind.startswith("application/openmetrics-text; version=1.0.0"), kind)
        samples = parse(answer.read().decode(), addr)
        if samples["accepts_total"] > 0 and samples["watch_ticks_total"] > after:
            return samples
    sys.exit("no second of the watch saw an accept")


def parse(text, addr):
    samples = {}
    for family in text_string_to_metric_families(text):
        check(f"{family.name} has a help text", family.documentation, family)
        for sample in family.samples:
            check("addr", sample.labels["addr"] == addr, sample)
            samples[sample.name] = sample.value
    return samples


def check(what, holds, got):
    if not holds:
        sys.exit(f"{what}: {got}")


main(sys.argv[1])
