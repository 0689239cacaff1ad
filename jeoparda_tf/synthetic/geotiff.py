"""Writes the GeoTIFFs of BigEarthNet, byte for byte as its own are, many times faster than GDAL does.

Only this one flavour: little-endian, one band, strips of about 8 kB, UTM zone of the northern hemisphere.
Tags: TIFF 6.0 specification (1992), technical note 3 (predictor), GeoTIFF 1.0 (1995), GDAL's GDAL_NODATA.
"""

from __future__ import annotations

import struct
import zlib
from typing import Optional, Union

import numpy as np

_STRIP_BYTES = 8192
_CODES = {"H": 3, "I": 4, "d": 12, "s": 2}  # struct format -> TIFF's type: SHORT, LONG, DOUBLE, ASCII
_SAMPLE_FORMAT = {"u": 1, "f": 3}
_DEFLATE = 8


class _Entry:
    """One tag of the directory: inline where its value fits into four bytes, else behind the directory."""

    def __init__(self, tag: int, kind: str, *values: Union[int, float, bytes]):
        if kind == "s":
            text = bytes(values[0])  # type: ignore[arg-type]  # an ASCII tag has one value, bytes
            self.count, self.value = len(text), text
        else:
            self.count, self.value = len(values), struct.pack(f"<{len(values)}{kind}", *values)
        self.tag, self.kind = tag, kind

    def pack(self, offset: int) -> bytes:
        inline = self.value.ljust(4, b"\0") if len(self.value) <= 4 else struct.pack("<I", offset)
        return struct.pack("<HHI", self.tag, _CODES[self.kind], self.count) + inline


def encode(
    array: np.ndarray,
    *,
    zone: int,
    left: float,
    top: float,
    gsd: float,
    nodata: Optional[int] = None,
    deflate: bool = False,
) -> bytes:
    """Returns the bytes of a one-band GeoTIFF.

    Args:
        array: uint16 or float32 [rows, columns].
        zone: UTM zone on WGS 84, northern hemisphere: EPSG 32600 + zone.
        left: easting of the left edge in metres.
        top: northing of the upper edge in metres.
        gsd: size of a pixel in metres.
        nodata: value that stands for no data, None for none.
        deflate: compress with deflate and horizontal differences (predictor 2), for integers only.
    """
    height, width = array.shape
    rows = min(height, max(1, _STRIP_BYTES // (width * array.itemsize)))
    strips = [_strip(array[row : row + rows], deflate) for row in range(0, height, rows)]
    entries = [
        _Entry(256, "H", width),
        _Entry(257, "H", height),
        _Entry(258, "H", 8 * array.itemsize),
        _Entry(259, "H", _DEFLATE if deflate else 1),
        _Entry(262, "H", 1),  # photometric: black is zero
        _Entry(273, "I", *([0] * len(strips))),  # offsets of the strips, known once the directory is laid out
        _Entry(277, "H", 1),
        _Entry(278, "H", rows),
        _Entry(279, "I", *map(len, strips)),
        _Entry(284, "H", 1),  # planar configuration
        *([_Entry(317, "H", 2)] if deflate else []),
        _Entry(339, "H", _SAMPLE_FORMAT[array.dtype.kind]),
        _Entry(33550, "d", gsd, gsd, 0.0),  # ModelPixelScale
        _Entry(33922, "d", 0.0, 0.0, 0.0, left, top, 0.0),  # ModelTiepoint
        *_crs(zone),
        *([] if nodata is None else [_Entry(42113, "s", b"%d\0" % nodata)]),
    ]
    return _assemble(entries, strips)


def _strip(rows: np.ndarray, deflate: bool) -> bytes:
    if not deflate:
        return rows.astype(rows.dtype.newbyteorder("<")).tobytes()
    differences = rows.copy()
    differences[:, 1:] -= rows[:, :-1]  # wraps around, as the predictor is meant to
    return zlib.compress(differences.astype(rows.dtype.newbyteorder("<")).tobytes())


def _crs(zone: int) -> tuple[_Entry, _Entry]:
    """GeoKeyDirectory and GeoAsciiParams as GDAL writes them for WGS 84 / UTM, north."""
    name, datum = f"WGS 84 / UTM zone {zone}N|", "WGS 84|"
    keys = (
        (1024, 0, 1, 1),  # model: projected
        (1025, 0, 1, 1),  # raster: pixel is area
        (1026, 34737, len(name), 0),
        (2049, 34737, len(datum), len(name)),
        (2054, 0, 1, 9102),  # angles in degrees
        (3072, 0, 1, 32600 + zone),
        (3076, 0, 1, 9001),  # lengths in metres
    )
    directory = [1, 1, 0, len(keys), *(number for key in keys for number in key)]
    return _Entry(34735, "H", *directory), _Entry(34737, "s", (name + datum).encode() + b"\0")


def _assemble(entries: list[_Entry], strips: list[bytes]) -> bytes:
    """Header, directory, long values, strips."""
    # libtiff writes the byte counts before the offsets; with that the files are the archive's, byte for byte.
    order = sorted((e for e in entries if len(e.value) > 4), key=lambda e: (e.tag != 279, e.tag))
    offsets, position = {}, 8 + 2 + 12 * len(entries) + 4
    for entry in order:
        offsets[entry.tag] = position
        position += len(entry.value) + len(entry.value) % 2
    starts = np.cumsum([position, *map(len, strips[:-1])])
    next(e for e in entries if e.tag == 273).value = starts.astype("<u4").tobytes()
    tags = b"".join(e.pack(offsets.get(e.tag, 0)) for e in entries)
    directory = struct.pack("<H", len(entries)) + tags + bytes(4)
    values = b"".join(e.value + bytes(len(e.value) % 2) for e in order)
    return struct.pack("<2sHI", b"II", 42, 8) + directory + values + b"".join(strips)
