"""Paths that are no archive, broken tars, and what a conversion says of each."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from tests.conversions import compress
from tests.corpus.common import BAND, COPY_TAR, FOLDER, PACK, PATCH, RESTORE, TAR, V1, V2
from tests.spoil import (
    Broken,
    Spoil,
    at_root,
    both,
    change,
    error,
    flip,
    folder,
    listed,
    lose,
    nothing,
    put,
)


def tar(name: str = f"{PATCH}/{PATCH}_B02.tif", kind: bytes = tarfile.REGTYPE, file: str = "s2.tar") -> Spoil:
    """Packs one member as s2.tar, or compressed as s2.tar.gz or s2.tar.zst."""

    def spoil(root: Path) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.size = kind, 600 if kind == tarfile.REGTYPE else 0
        member.linkname = "/etc/passwd"
        with tarfile.open(root / "s2.tar", "w") as archive:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
        if file != "s2.tar":
            compress(root / "s2.tar", file[len("s2.tar") :])
            (root / "s2.tar").unlink()

    return spoil


_LOW = f"BigEarthNet-v1.0/{PATCH}"
PATHS = (
    Broken(
        "no such archive",
        nothing,
        V1.replace("-v1.0", "-v3.0"),
        error("BigEarthNet-v3.0: no such folder for the archive", FOLDER),
        2,
    ),
    Broken(
        "a file for the archive",
        nothing,
        V1.replace("BigEarthNet-v1.0", BAND),
        error(f"{BAND}: not a folder for the archive", FOLDER),
        2,
    ),
    Broken(
        "a level too high",
        nothing,
        V1.replace("ROOT/BigEarthNet-v1.0", "ROOT"),
        at_root("not a BigEarthNet archive", "did you mean ROOT/BigEarthNet-v1.0 ?"),
        2,
    ),
    Broken(
        "a level too low",
        nothing,
        V1.replace("BigEarthNet-v1.0", _LOW),
        error(f"{_LOW}: not a BigEarthNet archive", "did you mean ROOT/BigEarthNet-v1.0 ?"),
        2,
    ),
    Broken(
        "archive empty",
        folder("new"),
        V1.replace("BigEarthNet-v1.0", "new"),
        error("new: not a BigEarthNet archive", "it is empty: extract the published archive into it"),
        2,
    ),
    Broken(
        "tiles for version 2's archive",
        nothing,
        V2.replace("ROOT", "ROOT/BigEarthNet-S2"),
        error("BigEarthNet-S2: not a BigEarthNet archive", "did you mean ROOT ?"),
        2,
    ),
    Broken(
        "tiles empty",
        both(lose("BigEarthNet-S2"), folder("BigEarthNet-S2")),
        V2,
        at_root("no patch in it", "extract the published archive here again"),
    ),
    Broken(
        "Sentinel-2 for Sentinel-1",
        nothing,
        f"{V1} --s1 ROOT/BigEarthNet-v1.0",
        error(
            "BigEarthNet-v1.0: no Sentinel-1 data in it",
            "--s1 takes the folder that holds the folders of Sentinel-1 patches like S1A_…",
        ),
        2,
    ),
    Broken(
        "OUT a file",
        nothing,
        V1.replace("OUT", "ROOT/val.csv"),
        error("val.csv: cannot be written: File exists", "…"),
        2,
    ),
    Broken(
        "OUT with foreign files",
        nothing,
        V1.replace("OUT", "ROOT"),
        at_root("is not empty: it holds BigEarthNet-S1-v1.0", "name a new or empty folder"),
        2,
    ),
    Broken(
        "no splits",
        nothing,
        V1.replace("--splits ROOT", ""),
        error(
            "BigEarthNet-v1.0: version 1 holds no split",
            "name the published lists with --splits DIR …--split-fractions 0.6 0.2 0.2",
        ),
        2,
    ),
)
_LINK = error(f"s2.tar: member {PATCH}/{PATCH}_B02.tif is a link or a device", PACK)
_ONE_LISTED = both(listed("train", [PATCH]), listed("val", ()), listed("test", ()))
TARS = (
    Broken(
        "member with an absolute path",
        tar("/etc/x/y.tif"),
        TAR,
        error("s2.tar: member /etc/x/y.tif lies outside of it", PACK),
    ),
    Broken(
        "member above",
        tar("a/../../y.tif"),
        TAR,
        error("s2.tar: member a/../../y.tif lies outside of it", PACK),
    ),
    Broken("symbolic link", tar(kind=tarfile.SYMTYPE), TAR, _LINK),
    Broken("hard link", tar(kind=tarfile.LNKTYPE), TAR, _LINK),
    Broken("device", tar(kind=tarfile.CHRTYPE), TAR, _LINK),
    Broken(
        "tar truncated",
        both(tar(), change("s2.tar", lambda content: content[:700])),
        TAR,
        error(f"s2.tar: cut off within {PATCH}/{PATCH}_B02.tif", COPY_TAR),
    ),
    Broken(
        "tar empty",
        put("s2.tar", b""),
        TAR,
        error("s2.tar: damaged or cut off: no header at byte 0, where it ends", COPY_TAR),
    ),
    Broken(
        "tar is text",
        put("s2.tar", "hello\n" * 1000),
        TAR,
        error("s2.tar: not a readable tar: no header at byte 0", COPY_TAR),
    ),
    Broken(
        "tar header damaged",
        both(tar(), flip("s2.tar", 3)),
        TAR,
        error("s2.tar: not a readable tar: no header at byte 0", COPY_TAR),
    ),
    Broken("tar without patches", tar("a/b.txt"), TAR, error("s2.tar: no Sentinel-2 patches in this tar"), 2),
    Broken(
        "tar lacks labels",
        both(tar(), _ONE_LISTED),
        TAR,
        error(f"s2.tar/{PATCH}/{PATCH}_labels_metadata.json: missing", RESTORE),
    ),
)


_BAND = f"{PATCH}/{PATCH}_B02.tif"
_REFUSED = (
    ("member with an absolute path", "/etc/x/y.tif", tarfile.REGTYPE, "lies outside of it"),
    ("member above", "a/../../y.tif", tarfile.REGTYPE, "lies outside of it"),
    ("symbolic link", _BAND, tarfile.SYMTYPE, "is a link or a device"),
    ("hard link", _BAND, tarfile.LNKTYPE, "is a link or a device"),
    ("device", _BAND, tarfile.CHRTYPE, "is a link or a device"),
)
STREAMS = (
    *(
        Broken(
            f"{file}: {what}",
            tar(name, kind, file),
            TAR.replace("s2.tar", file),
            error(f"{file}: member {name} {problem} (read up to byte … of …)", PACK),
        )
        for file in ("s2.tar.gz", "s2.tar.zst")
        for what, name, kind, problem in _REFUSED
    ),
    Broken(
        "s2.tar.gz: no tar",
        both(put("s2.tar", "hello\n" * 1000), lambda root: compress(root / "s2.tar", ".gz")),
        TAR.replace("s2.tar", "s2.tar.gz"),
        error("s2.tar.gz: not a readable tar: no header at byte 0 (read up to byte … of …)", COPY_TAR),
    ),
)
