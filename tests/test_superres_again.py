"""Super-resolution that was stopped, killed or given wrongly: what stands in its folder, and what is said."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from jeoparda_tf import models
from jeoparda_tf import superres as front
from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.bigearthnet.nomenclature import BEN19
from jeoparda_tf.models.spec import ModelSpec
from jeoparda_tf.models.superres_spec import SuperRes
from jeoparda_tf.training import initial
from jeoparda_tf.training import superres as training
from jeoparda_tf.training.superres_config import SuperResConfig
from tests import shards
from tfrecords_tools.errors import DataError, StoppedError, UsageError

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shards"
    shards.write(folder, {"train": 6, "val": 2, "test": 2})
    return folder


def config(data: Path, workdir: Path, **settings) -> SuperResConfig:
    fixed = {"filters": 2, "blocks": 1, "batch": 2, "steps": 6, "checkpoint_every": 4, "score_patches": 1}
    return SuperResConfig(data=data, workdir=workdir, **{**fixed, **settings})


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "networks"
    front.superres(config(data, folder, splits=("test",)))
    return folder


def _rows(folder: Path) -> list[str]:
    return (folder / "history.csv").read_text().splitlines()


def test_a_stop_between_two_rows_leaves_the_history_as_it_is_without(data, whole, tmp_path, monkeypatch):
    real, steps = training._step, []

    def stopped(run):
        one = real(run)

        def step(*args):
            steps.append(args)
            if len(steps) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return one(*args)

        return step

    monkeypatch.setattr(training, "_step", stopped)
    with pytest.raises(StoppedError, match="saved at step 3 of 6"):
        training.train(config(data, tmp_path / "cut"))
    training.train(config(data, tmp_path / "cut", resume=True))
    assert [row.split(",")[0] for row in _rows(whole)] == ["step", "4", "6"]
    assert _rows(tmp_path / "cut") == _rows(whole)


def test_a_kill_around_the_last_checkpoint_loses_no_row(data, whole, tmp_path, monkeypatch):
    real = training.checkpoints.save

    def killed(folder, variables, state):
        real(folder, variables, state)
        if state["step"] == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            training.train(config(data, tmp_path / "cut"))
    training.train(config(data, tmp_path / "cut", resume=True))
    assert _rows(tmp_path / "cut") == _rows(whole)


def test_a_val_split_may_come_later(data, tmp_path):
    without = tmp_path / "without"
    shutil.copytree(data, without)
    content = json.loads((without / "manifest.json").read_text())
    del content["splits"]["val"]
    (without / "manifest.json").write_text(json.dumps(content))
    training.train(config(without, tmp_path / "networks", steps=6))
    for path in (tmp_path / "networks" / "checkpoints").glob("step-*6"):
        shutil.rmtree(path)
    training.train(config(data, tmp_path / "networks", steps=6, resume=True))
    names, first, last = (row.split(",") for row in _rows(tmp_path / "networks"))
    assert names == ["step", "learning_rate", "loss", "val_rmse_20m", "val_rmse_60m"]
    assert (first[0], first[3:]) == ("4", ["", ""])
    assert last[0] == "6"
    assert all(float(number) > 0 for number in last[3:])


def test_other_shards_do_not_go_on_with_a_training(data, whole, tmp_path):
    networks = tmp_path / "networks"
    shutil.copytree(whole, networks)
    shutil.copytree(data, tmp_path / "moved")
    training.train(config(tmp_path / "moved", networks, resume=True))
    shards.write(tmp_path / "other", {"train": 6, "val": 2, "test": 2}, seed=1)
    with pytest.raises(UsageError, match="the train split is not the one that this training began with"):
        training.train(config(tmp_path / "other", networks, resume=True))


def test_splits_that_are_not_there_are_told_before_the_training(data, tmp_path):
    with pytest.raises(DataError, match="no records in tset\n  name some with --splits; it has: train, val"):
        front.superres(config(data, tmp_path / "networks", splits=("tset",)))
    assert not (tmp_path / "networks").exists()


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_numpy_does_not_take_are_refused(data, tmp_path, seed):
    with pytest.raises(UsageError, match=f"--seed is {seed}, but must be 0 to 4294967295"):
        front.superres(config(data, tmp_path / "networks", seed=seed))


@pytest.mark.parametrize("part", [{"statistics": []}, {"features": []}, {"statistics": {"B02": [1, 2]}}])
def test_a_damaged_spec_is_named(whole, part, tmp_path):
    known = json.loads((whole / "superres.json").read_text())
    (tmp_path / "superres.json").write_text(json.dumps({**known, **part}))
    with pytest.raises(DataError, match=r"superres\.json: cannot be read"):
        training.read(tmp_path)


def test_the_way_out_of_damaged_shards_is_one_that_the_command_takes(data, whole, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(data, damaged)
    for shard in damaged.glob("*.tfrecord"):
        content = bytearray(shard.read_bytes())
        content[5000] ^= 1
        shard.write_bytes(content)
    with pytest.raises(DataError, match=r"finds damaged shards; then run again with --resume$"):
        front.superres(config(damaged, tmp_path / "networks"))
    with pytest.raises(DataError, match=r"finds damaged shards; then run again$"):
        front.superres(config(damaged, whole, evaluate=True))


def test_a_frozen_backbone_leaves_networks_that_are_trained_alone():
    statistics = dict.fromkeys(bands.S2_BANDS, (1000.0, 300.0))
    for trainable in (False, True):
        known = SuperRes(bands.S2_FEATURES, statistics, filters=2, blocks=1, trainable=trainable)
        spec = ModelSpec("tiny", bands.S2_BANDS, bands.S2_FEATURES, BEN19, statistics, upsample="superres")
        model = models.build(dataclasses.replace(spec, superres=known))
        initial.freeze(model)
        trained = {weight.name.split("_")[0].split("/")[0] for weight in model.trainable_weights}
        assert trained == {"logits", *(("superres20", "superres60") if trainable else ())}
