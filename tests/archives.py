"""Small archives for tests, in both layouts, written with rasterio; the pixels follow from the patch's name."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from jeoparda_tf.synthetic import eurosat
from jeoparda_tf.synthetic.places import SPLITS

SIZES = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 120),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 60),
    **dict.fromkeys(("B01", "B09"), 20),
}
TILE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
SCENE = "S1A_IW_GRDH_1SDV_20170613T165043"
LABELS = ("Pastures", "Mixed forest", "Sea and ocean", "Airports", "Vineyards")
LABELS_19 = ("Pastures", "Mixed forest", "Marine waters", "Arable land", "Permanent crops")


def v1_name(index: int) -> str:
    """Returns a name as in version 1: indices not padded, some hours without their zero, a minute of 61."""
    start = "S2B_MSIL2A_20180204T94161" if index % 3 == 0 else "S2A_MSIL2A_20170613T101031"
    return f"{start}_{index // 10}_{index % 10}"


def v2_name(index: int) -> str:
    return f"{TILE}_{index // 10:02d}_{index % 10:02d}"


def pixels(name: str, band: str, size: int, dtype: str) -> np.ndarray:
    """Returns the pixels of a band; 0 and 65535 are among those of uint16."""
    generator = np.random.default_rng(zlib.crc32(f"{name} {band}".encode()))
    if dtype == "float32":
        return generator.normal(-15, 5, (size, size)).astype(np.float32)
    values = generator.integers(0, 10_000, (size, size)).astype(dtype)
    values[0, :2] = 0, 65_535
    return values


def write_tif(path: Path, values: np.ndarray) -> None:
    bands = values if values.ndim == 3 else values[None]
    profile = {"driver": "GTiff", "dtype": values.dtype, "count": len(bands), "crs": "EPSG:32633"}
    place = from_origin(399960, 5300040, 1200 / bands.shape[1], 1200 / bands.shape[2])
    with rasterio.open(
        path, "w", height=bands.shape[1], width=bands.shape[2], transform=place, **profile
    ) as file:
        file.write(bands)


def write_s2(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    for band, size in SIZES.items():
        write_tif(folder / f"{name}_{band}.tif", pixels(name, band, size, "uint16"))


def write_s1(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    for band in ("VV", "VH"):
        write_tif(folder / f"{name}_{band}.tif", pixels(name, band, 120, "float32"))


def write_v1(root: Path, labels: Sequence[Sequence[str]], s1: bool = False) -> list[str]:
    """Writes BigEarthNet-v1.0 (and BigEarthNet-S1-v1.0), a patch for every list of labels; returns the names."""
    names = [v1_name(index) for index in range(len(labels))]
    for index, (name, own) in enumerate(zip(names, labels)):
        folder = root / "BigEarthNet-v1.0" / name
        write_s2(folder, name)
        (folder / f"{name}_labels_metadata.json").write_text(json.dumps({"labels": list(own)}))
        if s1:
            partner = f"{SCENE}_33UUP_{index // 10}_{index % 10}"
            folder = root / "BigEarthNet-S1-v1.0" / partner
            write_s1(folder, partner)
            (folder / f"{partner}_labels_metadata.json").write_text(
                json.dumps({"corresponding_s2_patch": name})
            )
    return names


def write_lists(root: Path, splits: Mapping[str, Sequence[str]]) -> Path:
    """Writes train.csv, val.csv and test.csv; returns the folder."""
    for split in ("train", "val", "test"):
        (root / f"{split}.csv").write_text("".join(f"{name}\n" for name in splits.get(split, ())))
    return root


def write_v2(root: Path, splits: Sequence[str], labels: Sequence[Sequence[str]]) -> list[str]:
    """Writes an archive of version 2 with Sentinel-1 and maps, a patch for every split; returns the names."""
    names = [v2_name(index) for index in range(len(splits))]
    partners = [f"{SCENE}_33UUP_{index // 10:02d}_{index % 10:02d}" for index in range(len(splits))]
    for name, partner in zip(names, partners):
        write_s2(root / "BigEarthNet-S2" / TILE / name, name)
        write_s1(root / "BigEarthNet-S1" / SCENE / partner, partner)
        folder = root / "Reference_Maps" / TILE / name
        folder.mkdir(parents=True)
        write_tif(folder / f"{name}_reference_map.tif", pixels(name, "map", 120, "uint16"))
    write_table(root / "metadata.parquet", names, labels, splits, partners)
    return names


def write_table(
    path: Path,
    names: Sequence[str],
    labels: Sequence[Sequence[str]],
    splits: Sequence[str],
    partners: Sequence[str | None],
) -> None:
    columns = {"patch_id": names, "labels": labels, "split": splits, "s1_name": partners}
    pq.write_table(pa.table({key: list(values) for key, values in columns.items()}), path)


def eurosat_images(root: Path, each: int) -> Path:
    """Writes a folder like EuroSAT's, of noise: so many JPEGs of each class for each split; returns it."""
    generator = np.random.default_rng(0)
    for name in eurosat.CODES:
        (root / name).mkdir(parents=True)
        left = dict.fromkeys(SPLITS, each)
        for number in range(1000):
            split = eurosat.split_of(f"{name}/{name}_{number}.jpg")
            if left[split]:
                left[split] -= 1
                pixels = generator.integers(0, 256, (64, 64, 3), np.uint8)
                Image.fromarray(pixels).save(root / name / f"{name}_{number}.jpg", quality=90)
    return root
