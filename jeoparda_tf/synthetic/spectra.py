"""What land cover looks like: materials with their spectra, and classes as mixtures of two - the one table.

Made up to be plausible, not measured: shapes follow textbook spectra (red edge of vegetation, dark water, dry
soil bright in the short-wave infrared), levels the band means of BigEarthNet.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..bigearthnet.bands import S1_BANDS
from ..bigearthnet.nomenclature import CLASSES

SPECTRUM_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")

# Reflectance times 10,000 in the order of SPECTRUM_BANDS, then backscatter VV, VH in dB.
_MATERIALS: dict[str, tuple[float, ...]] = {
    "lake": (250, 280, 300, 170, 150, 110, 100, 90, 80, 80, 40, 30, -21, -28),
    "sea": (340, 330, 230, 110, 90, 75, 70, 65, 55, 60, 30, 25, -17, -26),
    "turbid water": (380, 480, 680, 540, 470, 290, 260, 220, 200, 190, 90, 60, -20, -27),
    "crop": (250, 350, 620, 380, 850, 2500, 3100, 3300, 3400, 3350, 1800, 850, -12, -18),
    "stubble": (480, 700, 1020, 1300, 1600, 2000, 2200, 2350, 2500, 2500, 3000, 2200, -13, -20),
    "soil": (450, 600, 850, 1100, 1350, 1500, 1650, 1750, 1900, 1950, 2600, 2200, -11, -20),
    "grass": (280, 400, 760, 480, 1150, 2750, 3250, 3450, 3550, 3550, 2200, 1100, -14, -20),
    "conifers": (150, 180, 310, 220, 480, 1300, 1550, 1600, 1700, 1700, 850, 400, -10.5, -15.5),
    "broadleaves": (200, 250, 480, 270, 750, 2500, 3200, 3400, 3500, 3550, 1700, 750, -9, -14),
    "shrub": (230, 310, 520, 450, 850, 1750, 2050, 2150, 2300, 2300, 1900, 1050, -12, -17.5),
    "olive trees": (280, 360, 560, 560, 900, 1450, 1650, 1750, 1850, 1900, 1900, 1200, -10, -16),
    "metal roofs": (1300, 1600, 1750, 1900, 2000, 2150, 2250, 2350, 2400, 2400, 2500, 2300, -2, -11),
    "tile roofs": (650, 780, 950, 1300, 1500, 1700, 1850, 1950, 2050, 2050, 2150, 1850, -4, -11),
    "asphalt": (650, 740, 830, 880, 950, 1050, 1120, 1150, 1200, 1200, 1350, 1250, -15, -23),
    "sand": (1500, 1900, 2400, 2800, 3000, 3100, 3200, 3300, 3400, 3400, 4000, 3700, -18, -26),
    "rock": (900, 1050, 1250, 1400, 1500, 1600, 1650, 1700, 1750, 1750, 2000, 1900, -8, -17),
    "peat": (220, 280, 400, 460, 720, 1250, 1400, 1500, 1600, 1600, 1500, 850, -12, -19.5),
    "reed": (240, 300, 480, 480, 850, 1700, 1950, 2000, 2100, 2100, 1400, 750, -8, -17),
    "ash": (300, 350, 400, 450, 500, 650, 750, 800, 900, 900, 1500, 1700, -14, -22),
    "mud": (600, 720, 820, 850, 900, 860, 840, 800, 760, 720, 450, 300, -16, -25),
    "brine": (2300, 2700, 3000, 3000, 2900, 2800, 2700, 2500, 2400, 2200, 900, 600, -19, -27),
    "snow": (7000, 7400, 7300, 7200, 7000, 6900, 6700, 6500, 6300, 6000, 900, 700, -15, -22),
    "cloud": (5200, 5000, 4900, 5000, 5100, 5300, 5400, 5500, 5600, 5200, 4200, 3300, -12, -18),
}

PATTERNS = ("smooth", "grain", "rows", "parcels", "blocks", "strips")


class Look(NamedTuple):
    """How a class looks: `other` is share * (1 + field) of a spot, the pattern's field being in -1..1."""

    base: str
    other: str
    share: float
    pattern: str


_LOOKS: dict[int, Look] = {
    111: Look("tile roofs", "asphalt", 0.45, "blocks"),
    112: Look("tile roofs", "grass", 0.5, "blocks"),
    121: Look("metal roofs", "asphalt", 0.5, "parcels"),
    122: Look("grass", "asphalt", 0.5, "strips"),
    123: Look("metal roofs", "sea", 0.5, "strips"),
    124: Look("stubble", "asphalt", 0.5, "strips"),
    131: Look("rock", "soil", 0.5, "smooth"),
    132: Look("soil", "metal roofs", 0.3, "grain"),
    133: Look("soil", "asphalt", 0.45, "blocks"),
    141: Look("grass", "broadleaves", 0.5, "blocks"),
    142: Look("grass", "sand", 0.2, "blocks"),
    211: Look("soil", "crop", 0.5, "parcels"),
    212: Look("crop", "soil", 0.2, "parcels"),
    213: Look("crop", "lake", 0.5, "parcels"),
    221: Look("soil", "crop", 0.5, "rows"),
    222: Look("grass", "broadleaves", 0.5, "rows"),
    223: Look("soil", "olive trees", 0.5, "grain"),
    231: Look("grass", "soil", 0.08, "smooth"),
    241: Look("stubble", "olive trees", 0.5, "rows"),
    242: Look("stubble", "grass", 0.5, "blocks"),
    243: Look("stubble", "broadleaves", 0.5, "smooth"),
    244: Look("stubble", "broadleaves", 0.35, "grain"),
    311: Look("broadleaves", "shrub", 0.12, "grain"),
    312: Look("conifers", "shrub", 0.12, "grain"),
    313: Look("conifers", "broadleaves", 0.5, "grain"),
    321: Look("grass", "stubble", 0.5, "smooth"),
    322: Look("shrub", "peat", 0.3, "smooth"),
    323: Look("shrub", "soil", 0.4, "grain"),
    324: Look("shrub", "conifers", 0.45, "smooth"),
    331: Look("sand", "sea", 0.08, "smooth"),
    332: Look("rock", "shrub", 0.12, "grain"),
    333: Look("rock", "stubble", 0.5, "smooth"),
    334: Look("ash", "shrub", 0.2, "smooth"),
    411: Look("reed", "lake", 0.35, "smooth"),
    412: Look("peat", "lake", 0.12, "grain"),
    421: Look("reed", "mud", 0.45, "smooth"),
    422: Look("brine", "lake", 0.5, "parcels"),
    423: Look("mud", "sea", 0.3, "smooth"),
    511: Look("turbid water", "reed", 0.1, "smooth"),
    512: Look("lake", "reed", 0.03, "smooth"),
    521: Look("lake", "turbid water", 0.5, "smooth"),
    522: Look("turbid water", "sea", 0.4, "smooth"),
    523: Look("sea", "lake", 0.08, "smooth"),
}


def _linear(material: str) -> np.ndarray:
    """Reflectance and backscatter as power: what adds up linearly where two materials share a pixel."""
    values = np.array(_MATERIALS[material], np.float32)
    values[-len(S1_BANDS) :] = 10.0 ** (values[-len(S1_BANDS) :] / 10.0)
    return values


# By class in the order of CLASSES: float32 [43, 14], float32 [43, 14], float32 [43], int [43].
BASE = np.stack([_linear(_LOOKS[c.code].base) for c in CLASSES])
OTHER = np.stack([_linear(_LOOKS[c.code].other) for c in CLASSES])
SHARE = np.array([_LOOKS[c.code].share for c in CLASSES], np.float32)
PATTERN = np.array([PATTERNS.index(_LOOKS[c.code].pattern) for c in CLASSES])
# What hides the ground in the patches on the snow and cloud lists.
VEILS = {name: _linear(name)[: len(SPECTRUM_BANDS)] for name in ("snow", "cloud")}
