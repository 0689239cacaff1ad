"""Scenes of any size, one file or one band of a file each: patch folders, Sentinel-2 L2A .SAFE, stacked GeoTIFFs."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfrecords_tools.errors import DataError, UsageError
from tfrecords_tools.manifest import Feature

from ..bigearthnet import bands, raster

# What the archive's digital numbers are: reflectance times 10,000.
_ARCHIVE = 10_000.0
# Order of band_id in MTD_MSIL2A.xml (Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD).
_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


class Source(NamedTuple):
    """Where a band is, and what its numbers are: reflectance = number * scale + offset; 0 is nodata."""

    path: Path
    number: int = 1
    scale: float = 1 / _ARCHIVE
    offset: float = 0.0


def find(
    path: Path, wanted: Sequence[str], names: Sequence[str], scale: float, offset: float
) -> dict[str, Source]:
    """Returns where each wanted band is.

    Args:
        path: a patch folder, a .SAFE folder or a GeoTIFF.
        wanted: band names.
        names: of a GeoTIFF, the names of its bands in their order.
        scale: of a GeoTIFF, reflectance = number * scale + offset.
        offset: likewise.

    Raises:
        UsageError: nothing there, or a GeoTIFF without names, or a band is missing.
        DataError: the metadata of a .SAFE is missing or damaged.
    """
    if (path / "MTD_MSIL2A.xml").is_file() or path.name.endswith(".SAFE"):
        return _safe(path, wanted)
    if path.is_dir():
        name = path.resolve().name
        return {band: Source(Path(raster.file_of(str(path), name, band))) for band in wanted}
    if not path.is_file():
        raise UsageError("no such scene", path=path, remedy="a patch folder, a .SAFE folder or a GeoTIFF")
    missing = [band for band in wanted if band not in names]
    if missing:
        remedy = "name the bands of the file in their order with --bands"
        raise UsageError(f"the model needs band {', '.join(missing)}", path=path, remedy=remedy)
    return {band: Source(path, list(names).index(band) + 1, scale, offset) for band in wanted}


def _safe(path: Path, wanted: Sequence[str]) -> dict[str, Source]:
    metadata = path / "MTD_MSIL2A.xml"
    try:
        root = ElementTree.parse(metadata).getroot()
        quantification = float(next(root.iter("BOA_QUANTIFICATION_VALUE")).text or "")
        # Since processing baseline 04.00 (January 2022); absent before.
        offsets = {_IDS[int(e.attrib["band_id"])]: float(e.text or "") for e in root.iter("BOA_ADD_OFFSET")}
    except (OSError, ValueError, KeyError, IndexError, StopIteration, ElementTree.ParseError) as error:
        raise DataError(f"no metadata of a Sentinel-2 L2A product: {error!r}", path=metadata) from error
    found = {}
    for band in wanted:
        feature = bands.feature_of(band)
        assert feature is not None  # a band of the model
        files = sorted(path.glob(f"GRANULE/*/IMG_DATA/R{feature.gsd}m/*_{band}_{feature.gsd}m.jp2"))
        if len(files) != 1:
            problem = f"{len(files)} files of {band} at {feature.gsd} m, not one"
            raise DataError(problem, path=path, remedy="download the product again, whole")
        offset = offsets.get(band, 0.0) / quantification
        found[band] = Source(files[0], 1, 1 / quantification, offset)
    return found


@dataclass(frozen=True)
class Grid:
    """The 10 m grid of a scene: `shape` in pixels, coordinate system and transform as rasterio has them."""

    shape: tuple[int, int]
    crs: Any
    transform: Any


class Scene:
    """Open files of a scene, read tile by tile.

    Args:
        sources: by band.
        features: what the model takes.
        gsd: metres of a pixel of the map: the finest of the features.

    Raises:
        DataError: a file cannot be opened, or has not the extent of the others.
    """

    def __init__(self, sources: Mapping[str, Source], features: Sequence[Feature], gsd: int):
        import rasterio

        self._sources, self._features = sources, features
        self._files: dict[Path, Any] = {}
        for source in sources.values():
            if source.path not in self._files:
                try:
                    self._files[source.path] = rasterio.open(source.path)
                except rasterio.errors.RasterioIOError as error:
                    raise DataError(f"cannot be read: {error}", path=source.path) from error
        finest = min(self._files.values(), key=lambda file: file.transform.a)
        extent = finest.height * finest.transform.a, finest.width * finest.transform.a
        for band, source in sources.items():
            file, feature = self._files[source.path], bands.feature_of(band)
            size = (file.height * file.transform.a, file.width * file.transform.a)
            if size != extent:
                raise DataError(f"covers {size} m, others {extent} m", path=source.path)
            if feature is None or feature.gsd % file.transform.a or gsd % finest.transform.a:
                raise DataError(f"has pixels of {file.transform.a:g} m, unfit for {band}", path=source.path)
        self.gsd = gsd
        shape = (int(extent[0] // gsd), int(extent[1] // gsd))
        scale = gsd / finest.transform.a
        a, b, c, d, e, f = finest.transform[:6]
        transform = rasterio.Affine(a * scale, b * scale, c, d * scale, e * scale, f)
        self.grid = Grid(shape, finest.crs, transform)

    def read(self, top: int, left: int, size: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Reads a square; pixels beyond the scene repeat its border.

        Args:
            top, left: its corner in pixels of the map.
            size: of it, likewise.

        Returns:
            the features, float32 [rows, columns, bands] as archive numbers, and where no band is known: bool
            [size, size].
        """
        arrays, known = {}, np.zeros((size, size), bool)
        for feature in self._features:
            side = size * self.gsd // feature.gsd
            array = arrays[feature.name] = np.zeros((side, side, len(feature.bands)), np.float32)
            for index, band in enumerate(feature.band_names):
                if band in self._sources:
                    layer, valid = self._band(self._sources[band], top, left, size, feature.gsd)
                    array[..., index] = layer
                    known |= np.kron(valid, np.ones((feature.gsd // self.gsd,) * 2, bool))
        return arrays, ~known

    def _band(
        self, source: Source, top: int, left: int, size: int, gsd: int
    ) -> tuple[np.ndarray, np.ndarray]:
        from rasterio.windows import Window

        file = self._files[source.path]
        pixel = round(file.transform.a)
        first_row, first_column = top * self.gsd // pixel, left * self.gsd // pixel
        side = size * self.gsd // pixel
        height, width = (
            min(side, n - start) for n, start in ((file.height, first_row), (file.width, first_column))
        )
        try:
            values = file.read(source.number, window=Window(first_column, first_row, width, height))
        except Exception as error:  # rasterio's and libgdal's have no common base
            raise DataError(f"cannot be read: {error.__cause__ or error}", path=source.path) from error
        values = np.pad(values, ((0, side - height), (0, side - width)), "edge")
        valid = values != 0
        numbers = np.where(valid, (values * source.scale + source.offset) * _ARCHIVE, 0).astype(np.float32)
        many = gsd // pixel
        # A stack holds coarse bands on its fine grid: the mean of a block undoes repeating.
        blocks = (side // many, many, side // many, many)
        return numbers.reshape(blocks).mean((1, 3)), valid.reshape(blocks).any((1, 3))

    def close(self) -> None:
        for file in self._files.values():
            file.close()
