from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from jeoparda_tf.bigearthnet import raster
from jeoparda_tf.bigearthnet.bands import MAP_FEATURE, S1_FEATURE, S2_FEATURES
from tests import archives
from tests.conftest import need_module
from tfrecords_tools.errors import DataError, UsageError

NAME = archives.v1_name(0)


@pytest.fixture(params=["gdal", "rasterio"])
def read(request: pytest.FixtureRequest) -> raster.ReadPatch:
    if request.param == "gdal":
        need_module("osgeo.gdal")
    return raster.reader(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    archives.write_s2(tmp_path / NAME, NAME)
    return tmp_path / NAME


def test_arrays_are_the_files_pixels_bands_last(read: raster.ReadPatch, folder: Path) -> None:
    arrays = read(str(folder), NAME, S2_FEATURES)
    assert {name: (array.shape, array.dtype.name) for name, array in arrays.items()} == {
        "s2_10m": ((120, 120, 4), "uint16"),
        "s2_20m": ((60, 60, 6), "uint16"),
        "s2_60m": ((20, 20, 2), "uint16"),
    }
    for feature in S2_FEATURES:
        for index, band in enumerate(feature.band_names):
            expected = archives.pixels(NAME, band, archives.SIZES[band], "uint16")
            np.testing.assert_array_equal(arrays[feature.name][..., index], expected)
    assert arrays["s2_10m"][0, 1].tolist() == [65535] * 4  # the highest value there is


def test_real_patches_bit_for_bit(read: raster.ReadPatch, shared_data: Path) -> None:
    folders = sorted((shared_data / "bigearthnet-v1" / "BigEarthNet-v1.0").iterdir())
    assert len(folders) == 6
    for folder in folders:
        arrays = read(str(folder), folder.name, S2_FEATURES)
        for feature in S2_FEATURES:
            for index, band in enumerate(feature.band_names):
                with rasterio.open(folder / f"{folder.name}_{band}.tif") as file:
                    assert arrays[feature.name][..., index].tobytes() == file.read(1).tobytes()


def test_sentinel1_is_vv_then_vh_and_maps_are_read(read: raster.ReadPatch, tmp_path: Path) -> None:
    archives.write_s1(tmp_path / "s1", "S1A_x")
    codes = np.arange(14400, dtype=np.uint16).reshape(120, 120)
    archives.write_tif(tmp_path / "s1" / "S1A_x_reference_map.tif", codes)
    arrays = read(str(tmp_path / "s1"), "S1A_x", (S1_FEATURE, MAP_FEATURE))
    for index, band in enumerate(("VV", "VH")):
        np.testing.assert_array_equal(
            arrays["s1"][..., index], archives.pixels("S1A_x", band, 120, "float32")
        )
    np.testing.assert_array_equal(arrays["reference_map"], codes)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.zeros((256, 256), np.uint16), "has 256 x 256 pixels, not 120 x 120"),
        (np.zeros((120, 60), np.uint16), "has 120 x 60 pixels, not 120 x 120"),
        (np.zeros((120, 120), np.uint8), "is (uint8|byte), not uint16"),
        (np.zeros((120, 120), np.int16), "is int16, not uint16"),
        (np.zeros((120, 120), np.float32), "is float32, not uint16"),
        (np.zeros((3, 120, 120), np.uint16), "has 3 bands, not one"),
    ],
)
def test_wrong_band(read: raster.ReadPatch, folder: Path, values: np.ndarray, problem: str) -> None:
    archives.write_tif(folder / f"{NAME}_B03.tif", values)
    with pytest.raises(DataError, match=f"_B03.tif: {problem}\n.*--on-error skip"):
        read(str(folder), NAME, S2_FEATURES)


@pytest.mark.parametrize("size", [0, 4, 100, 2000, 20_000])
def test_truncated(read: raster.ReadPatch, folder: Path, size: int) -> None:
    path = folder / f"{NAME}_B08.tif"
    data = path.read_bytes()
    path.write_bytes(data[:size])
    with pytest.raises(DataError, match=r"_B08\.tif: cannot be read: ") as caught:
        read(str(folder), NAME, S2_FEATURES)
    assert str(caught.value).count("\n") == 1  # the problem and the way out, a line each


def test_missing_unreadable_and_no_tiff(read: raster.ReadPatch, folder: Path) -> None:
    path = folder / f"{NAME}_B12.tif"
    path.unlink()
    with pytest.raises(DataError, match=r"_B12\.tif: missing"):
        read(str(folder), NAME, S2_FEATURES)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    with pytest.raises(DataError, match=r"_B12\.tif: cannot be read"):
        read(str(folder), NAME, S2_FEATURES)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"_B12\.tif: cannot be read"):
        read(str(folder), NAME, S2_FEATURES)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(read: raster.ReadPatch, tmp_path: Path, value: float) -> None:
    archives.write_s1(tmp_path / "s1", "S1A_x")
    values = np.zeros((120, 120), np.float32)
    values[119, 119] = value
    archives.write_tif(tmp_path / "s1" / "S1A_x_VH.tif", values)
    with pytest.raises(DataError, match=r"S1A_x_VH\.tif: holds values that are not finite"):
        read(str(tmp_path / "s1"), "S1A_x", (S1_FEATURE,))


@pytest.mark.parametrize(("name", "absent"), [("gdal", "rasterio"), ("rasterio", "osgeo")])
def test_a_process_imports_one_library_only(folder: Path, name: str, absent: str) -> None:
    if name == "gdal":
        need_module("osgeo.gdal")
    code = (
        "import sys; from jeoparda_tf.bigearthnet import raster, bands;"
        f"raster.reader({name!r})({str(folder)!r}, {NAME!r}, bands.S2_FEATURES); print({absent!r} in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_auto_falls_back_and_gdal_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "osgeo", None)  # an import of it fails now
    assert raster.choose("auto") == "rasterio"
    with pytest.raises(UsageError, match=r"gdal cannot be imported(.|\n)*gdal-config"):
        raster.choose("gdal")


@pytest.mark.parametrize("name", ["gdal", "rasterio"])
def test_files_without_place_are_read_quietly(tmp_path: Path, name: str) -> None:
    if name == "gdal":
        need_module("osgeo.gdal")
    for band, size in archives.SIZES.items():
        with rasterio.open(
            tmp_path / f"{NAME}_{band}.tif",
            "w",
            driver="GTiff",
            dtype="uint16",
            count=1,
            height=size,
            width=size,
        ) as file:
            file.write(np.full((1, size, size), 7, np.uint16))
    code = (
        "from jeoparda_tf.bigearthnet import raster, bands;"
        f"print(raster.reader({name!r})({str(tmp_path)!r}, {NAME!r}, bands.S2_FEATURES)['s2_60m'].sum())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("5600\n", "")
