"""Small archives to convert, and what came out of them."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zstandard

from jeoparda_tf.bigearthnet.nomenclature import names_of
from jeoparda_tf.conversion.config import ConvertConfig
from tests import archives
from tests.archives import LABELS, LABELS_19, v1_name
from tfrecords_tools import manifest as manifests
from tfrecords_tools.tfrecord import decode_example, read_records

COUNT = 14
# The labels of patch i; patch 3 has none in ben19.
V1_LABELS = [[LABELS[i % 5]] if i == 3 else [LABELS[i % 5], LABELS[(i + 1) % 5]] for i in range(COUNT)]
V1_SPLITS = {
    "train": [v1_name(i) for i in range(8)],
    "val": [v1_name(8), v1_name(9)],
    "test": [v1_name(i) for i in (10, 11, 12)],
}
V2_SPLITS = ["train"] * 5 + ["validation"] * 2 + ["test"] * 2


@pytest.fixture(scope="session")
def v1_shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("v1")
    archives.write_v1(root, V1_LABELS, s1=True)
    return archives.write_lists(root, V1_SPLITS)


@pytest.fixture(scope="session")
def v2_shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("v2")
    archives.write_v2(root, V2_SPLITS, [[LABELS_19[i % 5], LABELS_19[(i + 2) % 5]] for i in range(9)])
    return root


def linked(source: Path, target: Path) -> Path:
    """Copies an archive to spoil, by links: spoiling replaces files, never writes into them."""
    subprocess.run(["cp", "-al", source, target], check=True)
    return target


@pytest.fixture
def v1(v1_shared: Path, tmp_path: Path) -> Path:
    return linked(v1_shared, tmp_path / "v1")


@pytest.fixture
def v2(v2_shared: Path, tmp_path: Path) -> Path:
    return linked(v2_shared, tmp_path / "v2")


def compress(path: Path, suffix: str) -> Path:
    """Compresses a file with gzip (.gz) or zstd (.zst), beside it."""
    target, data = path.with_name(path.name + suffix), path.read_bytes()
    zstd = zstandard.ZstdCompressor(write_checksum=True)
    target.write_bytes(gzip.compress(data, 1) if suffix == ".gz" else zstd.compress(data))
    return target


def v1_config(root: Path, out: Path, **changes: Any) -> ConvertConfig:
    values: dict[str, Any] = {
        "archive": root / "BigEarthNet-v1.0",
        "out": out,
        "splits": root,
        "shards": 2,
        "workers": 1,
        **changes,
    }
    return ConvertConfig(**values)


def v2_config(root: Path, out: Path, **changes: Any) -> ConvertConfig:
    return ConvertConfig(**{"archive": root, "out": out, "workers": 1, **changes})


def hashes(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def read_back(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Returns the records by split, checking manifest, hashes and table on the way."""
    manifest = manifests.read(directory)
    rows = pq.read_table(directory / "records.parquet").to_pylist()
    records: dict[str, list[dict[str, Any]]] = {}
    for name, split in manifest.splits.items():
        for shard in split.shards:
            data = (directory / shard.file).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)
            own = [
                decode_example(record, manifest.features) for record in read_records(directory / shard.file)
            ]
            assert len(own) == shard.records
            for position, record in enumerate(own):
                assert rows.pop(0) == {
                    "split": name,
                    "shard": shard.file,
                    "position": position,
                    "name": record["name"],
                    "labels": names_of(record["labels"], manifest.nomenclature.classes),
                }
            records.setdefault(name, []).extend(own)
        assert np.sum([r["labels"] for r in records[name]], axis=0).tolist() == list(split.label_counts)
    assert not rows
    return records
