"""The benchmark of the input pipeline: what it compares and how it reckons, never how fast."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jeoparda_tf import bench
from jeoparda_tf.benchmarks import input as bench_input
from tfrecords_tools.errors import UsageError

pytestmark = pytest.mark.tensorflow


def test_ratios_and_verdict():
    rates = {bench_input.OURS: 2000.0, bench_input.LIMIT: 5000.0, bench_input.PEER: 400.0}
    rates |= {bench_input.NOT_MIXED: 2500.0, bench_input.NOT_TURNED: 4000.0}
    found = bench_input.findings(rates, [100.0, 200.0, 250.0], bench_input.Config())
    assert [(row.ratio, row.reached) for row in found.rows] == [
        (None, None), (0.4, False), (None, None), (5.0, True), (None, None), (None, None), (1.25, None)
    ]  # fmt: skip
    told = "500 us of CPU, reading takes 200, shuffling and parsing 50, turning 150, mixup 100."
    assert told in found.verdict[1]
    assert found.verdict[2] == "Memory has grown by 25% since epoch 2."


def test_both_layouts_hold_the_same_patches(tmp_path):
    from jeoparda_tf.stack import tf

    bench_input.write(tmp_path, 8)
    config = bench_input.Config(patches=8, batch=8, mixup=0.0)
    bands, _ = next(
        iter(bench_input._peer([str(tmp_path / f"published-{n}.tfrecord") for n in range(4)], config))
    )
    ((arrays, _),) = bench_input._ours(tmp_path, config, 0)
    # Orientations and order differ, sums over a patch do not.
    ours = tf.reduce_sum(tf.cast(arrays["s2_20m"], tf.float32), [1, 2]).numpy()
    theirs = np.stack(
        [tf.reduce_sum(bands[b], [1, 2]) for b in ("B05", "B06", "B07", "B8A", "B11", "B12")], 1
    )
    np.testing.assert_array_equal(ours[ours[:, 0].argsort()], theirs[theirs[:, 0].argsort()])


def test_a_small_run_writes_its_figures(tmp_path, capsys):
    flags = [
        "--patches",
        "16",
        "--batch",
        "4",
        "--repetitions",
        "1",
        "--epochs",
        "2",
        "--shuffle-buffer",
        "4",
    ]
    bench.main(["input", *flags, "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    values = {row["what"]: row["value"] for row in found["rows"]}
    assert found["rows"][1]["ratio"] == values[bench_input.OURS] / values[bench_input.LIMIT]
    assert min(values.values()) > 0
    assert "int64 lists" in capsys.readouterr().out


def test_nonsense_is_refused():
    with pytest.raises(UsageError, match="less than one --batch"):
        bench.main(["input", "--patches", "4"])
