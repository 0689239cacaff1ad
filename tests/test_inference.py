from __future__ import annotations

import numpy as np
import pytest

from jeoparda_tf.scoring import inference
from tests import shards
from tfrecords_tools.errors import DataError

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("shards")
    return directory, shards.write(directory, {"train": 2, "val": 0, "test": 11}, shards=3)


@pytest.fixture(scope="module")
def model(data):
    from jeoparda_tf import models
    from jeoparda_tf.models.spec import spec_for

    return models.build(spec_for(data[1], ("B01", "B09"), name="tiny", dropout=0.5))


def part(data, model, split="test", **kwargs):
    from jeoparda_tf.input import pipeline

    features = [f for f in data[1].features if f.name == "s2_60m"]
    return inference.predict(model, pipeline.for_evaluation(*data, split, features, **kwargs))


def test_every_record_once_in_order_without_padding(data, model):
    scores, labels = part(data, model, batch=4)
    assert (scores.shape, scores.dtype) == ((11, 19), np.float32)
    assert labels.dtype == np.uint8
    test_patches = shards.patches(11, data[1].features, 19, seed=2)
    assert labels.tolist() == [patch.labels.tolist() for patch in test_patches]
    pixels = np.stack([patch.arrays["s2_60m"] for patch in test_patches])
    expected = model({"s2_60m": pixels}, training=False).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert np.ptp(scores, axis=0).min() > 1e-5  # the records are told apart


@pytest.mark.parametrize("size", [2, 3, 13])
def test_ranks_together_give_the_same(data, model, size):
    whole = part(data, model, batch=4)
    parts = [part(data, model, batch=4, rank=rank, size=size) for rank in range(size)]
    for expected, got in zip(whole, zip(*parts)):
        np.testing.assert_allclose(np.concatenate(got), expected, atol=1e-6)


def test_empty_split_gives_empty_arrays(data, model):
    scores, labels = part(data, model, "val", batch=4)
    assert scores.shape == labels.shape == (0, 19)


def test_damaged_shard_is_named_as_data(tmp_path, model):
    manifest = shards.write(tmp_path, {"train": 2, "test": 2}, shards=1)
    file = tmp_path / manifest.splits["test"].shards[0].file
    content = bytearray(file.read_bytes())
    content[len(content) // 4] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        part((tmp_path, manifest), model, batch=2)
    file.write_bytes(bytes(content[:1000]))
    with pytest.raises(DataError, match="cannot be read"):
        part((tmp_path, manifest), model, batch=2)
