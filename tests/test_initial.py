"""Weights that a run begins with: Keras' own network against ours, other bands and classes, freezing, nonsense."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from jeoparda_tf import models
from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.bigearthnet.nomenclature import BEN19, CLC43
from jeoparda_tf.models import imagenet, transfer
from jeoparda_tf.models.spec import ModelSpec
from jeoparda_tf.stack import tf
from jeoparda_tf.training import initial, loop, workdir
from jeoparda_tf.training.config import FitConfig, check
from tests import shards
from tests.runs import FEATURES, train
from tests.test_fit import fit
from tfrecords_tools.errors import DataError, UsageError
from tfrecords_tools.manifest import Feature

pytestmark = pytest.mark.tensorflow

RANDOM = np.random.default_rng(0)
NOTOP = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
# Blue, green and red of ImageNet, as torchvision has them.
SIGMA = 255 * np.array([0.225, 0.224, 0.229])


def spec(name: str, *choice: str, pixels: int = 48, **settings) -> ModelSpec:
    names = bands.choose(choice)
    features = tuple(
        Feature(f.name, f.dtype, (pixels * 10 // f.gsd, pixels * 10 // f.gsd, len(f.bands)), f.gsd, f.bands)
        for f in (*bands.S2_FEATURES, bands.S1_FEATURE)
        if set(f.band_names) & set(names)
    )
    statistics = {band: (100.0 + i, 10.0 + i) for i, band in enumerate(names)}
    return ModelSpec(name, names, features, CLC43, statistics, **settings)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[object, Path]:
    """Keras' ResNet50 with random weights, and a cache of Keras that holds them as its ImageNet weights."""
    network = tf.keras.applications.ResNet50(include_top=False, weights=None, input_shape=(48, 48, 3))
    for weight in network.weights:
        if len(weight.shape) == 1:
            weight.assign(RANDOM.uniform(0.5, 1.5, weight.shape))
    variance = RANDOM.uniform(500, 1500, 64)
    variance[:2] = 1e-6, 0.0  # filters that never answer, as some of the published ones
    network.get_layer("conv1_bn").moving_variance.assign(variance)
    home = tmp_path_factory.mktemp("keras")
    (home / "models").mkdir()
    network.save_weights(home / "models" / NOTOP)
    return network, home


def test_imagenets_features_are_those_of_keras_applications(published, monkeypatch, tmp_path):
    network, home = published
    monkeypatch.setenv("KERAS_HOME", str(home))
    of = spec("resnet50", "rgb")
    model = models.build(of)
    result, source = initial.fill(model, of, "imagenet")
    assert (len(result.taken), result.adapted, result.new) == (106 - 1, ("conv1_conv",), ("logits",))
    assert source["source"] == str(home / "models" / NOTOP)
    assert len(source["sha256"]) == 64
    z = RANDOM.normal(0, 1, (2, 48, 48, 3)).astype(np.float32)  # B04, B03, B02
    mean, std = (np.array(column) for column in zip(*(of.statistics[band] for band in of.bands)))
    digital = np.zeros((2, 48, 48, 4), np.float32)
    digital[..., [2, 1, 0]] = z * std + mean
    expected = network(z[..., ::-1] * SIGMA).numpy()
    features = tf.keras.Model(model.inputs, model.get_layer("avg_pool").input)({"s2_10m": digital}).numpy()
    assert expected.std() > 0.01
    np.testing.assert_allclose(features, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())
    # The same weights in the other kinds of files.
    network.save_weights(tmp_path / "new.weights.h5")
    named = {
        f"{layer.name}/{i}": array for layer in network.layers for i, array in enumerate(layer.get_weights())
    }
    np.savez(tmp_path / "arrays.npz", **named)
    with_top = tf.keras.applications.ResNet50(weights=None)
    for layer in network.layers[1:]:  # the input has a name of its own
        with_top.get_layer(layer.name).set_weights(layer.get_weights())
    with_top.save_weights(tmp_path / "top.h5")
    for file in ("new.weights.h5", "arrays.npz", "top.h5"):
        other = imagenet.read(tmp_path / file, "resnet50")
        for name, arrays in imagenet.read(home / "models" / NOTOP, "resnet50").items():
            for one, same in zip(arrays, other[name]):
                np.testing.assert_array_equal(one, same)


def test_twelve_bands_answer_as_three_where_all_show_the_same(published, monkeypatch):
    network, home = published
    monkeypatch.setenv("KERAS_HOME", str(home))
    of = spec("resnet50", "all", "s1")
    model = models.build(of)
    result, _ = initial.fill(model, of, "imagenet")
    assert (result.adapted, result.new) == (("conv1_conv",), ("logits",))
    kernel = model.get_layer("conv1_conv").kernel.numpy()
    theirs = network.get_layer("conv1_conv").kernel.numpy() * (SIGMA / SIGMA.mean())[:, None]
    assert kernel.shape == (7, 7, 14, 64)
    for band, channel in (("B02", 0), ("B03", 1), ("B04", 2)):
        np.testing.assert_allclose(
            kernel[:, :, of.bands.index(band)], theirs[:, :, channel] * 3 / 14, rtol=1e-5
        )
    for band in ("B11", "VH"):
        np.testing.assert_allclose(
            kernel[:, :, of.bands.index(band)], theirs.mean(2) * 3 / 14, rtol=1e-4, atol=1e-8
        )
    np.testing.assert_allclose(kernel.sum(2), theirs.sum(2), rtol=1e-4, atol=1e-6)


def test_where_weights_are_not_there_the_error_says_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        initial.check("imagenet", spec("resnet50", "rgb"))
    assert str(tmp_path / "models" / NOTOP) in str(caught.value)
    assert f"download https://storage.googleapis.com/tensorflow/keras-applications/resnet/{NOTOP} " in str(
        caught.value
    )
    with pytest.raises(UsageError, match=r"no ImageNet weights of resnet18\n.*resnet50, resnet101"):
        initial.check("imagenet", spec("resnet18", "rgb"))
    with pytest.raises(UsageError, match="no such run or file"):
        initial.check(str(tmp_path / "nothing"), spec("resnet18", "rgb"))
    with pytest.raises(UsageError, match="not the workdir of a run"):
        initial.check(str(tmp_path), spec("resnet18", "rgb"))


def test_files_that_are_no_weights_of_the_model_are_refused(tmp_path):
    of = spec("tiny", "rgb", pixels=24)
    model = models.build(of)
    before = model.get_weights()

    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "pickle.h5").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="cannot be read as weights of resnet50"):
        initial.fill(None, spec("resnet50", "rgb"), str(tmp_path / "pickle.h5"))
    with pytest.raises(UsageError, match="Keras has no tiny"):
        initial.fill(model, of, str(tmp_path / "pickle.h5"))
    np.savez(tmp_path / "objects.npz", **{"conv1_conv/0": np.array([Bomb()], object)})
    with pytest.raises(DataError, match=r"objects.npz: cannot be read: .*allow_pickle"):
        initial.fill(model, of, str(tmp_path / "objects.npz"))
    assert not (tmp_path / "ran").exists()
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(UsageError, match=r"are read from \.h5"):
        initial.fill(model, of, str(tmp_path / "w.pkl"))
    weights = {
        f"{name}/{i}": a for name, arrays in transfer.weights_of(model).items() for i, a in enumerate(arrays)
    }
    del weights["logits/0"], weights["logits/1"]
    np.savez(tmp_path / "whole.npz", **weights)
    initial.fill(model, of, str(tmp_path / "whole.npz"))
    for changed, message in (
        ({**weights, "conv9_conv/0": np.ones(3)}, "conv9_conv and 0 more layers differ"),
        ({**weights, "conv2_block1_1_bn/0": np.ones(3)}, "conv2_block1_1_bn and 0 more layers differ"),
        (
            {k: v for k, v in weights.items() if not k.startswith("conv2_block1_2")},
            "conv2_block1_2_conv and 1 more",
        ),
        ({**weights, "conv1_conv/0": np.ones((7, 7, 12, 8))}, "no conv1_conv of three channels"),
        (
            {k: v for k, v in weights.items() if k != "conv1_conv/1"},
            "no conv1_conv of three channels, with its bias",
        ),
        ({k: v for k, v in weights.items() if not k.startswith("conv1_bn")}, "with its bias, and conv1_bn"),
    ):
        model.set_weights(before)
        np.savez(tmp_path / "changed.npz", **changed)
        with pytest.raises(DataError, match=message):
            initial.fill(model, of, str(tmp_path / "changed.npz"))


def test_kernels_go_with_their_bands():
    kernel = RANDOM.normal(0, 1, (3, 3, 2, 5)).astype(np.float32)
    turned = transfer.fit_kernel(kernel, ("B04", "B08"), ("B08", "B04"))
    np.testing.assert_array_equal(turned, kernel[:, :, ::-1])
    more = transfer.fit_kernel(kernel, ("B04", "B08"), ("VV", "B08", "B04", "B11"))
    expected = [kernel.mean(2), kernel[:, :, 1], kernel[:, :, 0], kernel.mean(2)]
    np.testing.assert_allclose(more, np.stack(expected, 2) / 2, rtol=1e-6)
    assert more.dtype == np.float32


def test_each_branch_has_its_own_first_layer_and_the_fusion_is_new_where_branches_go():
    before, now = spec("kbranch", "rgb", "20m"), spec("kbranch", "10m", "VV")
    assert transfer.first_layers(before) == {
        "branch10_conv1_conv": ("B04", "B03", "B02"), "branch20_conv1_conv": bands.choose(("20m",))
    }  # fmt: skip
    assert transfer.first_layers(now) == {"branch10_conv1_conv": ("B02", "B03", "B04", "B08", "VV")}
    source, model = models.build(before), models.build(now)
    result = transfer.fill(model, now, transfer.weights_of(source), transfer.first_layers(before))
    assert result.adapted == ("branch10_conv1_conv",)
    assert result.new == ("fusion_dense", "logits")
    assert "branch10_conv2_conv" in result.taken
    np.testing.assert_array_equal(
        model.get_layer("branch10_fc_dense").kernel, source.get_layer("branch10_fc_dense").kernel
    )
    kernel = source.get_layer("branch10_conv1_conv").kernel.numpy()
    np.testing.assert_allclose(
        model.get_layer("branch10_conv1_conv").kernel[:, :, 2], kernel[:, :, 0] * 3 / 5, rtol=1e-6
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A run of 19 classes on RGB."""
    return train(tmp_path_factory.mktemp("source"), "rgb", features=FEATURES, seed=3)


def begin(folder: Path, init: Path, classes=CLC43, **settings) -> tuple[Path, dict]:
    if not (folder / "shards").exists():
        shards.write(folder / "shards", {"train": 16}, features=FEATURES, nomenclature=classes)
    fixed = {"model": "tiny", "batch": 8, "epochs": 1, "warmup_epochs": 0.0, "learning_rate": 0.5}
    config = FitConfig(
        data=folder / "shards",
        workdir=folder / "run",
        init=str(init),
        **{"bands": ("rgb",), **fixed, **settings},
    )
    run = loop.train(config)
    return run, json.loads((run / workdir.INIT).read_text())


def test_a_run_gives_its_backbone_to_other_classes_and_bands(source, tmp_path, capsys):
    run, init = begin(tmp_path, source, bands=("10m",), learning_rate=0.0)
    assert (init["adapted"], init["new"]) == (["conv1_conv"], ["logits"])
    assert (init["source"], init["step"]) == (str(source), 1)
    assert json.loads((run / "config.json").read_text())["init"] == str(source)
    said = capsys.readouterr().out
    assert (
        f"begins with {source}: taken 17 layers (conv1 conv2 conv3), adapted to other bands 1 layers (conv1_conv)"
        in said
    )
    theirs, ours = (workdir.load_model(path)[0] for path in (source, run))
    for name in init["taken"]:
        for one, same in zip(
            theirs.get_layer(name).trainable_weights, ours.get_layer(name).trainable_weights
        ):
            np.testing.assert_array_equal(one, same, name)
    with pytest.raises(UsageError, match="the run is of tiny, not of resnet18"):
        begin(tmp_path / "other", source, model="resnet18")


def test_frozen_layers_stay_as_they_are_to_the_last_bit(source, tmp_path):
    run, init = begin(tmp_path, source, BEN19, freeze_backbone=True, epochs=2, l2=0.1)
    assert (init["adapted"], init["new"]) == ([], [])  # the same classes: the last layer was taken too
    theirs, ours = (workdir.load_model(path)[0] for path in (source, run))
    backbone = transfer.backbone(theirs)
    assert {type(layer).__name__ for layer in backbone} == {"Conv2D", "BatchNormalization"}
    for layer in backbone:
        for one, same in zip(layer.get_weights(), ours.get_layer(layer.name).get_weights()):
            np.testing.assert_array_equal(one, same, layer.name)
    assert np.abs(theirs.get_layer("logits").kernel - ours.get_layer("logits").kernel).max() > 1e-3
    reader = tf.train.load_checkpoint(str(run / "checkpoints" / "step-00000004" / "variables"))
    slots = [
        shape for name, shape in reader.get_variable_to_shape_map().items() if name.startswith("optimizer/")
    ]
    assert sorted(tuple(shape) for shape in slots if shape) == [(19,), (64, 19)]
    # Without freezing all of them move.
    other, _ = begin(tmp_path / "tuned", source, BEN19)
    moved = workdir.load_model(other)[0]
    for layer in backbone:
        assert any(
            (a != b).any() for a, b in zip(layer.get_weights(), moved.get_layer(layer.name).get_weights())
        )
    with pytest.raises(UsageError, match="would keep random weights"):
        check(FitConfig(data=Path("d"), workdir=Path("w"), freeze_backbone=True))


def test_ranks_begin_alike_and_going_on_asks_for_the_first_weights_no_more(source, tmp_path):
    shards.write(tmp_path / "shards", {"train": 16, "val": 2}, features=FEATURES)
    moving = tmp_path / "moving"
    source.rename(moving)
    flags = ["--init", str(moving), "--freeze-backbone", "--epochs", "1", "--sync-batchnorm"]
    try:
        done = fit(tmp_path / "shards", tmp_path / "run", *flags, ranks=2)
        backbone = workdir.load_model(moving)[0]
    finally:
        moving.rename(source)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begins with") == 1
    ours = workdir.load_model(tmp_path / "run", "last")[0]
    for layer in transfer.backbone(backbone):
        for one, same in zip(layer.get_weights(), ours.get_layer(layer.name).get_weights()):
            np.testing.assert_array_equal(one, same, layer.name)
    # The source is not where it was.
    kept = (tmp_path / "run" / workdir.INIT).read_bytes()
    again = fit(tmp_path / "shards", tmp_path / "run", *flags, "--resume", ranks=2)
    assert again.returncode == 0, again.stderr
    assert (again.stdout.count("begins with"), again.stdout.count("resuming at step 2")) == (0, 1)
    assert (tmp_path / "run" / workdir.INIT).read_bytes() == kept
    lost = fit(tmp_path / "shards", tmp_path / "lost", *flags, "--resume", ranks=2)
    assert lost.returncode != 0
    assert [line for line in lost.stderr.splitlines() if "no such run or file" in line and "error" in line]
    assert not (tmp_path / "lost").exists()
