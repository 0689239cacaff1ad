"""Reads any record of a split by its index, without TensorFlow: for PyTorch, notebooks and whatever has numpy."""

from __future__ import annotations

import itertools
import operator
from bisect import bisect_right
from os import PathLike
from pathlib import Path
from typing import Any, Union

import numpy as np

from . import manifest, tfrecord
from .errors import DataError
from .manifest import Shard


class Reader:
    """The records of one split as a sequence, a dict each, in the order of the shards.

    It is a map-style dataset of PyTorch as it stands. Where the records of a shard begin is read from their headers
    when one of them is first asked for. No file stays open, so it can be pickled and forked at any time.

    Attributes:
        manifest: of the directory: features with their bands, classes in the order of `labels`.
    """

    def __init__(self, directory: Union[str, PathLike[str]], split: str):
        """Opens a split.

        Args:
            directory: of shards.
            split: for instance "train".

        Raises:
            DataError: the directory has no readable manifest, or no such split.
        """
        self._directory = Path(directory)
        self.manifest = manifest.read(self._directory)
        self._shards = self.manifest.split(split, self._directory).shards
        self._ends = list(itertools.accumulate(shard.records for shard in self._shards))
        self._offsets: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one record from disk and checks its CRCs.

        Args:
            index: of the record in its split; negative ones count from the end.

        Returns:
            the arrays by feature name (shape and dtype as in the manifest, read-only), `labels` (int64 [classes],
            multi-hot) and `name` (str).

        Raises:
            IndexError: there are fewer records.
            DataError: the shard is missing or damaged; names it and the record.
        """
        position = operator.index(index)
        position += len(self) if position < 0 else 0
        if not 0 <= position < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number = bisect_right(self._ends, position)
        shard = self._shards[number]
        position -= self._ends[number] - shard.records
        path = self._directory / shard.file
        if number not in self._offsets:
            self._offsets[number] = self._index(path, shard)
        record = tfrecord.read_at(path, int(self._offsets[number][position]), position)
        return tfrecord.decode_at(record, self.manifest, path, position)

    @staticmethod
    def _index(path: Path, shard: Shard) -> np.ndarray:
        offsets = tfrecord.offsets(path)
        if len(offsets) != shard.records:
            problem = f"has {len(offsets)} records, the manifest says {shard.records}"
            raise DataError(problem, path=path, remedy=tfrecord.RESTORE)
        return offsets
