"""The bands: name, ground sampling distance, size, order, wavelength - the one table."""

from __future__ import annotations

from typing import Optional

from tfrecords_tools.errors import UsageError
from tfrecords_tools.manifest import Band, Feature

PATCH_METRES = 1200

# Centres in nm: Sentinel-2 User Handbook (ESA, 2015), table of spatial and spectral characteristics. B10 (cirrus) is
# absent from level 2A.
_SENTINEL2 = {
    10: {"B02": 490.0, "B03": 560.0, "B04": 665.0, "B08": 842.0},
    20: {"B05": 705.0, "B06": 740.0, "B07": 783.0, "B8A": 865.0, "B11": 1610.0, "B12": 2190.0},
    60: {"B01": 443.0, "B09": 945.0},
}


def _size(gsd: int) -> int:
    return PATCH_METRES // gsd


def _sentinel2(gsd: int) -> Feature:
    bands = tuple(Band(name, wavelength) for name, wavelength in _SENTINEL2[gsd].items())
    return Feature(f"s2_{gsd}m", "uint16", (_size(gsd), _size(gsd), len(bands)), gsd, bands)


# Digital numbers: surface reflectance times 10,000.
S2_FEATURES = tuple(_sentinel2(gsd) for gsd in _SENTINEL2)
# Backscatter in dB.
S1_FEATURE = Feature("s1", "float32", (_size(10), _size(10), 2), 10, (Band("VV"), Band("VH")))
# CORINE codes of three digits; 0 is nodata, 999 unlabelled.
MAP_FEATURE = Feature("reference_map", "uint16", (_size(10), _size(10)), 10)

S2_BANDS = tuple(name for feature in S2_FEATURES for name in feature.band_names)
S1_BANDS = S1_FEATURE.band_names
DISPLAY = {"RGB": ("B04", "B03", "B02"), "false colour": ("B08", "B04", "B03")}

_BY_GSD = {f"{feature.gsd}m": feature.band_names for feature in S2_FEATURES}


def choose(names: tuple[str, ...]) -> tuple[str, ...]:
    """Resolves a choice of bands to band names, in the order asked for.

    Args:
        names: band names ("B04", "VV"), or "all" (the twelve of Sentinel-2), "rgb", "s1", "10m", "20m", "60m", or
            several of them joined by "+", as in "10m+20m".

    Raises:
        UsageError: a name is unknown or comes twice.
    """
    known = {"all": S2_BANDS, "rgb": DISPLAY["RGB"], "s1": S1_BANDS, **_BY_GSD}
    known.update({name: (name,) for name in S2_BANDS + S1_BANDS})
    parts = [part for name in names for part in name.split("+")]
    unknown = [part for part in parts if part not in known]
    if unknown:
        raise UsageError(f"unknown bands: {', '.join(unknown)}", remedy=f"known are: {', '.join(known)}")
    chosen = tuple(band for part in parts for band in known[part])
    if len(set(chosen)) < len(chosen) or not chosen:
        raise UsageError(f"bands must be named once each, not {' '.join(names)!r}")
    return chosen


def features(s1: bool = False, reference_map: bool = False) -> tuple[Feature, ...]:
    """Returns the arrays of a record: Sentinel-2 always, Sentinel-1 and the reference map where asked for."""
    optional: tuple[tuple[bool, Feature], ...] = ((s1, S1_FEATURE), (reference_map, MAP_FEATURE))
    return S2_FEATURES + tuple(feature for wanted, feature in optional if wanted)


def feature_of(band: str) -> Optional[Feature]:
    """Returns the feature a band is stored in, None for an unknown band."""
    return next((f for f in (*S2_FEATURES, S1_FEATURE) if band in f.band_names), None)
