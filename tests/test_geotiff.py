from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from jeoparda_tf.synthetic.geotiff import encode
from tests.conftest import need_module


def _encode_again(path: Path) -> bytes:
    with rasterio.open(path) as file:
        return encode(
            file.read(1),
            zone=file.crs.to_epsg() - 32600,
            left=file.transform.c,
            top=file.transform.f,
            gsd=file.transform.a,
            nodata=None if file.nodata is None else int(file.nodata),
            deflate=file.profile.get("compress") == "deflate",
        )


def test_real_version_1_files_come_out_byte_for_byte(shared_data: Path) -> None:
    paths = sorted((shared_data / "bigearthnet-v1").rglob("*.tif"))
    assert len(paths) == 6 * 14
    assert [path.name for path in paths if _encode_again(path) != path.read_bytes()] == []


def test_real_version_2_files_come_out_with_the_same_pixels_and_tags(
    shared_data: Path, tmp_path: Path
) -> None:
    paths = sorted((shared_data / "bigearthnet-v2").rglob("*.tif"))
    assert len(paths) == 13
    for path in paths:
        mine = tmp_path / path.name
        mine.write_bytes(_encode_again(path))
        with rasterio.open(path) as real, rasterio.open(mine) as file:
            assert np.array_equal(file.read(1), real.read(1))
            assert file.profile == real.profile
            assert file.tags(ns="IMAGE_STRUCTURE") == real.tags(ns="IMAGE_STRUCTURE")
            assert file.tags() == real.tags()


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 130), st.integers(1, 130)),
    kind=st.sampled_from(["plain", "deflate", "float32"]),
    zone=st.integers(1, 60),
    corner=st.tuples(st.integers(100_000, 900_000), st.integers(0, 9_000_000)),
)
def test_rasterio_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int],
    kind: str,
    zone: int,
    corner: tuple[int, int],
) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 2**16, shape).astype(np.float32 if kind == "float32" else np.uint16)
    path = tmp_path_factory.mktemp("tif") / "a.tif"
    path.write_bytes(
        encode(array, zone=zone, left=corner[0], top=corner[1], gsd=20.0, deflate=kind == "deflate")
    )
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(1), array)
        assert file.dtypes == (array.dtype.name,)
        assert file.crs.to_epsg() == 32600 + zone
        assert file.transform.to_gdal() == (corner[0], 20.0, 0.0, corner[1], 0.0, -20.0)
        assert file.nodata is None


def test_gdal_reads_the_same(tmp_path: Path) -> None:
    need_module("osgeo.gdal")
    from osgeo import gdal

    gdal.UseExceptions()
    array = np.arange(14400, dtype=np.uint16).reshape(120, 120)
    for name, flavour in {
        "plain": {},
        "nodata": {"nodata": 0},
        "deflate": {"nodata": 0, "deflate": True},
    }.items():
        path = tmp_path / f"{name}.tif"
        path.write_bytes(encode(array, zone=33, left=404400, top=5342400, gsd=10, **flavour))
        dataset = gdal.Open(str(path))
        assert np.array_equal(dataset.ReadAsArray(), array)
        assert dataset.GetGeoTransform() == (404400, 10, 0, 5342400, 0, -10)
        assert dataset.GetSpatialRef().GetAuthorityCode(None) == "32633"
        assert dataset.GetRasterBand(1).GetNoDataValue() == flavour.get("nodata")
