"""Multi-label patches of real pixels: mosaics of EuroSAT's RGB images (Helber et al. 2019).

A patch is 2 x 2 images of 60 x 60 pixels, turned at random, of one to four classes: its labels are certain.
B02, B03 and B04 are the images' pixels, scaled back from 8 bit to reflectance; the other bands are means and
mixes of those three, so they add no information, and scores say nothing of what more bands are worth.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfrecords_tools.errors import DataError, UsageError

from ..bigearthnet.bands import S2_FEATURES
from .places import SPLITS, Place
from .scene import Picture, block_mean

# EuroSAT's classes and the CORINE class that each comes closest to.
CODES = {
    "AnnualCrop": 211,
    "Forest": 313,
    "HerbaceousVegetation": 321,
    "Highway": 122,
    "Industrial": 121,
    "Pasture": 231,
    "PermanentCrop": 221,
    "Residential": 112,
    "River": 511,
    "SeaLake": 523,
}
# EuroSAT's JPEGs show reflectances times 10,000 of 0 to 2,750 as 0 to 255.
SCALE = 2750.0 / 255.0
_IMAGE = 64
_QUARTER = 60
_CLASSES_A_PATCH = (0.2, 0.35, 0.3, 0.15)  # one, two, three, four: 2.4 on average
_SPLIT_ENDS = (0.6, 0.8)
# Weights of red, green and blue in the bands that EuroSAT's RGB images do not have.
_MIXES: dict[str, tuple[float, float, float]] = {
    "B02": (0, 0, 1),
    "B03": (0, 1, 0),
    "B04": (1, 0, 0),
    "B08": (1 / 3, 1 / 3, 1 / 3),
    "B05": (1 / 2, 1 / 2, 0),
    "B06": (1 / 4, 3 / 4, 0),
    "B07": (0, 1 / 2, 1 / 2),
    "B8A": (1 / 2, 0, 1 / 2),
    "B11": (3 / 4, 1 / 4, 0),
    "B12": (3 / 4, 0, 1 / 4),
    "B01": (0, 1 / 4, 3 / 4),
    "B09": (1 / 4, 1 / 2, 1 / 4),
}


class Image(NamedTuple):
    """Where a JPEG's bytes are: in a file of its own (offset 0, size -1) or inside an uncompressed tar."""

    name: str
    file: Path
    offset: int = 0
    size: int = -1

    def read(self) -> np.ndarray:
        """Returns uint8 [64, 64, 3].

        Raises:
            DataError: it is no JPEG of that size.
        """
        from PIL import Image as Pillow

        with self.file.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        try:
            pixels = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"))
        except OSError as error:
            raise DataError(f"{self.name} is not readable as an image", path=self.file) from error
        if pixels.shape != (_IMAGE, _IMAGE, 3):
            raise DataError(f"{self.name} is not {_IMAGE} x {_IMAGE} pixels", path=self.file)
        return pixels


Pools = Mapping[str, Mapping[str, "list[Image]"]]


def find(source: Path) -> Pools:
    """Finds the images, by split and class.

    An image's split follows from a hash of its class and name: none serves two splits, whatever the seed.

    Args:
        source: folder or uncompressed tar of <Class>/<image>.jpg, at any depth.

    Raises:
        UsageError: there is no such folder or tar, or no JPEG in it.
        DataError: a class has no image for one of the splits.
    """
    if not source.exists():
        raise UsageError("no such tar or folder of EuroSAT images", path=source)
    pools: dict[str, dict[str, list[Image]]] = {split: {name: [] for name in CODES} for split in SPLITS}
    total = 0
    for name, image in sorted(_folder(source) if source.is_dir() else _tar(source)):
        if name in CODES:
            pools[split_of(f"{name}/{image.name}")][name].append(image)
            total += 1
    if not total:
        raise UsageError("holds no EuroSAT image", path=source, remedy="it must hold <Class>/<image>.jpg")
    for split, by_class in pools.items():
        missing = [name for name, images in by_class.items() if not images]
        if missing:
            raise DataError(f"has no image of {', '.join(missing)} for the {split} split", path=source)
    return pools


def split_of(name: str) -> str:
    """Returns the split of an image from its "<Class>/<file>": 60 % train, 20 % val, 20 % test."""
    fraction = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2.0**64
    return SPLITS[int(np.searchsorted(_SPLIT_ENDS, fraction, side="right"))]


def _folder(source: Path) -> Iterator[tuple[str, Image]]:
    for path in source.rglob("*.jpg"):
        yield path.parent.name, Image(path.name, path)


def _tar(source: Path) -> Iterator[tuple[str, Image]]:
    """Only where the images lie: workers read them straight from the tar."""
    try:
        with tarfile.open(source, "r:") as tar:
            for member in tar:
                path = Path(member.name)
                if member.isfile() and path.suffix == ".jpg":
                    yield path.parent.name, Image(path.name, source, member.offset_data, member.size)
    except tarfile.TarError as error:
        problem = f"is neither a folder nor an uncompressed tar ({error})"
        raise UsageError(problem, path=source, remedy="unpack it and give the folder") from error


class Mosaics:
    """Patches out of EuroSAT's images; a patch depends on its place, the seed and the images alone.

    Args:
        pools: the images by split and class.
        seed: of the archive.
    """

    def __init__(self, pools: Pools, seed: int):
        self.pools, self.seed = pools, seed

    def __call__(self, place: Place) -> Picture:
        """Puts one patch together, of images of its split."""
        rng = np.random.default_rng((self.seed, place.tile.zone, place.tile.top, place.column, place.row))
        quarters = _quarters(rng)
        images = [self._image(place.split, name, rng) for name in quarters]
        rgb = np.block([[[images[0]], [images[1]]], [[images[2]], [images[3]]]])
        codes = np.array([CODES[name] for name in quarters], np.uint16).reshape(2, 2)
        return Picture(_bands(rgb), np.kron(codes, np.ones((_QUARTER, _QUARTER), np.uint16)), None)

    def _image(self, split: str, name: str, rng: np.random.Generator) -> np.ndarray:
        """The middle of one image of a class, turned and flipped: uint8 [60, 60, 3]."""
        pool = self.pools[split][name]
        edge = (_IMAGE - _QUARTER) // 2
        pixels = pool[rng.integers(len(pool))].read()[edge:-edge, edge:-edge]
        pixels = np.rot90(pixels, rng.integers(4))
        return pixels[:, ::-1] if rng.integers(2) else pixels


def _quarters(rng: np.random.Generator) -> list[str]:
    """Classes of the four quarters; a patch of Highway alone, which has no 19-class label, is drawn again."""
    count = 1 + rng.choice(4, p=_CLASSES_A_PATCH)
    classes = rng.choice(list(CODES), count, replace=False)
    if set(classes) == {"Highway"}:
        return _quarters(rng)
    return rng.permutation(np.concatenate([classes, rng.choice(classes, 4 - count)])).tolist()


def _bands(rgb: np.ndarray) -> dict[str, np.ndarray]:
    """Digital numbers of all bands from 8-bit colours [120, 120, 3]."""
    reflectance = rgb * SCALE
    bands = {}
    for feature in S2_FEATURES:
        pixels = block_mean(reflectance, len(rgb) // feature.shape[0])
        for name in feature.band_names:
            mix = sum(weight * pixels[..., colour] for colour, weight in enumerate(_MIXES[name]))
            bands[name] = np.rint(mix).astype(np.uint16)
    return bands
