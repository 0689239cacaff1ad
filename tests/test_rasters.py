"""The quick-look of a map: what its legend says."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from jeoparda_tf.bigearthnet.nomenclature import BEN19
from jeoparda_tf.mapping import colours, rasters
from jeoparda_tf.mapping.scene import Grid


def test_legend_names_all_that_is_there_in_full_and_no_share_reads_as_nothing():
    counts = np.zeros(20, np.int64)
    # Agriculture with natural vegetation: the longest name there is.
    longest = max(range(19), key=lambda i: len(BEN19.classes[i]))
    counts[[longest + 1, 1, 19]] = 99_949, 50, 1
    entries = rasters.legend(BEN19.classes, counts, nodata=True)
    assert [number for number, _ in entries] == [longest + 1, 1, 19, rasters.NODATA]
    words = [label.replace("\n", " ") for _, label in entries]
    assert words == [
        f"{BEN19.classes[longest]}, > 99.9 %", "Urban fabric, < 0.1 %", "Marine waters, < 0.1 %", "no data"
    ]  # fmt: skip
    assert all(len(line) <= 42 for _, label in entries for line in label.split("\n"))
    counts[:] = 0
    counts[0], counts[5] = 1, 3
    assert rasters.legend(BEN19.classes, counts, nodata=False) == [
        (5, f"{BEN19.classes[4]}, 75.0 %"), (0, "unclassified, 25.0 %")
    ]  # fmt: skip
    counts[:] = 0
    assert rasters.legend(BEN19.classes, counts, nodata=True) == [(255, "no data")]
    counts[1:16] = np.arange(15, 0, -1)
    assert [number for number, _ in rasters.legend(BEN19.classes, counts, nodata=False)] == list(range(1, 13))


def test_quicklook_draws_classes_in_their_colours_and_nodata_grey(tmp_path):
    import rasterio
    from matplotlib.image import imread

    numbers = np.full((300, 300), 12, np.uint8)
    numbers[:60], numbers[200:, :150], numbers[0, 0] = 255, 19, 1
    counts = np.bincount(numbers[numbers != 255], minlength=20)
    path = tmp_path / "map.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=300, height=300, count=1, dtype="uint8", crs="EPSG:32633",
        transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
    ) as file:  # fmt: skip
        file.write(numbers, 1)
    palette = colours.of(BEN19)
    rasters.quicklook(path, BEN19.classes, palette, counts, tmp_path / "map.png")
    seen = {
        tuple(colour)
        for colour in np.rint(imread(tmp_path / "map.png") * 255).astype(int)[..., :3].reshape(-1, 3)
    }
    assert {palette[11], palette[18], (128, 128, 128)} <= seen


def test_probabilities_may_lie_on_another_disk(tmp_path):
    import rasterio

    disk = Path("/dev/shm")
    if not disk.is_dir() or disk.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system here")
    grid = Grid((20, 30), "EPSG:32633", rasterio.Affine(10, 0, 0, 0, -10, 0))
    values = np.zeros((19, 20, 30), np.float32)
    values[4] = 0.5
    strips = [(0, values, np.zeros((20, 30), bool))]
    with tempfile.TemporaryDirectory(dir=disk) as folder:
        other = Path(folder, "scores.tif")
        rasters.write(strips, grid, BEN19.classes, colours.of(BEN19), 0, tmp_path / "map.tif", other)
        with rasterio.open(other) as scores:
            assert (scores.read(5) == 125).all()
            assert not scores.read(1).any()
        assert list(Path(folder).iterdir()) == [other]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.qml", "map.tif"]
