"""The benchmark of scaling: projection, timeline and a tiny run, never how fast."""

from __future__ import annotations

import json

import pytest

from jeoparda_tf import bench
from jeoparda_tf.benchmarks import scaling
from tests.conftest import need_engine

pytestmark = pytest.mark.tensorflow


def test_projection_by_hand():
    # 2 * 3/4 * 100 / 50 = 3 s of transfer, 2 * 3 * 0.5 = 3 s of latency, 6 s of computing.
    assert scaling.projection(6.0, 100.0, 4, 50.0, 0.5) == pytest.approx(0.5)
    assert scaling.projection(6.0, 100.0, 1, 50.0, 0.5) == 1


def test_overlapping_allreduces_count_once_and_other_phases_not_at_all():
    def span(pid, name, start, end):
        return [{"ph": "B", "pid": pid, "name": name, "ts": start}, {"ph": "E", "pid": pid, "ts": end}]

    inner = span(1, "GLOO_ALLREDUCE", 1.2e6, 1.8e6)
    begin, end = span(1, "ALLREDUCE", 1e6, 2e6)
    events = [begin, *inner, end, *span(2, "ALLREDUCE", 1.5e6, 3e6), *span(3, "ALLGATHER", 4e6, 9e6)]
    assert scaling.allreduce_seconds(events) == pytest.approx(2.0)


@pytest.mark.slow
def test_a_tiny_run_on_two_ranks(tmp_path):
    need_engine("horovodrun")
    flags = ["--model", "tiny", "--batch", "4", "--steps", "2", "--json"]
    bench.main(["scaling", *flags, str(tmp_path / "found.json")])
    one, two, reduced = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert two["ratio"] == two["value"] / (2 * one["value"])
    assert reduced["value"] > 0
