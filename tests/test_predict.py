"""Prediction on patch folders: the same scores as from shards, names, JSON lines, and what stops it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jeoparda_tf import predict
from jeoparda_tf.bigearthnet import bands, raster
from jeoparda_tf.bigearthnet.nomenclature import BEN19
from jeoparda_tf.predict import PredictConfig, Prediction
from jeoparda_tf.scoring import results
from tests import shards
from tfrecords_tools.errors import DataError, UsageError

pytestmark = pytest.mark.tensorflow


def fit(folder: Path, *names: str, features=bands.S2_FEATURES) -> Path:
    from jeoparda_tf.training import loop
    from jeoparda_tf.training.config import FitConfig

    data, workdir = folder / "shards", folder / "run"
    shards.write(data, {"train": 8}, features=features)
    loop.train(
        FitConfig(data=data, workdir=workdir, bands=names, model="tiny", batch=8, epochs=1, warmup_epochs=0.0)
    )
    return workdir


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return fit(tmp_path_factory.mktemp("run"), "rgb", "B01")


def write_patch(folder: Path, seed: int) -> Path:
    """Writes the twelve GeoTIFFs of a patch of random pixels."""
    import rasterio

    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for feature in bands.S2_FEATURES:
        rows, columns, _ = feature.shape
        for band in feature.band_names:
            profile = {
                "driver": "GTiff",
                "width": columns,
                "height": rows,
                "count": 1,
                "dtype": "uint16",
                "crs": "EPSG:32633",
            }
            transform = rasterio.Affine(feature.gsd, 0, 300_000, 0, -feature.gsd, 5_000_000)
            with rasterio.open(
                raster.file_of(str(folder), folder.name, band), "w", transform=transform, **profile
            ) as file:
                file.write(generator.integers(1, 10_000, (rows, columns)).astype(np.uint16), 1)
    return folder


@pytest.fixture(scope="module")
def patches(tmp_path_factory) -> list[Path]:
    return [write_patch(tmp_path_factory.mktemp("archive") / f"patch_{n}", n) for n in range(3)]


def predicted(patches, run, **flags) -> list[Prediction]:
    return list(predict.predict(PredictConfig(patches=tuple(patches), workdir=run, **flags)))


def test_scores_are_the_models_on_the_pixels_of_the_files(patches, run):
    import rasterio

    from jeoparda_tf.training import workdir

    found = predicted(patches, run)
    assert [prediction.patch for prediction in found] == ["patch_0", "patch_1", "patch_2"]
    model, spec, _ = workdir.load_model(run, "last")
    arrays = {f.name: np.zeros((3, *f.shape), f.dtype) for f in spec.features}
    for number, folder in enumerate(patches):
        for feature in spec.features:
            for index, band in enumerate(feature.band_names):
                with rasterio.open(folder / f"{folder.name}_{band}.tif") as file:
                    arrays[feature.name][number, ..., index] = file.read(1)
    expected = model(arrays, training=False).numpy()
    got = [[prediction.scores[name] for name in BEN19.classes] for prediction in found]
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_names_are_those_from_the_threshold_on_or_the_top(patches, run):
    (one,) = predicted(patches[:1], run, threshold=0.5)
    assert one.labels == sorted((n for n, s in one.scores.items() if s >= 0.5), key=lambda n: -one.scores[n])
    assert predicted(patches[:1], run, threshold=1.0)[0].labels == []
    assert len(predicted(patches[:1], run, threshold=0.0)[0].labels) == 19
    top = predicted(patches[:1], run, threshold=1.0, top=3)[0]
    assert top.labels == sorted(top.scores, key=lambda n: -top.scores[n])[:3]


def test_tuned_thresholds_hold_class_by_class(patches, run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    with pytest.raises(UsageError, match="no tuned thresholds yet"):
        predicted(patches[:1], copy, thresholds="tuned")
    cuts = np.ones(19)
    cuts[[2, 5]] = 0.0
    results.write_thresholds(copy, {"step": 1}, BEN19.classes, cuts)
    assert set(predicted(patches[:1], copy, thresholds="tuned")[0].labels) == {
        BEN19.classes[2],
        BEN19.classes[5],
    }
    results.write_thresholds(copy, {"step": 2}, BEN19.classes, cuts)
    with pytest.raises(UsageError, match="tuned for step 2, not 1"):
        predicted(patches[:1], copy, thresholds="tuned")


def test_a_missing_band_stops_after_the_patches_before_it(patches, run, tmp_path, capsys):
    broken = tmp_path / patches[1].name
    shutil.copytree(patches[1], broken)
    file = broken / f"{broken.name}_B03.tif"
    file.unlink()
    with pytest.raises(DataError, match="missing") as error:
        predict.main([str(patches[0]), str(broken), str(patches[2]), "--workdir", str(run), "--json-lines"])
    assert error.value.path == str(file)
    printed, note = capsys.readouterr()
    (line,) = printed.splitlines()
    content = json.loads(line)
    assert set(content) == {"patch", "labels", "scores"}
    assert content["patch"] == "patch_0"
    assert list(content["scores"]) == list(BEN19.classes)
    assert shards.ORIGIN in note


def test_bands_the_model_does_not_take_may_be_missing(patches, run, tmp_path):
    part = tmp_path / patches[0].name
    part.mkdir()
    for feature in (f for f in bands.S2_FEATURES if f.gsd != 20):
        for band in feature.band_names:
            name = f"{part.name}_{band}.tif"
            shutil.copy(patches[0] / name, part / name)
    assert predicted([part], run)[0].scores == pytest.approx(predicted(patches[:1], run)[0].scores, abs=1e-6)


def test_more_patches_than_a_batch_come_in_order(patches, run, monkeypatch):
    monkeypatch.setattr(predict, "_BATCH", 2)
    order = [patches[n] for n in (2, 0, 1, 1, 2)]
    found = predicted(order, run)
    assert [prediction.patch for prediction in found] == [folder.name for folder in order]
    assert found[1].scores != pytest.approx(found[2].scores, abs=1e-6)
    assert found[0].scores == pytest.approx(found[4].scores, abs=1e-6)


def test_what_does_not_fit_together_is_a_usage_error(patches, run, tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        predicted([tmp_path / "nothing"], run)
    with pytest.raises(UsageError, match="takes no Sentinel-1"):
        predicted(patches[:1], run, s1=(patches[0],))
    with pytest.raises(UsageError, match="--threshold is 2"):
        predicted(patches[:1], run, threshold=2.0)
    with pytest.raises(UsageError, match="workdir"):
        predict.main([str(patches[0]), "--workdir", str(tmp_path)])


def test_real_patches_with_sentinel_1(shared_data, tmp_path):
    run = fit(tmp_path, "B04", "VV", "VH", features=bands.features(s1=True))
    v1 = shared_data / "bigearthnet-v1"
    pairs = []
    for folder in sorted((v1 / "BigEarthNet-S1-v1.0").iterdir()):
        meta = json.loads((folder / f"{folder.name}_labels_metadata.json").read_text())
        pairs.append((v1 / "BigEarthNet-v1.0" / meta["corresponding_s2_patch"], folder))
    found = predicted([s2 for s2, _ in pairs], run, s1=tuple(s1 for _, s1 in pairs))
    assert len({prediction.scores["Pastures"] for prediction in found}) == len(pairs) > 1
    with pytest.raises(UsageError, match="takes Sentinel-1"):
        predicted([pairs[0][0]], run)
    with pytest.raises(UsageError, match="1 folders of Sentinel-1 for 2 patches"):
        predicted([s2 for s2, _ in pairs[:2]], run, s1=(pairs[0][1],))
