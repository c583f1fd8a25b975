"""Two minutes of ./nemesis, by a seed of its own each time.

The name of the test has the seed, and NEMESIS_SEED sets it:

    NEMESIS_SEED=4711 pytest -s tests/net/test_nemesis.py
"""

import os
import random

import pytest

import nemesis_checker
import nemesis_run
from clustertest import BINDIR
from nemesis_faults import FAULTS, schedule

SECONDS = int(os.environ.get("NEMESIS_SECONDS", "120"))
SEED = int(os.environ.get("NEMESIS_SEED", random.randrange(1 << 31)))


@pytest.mark.parametrize("seed", [pytest.param(SEED, id=f"seed-{SEED}")])
def test_promises_hold(seed, tmp_path):
    options = nemesis_run.Options(
        seed=seed, seconds=SECONDS, bindir=BINDIR or "", pause_us=60000)
    attempt = nemesis_run.Run(options, tmp_path, print)
    report, history = attempt.run()
    print("\n".join(nemesis_run.statistics(history)))
    print(nemesis_checker.summary(report))
    assert attempt.problems == [], f"NEMESIS_SEED={seed}: see {tmp_path}"
    stories = [nemesis_checker.explain(violation, history)
               for violation in report.violations]
    assert stories == [], f"NEMESIS_SEED={seed}: see {tmp_path}"
    assert report.pinned > 0
    assert len(report.undone) < report.ops / 100


def test_a_seed_repeats_its_schedule():
    nodes = ["n1", "n2", "n3"]
    first = schedule(7, 3600, nodes, FAULTS)
    assert first == schedule(7, 3600, nodes, FAULTS)
    assert first != schedule(8, 3600, nodes, FAULTS)
    assert {step.name for step in first} == set(FAULTS)
    for step, following in zip(first, first[1:], strict=False):
        assert step.at <= following.at
        if step.alone:
            assert following.at >= step.at + step.lasts
