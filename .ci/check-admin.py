#!/usr/bin/env python3
"""Checks the admin endpoint under load: check-admin.py URING-ECHO LOADGEN

Runs a server and 10,000 connections of loadgen against it, scrapes meanwhile, and reads every answer
with Prometheus' own parser of OpenMetrics. In the end the server's counters are those of loadgen.
"""

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

CONNECTIONS = 10_000
SERVER = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--stamp", "--log", "json"]
LOAD = ["--rate", "5000", "--connections", str(CONNECTIONS), "--observe", "stamp", "--json", "-"]


def main(server, loadgen):
    process = subprocess.Popen([server, *SERVER], stderr=subprocess.PIPE, text=True)
    try:
        ready = next(filter(None, map(listening, process.stderr)))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        url = f"http://{ready['admin']}"
        assert ask(url + "/livez")[0] == ask(url + "/readyz")[0] == 200
        with tempfile.TemporaryFile() as output:
            command = [loadgen, "run", ready["addr"], *LOAD]
            load = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
            scrapes = scrape_until(lambda: load.poll() is not None, url)
            output.seek(0)
            result = json.load(output)
        check(settled(url), result, scrapes)
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0, "the server did not end well"


def listening(line):
    fields = json.loads(line)["fields"]
    return fields if fields["message"] == "listening" else None


def ask(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status, answer.headers["content-type"], answer.read().decode()


def scrape(url):
    """The sum over workers of each sample, by name and reason."""
    _, kind, text = ask(url + "/metrics")
    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8", kind
    sums = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            key = sample.name, sample.labels.get("reason")
            sums[key] = sums.get(key, 0) + sample.value
    return sums


def scrape_until(done, url):
    scrapes = []
    while not done():
        scrapes.append(scrape(url))
        time.sleep(0.05)
    return scrapes


def settled(url):
    """The last close is counted a moment after the client has it."""
    deadline = time.monotonic() + 30
    while (now := scrape(url))[("uring_echo_connections_open", None)] != 0:
        assert time.monotonic() < deadline, "connections stay open"
        time.sleep(0.01)
    return now


def check(now, result, scrapes):
    accepted = "uring_echo_connections_accepted_total", None
    for before, after in zip(scrapes, scrapes[1:]):
        falls = [key for key in before if re.search("_(total|count|bucket)$", key[0])
                 and after[key] < before[key]]
        assert not falls, f"counters went back: {falls}"
    attempted = result["outcomes"]["attempted"]
    ended = sum(value for (name, _), value in now.items()
                if name == "uring_echo_connections_closed_total")
    # One more connection asked the server how it is to be observed, before the run.
    expected = CONNECTIONS + 1
    assert attempted == CONNECTIONS and now[accepted] == ended == expected, (now[accepted], ended)
    print(f"{len(scrapes)} scrapes during {attempted} connections, all of them counted")


if __name__ == "__main__":
    main(*sys.argv[1:])
