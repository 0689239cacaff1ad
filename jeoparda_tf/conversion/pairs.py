"""Pairs version 1's Sentinel-1 patches with Sentinel-2's where no list does: their JSON files name the partner."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Optional

from jeoparda_tf.bigearthnet.archive import read_json
from jeoparda_tf.bigearthnet.packed import Index, PatchFiles
from tfrecords_tools.errors import DataError

from .faults import Faults

_THREADS = 16  # they wait for the file system, not for a core
_KEY = "corresponding_s2_patch"


def pair(s1_folder: str, faults: Faults, packed: Optional[Index] = None) -> dict[str, str]:
    """Reads the JSON file of every Sentinel-1 patch once: S2 names tell no tile, so names alone do not pair them.

    Returns:
        names of Sentinel-1 patches by those of Sentinel-2.

    Raises:
        DataError: a file is faulty, or two name the same patch, and faults are not skipped.
    """
    from tqdm import tqdm

    if packed is not None:
        names = sorted(name for name in packed if name.startswith("S1"))
    else:
        with os.scandir(s1_folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.startswith("S1") and entry.is_dir())
    partners: dict[str, str] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        read = pool.map(
            lambda name: _partner(
                f"{s1_folder}/{name}/{name}_labels_metadata.json", packed.get(name) if packed else None
            ),
            names,
        )
        for name, found in zip(
            names, tqdm(read, "pairing Sentinel-1", len(names), disable=None, unit=" patches")
        ):
            if isinstance(found, DataError):
                faults.add(name, found)
            elif found in partners:
                faults.add(
                    name, DataError(f"{found} has two partners: {partners[found]} and {name}", path=s1_folder)
                )
            else:
                partners[found] = name
    return partners


def _partner(path: str, files: Optional[PatchFiles]) -> str | DataError:
    try:
        partner = read_json(path, files).get(_KEY)
    except DataError as error:
        return error
    return partner if isinstance(partner, str) else DataError(f"names no {_KEY}", path=path)
