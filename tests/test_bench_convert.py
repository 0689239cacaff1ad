"""The benchmark of the conversion: what it compares and how it reckons, never how fast."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from jeoparda_tf import bench
from jeoparda_tf.benchmarks import convert, convert_runs
from jeoparda_tf.benchmarks.convert_runs import Sample, Work
from tests.archives import pixels, v2_name
from tests.conftest import need_module
from tfrecords_tools.errors import UsageError
from tfrecords_tools.tfrecord import Example, read_records


def test_rates_ratios_and_memory_by_hand():
    # 60 patches; the median of three runs counts: of seconds and of CPU seconds each for itself.
    cpu = dict(zip(convert.KINDS, (1.0, 2.0, 10.0, 3.0, 4.0, 0.5, 2.5, 12.0, 30.0)))
    seen = {
        kind: [Sample(2 * s, s, 100.0), Sample(9 * s, 9 * s, 90.0), Sample(s, 2 * s, 80.0)]
        for kind, s in cpu.items()
    }
    seen[convert.WORKERS] = [Sample(2.0, 8.0, 9999.0)]  # of the first process, which converts nothing
    work = Work(Path(), Path(), Path(), Path(), Path(), ("name",) * 60, 20, 2)  # 20 of them with rasterio
    found = convert.findings(seen, 450_000_000, work)
    rows = {(row.what, row.unit, row.of): row for row in found.rows}
    cpu_unit, wall = "patches per CPU second", "patches per second"
    assert rows[convert.FILES, cpu_unit, ""].value == 60 / 2
    whole = rows[convert.WHOLE, cpu_unit, convert.GDAL]
    assert (whole.value, whole.ratio, whole.reached) == (10.0, pytest.approx(2 / 3), True)
    assert rows[convert.WHOLE, cpu_unit, convert.PEERS].ratio == pytest.approx(30)
    assert rows[convert.RASTERIO, cpu_unit, convert.FILES].value == 20 / 20
    verified = rows[convert.VERIFY, "MB per CPU second", "300 MB/s"]
    assert (verified.value, verified.ratio, verified.target) == (450, pytest.approx(1.5), 1)
    assert rows[convert.TAR, cpu_unit, convert.WHOLE].ratio == pytest.approx(1.2)
    assert rows[convert.WHOLE_RASTERIO, cpu_unit, convert.PEERS].ratio == pytest.approx(2.5)
    both = rows[convert.WORKERS, wall, convert.WHOLE]
    assert (both.value, both.ratio, both.target) == (30.0, pytest.approx(3.0), 1.7)
    assert found.rows[-1].value == 100.0
    assert "under the 700 MB" in found.verdict[0]


def test_the_archive_is_packed_as_it_stands(v2: Path, tmp_path: Path):
    work = convert.prepare(convert.Config(v2, patches=4), tmp_path)
    assert work.names == tuple(v2_name(i) for i in range(4))
    with tarfile.open(work.tar) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
    files = {str(path.relative_to(v2)): path.read_bytes() for path in (v2 / "BigEarthNet-S2").rglob("*.tif")}
    assert len(members) == 4 * 12
    assert members == {name: files[name] for name in members}
    listed = [(work.lists / f"{split}.csv").read_text().split() for split in ("train", "val", "test")]
    assert list(map(len, listed)) == [2, 1, 1]
    assert sorted(name for names in listed for name in names) == list(work.names)


def test_the_way_of_peers_writes_all_bands_as_integers(v2: Path, tmp_path: Path):
    work = convert.prepare(convert.Config(v2, patches=2), tmp_path)._replace(few=2)
    convert_runs.alone(convert.PEERS, work)
    records = list(read_records(tmp_path / "peers.tfrecord"))
    assert len(records) == 2
    stored = Example.FromString(records[1]).features.feature
    name = v2_name(1)
    assert stored["patch_name"].bytes_list.value == [name.encode()]
    for band, size in (("B02", 120), ("B8A", 60), ("B09", 20)):
        np.testing.assert_array_equal(
            stored[band].int64_list.value, pixels(name, band, size, "uint16").ravel()
        )
    assert sum(stored["original_labels_multi_hot"].int64_list.value) == 2


def test_a_small_run_writes_its_figures(v1: Path, tmp_path: Path):
    need_module("osgeo")
    flags = ["--patches", "6", "--repetitions", "1", "--workers", "2", "--json", str(tmp_path / "found.json")]
    bench.main(["convert", str(v1 / "BigEarthNet-v1.0"), *flags])
    found = json.loads((tmp_path / "found.json").read_text())
    assert "6 patches (1 with rasterio), 2 workers" in found["title"]
    assert all(row["value"] > 0 for row in found["rows"])
    assert {row["what"] for row in found["rows"]} > set(convert.KINDS)


def test_wrong_flags(tmp_path: Path):
    with pytest.raises(UsageError, match="--patches must be at least 1"):
        bench.main(["convert", "--patches", "0"])
    with pytest.raises(UsageError, match="not a folder"):
        bench.main(["convert", str(tmp_path / "none")])
