"""Broken files of patches: bands, reference maps, JSON; and what a conversion says of each."""

from __future__ import annotations

import numpy as np

from tests.archives import TILE, v2_name
from tests.corpus.common import AGAIN, BAND, JSON, PARTNER, PATCH, RESTORE, S1_JSON, V1, V1_S1, V2
from tests.spoil import Broken, at_root, cut, error, folder, forbid, lose, pixels, put

_VH = f"BigEarthNet-S1-v1.0/{PARTNER}/{PARTNER}_VH.tif"
_MAP = f"Reference_Maps/{TILE}/{v2_name(3)}"
_NAN = np.full((120, 120), np.nan, np.float32)
FILES = (
    Broken("band missing", lose(BAND), V1, error(f"{BAND}: missing", AGAIN)),
    Broken("band empty", put(BAND, b""), V1, error(f"{BAND}: cannot be read: …", AGAIN)),
    Broken("band truncated", cut(BAND), V1, error(f"{BAND}: cannot be read: …", AGAIN)),
    Broken("band is text", put(BAND, "hello\n" * 1000), V1, error(f"{BAND}: cannot be read: …", AGAIN)),
    Broken("band is a folder", folder(BAND), V1, error(f"{BAND}: cannot be read: …", AGAIN)),
    Broken("band may not be read", forbid(BAND), V1, error(f"{BAND}: cannot be read: …", AGAIN)),
    Broken(
        "band too small",
        pixels(BAND, np.zeros((60, 60), np.uint16)),
        V1,
        error(f"{BAND}: has 60 x 60 pixels, not 120 x 120", AGAIN),
    ),
    Broken(
        "band of signed integers",
        pixels(BAND, np.zeros((120, 120), np.int16)),
        V1,
        error(f"{BAND}: is int16, not uint16", AGAIN),
    ),
    Broken(
        "two bands in one file",
        pixels(BAND, np.zeros((2, 120, 120), np.uint16)),
        V1,
        error(f"{BAND}: has 2 bands, not one", AGAIN),
    ),
    Broken(
        "rasterio: band empty",
        put(BAND, b""),
        f"{V1} --reader rasterio",
        error(f"{BAND}: cannot be read: …", AGAIN),
    ),
    Broken(
        "NaN in Sentinel-1",
        pixels(_VH, _NAN),
        V1_S1,
        error(f"{_VH}: patch {PATCH}: holds values that are not finite", AGAIN),
    ),
    Broken("Sentinel-1 band missing", lose(_VH), V1_S1, error(f"{_VH}: patch {PATCH}: missing", AGAIN)),
    Broken(
        "reference map missing",
        lose(_MAP),
        f"{V2} --reference-maps",
        error(f"{_MAP}/{v2_name(3)}_reference_map.tif: missing", AGAIN),
    ),
    Broken(
        "no reference maps",
        lose("Reference_Maps"),
        f"{V2} --reference-maps",
        at_root("--reference-maps, but there is no Reference_Maps in it"),
        2,
    ),
)
_NO_JSON, _NO_NAMES = (
    error(f"{JSON}: not readable as JSON: …", RESTORE),
    error(f'{JSON}: has no list of names under "labels"', RESTORE),
)
LABELS = (
    Broken("JSON missing", lose(JSON), V1, error(f"{JSON}: missing", RESTORE)),
    Broken("JSON empty", put(JSON, b""), V1, _NO_JSON),
    Broken(
        "text after the object",
        put(JSON, '{"labels": ["Pastures"]} text'),
        V1,
        error(f"{JSON}: not readable as JSON: Extra data: line 1 column 26 (char 25)", RESTORE),
    ),
    Broken("JSON a list", put(JSON, '["Pastures"]'), V1, error(f"{JSON}: not a JSON object", RESTORE)),
    Broken("JSON without labels", put(JSON, "{}"), V1, _NO_NAMES),
    Broken("labels no list", put(JSON, '{"labels": "Pastures"}'), V1, _NO_NAMES),
    Broken("no label", put(JSON, '{"labels": []}'), V1, error(f"{JSON}: has no labels", RESTORE)),
    Broken(
        "unknown label",
        put(JSON, '{"labels": ["Moon"]}'),
        V1,
        error(f"{JSON}: unknown label 'Moon' for clc43", RESTORE),
    ),
    Broken("JSON not UTF-8", put(JSON, b'{"labels": ["\xff"]}'), V1, _NO_JSON),
    Broken("JSON of endless depth", put(JSON, "[" * 100_000), V1, _NO_JSON),
    Broken(
        "Sentinel-1 JSON without partner",
        put(S1_JSON, "{}"),
        V1_S1,
        error(f"{S1_JSON}: names no corresponding_s2_patch", RESTORE),
    ),
    Broken("Sentinel-1 JSON cut", cut(S1_JSON), V1_S1, error(f"{S1_JSON}: not readable as JSON: …", RESTORE)),
)
