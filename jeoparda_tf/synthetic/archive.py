"""Writes an archive in BigEarthNet's layout, version 1 or 2; under its name only when it is whole."""

from __future__ import annotations

import functools
import json
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import numpy as np

from tfrecords_tools.errors import DataError, UsageError

from ..bigearthnet.bands import PATCH_METRES
from ..bigearthnet.nomenclature import BEN19, CLASSES, multi_hot, names_of
from .geotiff import encode
from .places import SPLITS, Layout, Place
from .scene import Picture

_NAMES = {c.code: c.name for c in CLASSES}
# As the labels_metadata.json of version 1 spell a projection.
_WKT = (
    'PROJCS["WGS 84 / UTM zone {zone}N",GEOGCS["WGS 84",DATUM["WGS_1984",'
    'SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],AUTHORITY["EPSG","6326"]],'
    'PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],'
    'UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],'
    'AXIS["Latitude",NORTH],AXIS["Longitude",EAST],'
    'AUTHORITY["EPSG","4326"]],PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
    'PARAMETER["central_meridian",{meridian}],PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],'
    'PARAMETER["false_northing",0],UNIT["metre",1,AUTHORITY["EPSG","9001"]],AXIS["Easting",EAST],'
    'AXIS["Northing",NORTH],AUTHORITY["EPSG","{epsg}"]]'
)
_CHUNK = 8  # patches handed to a worker at once

Draw = Callable[[Place], Picture]


class Entry(NamedTuple):
    """A patch that was written: where, its labels as the layout names them, whether it has a pair."""

    place: Place
    labels: list[str]
    paired: bool


def write(
    out: Path, layout: Layout, places: Sequence[Place], draw: Draw, origin: str, workers: int
) -> list[Entry]:
    """Writes an archive; until it is whole it lies in a folder `<out>.unfinished` beside it.

    The bytes depend on the places and on `draw` alone, not on the number of workers. Version 2 has no patches
    without a label of the 19-class nomenclature: they are left out.

    Args:
        out: folder that does not exist or is empty.
        layout: the version.
        places: the patches, each once.
        draw: gives a place its picture; picklable.
        origin: line for ORIGIN.txt, which tells converters and readers that this is not BigEarthNet itself.
        workers: processes.

    Returns:
        the patches written, in the order of `places`.

    Raises:
        UsageError: `out` is there and not empty.
        DataError: it cannot be written.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError("is there already", path=out, remedy="name a new folder, or remove it")
    target = out.absolute()
    unfinished = target.with_name(target.name + ".unfinished")
    try:
        # What a killed run left under this name is of no use to anybody.
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        entries = list(_write_patches(unfinished, layout, places, draw, origin, workers))
        _WRITE_TABLES[layout](unfinished, entries)
        (unfinished / "ORIGIN.txt").write_text(origin + "\n")
        unfinished.rename(target)
    except OSError as error:
        raise DataError(
            error.strerror or str(error), path=error.filename or out, remedy="nothing was kept"
        ) from error
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process died", path=out, remedy="out of memory? try fewer --workers"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return entries


def _write_patches(
    root: Path, layout: Layout, places: Sequence[Place], draw: Draw, origin: str, workers: int
) -> Iterator[Entry]:
    from tqdm import tqdm

    write_one = functools.partial(_WRITE_PATCH[layout], root, origin, draw)
    with tqdm(total=len(places), desc="patches", unit="patch", disable=None) as progress:
        for entry in _parallel(write_one, places, workers):
            progress.update()
            if entry is not None:
                yield entry


def _parallel(
    function: Callable[[Place], Optional[Entry]], places: Sequence[Place], workers: int
) -> Iterator[Optional[Entry]]:
    """Maps in order; at the first error what is not yet begun is dropped."""
    if workers == 1:
        yield from map(function, places)
        return
    # Ctrl-C goes to all processes of the terminal; only this one shall speak.
    executor = ProcessPoolExecutor(
        workers, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield from executor.map(function, places, chunksize=_CHUNK)
    finally:
        executor.shutdown(cancel_futures=True)


def _write_v1(root: Path, origin: str, draw: Draw, place: Place) -> Entry:
    picture = draw(place)
    labels = _labels(picture)
    folder = root / "BigEarthNet-v1.0" / place.v1_name
    _write_rasters(folder, place, picture.s2)
    day, time = place.tile.v1.rsplit("_", 1)[1].split("T")
    source = {"tile_source": origin, "acquisition_date": f"{_dashed(day)} {_clock(time)}"}
    _write_json(folder, _metadata(place, labels, "lry", source))
    if picture.s1 is not None:
        folder = root / "BigEarthNet-S1-v1.0" / place.s1_name
        _write_rasters(folder, place, picture.s1)
        day, time = place.tile.s1.rsplit("_", 1)[1].split("T")
        moment = f"{_dashed(day)}T{_clock(time)}"
        source = {"corresponding_s2_patch": place.v1_name, "scene_source": origin, "acquisition_time": moment}
        # "lly" stands in the archive's Sentinel-1 files where "lry" is meant.
        _write_json(folder, _metadata(place, labels, "lly", source))
    return Entry(place, labels, picture.s1 is not None)


def _write_v2(root: Path, origin: str, draw: Draw, place: Place) -> Optional[Entry]:
    picture = draw(place)
    labels = sorted(names_of(multi_hot(_labels(picture), BEN19), BEN19.classes))
    if not labels:
        return None
    _write_rasters(root / "BigEarthNet-S2" / place.tile.v2 / place.v2_name, place, picture.s2, nodata=0)
    maps = root / "Reference_Maps" / place.tile.v2 / place.v2_name
    _write_rasters(maps, place, {"reference_map": picture.mask}, nodata=0, deflate=True)
    if picture.s1 is not None:
        _write_rasters(root / "BigEarthNet-S1" / place.tile.s1 / place.s1_name, place, picture.s1)
    return Entry(place, labels, picture.s1 is not None)


def _labels(picture: Picture) -> list[str]:
    """The classes on the mask, in the order of their codes."""
    return [_NAMES[code] for code in np.unique(picture.mask).tolist()]


def _write_rasters(folder: Path, place: Place, rasters: dict[str, np.ndarray], **flavour: Any) -> None:
    folder.mkdir(parents=True)
    for name, array in rasters.items():
        gsd = PATCH_METRES / len(array)
        data = encode(array, zone=place.tile.zone, left=place.left, top=place.top, gsd=gsd, **flavour)
        (folder / f"{folder.name}_{name}.tif").write_bytes(data)


def _metadata(place: Place, labels: list[str], lower: str, source: dict[str, str]) -> dict[str, Any]:
    right, bottom = place.left + PATCH_METRES, place.top - PATCH_METRES
    zone = place.tile.zone
    return {
        "labels": labels,
        "coordinates": {"ulx": place.left, "uly": place.top, "lrx": right, lower: bottom},
        "projection": _WKT.format(zone=zone, meridian=6 * zone - 183, epsg=32600 + zone),
        **source,
    }


def _write_json(folder: Path, metadata: dict[str, Any]) -> None:
    (folder / f"{folder.name}_labels_metadata.json").write_text(json.dumps(metadata))


def _dashed(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"


def _clock(time: str) -> str:
    padded = time.zfill(6)  # some times of the archive lack the leading zero
    return f"{padded[:2]}:{padded[2:4]}:{padded[4:]}"


def _write_lists(root: Path, entries: Sequence[Entry]) -> None:
    """Version 1: lists of names without a header; snow and cloud have their own and are in no split."""
    clear = [entry.place for entry in entries if not entry.place.veil]
    lists = {split: [place for place in clear if place.split == split] for split in SPLITS}
    for veil, name in (("snow", "patches_with_seasonal_snow"), ("cloud", "patches_with_cloud_and_shadow")):
        lists[name] = [entry.place for entry in entries if entry.place.veil == veil]
    for name, places in lists.items():
        # The official lists end their lines like this.
        (root / f"{name}.csv").write_bytes("".join(f"{place.v1_name}\r\n" for place in places).encode())


def _write_parquet(root: Path, entries: Sequence[Entry]) -> None:
    """Version 2: one table of the clear patches, one of those with snow or cloud."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = {"patch_id": pa.string(), "labels": pa.list_(pa.field("element", pa.string()))}
    fields.update(dict.fromkeys(("split", "country", "s1_name", "s2v1_name"), pa.string()))
    fields.update(dict.fromkeys(("contains_seasonal_snow", "contains_cloud_or_shadow"), pa.bool_()))
    for veiled, name in ((False, "metadata"), (True, "metadata_for_patches_with_snow_cloud_or_shadow")):
        rows = [_row(entry) for entry in entries if bool(entry.place.veil) == veiled]
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), root / f"{name}.parquet")


def _row(entry: Entry) -> dict[str, Any]:
    place = entry.place
    return {
        "patch_id": place.v2_name,
        "labels": entry.labels,
        "split": "validation" if place.split == "val" else place.split,
        "country": place.tile.country,
        "s1_name": place.s1_name if entry.paired else None,
        "s2v1_name": place.v1_name,
        "contains_seasonal_snow": place.veil == "snow",
        "contains_cloud_or_shadow": place.veil == "cloud",
    }


_WRITE_PATCH: dict[str, Callable[..., Optional[Entry]]] = {"v1": _write_v1, "v2": _write_v2}
_WRITE_TABLES: dict[str, Callable[[Path, Sequence[Entry]], None]] = {"v1": _write_lists, "v2": _write_parquet}
