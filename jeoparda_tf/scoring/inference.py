"""Scores of one rank's part of a split."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np
from tqdm import tqdm

from tfrecords_tools import cli
from tfrecords_tools.errors import DataError


def predict(
    model: Any, dataset: Any, *, directory: Optional[Path] = None, batches: Optional[int] = None
) -> tuple[np.ndarray, np.ndarray]:
    """Predicts all records of a dataset, without the padding of its last batch.

    Args:
        model: tf.keras.Model of (inputs) -> scores [batch, classes].
        dataset: of (inputs, labels, valid), as `pipeline.for_evaluation` makes it.
        directory: of the shards, for the error message.
        batches: how many there are, for the progress bar.

    Returns:
        scores, float32 [records, classes], and labels, uint8 [records, classes].

    Raises:
        DataError: a shard is damaged or missing.
    """
    from ..stack import tf

    classes = model.output_shape[-1]
    scores, labels = [np.empty((0, classes), np.float32)], [np.empty((0, classes), np.uint8)]
    # None: no bar where the output is no terminal.
    bar = tqdm(dataset, "predicting", batches, unit="batch", disable=None if cli.is_first_rank() else True)
    try:
        for inputs, truth, valid in bar:
            kept = valid.numpy()
            # Keras keeps the traced function with the model: validation after every epoch traces once.
            scores.append(model.predict_on_batch(inputs)[kept])
            labels.append(truth.numpy()[kept].astype(np.uint8))
    except (tf.errors.DataLossError, tf.errors.NotFoundError, tf.errors.InvalidArgumentError) as error:
        remedy = f"`python -m tfrecords_tools.verify {directory or 'DIR'}` names the shard and the record"
        raise DataError(f"a record cannot be read: {error.message}", path=directory, remedy=remedy) from error
    return np.concatenate(scores), np.concatenate(labels)
