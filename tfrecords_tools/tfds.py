"""The two files that let tensorflow-datasets read a directory of shards: `tfds.builder_from_directory(DIR)`.

They follow from the manifest alone. Run as a command it writes them again, where they are damaged or lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from . import cli, manifest
from .errors import DataError
from .manifest import Feature, Manifest

FEATURES_NAME, INFO_NAME = "features.json", "dataset_info.json"
FILE_NAMES = (FEATURES_NAME, INFO_NAME)
# Of what is described, not of the program: raised when the content of records changes.
VERSION = "1.0.0"
_CLASSES = "tensorflow_datasets.core.features"


@dataclass(frozen=True)
class Config:
    """Where to write them."""

    directory: Path = cli.option("directory of shards", positional=True)


def contents(known: Manifest) -> dict[str, Any]:
    """Returns both files' contents by name, as tensorflow-datasets' protobuf messages have them in JSON."""
    return {FEATURES_NAME: _features(known), INFO_NAME: _info(known)}


def write(directory: Path, known: Manifest) -> None:
    """Writes both files, each whole or not at all; to be called before the manifest is written.

    Raises:
        DataError: the disk is full or the folder is gone.
    """
    for name, content in contents(known).items():
        path = directory / name
        temporary = path.with_name(f"{name}.tmp")
        try:
            temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            remedy = "free some space, then run the same command again"
            raise DataError(
                f"cannot be written: {error.strerror or error}", path=path, remedy=remedy
            ) from error


def check(directory: Path, known: Manifest) -> list[str]:
    """Returns what is wrong with the two files, a sentence each, beginning with the file."""
    remedy = f"`python -m tfrecords_tools.tfds {directory}` writes it again"
    faults = []
    for name, expected in contents(known).items():
        try:
            found = json.loads((directory / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            faults.append(f"{name}: is missing; {remedy}")
        except (OSError, ValueError):
            faults.append(f"{name}: cannot be read; {remedy}")
        else:
            if found != expected:
                faults.append(f"{name}: is not what the manifest says; {remedy}")
    return faults


def _features(known: Manifest) -> dict[str, Any]:
    classes = "; ".join(known.nomenclature.classes)
    features = {feature.name: _array(feature) for feature in known.features}
    features["labels"] = _tensor(
        (len(known.nomenclature.classes),), "int64", "none", f"multi-hot, in the order: {classes}"
    )
    features["name"] = {"pythonClassName": f"{_CLASSES}.text_feature.Text", "text": {}}
    return {
        "pythonClassName": f"{_CLASSES}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


def _array(feature: Feature) -> dict[str, Any]:
    what = f"bands {' '.join(feature.band_names)}" if feature.bands else "class codes"
    # "bytes": the array as raw little-endian bytes, which is what the records hold.
    return _tensor(feature.shape, feature.dtype, "bytes", f"{what}, {feature.gsd} m")


def _tensor(shape: Sequence[int], dtype: str, encoding: str, description: str) -> dict[str, Any]:
    # JSON of protobuf writes integers of 64 bits as text.
    tensor = {"shape": {"dimensions": [str(size) for size in shape]}, "dtype": dtype, "encoding": encoding}
    return {
        "pythonClassName": f"{_CLASSES}.tensor_feature.Tensor",
        "description": description,
        "tensor": tensor,
    }


def _info(known: Manifest) -> dict[str, Any]:
    splits = [
        {
            "name": name,
            "shardLengths": [str(shard.records) for shard in split.shards],
            "numBytes": str(sum(shard.bytes for shard in split.shards)),
            "filepathTemplate": "{SPLIT}-{SHARD_X_OF_Y}.{FILEFORMAT}",
        }
        for name, split in known.splits.items()
    ]
    info: dict[str, Any] = {
        "name": re.sub(r"\W+", "_", known.origin.lower(), flags=re.ASCII).strip("_") or "shards",
        "version": VERSION,
        "description": f"{known.origin}, {known.nomenclature.name}: multi-label patches at native resolution",
        "fileFormat": "tfrecord",
        "splits": splits,
    }
    if known.sources.get("citation"):
        info["citation"] = known.sources["citation"]
    if known.sources.get("license"):
        info["redistributionInfo"] = {"license": known.sources["license"]}
    return info


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Writes the two files of a directory of shards."""
    config = cli.parse(Config, "python -m tfrecords_tools.tfds", __doc__, argv)
    write(config.directory, manifest.read(config.directory))
    print(f"{config.directory}: wrote {' and '.join(FILE_NAMES)}")
    return 0


if __name__ == "__main__":
    cli.run(main)
