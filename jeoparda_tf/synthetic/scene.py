"""How the satellites see a synthetic landscape: textures, mixed pixels, light, noise, snow, clouds."""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np

from ..bigearthnet.bands import PATCH_METRES, S1_BANDS, S2_FEATURES
from ..bigearthnet.nomenclature import CLASSES
from . import landcover, noise, spectra
from .places import Place

# Drawn at 5 m and averaged: pixels of 10, 20 and 60 m on a border hold both sides.
_GSD = 5
# A class on less than this share of a patch gives way to the patch's largest: every label can be seen.
_LEAST_SHARE = 0.02
# Equivalent number of looks of Sentinel-1 IW GRD in high resolution (ESA, Sentinel-1 product definition).
_LOOKS_OF_RADAR = 4.4
_DARKEST = 1  # 0 is nodata in version 2

_CODES = np.array([c.code for c in CLASSES], np.uint16)


class Picture(NamedTuple):
    """What is known of one patch.

    Attributes:
        s2: digital numbers, uint16 [size, size] by band.
        mask: CORINE codes, uint16 [120, 120].
        s1: backscatter in dB, float32 [120, 120] by band; None where there is none.
    """

    s2: dict[str, np.ndarray]
    mask: np.ndarray
    s1: Optional[dict[str, np.ndarray]]


def block_mean(array: np.ndarray, factor: int) -> np.ndarray:
    """Averages blocks of factor x factor pixels over the first two axes."""
    rows, columns = array.shape[0] // factor, array.shape[1] // factor
    return array.reshape(rows, factor, columns, factor, *array.shape[2:]).mean((1, 3))


class Scene:
    """A landscape from a seed; a patch of it depends on its place alone, and neighbours fit together.

    Args:
        seed: of the archive.
        s1: whether to draw Sentinel-1 as well.
    """

    def __init__(self, seed: int, s1: bool = False):
        self.seed, self.s1 = seed, s1

    def __call__(self, place: Place) -> Picture:
        """Draws one patch."""
        centres = _GSD * (np.arange(PATCH_METRES // _GSD) + 0.5)
        x, y, zone = place.left + centres, place.top - centres, place.tile.zone
        regions = landcover.regions(self.seed, zone, x, y)
        regions = regions._replace(classes=_dissolve_slivers(regions.classes))
        surface = _surface(self.seed, zone, x, y, regions)
        rng = np.random.default_rng((self.seed, zone, place.column, place.row))
        reflectance = surface[..., : -len(S1_BANDS)]
        if place.veil:
            reflectance = _veiled(reflectance, place.veil, noise.key(self.seed, zone, place.veil), x, y)
        s2 = _sentinel2(reflectance, _light(self.seed, place), rng)
        s1 = _sentinel1(surface[..., -len(S1_BANDS) :], rng) if self.s1 else None
        return Picture(s2, _CODES[regions.classes[::2, ::2]], s1)


def _dissolve_slivers(classes: np.ndarray) -> np.ndarray:
    """Gives classes below the least share to the largest; looks at the spots that become the mask."""
    counts = np.bincount(classes[::2, ::2].ravel(), minlength=len(CLASSES))
    lasting = counts >= _LEAST_SHARE * counts.sum()
    return np.where(lasting[classes], classes, counts.argmax())


def _surface(seed: int, zone: int, x: np.ndarray, y: np.ndarray, regions: landcover.Regions) -> np.ndarray:
    """Reflectance times 10,000 and radar power of the ground, float32 [rows, columns, 14]."""
    fields = _fields(seed, zone, x, y, regions)
    pattern = spectra.PATTERN[regions.classes]
    field = np.take_along_axis(fields, pattern[None], axis=0)[0]
    other = (spectra.SHARE[regions.classes] * (1.0 + field)).astype(np.float32)[..., None]
    surface = spectra.BASE[regions.classes]
    surface += other * (spectra.OTHER[regions.classes] - surface)
    vigour = noise.uniform(noise.key(seed, zone, "vigour"), regions.column, regions.row)
    surface *= (0.92 + 0.16 * vigour).astype(np.float32)[..., None]
    return surface


def _fields(seed: int, zone: int, x: np.ndarray, y: np.ndarray, regions: landcover.Regions) -> np.ndarray:
    """The patterns in the order of spectra.PATTERNS, float64 [6, rows, columns] in -1..1.

    Fields, streets and rows of trees run in a direction of their own in every region.
    """

    def drawn(name: str, column: np.ndarray, row: np.ndarray) -> np.ndarray:
        return noise.uniform(noise.key(seed, zone, name), column, row)

    def bricks(name: str, length: float, width: float) -> np.ndarray:
        course = np.floor(across / width).astype(np.int64)
        brick = np.floor(along / length + drawn(name + " shift", course, regions.row)).astype(np.int64)
        return 2.0 * drawn(name, brick, course) - 1.0

    angle = np.pi * drawn("direction", regions.column, regions.row)
    along = x[None, :] * np.cos(angle) + y[:, None] * np.sin(angle)
    across = y[:, None] * np.cos(angle) - x[None, :] * np.sin(angle)
    smooth = np.clip(1.5 * noise.smooth(noise.key(seed, zone, "smooth"), x, y, 240.0, octaves=4), -1.0, 1.0)
    cells = np.floor(x / 10.0).astype(np.int64)[None, :], np.floor(y / 10.0).astype(np.int64)[:, None]
    grain = 2.0 * drawn("grain", *cells) - 1.0
    rows = np.sin(2.0 * np.pi * across / 45.0)
    strips = np.where(across % 300.0 < 60.0, 1.0, -1.0)
    parcels, blocks = bricks("parcels", 260.0, 130.0), bricks("blocks", 60.0, 40.0)
    return np.stack([smooth, grain, rows, parcels, blocks, strips])


def _veiled(reflectance: np.ndarray, veil: str, field: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Covers most of the ground with snow or cloud, thicker here and thinner there."""
    cover = np.clip(0.7 + 0.6 * noise.smooth(field, x, y, 500.0, octaves=4), 0.0, 1.0).astype(np.float32)
    return reflectance + cover[..., None] * (spectra.VEILS[veil] - reflectance)


def _light(seed: int, place: Place) -> np.ndarray:
    """Gain of each band from season, slope and haze, alike in neighbouring patches, float32 [12]."""
    centre = np.array([place.left + PATCH_METRES / 2.0]), np.array([place.top - PATCH_METRES / 2.0])
    zone = place.tile.zone
    overall = noise.smooth(noise.key(seed, zone, "light"), *centre, size=6000.0)[0, 0]
    haze = noise.smooth(noise.key(seed, zone, "haze"), *centre, size=6000.0)[0, 0]
    blueness = np.linspace(1.0, 0.0, len(spectra.SPECTRUM_BANDS))
    return (1.0 + 0.12 * overall + 0.12 * haze * blueness).astype(np.float32)


def _sentinel2(reflectance: np.ndarray, light: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Averages to each band's pixels, adds noise and rounds to digital numbers."""
    bands = {}
    for feature in S2_FEATURES:
        chosen = [spectra.SPECTRUM_BANDS.index(name) for name in feature.band_names]
        pixels = block_mean(reflectance[..., chosen], feature.gsd // _GSD) * light[chosen]
        pixels += rng.standard_normal(pixels.shape, np.float32) * (12.0 + 0.012 * pixels)
        numbers = np.clip(np.rint(pixels), _DARKEST, np.iinfo(np.uint16).max).astype(np.uint16)
        bands.update({name: numbers[..., i] for i, name in enumerate(feature.band_names)})
    return bands


def _sentinel1(power: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Averages radar power to 10 m, multiplies speckle (gamma distributed) and turns it into dB."""
    pixels = block_mean(power, 10 // _GSD)
    speckle = rng.standard_gamma(_LOOKS_OF_RADAR, pixels.shape) / _LOOKS_OF_RADAR
    decibel = (10.0 * np.log10(pixels * speckle)).astype(np.float32)
    return {name: decibel[..., i] for i, name in enumerate(S1_BANDS)}
