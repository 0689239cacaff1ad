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
    later = [*events, *span(1, "ALLREDUCE", 10e6, 10.25e6)]
    assert scaling.allreduce_seconds(later, skip=1) == pytest.approx(0.25)


def test_efficiency_and_verdict(monkeypatch):
    monkeypatch.setattr(scaling.os, "sched_getaffinity", lambda _: {0, 1})
    config = scaling.Config(ranks=(1, 2, 4), batch=10, project_ranks=1)
    found = scaling.findings([20.0, 30.0, 32.0], [0.0, 0.2, 0.1], 94e6, config)
    rows = {row.what: row for row in found.rows}
    two = rows["2 ranks, each pinned to its core"]
    assert (two.ratio, two.reached) == (0.75, False)
    assert rows["2 ranks: in allreduce"].ratio == pytest.approx(0.2 / (20 / 30))
    four = rows["4 ranks, oversubscribed on 2 cores"]
    assert (four.ratio, four.target) == (0.4, None)
    assert rows["gradients of a step"].value == 94
    assert "communication-bound" in found.verdict[0]
    assert "does not explain it" in found.verdict[1]
    assert found.verdict[2].startswith("Projection, not measured: 100.0% efficiency on 1 ranks")
    # The larger part of what is lost decides.
    assert "communication-bound" in scaling._verdict(2, 0.89, 0.1)
    assert "does not explain it" in scaling._verdict(2, 0.8, 0.09)


@pytest.mark.slow
def test_a_tiny_run_on_two_ranks(tmp_path):
    need_engine("horovodrun")
    flags = ["--model", "tiny", "--batch", "4", "--steps", "2", "--epochs", "1", "--json"]
    bench.main(["scaling", *flags, str(tmp_path / "found.json")])
    one, two, step, reduced, gradients = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert two["ratio"] == two["value"] / (2 * one["value"])
    assert 0 < reduced["value"] < step["value"]
    assert gradients["value"] == pytest.approx(0.054892)
