"""What a study takes for done when it is called again: not what a kill left, nor runs of other settings or data."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jeoparda_tf import study
from jeoparda_tf.figures import study as figures
from jeoparda_tf.training import studies
from jeoparda_tf.training.config import FitConfig
from tests import shards
from tests.conftest import REPOSITORY
from tfrecords_tools.errors import DataError, UsageError

SETTINGS = {"model": "tiny", "epochs": 2, "learning_rate": 0.001}


@pytest.fixture
def data(tmp_path) -> Path:
    shards.write(tmp_path / "data", {"train": 6, "test": 2})
    return tmp_path / "data"


@pytest.fixture
def calls(monkeypatch) -> list[list[str]]:
    """The commands of a study, none of which is run; nothing is compared."""
    made: list[list[str]] = []
    monkeypatch.setattr(study, "_call", lambda *words, **_: made.append(list(map(str, words))))
    monkeypatch.setattr(study, "_compare", lambda out, table: None)
    return made


def _table(tmp_path: Path, row: str, more: str = "") -> str:
    path = tmp_path / "table.yaml"
    path.write_text(f"{more}\nrows: {{one: {row}}}")
    return str(path)


def _trained(tmp_path: Path, *, saved: int = 2, **changes) -> Path:
    """Makes a run of SETTINGS whose history has two epochs of three steps, with checkpoints of the first `saved`."""
    folder = tmp_path / "out" / "runs" / "one-seed0"
    folder.mkdir(parents=True, exist_ok=True)
    config = dataclasses.replace(FitConfig(Path("data"), folder), **{**SETTINGS, **changes})
    (folder / "config.json").write_text(config.to_json())
    (folder / "history.csv").write_text("epoch,step\n1,3\n2,6\n")
    for epoch in range(1, saved + 1):
        (folder / "checkpoints" / f"step-{3 * epoch:08d}").mkdir(parents=True, exist_ok=True)
    return folder


def _names(calls: list[list[str]]) -> list[str]:
    return [words[0] for words in calls]


def test_a_run_killed_before_its_last_checkpoint_goes_on(data, tmp_path, calls):
    flags = [_table(tmp_path, json.dumps(SETTINGS)), str(tmp_path / "out"), "--data", str(data)]
    _trained(tmp_path, saved=1)
    study.main(flags)
    assert _names(calls) == ["fit", "evaluate"]
    _trained(tmp_path, saved=2)
    calls.clear()
    study.main(flags)
    assert _names(calls) == ["evaluate"]


def test_a_setting_that_the_row_has_no_more_makes_another_run(data, tmp_path, calls):
    _trained(tmp_path, dropout=0.5)
    with pytest.raises(UsageError, match=r"one-seed0.*dropout was 0\.5, now 0\.3"):
        study.main([_table(tmp_path, json.dumps(SETTINGS)), str(tmp_path / "out"), "--data", str(data)])


def test_settings_are_compared_as_fit_reads_them(data, tmp_path, calls, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _trained(tmp_path, init=str(tmp_path / "before"))
    # A number that YAML takes for text, and a path from here.
    row = "{model: tiny, epochs: 2, learning_rate: 1e-3, init: before, stall_limit: 5}"
    study.main([_table(tmp_path, row), str(tmp_path / "out"), "--data", str(data)])
    assert _names(calls) == ["evaluate"]


def test_runs_on_other_data_are_not_mixed(data, tmp_path, calls):
    out = str(tmp_path / "out")
    table = _table(tmp_path, json.dumps(SETTINGS))
    study.main([table, out, "--data", str(data)])
    data.rename(tmp_path / "moved")
    study.main([table, out, "--data", str(tmp_path / "moved")])
    shards.write(data, {"train": 7, "test": 2})
    with pytest.raises(UsageError, match=r"other data: shards was [0-9a-f]{16}, now [0-9a-f]{16}"):
        study.main([table, out, "--data", str(data)])
    _table(tmp_path, json.dumps(SETTINGS), "train_fraction: 0.5")
    with pytest.raises(UsageError, match=r"train_fraction was 1\.0, now 0\.5"):
        study.main([table, out, "--data", str(tmp_path / "moved")])


def test_a_launcher_that_is_no_command_line_is_refused(tmp_path, calls):
    flags = [_table(tmp_path, "{}"), str(tmp_path / "out"), "--data", "shards", "--launcher", "mpirun 'x"]
    with pytest.raises(UsageError, match="--launcher mpirun 'x: No closing quotation"):
        study.main(flags)


def test_a_command_that_was_killed_is_named(tmp_path, monkeypatch):
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "__init__.py").touch()
    (tmp_path / "words" / "end.py").write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DataError, match=f"end was killed by {signal.SIGKILL.name}"):
        study._call("end", package="words")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_horovodrun_is_asked_as_it_understands(tmp_path, number):
    """It has no handler of SIGUSR1, and ends with 1 where its ranks have saved and ended with 75."""
    launcher = tmp_path / "horovodrun"
    launcher.write_text(
        f"#!/bin/sh\ntrap 'touch {tmp_path}/saved; exit 1' TERM\ntouch {tmp_path}/ready\n"
        "for second in $(seq 60); do sleep 1; done\n"
    )
    launcher.chmod(0o755)
    script = (
        "from jeoparda_tf import study; from tfrecords_tools import cli\n"
        f"cli.run(lambda: study._call('fit', launcher=[{str(launcher)!r}]))"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stderr=subprocess.PIPE) as process:
        while not (tmp_path / "ready").exists():
            time.sleep(0.05)
            assert process.poll() is None
        time.sleep(0.2)  # the handlers come just after the launcher
        process.send_signal(number)
        assert process.wait(60) == 75
        assert b"stopped: a run was asked to end" in process.stderr.read()
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize(("lines", "measured"), [(None, False), (0, False), (1, False), (2, True)])
def test_a_run_for_speed_counts_from_its_second_epoch_on(tmp_path, lines, measured):
    folder = tmp_path / "speed"
    if lines is not None:
        folder.mkdir()
    if lines:
        names = "epoch,learning_rate,loss,val_loss,val_f1_macro,val_f1_micro,images_per_second"
        (folder / "history.csv").write_text("\n".join([names, *["1,1,1,1,1,1,9"] * lines]) + "\n")
    assert figures._measured(folder) is measured


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("title: 2024-13-45\nrows: {a: {}}", "cannot be read: month must be in"),
        ("rows: {a: {seeds: [1, 0, 1]}}", r"\[1, 0, 1\] has a seed twice"),
    ],
)
def test_tables_that_cannot_be_meant_so_are_refused(tmp_path, text, problem):
    (tmp_path / "table.yaml").write_text(text)
    with pytest.raises(UsageError, match=problem):
        studies.read(tmp_path / "table.yaml")
