"""A whole study on a few mosaics of noise: its table says what the runs' evaluation files say, and it goes on."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jeoparda_tf import study
from jeoparda_tf.scoring.scores import score
from jeoparda_tf.training import workdir
from tests import archives
from tfrecords_tools.errors import PeerError, StoppedError, UsageError
from tfrecords_tools.manifest import read

TABLE = """
title: Two rows
mosaics: 30
train_fraction: 0.5
curves: optimizer
common: {model: tiny, bands: [rgb], epochs: 2, batch: 3, flips: false}
rows:
  plain: {masks: {stride: 32, mask_epochs: 1}, seeds: [0, 1]}
  adam: {optimizer: adam, batch: 4, accumulate: 2}
"""


class Calls:
    """Stands for the processes that a study starts: does the same in this one, and keeps the commands."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []

    def __call__(self, command, *flags, package="jeoparda_tf", launcher=()):
        self.commands.append([*launcher, command, *map(str, flags)])
        importlib.import_module(f"{package}.{command}").main(list(map(str, flags)))

    @property
    def names(self) -> list[str]:
        return [command[0] for command in self.commands]


def _flags(folder: Path) -> list[str]:
    return [str(folder / "table.yaml"), str(folder / "out"), "--from-eurosat", str(folder / "images")]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Folder of a finished study, and its commands."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "table.yaml").write_text(TABLE)
    archives.eurosat_images(folder / "images", 4)
    with pytest.MonkeyPatch.context() as patch:
        calls = Calls()
        patch.setattr(study, "_call", calls)
        study.main([*_flags(folder), "--rows", "adam"])
        part = json.loads((folder / "out" / "results.json").read_text())
        assert [run["row"] for run in part["runs"]] == ["adam"]
        assert "2 of 3 runs are not done yet." in part["conditions"]
        study.main(_flags(folder))
    return folder, calls


@pytest.mark.tensorflow
def test_figures_of_the_table_are_those_of_the_evaluations(done):
    out = done[0] / "out"
    found = json.loads((out / "results.json").read_text())
    assert [(run["row"], run["seed"]) for run in found["runs"]] == [("plain", 0), ("plain", 1), ("adam", 0)]
    assert not any("not done yet" in condition for condition in found["conditions"])
    for run in found["runs"]:
        folder = out / "runs" / f"{run['row']}-seed{run['seed']}"
        evaluated = json.loads((folder / "evaluation" / "test.json").read_text())
        assert evaluated["thresholds"] == "tuned on val"
        averages = evaluated["averages"]
        assert run["scores"]["micro_tuned"] == averages["micro"]["f1"]
        assert run["scores"]["macro_tuned"] == averages["macro_occurring"]["f1"]
        with np.load(folder / "evaluation" / "test.npz") as arrays:
            plain = score(arrays["labels"], arrays["scores"], 0.5)
        assert run["scores"]["micro"] == plain.micro.f1
        assert run["scores"]["macro"] == plain.macro_occurring.f1
        masks = {}
        if run["row"] == "plain":
            for head, name in (("classifier", "test-masks"), ("reference maps", "test-masks-fine-tuned")):
                content = json.loads((folder / "evaluation" / f"{name}.json").read_text())
                masks[head] = [content["mean_iou"], content["pixel_accuracy"]]
        assert run["masks"] == masks
        rates = np.genfromtxt(folder / "history.csv", delimiter=",", names=True)["images_per_second"]
        assert run["images_per_second"] == np.median(rates)
        assert run["step_patches"] == (8 if run["row"] == "adam" else 3)
        assert run["curve"] == ("adam" if run["row"] == "adam" else "sgd")


@pytest.mark.tensorflow
def test_a_row_has_the_mean_and_the_spread_of_its_seeds(done):
    out = done[0] / "out"
    runs = json.loads((out / "results.json").read_text())["runs"]
    lines = (out / "results.md").read_text().splitlines()
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in lines if line.startswith("| ")}
    micro = [run["scores"]["micro"] for run in runs if run["row"] == "plain"]
    assert cells["plain"][2:4] == ["2", f"{sum(micro) / 2:.3f} ({min(micro):.3f} to {max(micro):.3f})"]
    assert cells["adam"][1:4] == [
        "optimizer adam, batch 4, accumulate 2",
        "1",
        f"{runs[2]['scores']['micro']:.3f}",
    ]
    iou = runs[0]["masks"]["reference maps"][0]
    assert f"| plain, seed 0 | reference maps | {iou:.3f} |" in "\n".join(lines)
    assert "Not BigEarthNet: mosaics of EuroSAT images." in "\n".join(lines)
    for name in ("results", "curves"):
        picture = np.asarray(Image.open(out / f"{name}.png").convert("RGB"))
        assert (picture == (0x00, 0x72, 0xB2)).all(-1).sum() > 50


@pytest.mark.tensorflow
def test_half_of_the_training_mosaics_and_all_of_the_test(done):
    out = done[0] / "out"
    whole, small = read(out / "shards"), read(out / "small")
    assert small.splits["train"].records == round(whole.splits["train"].records / 2)
    runs = out / "runs" / "plain-seed0"
    assert (
        json.loads((runs / "evaluation" / "test.json").read_text())["records"] == whole.splits["test"].records
    )
    assert workdir.read_config(runs)["data"] == str((out / "small").resolve())


@pytest.mark.tensorflow
def test_what_is_done_is_skipped_and_the_unfinished_goes_on(done, monkeypatch, capsys):
    folder, first = done
    assert first.names[:3] == ["sample", "convert", "split"]
    assert first.names.count("fit") == 3
    fine_tuned = next(words for words in first.commands if "--fine-tune-masks" in words)
    assert {"--stride=32", "--mask-epochs=1"} < set(fine_tuned)
    calls = Calls()
    monkeypatch.setattr(study, "_call", calls)
    before = (folder / "out" / "results.json").read_bytes()
    study.main(_flags(folder))
    assert calls.names == ["report"]
    assert (folder / "out" / "results.json").read_bytes() == before
    # As if it had been stopped after the first epoch, before it was scored.
    run = folder / "out" / "runs" / "adam-seed0"
    history = (run / "history.csv").read_text().splitlines(keepends=True)
    (run / "history.csv").write_text("".join(history[:2]))
    (run / "evaluation" / "test.json").unlink()
    calls.commands.clear()
    capsys.readouterr()
    study.main(_flags(folder))
    assert calls.names == ["fit", "evaluate", "report"]
    assert "resuming at step" in capsys.readouterr().out


@pytest.mark.tensorflow
def test_a_run_of_other_settings_is_not_taken_for_this_one(done, monkeypatch):
    folder, _ = done
    monkeypatch.setattr(study, "_call", Calls())
    (folder / "other.yaml").write_text(TABLE.replace("accumulate: 2", "accumulate: 1"))
    with pytest.raises(UsageError, match=r"adam-seed0.*accumulate was 2, now 1"):
        study.main([str(folder / "other.yaml"), *_flags(folder)[1:]])


def test_wrong_settings_are_refused_before_anything_runs(tmp_path, monkeypatch):
    calls = Calls()
    monkeypatch.setattr(study, "_call", calls)
    path = tmp_path / "table.yaml"
    path.write_text("rows: {good: {}, bad: {dropout: 2.0}}")
    with pytest.raises(UsageError, match=r"--dropout is 2\.0"):
        study.main([str(path), str(tmp_path / "out"), "--data", "shards"])
    path.write_text("rows: {bad: {model: resnet19}}")
    with pytest.raises(UsageError, match="resnet19"):
        study.main([str(path), str(tmp_path / "out"), "--data", "shards"])
    path.write_text("rows: {good: {}}")
    with pytest.raises(UsageError, match="no row best"):
        study.main([str(path), str(tmp_path / "out"), "--data", "shards", "--rows", "good", "best"])
    with pytest.raises(UsageError, match="either --data or --from-eurosat"):
        study.main([str(path), str(tmp_path / "out")])
    assert not calls.commands


def test_speed_is_measured_by_runs_of_their_own(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(study, "_call", lambda *words, **more: commands.append((list(map(str, words)), more)))
    monkeypatch.setattr(study, "_compare", lambda out, table: None)
    monkeypatch.setattr(study, "_run", lambda *arguments: None)
    monkeypatch.setattr(study, "_data", lambda config, table: (config.data, config.data))
    path = tmp_path / "table.yaml"
    path.write_text(TABLE.replace("train_fraction: 0.5", "train_fraction: 1"))
    flags = [
        str(path),
        str(tmp_path / "out"),
        "--data",
        "shards",
        "--speed",
        "--launcher",
        "horovodrun -np 2",
    ]
    study.main(flags)
    assert [words[0] for words, _ in commands] == ["fit", "fit"]
    words, more = commands[1]
    assert words[words.index("--workdir") + 1] == str(tmp_path / "out" / "speed" / "adam")
    assert words[words.index("--epochs") + 1] == "2"
    assert more["launcher"] == ["horovodrun", "-np", "2"]


def test_a_command_that_fails_or_is_stopped_ends_the_study(tmp_path, monkeypatch):
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "__init__.py").touch()
    (tmp_path / "words" / "end.py").write_text("import sys; sys.exit(int(sys.argv[1]))")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    study._call("end", 0, package="words")
    with pytest.raises(PeerError) as failed:
        study._call("end", 2, package="words")
    assert failed.value.exit_code == 2
    with pytest.raises(StoppedError, match="the same command goes on") as stopped:
        study._call("end", 75, package="words")
    assert stopped.value.exit_code == 75


def test_a_signal_reaches_the_command_and_is_waited_for(tmp_path, monkeypatch):
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "__init__.py").touch()
    (tmp_path / "words" / "wait.py").write_text(
        "import pathlib, signal, sys, time\n"
        "def save(number, frame):\n"
        "    time.sleep(0.5)\n"
        "    pathlib.Path(sys.argv[1], 'saved').touch()\n"
        "    sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "pathlib.Path(sys.argv[1], 'ready').touch()\n"
        "time.sleep(60)\n"
    )
    script = (
        "import sys; from jeoparda_tf import study; from tfrecords_tools import cli\n"
        f"cli.run(lambda: study._call('wait', {str(tmp_path)!r}, package='words'))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    with subprocess.Popen([sys.executable, "-c", script], env=environment) as process:
        while not (tmp_path / "ready").exists():
            time.sleep(0.05)
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 75
    assert (tmp_path / "saved").exists()
