"""Dense scores of stored patches, counted against their reference maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tfrecords_tools import cli
from tfrecords_tools.errors import DataError
from tfrecords_tools.manifest import Nomenclature

from ..scoring import masks
from .tiles import enlarge


def confusion(
    logits_map: Any, dataset: Any, nomenclature: Nomenclature, feature: str, directory: Path, batches: int
) -> tuple[np.ndarray, np.ndarray]:
    """Maps one rank's part of a split and counts pixels: every pixel takes the class of its highest score.

    Args:
        logits_map: of `dense.logits_map`. Its logits are interpolated bilinearly to the pixels, as maps of scenes are.
        dataset: of (inputs, labels, valid), as `pipeline.for_evaluation` makes it; `inputs` has the reference maps too.
        nomenclature: of the model, in its order.
        feature: name of the reference maps.
        directory: of the shards, for error messages.
        batches: how many there are, for the progress bar.

    Returns:
        int64 [classes, classes + 1], pixels of each class in the reference (rows) and on the map (columns), the last
        column of the first row holding the pixels without a class in the reference; labels, uint8 [records, classes].

    Raises:
        DataError: a shard cannot be read, or the model gives no number.
    """
    from ..stack import tf

    numbers, classes = masks.class_of_code(nomenclature), len(nomenclature.classes)
    total, labels = np.zeros((classes, classes + 1), np.int64), [np.empty((0, classes), np.uint8)]
    bar = tqdm(dataset, "mapping", batches, unit="batch", disable=None if cli.is_first_rank() else True)
    try:
        for inputs, names, valid in bar:
            kept = valid.numpy()
            truth = numbers[inputs.pop(feature).numpy()[kept]]
            logits = logits_map.predict_on_batch(inputs)[kept]
            if not np.isfinite(logits).all():
                remedy = "take an earlier --checkpoint, or train with a lower learning rate"
                raise DataError("the model gives no number for some records", path=directory, remedy=remedy)
            counted = masks.count(truth, classes_of(logits, truth.shape[1]), classes)
            total[:, :classes] += counted
            total[0, classes] += truth.size - counted.sum()
            labels.append(names.numpy()[kept].astype(np.uint8))
    except (tf.errors.DataLossError, tf.errors.NotFoundError, tf.errors.InvalidArgumentError) as error:
        remedy = f"`python -m tfrecords_tools.verify {directory}` names the shard and the record"
        raise DataError(f"a record cannot be read: {error.message}", path=directory, remedy=remedy) from error
    return total, np.concatenate(labels)


def classes_of(logits: np.ndarray, size: int) -> np.ndarray:
    """Returns int64 [patches, size, size], the class of the highest score, from logits [patches, n, n, classes]."""
    matrix = enlarge(logits.shape[1], size)
    return np.einsum("yr,brcn,xc->byxn", matrix, logits, matrix, optimize=True).argmax(-1)
