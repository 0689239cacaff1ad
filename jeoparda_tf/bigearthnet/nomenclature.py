"""The classes: CORINE codes and names, the 19 of BigEarthNet-19, and which patch has which - the one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

import numpy as np

from tfrecords_tools.errors import DataError
from tfrecords_tools.manifest import Nomenclature


class Class(NamedTuple):
    """One CORINE level-3 class that occurs in BigEarthNet.

    Attributes:
        code: CORINE code, three digits.
        name: as the labels JSON of version 1 spells it.
        ben19: its class in the 19-class nomenclature; None where that drops it.
        patches: how many of the 590,326 patches of version 1 carry it.
    """

    code: int
    name: str
    ben19: Optional[str]
    patches: int


_MIXED_AGRICULTURE = "Land principally occupied by agriculture, with significant areas of natural vegetation"

# Order of the official label_indices.json (CORINE order). Counts: JEOPARDA project slides, 2019; their sum is
# 1,750,375. Glaciers (335) is CORINE's 44th class and does not occur. Mapping to 19: Sumbul et al.
# 2021, BigEarthNet-MM.
CLASSES = (
    Class(111, "Continuous urban fabric", "Urban fabric", 10_784),
    Class(112, "Discontinuous urban fabric", "Urban fabric", 69_872),
    Class(121, "Industrial or commercial units", "Industrial or commercial units", 12_895),
    Class(122, "Road and rail networks and associated land", None, 3_384),
    Class(123, "Port areas", None, 509),
    Class(124, "Airports", None, 979),
    Class(131, "Mineral extraction sites", None, 4_618),
    Class(132, "Dump sites", None, 959),
    Class(133, "Construction sites", None, 1_174),
    Class(141, "Green urban areas", None, 1_786),
    Class(142, "Sport and leisure facilities", None, 5_353),
    Class(211, "Non-irrigated arable land", "Arable land", 196_695),
    Class(212, "Permanently irrigated land", "Arable land", 13_589),
    Class(213, "Rice fields", "Arable land", 3_793),
    Class(221, "Vineyards", "Permanent crops", 9_567),
    Class(222, "Fruit trees and berry plantations", "Permanent crops", 4_754),
    Class(223, "Olive groves", "Permanent crops", 12_538),
    Class(231, "Pastures", "Pastures", 103_554),
    Class(241, "Annual crops associated with permanent crops", "Permanent crops", 7_022),
    Class(242, "Complex cultivation patterns", "Complex cultivation patterns", 107_786),
    Class(243, _MIXED_AGRICULTURE, _MIXED_AGRICULTURE, 147_095),
    Class(244, "Agro-forestry areas", "Agro-forestry areas", 30_674),
    Class(311, "Broad-leaved forest", "Broad-leaved forest", 150_944),
    Class(312, "Coniferous forest", "Coniferous forest", 211_703),
    Class(313, "Mixed forest", "Mixed forest", 217_119),
    Class(321, "Natural grassland", "Natural grassland and sparsely vegetated areas", 12_835),
    Class(322, "Moors and heathland", "Moors, heathland and sclerophyllous vegetation", 5_890),
    Class(323, "Sclerophyllous vegetation", "Moors, heathland and sclerophyllous vegetation", 11_241),
    Class(324, "Transitional woodland/shrub", "Transitional woodland, shrub", 173_506),
    Class(331, "Beaches, dunes, sands", "Beaches, dunes, sands", 1_578),
    Class(332, "Bare rock", None, 3_277),
    Class(333, "Sparsely vegetated areas", "Natural grassland and sparsely vegetated areas", 1_563),
    Class(334, "Burnt areas", None, 328),
    Class(411, "Inland marshes", "Inland wetlands", 6_236),
    Class(412, "Peatbogs", "Inland wetlands", 23_207),
    Class(421, "Salt marshes", "Coastal wetlands", 1_562),
    Class(422, "Salines", "Coastal wetlands", 424),
    Class(423, "Intertidal flats", None, 1_003),
    Class(511, "Water courses", "Inland waters", 10_572),
    Class(512, "Water bodies", "Inland waters", 83_811),
    Class(521, "Coastal lagoons", "Marine waters", 1_498),
    Class(522, "Estuaries", "Marine waters", 1_086),
    Class(523, "Sea and ocean", "Marine waters", 81_612),
)


# Names of CORINE's levels 1 and 2, by the first and the first two digits of the code, as far as they occur (Glaciers,
# 335, would add none).
LEVEL_1 = {
    1: "Artificial surfaces",
    2: "Agricultural areas",
    3: "Forest and semi-natural areas",
    4: "Wetlands",
    5: "Water bodies",
}
LEVEL_2 = {
    11: "Urban fabric",
    12: "Industrial, commercial and transport units",
    13: "Mine, dump and construction sites",
    14: "Artificial, non-agricultural vegetated areas",
    21: "Arable land",
    22: "Permanent crops",
    23: "Pastures",
    24: "Heterogeneous agricultural areas",
    31: "Forests",
    32: "Shrub and/or herbaceous vegetation associations",
    33: "Open spaces with little or no vegetation",
    41: "Inland wetlands",
    42: "Coastal wetlands",
    51: "Inland waters",
    52: "Marine waters",
}


def _clc43() -> Nomenclature:
    return Nomenclature("clc43", tuple(c.name for c in CLASSES), tuple((c.code,) for c in CLASSES))


def _ben19() -> Nomenclature:
    members: dict[str, list[int]] = {}
    for c in CLASSES:
        if c.ben19:
            members.setdefault(c.ben19, []).append(c.code)
    # In CORINE order, every 19-class name first appears where the official order has it.
    return Nomenclature("ben19", tuple(members), tuple(tuple(codes) for codes in members.values()))


def _level(name: str, names: Mapping[int, str], divisor: int) -> Nomenclature:
    members = tuple(tuple(c.code for c in CLASSES if c.code // divisor == group) for group in names)
    return Nomenclature(name, tuple(names.values()), members)


CLC43 = _clc43()
BEN19 = _ben19()
# What a 43-class prediction says of coarser classes: each has the codes of its members.
CLC_LEVEL_1, CLC_LEVEL_2 = _level("clc_level_1", LEVEL_1, 100), _level("clc_level_2", LEVEL_2, 10)
NOMENCLATURES = {n.name: n for n in (CLC43, BEN19)}
_BEN19_OF = {c.name: c.ben19 for c in CLASSES}


def multi_hot(labels: Iterable[str], nomenclature: Nomenclature) -> np.ndarray:
    """Encodes a patch's label names.

    Args:
        labels: 43-class names (version 1) or, for "ben19" only, 19-class names (version 2).
        nomenclature: CLC43 or BEN19; 43-class names are mapped to BEN19 by name, those it drops give nothing.

    Returns:
        int64 array of zeros and ones, one a class; all zero if no label is left.

    Raises:
        DataError: a name is in neither nomenclature; it carries no path, the caller knows the file.
    """
    vector = np.zeros(len(nomenclature.classes), np.int64)
    for label in labels:
        name = label
        if nomenclature is BEN19 and label in _BEN19_OF:
            mapped = _BEN19_OF[label]
            if mapped is None:
                continue
            name = mapped
        if name not in nomenclature.classes:
            raise DataError(f"unknown label {label!r} for {nomenclature.name}")
        vector[nomenclature.classes.index(name)] = 1
    return vector


def roll_up(values: np.ndarray, finer: Nomenclature, coarser: Nomenclature) -> np.ndarray:
    """Gives each coarser class the maximum of its members: it is there where any of them is.

    Args:
        values: [records, classes of `finer`]: labels, predictions or scores.
        finer: each of its classes has one code, as in CLC43.
        coarser: its codes are all codes of `finer`.

    Returns:
        array of the same dtype, [records, classes of `coarser`].
    """
    column = {codes[0]: number for number, codes in enumerate(finer.codes)}
    return np.stack([values[:, [column[code] for code in codes]].max(1) for codes in coarser.codes], 1)


def names_of(vector: Sequence[int] | np.ndarray, classes: Sequence[str]) -> list[str]:
    """Returns the class names whose entry is not zero, in class order."""
    return [name for name, present in zip(classes, vector) if present]


def names_above(scores: np.ndarray, thresholds: float | np.ndarray, classes: Sequence[str]) -> list[str]:
    """Returns the names of the classes that a patch is predicted to have.

    Args:
        scores: float array [classes] in 0..1.
        thresholds: one for all, or one a class; a score equal to it counts.
        classes: their names.
    """
    return names_of(scores >= thresholds, classes)
