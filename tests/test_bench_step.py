"""The benchmark of training steps: what it compares and how it reckons, never how fast."""

from __future__ import annotations

import json

import pytest

from jeoparda_tf import bench
from jeoparda_tf.benchmarks import step as bench_step

pytestmark = pytest.mark.tensorflow


def test_ratios_and_verdict():
    rates = {bench_step.FED: 90.0, bench_step.MEMORY: 100.0, bench_step.PEER: 80.0}
    found = bench_step.findings(rates, bench_step.Config(batch=50))
    assert [(row.ratio, row.reached) for row in found.rows] == [
        (None, None), (0.9, False), (None, None), (1.25, True), (None, None)
    ]  # fmt: skip
    assert found.rows[-1].value == 0.5
    assert found.verdict[0].startswith("input-bound")
    fast = bench_step.findings({**rates, bench_step.FED: 99.0}, bench_step.Config())
    assert fast.verdict[0].startswith("compute-bound")


def test_a_small_run_writes_its_figures(tmp_path):
    flags = ["--model", "tiny", "--batch", "4", "--steps", "2", "--repetitions", "1"]
    bench.main(["step", *flags, "--json", str(tmp_path / "found.json")])
    memory, fed, step = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert fed["ratio"] == fed["value"] / memory["value"]
    assert step["value"] == 4 / memory["value"]
