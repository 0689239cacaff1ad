"""The benchmark of starting: what it reckons, never how fast."""

from __future__ import annotations

import json

import pytest

from jeoparda_tf import bench
from jeoparda_tf.benchmarks import startup
from tfrecords_tools.errors import UsageError

pytestmark = pytest.mark.tensorflow


def test_seconds_of_each_phase_and_the_longest():
    ends = dict(zip(startup.PHASES, (101.0, 105.0, 107.0, 107.5, 110.0, 110.25)))
    found = startup.findings(100.0, ends, startup.Config())
    assert [row.value for row in found.rows] == [1, 4, 2, 0.5, 2.5, 10, 0.25]
    assert [row.ratio for row in found.rows[:5]] == [0.1, 0.4, 0.2, 0.05, 0.25]
    assert "4.0 of 10.0 s" in found.verdict[0]
    assert "TensorFlow imported" in found.verdict[0]


def test_a_small_start_writes_its_figures(tmp_path):
    bench.main(["startup", "--model", "tiny", "--batch", "4", "--json", str(tmp_path / "found.json")])
    *phases, total, second = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert min(row["value"] for row in phases) > 0
    assert total["value"] == pytest.approx(sum(row["value"] for row in phases))
    assert second["ratio"] is None


def test_nonsense_is_refused():
    with pytest.raises(UsageError, match="--batch"):
        bench.main(["startup", "--batch", "0"])
