"""Commands and messages that many broken inputs of a conversion share.

In commands and messages, ROOT is the folder with the spoilt copy, OUT a new folder, and … some words of a library's.
"""

from __future__ import annotations

from tests.archives import SCENE, v1_name

PATCH, PARTNER = v1_name(5), f"{SCENE}_33UUP_0_5"
BAND = f"BigEarthNet-v1.0/{PATCH}/{PATCH}_B03.tif"
JSON = f"BigEarthNet-v1.0/{PATCH}/{PATCH}_labels_metadata.json"
S1_JSON = f"BigEarthNet-S1-v1.0/{PARTNER}/{PARTNER}_labels_metadata.json"

V1 = "convert ROOT/BigEarthNet-v1.0 OUT --splits ROOT --shards 2 --workers 1"
V1_S1 = f"{V1} --s1 ROOT/BigEarthNet-S1-v1.0"
V2 = "convert ROOT OUT --workers 1"
TAR = "convert ROOT/s2.tar OUT --splits ROOT --workers 1"

_SKIP = ", or leave such patches out with --on-error skip"
AGAIN = f"extract it again from the published archive{_SKIP}"
RESTORE = f"restore it from the published archive{_SKIP}"
DOWNLOAD = "download it again from the page of the published archive"
SPLITS = "--splits takes a folder with train.csv, val.csv and test.csv (perhaps .csv.bz2; may be empty)"
FOLDER = "name the folder that the published archive was extracted into, or the archive itself"
PACK = "pack it again from the published files, which holds none"
COPY_TAR = "copy or download the archive again"
