"""Reads the GeoTIFFs of one patch, with gdal or with rasterio, into the same arrays, and checks them.

A process imports one of the two only: each may bring its own libgdal. gdal is several times faster: rasterio does more
for every file it opens.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, Union

import numpy as np

from tfrecords_tools.errors import DataError, UsageError
from tfrecords_tools.manifest import Feature

from .packed import PatchFiles

READERS = ("auto", "gdal", "rasterio")
LEAVE_OUT = "extract it again from the published archive, or leave such patches out with --on-error skip"
# Do not list the folder of every file, do not look for .aux.xml beside it.
_GDAL_OPTIONS = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}

Bytes = Union[bytes, memoryview]
# Reads one file, named or as its bytes, of (rows, columns) and dtype; raises RuntimeError or OSError where it cannot.
ReadBand = Callable[["Union[str, Bytes]", "tuple[int, ...]", str], np.ndarray]
# Reads features of one folder, or of a patch in a .tar: (where, name, features) -> arrays by feature name.
ReadPatch = Callable[["Union[str, PatchFiles]", str, Sequence[Feature]], "dict[str, np.ndarray]"]


class _WrongFileError(Exception):
    """The file can be read, but is not the band it should be."""


def choose(name: str) -> str:
    """Returns "gdal" or "rasterio" for a name in READERS; "auto" takes gdal where it can be imported.

    Raises:
        UsageError: gdal was asked for, but its binding is not installed.
    """
    if name == "rasterio":
        return name
    try:
        from osgeo import gdal  # noqa: F401 - to see that it loads, its libgdal included
    except ImportError as error:
        if name == "auto":
            return "rasterio"
        remedy = 'install libgdal-dev, then pip install "gdal==$(gdal-config --version)"; or take --reader rasterio'
        raise UsageError(f"--reader gdal, but gdal cannot be imported: {error}", remedy=remedy) from error
    return "gdal"


def reader(name: str) -> ReadPatch:
    """Returns the function that reads patches with gdal or rasterio, by a name in READERS.

    The function takes a folder or the files of a patch in a .tar, the name of the patch (Sentinel-2, Sentinel-1 or
    map) and features, and returns an array of its dtype and shape by feature name, bands last. It raises a DataError
    that names the file where one is missing, truncated, of wrong size, type or number of bands, or holds values that
    are not finite.
    """
    chosen = choose(name)
    read_band = {"gdal": _gdal, "rasterio": _rasterio}[chosen]()
    in_memory = takes_bytes(chosen)

    def read_patch(
        folder: Union[str, PatchFiles], patch: str, features: Sequence[Feature]
    ) -> dict[str, np.ndarray]:
        if in_memory and not isinstance(folder, str):
            folder = folder.loaded()
        arrays = {}
        for feature in features:
            array = arrays[feature.name] = np.empty(feature.shape, feature.dtype)
            if not feature.bands:
                array[...] = _checked(read_band, folder, patch, feature.name, feature)
            for index, band in enumerate(feature.bands):
                array[..., index] = _checked(read_band, folder, patch, band.name, feature)
        return arrays

    return read_patch


def takes_bytes(name: str) -> bool:
    """Whether a reader takes the bytes of files faster than it seeks them in an archive; rasterio does not."""
    return name == "gdal"


def file_of(folder: str, patch: str, band: str) -> str:
    """Returns the path of a band's GeoTIFF, as a string: twelve Path objects a patch would cost as much as a read."""
    return f"{folder}/{patch}_{band}.tif"


def _checked(
    read_band: ReadBand,
    where: Union[str, PatchFiles],
    patch: str,
    band: str,
    feature: Feature,
) -> np.ndarray:
    opened = file_of(where, patch, band) if isinstance(where, str) else where.opened(f"{patch}_{band}.tif")
    try:
        values = read_band(opened, feature.shape[:2], feature.dtype)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise _WrongFileError("holds values that are not finite")
    except (_WrongFileError, RuntimeError, OSError) as error:
        raise _told(error, where, patch, band) from None
    return values


def _told(error: Exception, where: Union[str, PatchFiles], patch: str, band: str) -> DataError:
    """Returns the error to raise for one about a band's file."""
    if isinstance(where, str):
        path = file_of(where, patch, band)
        there = Path(path).exists()
    else:
        path = where.told(f"{patch}_{band}.tif")
        there = Path(path).name in where.places
    if isinstance(error, _WrongFileError):
        problem = str(error)
    else:
        problem = f"cannot be read: {_one_line(error)}" if there else "missing"
    return DataError(problem, path=path, remedy=LEAVE_OUT)


def _one_line(error: Exception) -> str:
    # rasterio says "Read failed. See previous exception for details." and keeps libgdal's words as the cause.
    return " ".join(str(error.__cause__ or error).split())


def _expect(count: int, size: tuple[int, int], dtype: str, wanted_size: tuple[int, ...], wanted: str) -> None:
    if count != 1:
        raise _WrongFileError(f"has {count} bands, not one")
    if size != wanted_size:
        raise _WrongFileError(f"has {size[0]} x {size[1]} pixels, not {wanted_size[0]} x {wanted_size[1]}")
    if dtype != wanted:
        raise _WrongFileError(f"is {dtype}, not {wanted}")


def _gdal() -> ReadBand:
    from osgeo import gdal

    gdal.UseExceptions()
    gdal.PushErrorHandler("CPLQuietErrorHandler")  # warnings of thousands of files; errors come as exceptions
    for key, value in _GDAL_OPTIONS.items():
        gdal.SetConfigOption(key, value)
    names = {gdal.GDT_UInt16: "uint16", gdal.GDT_Float32: "float32"}
    memory = "/vsimem/band.tif"

    def read(path: Union[str, Bytes], size: tuple[int, ...], dtype: str) -> np.ndarray:
        if not isinstance(path, str):
            gdal.FileFromMemBuffer(memory, path)
            path = memory
        dataset = gdal.OpenEx(path, 0, ["GTiff"])
        rows, columns = dataset.RasterYSize, dataset.RasterXSize
        band = dataset.GetRasterBand(1)
        kind = band.DataType
        name = names.get(kind) or gdal.GetDataTypeName(kind).lower()
        _expect(dataset.RasterCount, (rows, columns), name, size, dtype)
        # Bytes, not ReadAsArray: that needs gdal_array, which a plain `pip install gdal` leaves out.
        return np.frombuffer(band.ReadRaster1(0, 0, columns, rows), dtype).reshape(size)

    return read


def _rasterio() -> ReadBand:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    # Where a patch lies plays no part, and three quarters of an open went into its coordinate system and transform.
    anywhere = {"driver": "GTiff", "sharing": False, "GEOREF_SOURCES": "NONE"}
    warnings.simplefilter("ignore", NotGeoreferencedWarning)

    def read(path: Union[str, Bytes], size: tuple[int, ...], dtype: str) -> np.ndarray:
        with rasterio.Env(**_GDAL_OPTIONS), rasterio.open(path, **anywhere) as dataset:
            _expect(dataset.count, dataset.shape, dataset.dtypes[0], size, dtype)
            values = dataset.read(1)
        return np.asarray(values)

    return read
