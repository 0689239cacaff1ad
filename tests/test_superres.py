"""Super-resolution: the network by hand, untrained and trained, as first layers, killed and resumed, on scenes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jeoparda_tf import fit, models, segment
from jeoparda_tf import superres as front
from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.bigearthnet.nomenclature import BEN19, CLC43
from jeoparda_tf.models import inputs, transfer
from jeoparda_tf.models.spec import ModelSpec, check_data
from jeoparda_tf.models.superres import Network, packed, sharpened
from jeoparda_tf.models.superres_spec import SuperRes
from jeoparda_tf.records import Patch
from jeoparda_tf.segment import SegmentConfig
from jeoparda_tf.stack import tf
from jeoparda_tf.training import superres as training
from jeoparda_tf.training import workdir
from jeoparda_tf.training.superres_config import SuperResConfig
from tests import shards
from tfrecords_tools import manifest
from tfrecords_tools.errors import DataError, StoppedError, UsageError

pytestmark = pytest.mark.tensorflow

RANDOM = np.random.default_rng(0)
KNOWN = SuperRes(
    bands.S2_FEATURES,
    {b: (1000.0 + 10 * i, 300.0 + i) for i, b in enumerate(bands.S2_BANDS)},
    filters=8,
    blocks=2,
)
QUICK = ["--filters", "16", "--blocks", "1", "--batch", "8", "--steps", "60", "--checkpoint-every", "30"]


def spec(choice: tuple[str, ...], **settings) -> ModelSpec:
    names = bands.choose(choice)
    features = [f for f in (*bands.S2_FEATURES, bands.S1_FEATURE) if set(f.band_names) & set(names)]
    known = settings.get("superres")
    features += [f for f in (known.inputs(names) if known else ()) if f not in features]
    statistics = {band: (900.0 + 7 * i, 250.0 + 3 * i) for i, band in enumerate(names)}
    ordered = tuple(sorted(features, key=lambda f: (f.gsd, f.name != "s2_10m")))
    return ModelSpec("tiny", names, ordered, CLC43, statistics, **settings)


def patch(of: ModelSpec) -> dict[str, np.ndarray]:
    return {f.name: RANDOM.integers(0, 4000, (2, *f.shape)).astype(np.float32) for f in of.features}


def seen(of: ModelSpec) -> tf.keras.Model:
    arrays, image = inputs.image(of)
    return tf.keras.Model(arrays, image)


def spoilt(layers) -> None:
    """Gives the last convolutions weights, so that the networks say something."""
    for layer in layers:
        if layer.name.startswith("superres") and layer.name.endswith("_out"):
            layer.set_weights([RANDOM.normal(0, 0.05, w.shape) for w in layer.get_weights()])


@pytest.mark.parametrize("choice", [("all",), ("B12", "VV", "B02", "B01")])
def test_an_untrained_network_is_bicubic_exactly(choice):
    ours, theirs = spec(choice, upsample="superres", superres=KNOWN), spec(choice, upsample="bicubic")
    x = patch(ours)
    expected = seen(theirs)({f.name: x[f.name] for f in theirs.features}).numpy()
    np.testing.assert_array_equal(seen(ours)(x), expected)


def test_bands_are_sharpened_in_the_order_and_statistics_of_the_classifier():
    of = spec(("B12", "B02", "B01", "B05"), upsample="superres", superres=KNOWN)
    assert [f.name for f in of.features] == ["s2_10m", "s2_20m", "s2_60m"]
    model = seen(of)
    spoilt(model.layers)
    x = patch(of)
    found = model(x).numpy()
    arrays = {f.gsd: x[f.name] for f in of.features}
    for gsd, names in ((20, ("B12", "B05")), (60, ("B01",))):
        network = Network(KNOWN, gsd)
        network.build()
        for layer in network.layers:
            layer.set_weights(model.get_layer(layer.name).get_weights())
        bicubic, ours = (image.numpy() for image in sharpened(network, arrays))
        for name in names:
            mean, std = of.statistics[name]
            band = KNOWN.bands(gsd).index(name)
            expected = (ours[..., band] - mean) / std
            np.testing.assert_allclose(found[..., of.bands.index(name)], expected, atol=2e-3)
            assert np.abs(ours - bicubic)[..., band].max() > 10


def test_the_network_is_one_written_out_by_hand():
    network = Network(KNOWN, 60)
    network.build()
    for layer in network.layers:
        layer.set_weights([RANDOM.normal(0, 0.1, w.shape).astype(np.float32) for w in layer.get_weights()])
    arrays = {f.gsd: RANDOM.integers(0, 4000, (1, *f.shape)).astype(np.float32) for f in bands.S2_FEATURES}
    layers = []
    for feature in bands.S2_FEATURES:
        mean, std = np.array([KNOWN.statistics[band] for band in feature.band_names]).T
        size = (120, 120)
        layers.append(tf.image.resize((arrays[feature.gsd] - mean) / std, size, "bicubic", antialias=True))
    weights = {layer.name[len("superres60_") :]: layer.get_weights() for layer in network.layers}

    def conv(x, name):
        return tf.nn.conv2d(x, weights[name][0], 1, "SAME") + weights[name][1]

    x = tf.nn.relu(conv(tf.concat([tf.cast(layer, tf.float32) for layer in layers], -1), "in"))
    for block in (1, 2):
        x = x + conv(tf.nn.relu(conv(x, f"block{block}_1")), f"block{block}_2")
    np.testing.assert_allclose(network(arrays), conv(x, "out"), atol=2e-3)
    assert sorted(weights) == ["block1_1", "block1_2", "block2_1", "block2_2", "in", "out"]


def test_networks_are_frozen_unless_asked_and_absent_where_no_band_needs_them():
    def names(choice, **changes):
        known = dataclasses.replace(KNOWN, **changes)
        model = models.build(spec(choice, upsample="superres", superres=known))
        found = (
            {weight.name.split("_")[0] for weight in model.trainable_weights},
            {layer.name.split("_")[0] for layer in model.layers if layer.weights},
        )
        return [{name for name in part if name.startswith("superres")} for part in found]

    assert names(("all",)) == [set(), {"superres20", "superres60"}]
    of = spec(("all",), upsample="superres", superres=KNOWN)
    assert not {"superres20_in", "logits"} & {layer.name for layer in transfer.backbone(models.build(of))}
    assert names(("B05",), trainable=True) == [{"superres20"}, {"superres20"}]


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_half_precision_keeps_the_enlarged_bands_whole(precision):
    of = spec(("all",), upsample="superres", superres=KNOWN, precision=precision)
    model = models.build(of)
    assert model.get_layer("superres20_in").compute_dtype == precision.replace("mixed_", "")
    image = tf.keras.Model(model.inputs, model.get_layer("bands").output)
    x = patch(of)
    np.testing.assert_array_equal(image(x), seen(spec(("all",), upsample="bicubic"))(x))


def test_specs_survive_json():
    of = spec(("all",), upsample="superres", superres=dataclasses.replace(KNOWN, sha256="ab", trainable=True))
    assert ModelSpec.from_json(of.to_json()) == of
    assert spec(("B05",), upsample="superres", superres=KNOWN).input_bands == (
        "B05",
        *bands.S2_BANDS[:4],
        *(band for band in KNOWN.bands(20) if band != "B05"),
    )


def learnable(count: int, first: int) -> list[Patch]:
    """Coarse bands are means of the 10 m bands under their pixels: all that they lack stands in the guides."""
    made = []
    for number in range(first, first + count):
        blocks = RANDOM.uniform(300, 3000, (24, 24, 4))
        fine = np.kron(blocks, np.ones((5, 5, 1))) + RANDOM.normal(0, 200, (120, 120, 4))
        fine = np.clip(fine, 1, None)
        mixed = np.concatenate([fine, fine[..., ::-1]], -1)
        arrays = {"s2_10m": fine.astype(np.uint16)}
        for gsd, many in ((20, 6), (60, 2)):
            side, factor = 1200 // gsd, gsd // 10
            means = mixed[..., :many].reshape(side, factor, side, factor, many).mean((1, 3))
            arrays[f"s2_{gsd}m"] = means.astype(np.uint16)
        labels = np.zeros(19, np.int64)
        labels[number % 19] = 1
        made.append(Patch(f"S2A_MSIL2A_20170613T101031_{number}_1", labels, arrays))
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shards"
    shards.write_patches(
        folder,
        {"train": learnable(16, 0), "val": learnable(5, 100), "test": learnable(4, 200)},
        nomenclature=BEN19,
    )
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "networks"
    front.main(["--data", str(data), "-o", str(folder), *QUICK])
    return folder


def test_training_learns_what_the_guides_tell(trained):
    scores = json.loads((trained / "scores.json").read_text())
    assert {split: part["patches"] for split, part in scores["splits"].items()} == {"val": 5, "test": 4}
    for part in scores["splits"].values():
        assert set(part["bands"]) == set(bands.S2_BANDS) - {"B02", "B03", "B04", "B08"}
        for band, row in part["bands"].items():
            ours, theirs = row["superres"], row["bicubic"]
            assert ours["rmse"] < 0.85 * theirs["rmse"], (band, row)
            assert ours["sre"] > theirs["sre"] + 1
            assert ours["uiq"] > theirs["uiq"]
    assert scores["unit"].startswith("digital numbers")
    assert (trained / "superres.png").read_bytes().startswith(b"\x89PNG")
    history = (trained / "history.csv").read_text().splitlines()
    assert history[0] == "step,learning_rate,loss,val_rmse_20m,val_rmse_60m"
    assert [line.split(",")[0] for line in history[1:]] == ["30", "60"]


def test_bicubic_is_scored_as_tensorflow_enlarges(data, trained):
    from tfrecords_tools.reader import Reader

    scores = json.loads((trained / "scores.json").read_text())["splits"]["test"]["bands"]
    reader = Reader(data, "test")
    truth = np.stack([reader[i]["s2_20m"] for i in range(4)]).astype(np.float32)
    ndimage = pytest.importorskip("scipy.ndimage")
    low = ndimage.gaussian_filter(truth.astype(np.float64), (0, 0.5, 0.5, 0), mode="reflect")
    low = low.reshape(4, 30, 2, 30, 2, 6).mean((2, 4))
    image = tf.image.resize(low, (60, 60), "bicubic", antialias=True).numpy()
    rmse = np.sqrt(np.square(image - truth).mean((0, 1, 2)))
    assert [scores[band]["bicubic"]["rmse"] for band in KNOWN.bands(20)] == pytest.approx(rmse, rel=1e-4)


def test_a_training_that_is_stopped_goes_on_to_the_same_weights(data, tmp_path, monkeypatch):
    def config(name: str, **settings) -> SuperResConfig:
        fixed = {"filters": 4, "blocks": 1, "batch": 3, "steps": 8, "checkpoint_every": 5}
        return SuperResConfig(data=data, workdir=tmp_path / name, **{**fixed, **settings})

    whole, _ = training.train(config("whole"))
    real, steps = training._step, []

    def killed(run):
        one = real(run)

        def step(*args):
            if len(steps) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            steps.append(args)
            return one(*args)

        return step

    monkeypatch.setattr(training, "_step", killed)
    with pytest.raises(StoppedError, match="saved at step 3 of 8") as stopped:
        training.train(config("cut"))
    assert stopped.value.exit_code == 75
    with pytest.raises(UsageError, match="holds a training already"):
        training.train(config("cut"))
    with pytest.raises(UsageError, match="filters was 4, now 5"):
        training.train(config("cut", filters=5, resume=True))
    again, networks = training.train(config("cut", resume=True))
    assert again.sha256 == whole.sha256 == packed(list(networks.values()))[1]
    assert len(steps) == 3 + 5
    (tmp_path / "cut" / "weights.npz").write_bytes(b"")
    with pytest.raises(DataError, match="has changed since it was written"):
        training.load(tmp_path / "cut")


def test_scoring_alone_gives_the_same_scores(data, trained):
    front.main(["--data", str(data), "-o", str(trained), "--evaluate", "--splits", "test"])
    alone = json.loads((trained / "scores-shards.json").read_text())["splits"]["test"]
    assert alone == json.loads((trained / "scores.json").read_text())["splits"]["test"]
    assert (trained / "superres-shards.png").is_file()


@pytest.fixture(scope="module")
def run(data, trained, tmp_path_factory) -> Path:
    """A classifier behind a copy of the networks that is gone afterwards."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(trained, folder / "networks")
    flags = [
        "--data",
        str(data),
        "--workdir",
        str(folder / "run"),
        "--model",
        "tiny",
        "--batch",
        "8",
        "--epochs",
        "1",
    ]
    flags += ["--upsample", "superres", "--superres", str(folder / "networks"), "--warmup-epochs", "0"]
    fit.main([*flags, "--bands", "B05", "B03", "B09"])
    shutil.rmtree(folder / "networks")
    return folder / "run"


def test_a_run_holds_the_networks_and_leaves_them_as_they_were(run, trained, data):
    model, of, _ = workdir.load_model(run)
    known, networks = training.load(trained)
    assert of.superres == known
    check_data(of, manifest.read(data), data)
    for network in networks.values():
        for layer in network.layers:
            for ours, theirs in zip(model.get_layer(layer.name).get_weights(), layer.get_weights()):
                np.testing.assert_array_equal(ours, theirs)


def test_exports_hold_the_networks(run, tmp_path):
    from jeoparda_tf.export import ExportConfig, export

    model, of, _ = workdir.load_model(run)
    folder = export(ExportConfig(workdir=run, out=tmp_path / "exported"))
    x = {name: array.astype(np.uint16) for name, array in patch(of).items()}
    served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    found = served(**{name: tf.constant(array) for name, array in x.items()})["scores"]
    np.testing.assert_allclose(found, model(x), atol=1e-5)


def test_scenes_are_mapped_with_the_bands_that_the_networks_look_at(run, tmp_path):
    import rasterio

    transform = rasterio.Affine(10, 0, 300_000, 0, -10, 5_000_040)
    numbers = RANDOM.integers(1, 4000, (12, 180, 150)).astype(np.uint16)
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", width=150, height=180, count=12, dtype="uint16", crs="EPSG:32633",
        transform=transform,
    ) as file:  # fmt: skip
        file.write(numbers)
    config = SegmentConfig(
        tmp_path / "scene.tif", run, tmp_path / "map.tif", stride="8", bands=bands.S2_BANDS
    )
    segment.segment(config)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.shape == (180, 150)
        assert file.read(1).min() >= 1
    few = dataclasses.replace(config, bands=("B05", "B03", "B09"))
    with pytest.raises(UsageError, match="needs band B02, B04, B08, B06"):
        segment.segment(few)


def refused(*flags: str, command=fit.main) -> str:
    with pytest.raises((UsageError, DataError)) as refusal:
        command(list(flags))
    return str(refusal.value)


def test_what_does_not_fit_is_said(data, trained, run, tmp_path, monkeypatch):
    into = ["--data", str(data), "--workdir", str(tmp_path / "a"), "--model", "tiny", "--batch", "8"]
    both = ["--upsample", "superres", "--superres", str(trained)]
    assert "go together" in refused(*into, "--upsample", "superres")
    assert "go together" in refused(*into, "--superres", str(trained))
    assert "none of the bands B04 B03 B02 is coarser" in refused(*into, *both, "--bands", "rgb")
    assert "kbranch" in refused(*into, *both, "--model", "kbranch")
    assert "no trained super-resolution" in refused(*into, *both[:3], str(data))
    other = shards.write(tmp_path / "rgb", {"train": 4, "test": 1}, features=bands.S2_FEATURES[:1])
    assert "B05" not in other.bands
    flags = ["--data", str(tmp_path / "rgb"), "-o", str(tmp_path / "b")]
    assert "no band B05" in refused(*flags, command=front.main)
    assert "--steps is 0" in refused(*flags, "--steps", "0", command=front.main)
    with monkeypatch.context() as launched:
        launched.setenv("HOROVOD_SIZE", "2")
        assert "in one process" in refused(*flags, command=front.main)
    spoiled = json.loads((trained / "superres.json").read_text())
    shutil.copytree(trained, tmp_path / "others")
    (tmp_path / "others" / "superres.json").write_text(json.dumps({**spoiled, "origin": "elsewhere"}))
    again = ["--data", str(data), "--workdir", str(run), "--model", "tiny", "--batch", "8", "--epochs", "1"]
    again += ["--warmup-epochs", "0", "--bands", "B05", "B03", "B09", "--resume", "--upsample", "superres"]
    assert "not the super-resolution networks" in refused(*again, "--superres", str(tmp_path / "others"))


def test_damaged_shards_are_named(data, trained, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(data, damaged)
    shard = next(damaged.glob("test-*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[5000] ^= 1
    shard.write_bytes(content)
    flags = ["--data", str(damaged), "-o", str(trained), "--evaluate", "--splits", "test"]
    assert f"tfrecords_tools.verify {damaged}" in refused(*flags, command=front.main)


def test_help_does_not_wait_for_tensorflow():
    script = (
        "import sys\nfrom jeoparda_tf import superres\n"
        "try:\n    superres.main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'tensorflow', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: python -m jeoparda_tf.superres")
