"""Exported models: run by scripts that do not know this package, they give the scores of the run's model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jeoparda_tf import export
from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.bigearthnet.nomenclature import BEN19
from jeoparda_tf.export import ExportConfig
from tests import shards
from tests.conftest import need_module
from tests.runs import train
from tfrecords_tools.errors import DataError, UsageError

pytestmark = pytest.mark.tensorflow

# What a user of the export would write. `python -I` keeps the repository off the path; a finder that refuses our
# packages proves it.
SCRIPT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jeoparda_tf", "tfrecords_tools"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import numpy as np, tensorflow as tf
inputs = dict(np.load(sys.argv[2]))
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
out = serve(**{name: tf.constant(array) for name, array in inputs.items()})
names = [name.decode() for name in out["names"].numpy()]
np.savez(sys.argv[3], scores=out["scores"].numpy(), names=names)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray], np.ndarray]:
    """A run in half precision on Sentinel-1 and -2 and its export, three patches, and what the run's model says."""
    from jeoparda_tf import models
    from jeoparda_tf.mapping.exporting import in_float32
    from jeoparda_tf.training import workdir

    folder = tmp_path_factory.mktemp("export")
    features = (*bands.S2_FEATURES, bands.S1_FEATURE)
    run = train(folder, "10m", "B05", "B01", "VV", features=features, precision="mixed_bfloat16", dropout=0.3)
    if has_onnx():
        need_module("tf2onnx")
    out = export.export(ExportConfig(workdir=run, out=folder / "out", onnx=has_onnx()))
    model, spec, _ = workdir.load_model(run)
    assert models.build(spec).get_layer("conv1_conv").compute_dtype == "bfloat16"
    arrays = {
        f.name: np.stack([p.arrays[f.name] for p in shards.patches(3, features, 19, 5)]) for f in features
    }
    return out, arrays, in_float32(model, spec)[0](arrays, training=False).numpy()


def has_onnx() -> bool:
    """tf2onnx goes with TensorFlow 2.15 alone."""
    from jeoparda_tf.stack import tf

    return tf.__version__.startswith("2.15")


def test_a_script_without_our_package_gets_scores_and_names_from_raw_numbers(exported, tmp_path):
    out, arrays, expected = exported
    np.savez(tmp_path / "in.npz", **arrays)
    line = [sys.executable, "-I", "-c", SCRIPT, str(out), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        line, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as result:
        assert result["names"].tolist() == list(BEN19.classes)
        np.testing.assert_allclose(result["scores"], expected, atol=1e-5)
    assert expected.std() > 1e-3  # of three patches and 19 classes: not all the same
    assert json.loads((out / "model.json").read_text())["precision"] == "float32"


def test_onnx_computes_what_keras_computes(exported):
    if not has_onnx():
        pytest.skip("tf2onnx is for TensorFlow 2.15 here")
    need_module("onnxruntime")
    import onnxruntime

    out, arrays, expected = exported
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], arrays)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert session.run(["scores"], {name: a[:1] for name, a in arrays.items()})[0].shape == (1, 19)
    assert json.loads(session.get_modelmeta().custom_metadata_map["names"]) == list(BEN19.classes)
    assert {i.name: i.type for i in session.get_inputs()}["s2_10m"] == "tensor(uint16)"


def test_what_is_there_is_not_overwritten_and_no_run_is_named(exported, tmp_path):
    out = exported[0]
    with pytest.raises(UsageError, match="is there already"):
        export.export(ExportConfig(workdir=out.parent / "run", out=out))
    with pytest.raises(UsageError, match="not the workdir of a run"):
        export.export(ExportConfig(workdir=tmp_path, out=tmp_path / "new"))
    assert not list(out.parent.glob("*.unfinished"))


def test_a_full_disk_is_said_and_leaves_nothing(exported, tmp_path, monkeypatch):
    from jeoparda_tf.stack import tf

    run = exported[0].parent / "run"
    left = []

    def full(module, directory, **more):
        left.append(Path(directory))
        (Path(directory) / "saved_model.pb").write_bytes(b"half of it")
        # What TensorFlow raises: no OSError.
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(DataError, match="out: cannot be written: No space left on device"):
        export.export(ExportConfig(workdir=run, out=tmp_path / "out"))
    assert left
    assert not list(tmp_path.iterdir())
