"""The benchmark of training steps: what it compares and how it reckons, never how fast."""

from __future__ import annotations

import json

import pytest

from jeoparda_tf import bench
from jeoparda_tf.benchmarks import step as bench_step

pytestmark = pytest.mark.tensorflow


def test_ratios_and_verdict():
    of = {bench_step.MEMORY: 100.0, bench_step.FED: 90.0, bench_step.HALF: 150.0, bench_step.PEER: 80.0}
    small = {bench_step.MEMORY: 1000.0, bench_step.FED: 990.0}
    gradients = {"resnet50": 94.5, "shallow": 7.5}
    found = bench_step.findings(
        {"resnet50": of, "shallow": small}, gradients, 4000.0, bench_step.Config(batch=50)
    )
    assert [(row.ratio, row.reached) for row in found.rows] == [
        (None, None), (0.9, False), (1.5, None), (None, None), (1.25, True), (None, None), (None, None),
        (None, None), (0.99, True), (None, None), (None, None), (None, None),
    ]  # fmt: skip
    values = {row.what: row.value for row in found.rows}
    assert values["resnet50: time of a step"] == 0.5
    assert values["shallow: gradients of a step"] == 7.5
    assert found.verdict[0].startswith("resnet50 is input-bound")
    assert found.verdict[1].startswith("shallow is compute-bound")


def test_a_small_run_writes_its_figures(tmp_path):
    flags = ["--models", "tiny", "--batch", "4", "--steps", "2", "--repetitions", "1", "--no-xla"]
    bench.main(["step", *flags, "--json", str(tmp_path / "found.json")])
    memory, fed, half, step, gradients, peak = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert fed["ratio"] == fed["value"] / memory["value"]
    assert half["ratio"] == half["value"] / memory["value"]
    assert step["value"] == 4 / memory["value"]
    assert gradients["value"] == pytest.approx(0.054892)  # 13,723 weights of 4 bytes
    assert peak["value"] > 100
