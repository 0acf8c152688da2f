#!/usr/bin/env python3
"""Checks that loadgens in containers carried out one plan: check-shards.py FOLDER [ONE]

FOLDER has the sum and a folder for each shard, as docker/run and compose.yaml leave them; ONE is
what one loadgen alone left of the same plan. Arrivals at equal gaps are computed; of Poisson ones
ONE says how many there are. Shard I of N has to have attempted those whose numbers leave I when
divided by N, whatever became of them.
"""

import json
import pathlib
import sys

PLAN = ("shape", "arrivals", "seed", "duration_ns", "warmup_ns")


def main(folder, one=None):
    whole = load(folder)
    shards = [load(part) for part in sorted(folder.glob("shard-*"))]
    indices = sorted(shard["shard"]["index"] for shard in shards)
    expect("shards", indices, list(range(len(shards))))
    expect("runs in the sum", sorted(whole["merged"]), sorted(s["run_id"] for s in shards))
    first, end = counted(whole, load(one)) if one else computed(whole["load"])
    for shard in shards:
        check_shard(shard, whole, first, end)
    expect("attempted by all", whole["outcomes"]["attempted"], end - first)
    expect("warm-up of all", whole["warmup_excluded"], first)
    ended = {name: of(shards, name) for name in whole["outcomes"]}
    expect("outcomes of all", whole["outcomes"], ended)


def computed(plan):
    """The numbers of the first measured arrival and of the one after the last. Arrival k is due
    k / rate after the start."""
    if plan["arrivals"] != "constant":
        sys.exit("check-shards.py: Poisson arrivals: the result of one loadgen is needed")

    def due_before(ns):
        return -(-ns * round(plan["rate"] * 1e6) // 10**15)

    return due_before(plan["warmup_ns"]), due_before(plan["warmup_ns"] + plan["duration_ns"])


def counted(whole, one):
    """The same, as one loadgen counted them."""
    expect("shard of the one", one["shard"], None)
    differing = [name for name in PLAN if whole["load"][name] != one["load"][name]]
    expect("what the plans differ in", differing, [])
    expect("rate", round(whole["load"]["rate"], 6), one["load"]["rate"])
    return one["warmup_excluded"], one["warmup_excluded"] + one["outcomes"]["attempted"]


def check_shard(shard, whole, first, end):
    index, count = shard["shard"]["index"], shard["shard"]["count"]
    name = f"shard {index} of {count}"
    expect(f"{name}: count", count, len(whole["merged"]))
    for field in (*PLAN, "sources", "start_at"):
        expect(f"{name}: {field}", shard["load"].get(field), whole["load"].get(field))
    outcomes, warmup = shard["outcomes"], shard["warmup_excluded"]
    expect(f"{name}: warm-up", warmup, len(range(index, first, count)))
    expect(f"{name}: arrivals", warmup + outcomes["attempted"], len(range(index, end, count)))
    ended = {k: v for k, v in outcomes.items() if v and k != "attempted"}
    expect(f"{name}: outcomes", sum(ended.values()), outcomes["attempted"])
    print(f"{name}: {outcomes['attempted']} attempted, as planned: {ended}")


def of(shards, outcome):
    return sum(shard["outcomes"][outcome] for shard in shards)


def load(folder):
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def expect(name, got, expected):
    if got != expected:
        sys.exit(f"check-shards.py: {name}: {got}, expected {expected}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*map(pathlib.Path, sys.argv[1:]))
