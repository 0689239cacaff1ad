"""Training by the command a user types: alone, over ranks, killed, resumed, and given nonsense."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests import shards
from tests.conftest import REPOSITORY, need_engine
from tfrecords_tools import cli, manifest
from tfrecords_tools.errors import UsageError
from tfrecords_tools.tfrecord import decode_example, read_records

pytestmark = pytest.mark.tensorflow

FIT = [sys.executable, "-m", "jeoparda_tf.fit"]
QUICK = [
    "--model",
    "tiny",
    "--bands",
    "rgb",
    "--batch",
    "4",
    "--learning-rate",
    "0.05",
    "--dropout",
    "0.3",
    "--mixup",
    "0.2",
]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("data") / "shards"
    shards.write(directory, {"train": 67, "val": 13, "test": 9}, shards=3)
    return directory


def launcher(ranks: int) -> list[str]:
    return [need_engine("horovodrun"), "--gloo", "-np", str(ranks)] if ranks else []


def fit(
    data: Path, workdir: Path, *flags: str, ranks: int = 0, script: list[str] = FIT
) -> subprocess.CompletedProcess[str]:
    command = [*launcher(ranks), *script, "--data", str(data), "--workdir", str(workdir), *QUICK, *flags]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)


def history(workdir: Path) -> list[dict[str, str]]:
    with (workdir / "history.csv").open() as file:
        return list(csv.DictReader(file))


def same_history(one: Path, other: Path) -> None:
    rows = [
        [
            [float(row[name]) for name in row if name not in ("seconds", "images_per_second")]
            for row in history(workdir)
        ]
        for workdir in (one, other)
    ]
    assert len(rows[0]) == len(rows[1]) > 0
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-3, atol=1e-5)


def test_one_process_trains_and_writes_what_it_should(data, tmp_path):
    done = fit(data, tmp_path / "run", "--epochs", "2", "--keep", "1")
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.splitlines()[-1]
        == f"next: python -m jeoparda_tf.evaluate --workdir {tmp_path / 'run'} --split test"
    )
    rows = history(tmp_path / "run")
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "16"), ("2", "32")]
    # One warm-up epoch to 0.05, then constant until 60 % and 85 % of 32 steps.
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([0.05, 0.0005])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["mixup"] == 0.2
    assert "workdir" not in config
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["ranks"] == 1
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    again = fit(data, tmp_path / "run", "--epochs", "2", "--keep", "1")
    assert (again.returncode, "holds a run already" in again.stderr) == (2, True)
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    assert fit(moved, tmp_path / "run", "--epochs", "2", "--resume").returncode == 0
    shards.write(tmp_path / "others", {"train": 67, "val": 13, "test": 9}, shards=3, seed=1)
    strange = fit(tmp_path / "others", tmp_path / "run", "--epochs", "2", "--resume")
    assert (strange.returncode, "not the one that this run began with" in strange.stderr) == (2, True)
    other = fit(data, tmp_path / "run", "--epochs", "3", "--resume")
    assert (other.returncode, "epochs was 2, now 3" in other.stderr) == (2, True)


def test_repeated_records_lengthen_every_epoch_alike(data, tmp_path):
    from jeoparda_tf.input import sampling

    done = fit(data, tmp_path / "run", "--epochs", "2", "--repeat-threshold", "0.9")
    assert done.returncode == 0, done.stderr
    files = sorted(data.glob("train-*"))
    stored = [
        decode_example(record, manifest.read(data).features) for f in files for record in read_records(f)
    ]
    labels = np.array([record["labels"] for record in stored])
    share = labels.mean(0)
    factors = [max(np.sqrt(0.9 / share[c]) for c in np.flatnonzero(row)) for row in labels]
    steps = int(sum(max(1, factor) for factor in factors)) // 4
    assert steps > 30
    assert [int(row["step"]) for row in history(tmp_path / "run")] == [steps, 2 * steps]
    np.testing.assert_allclose(sampling.repeat_factors(labels, 0.9), factors)


def kill_at_random(command: list[str], checkpoints: Path, moments: random.Random) -> bool:
    """Starts a command and kills all its processes a while after its next checkpoint; False if it ended before that."""
    before = set(checkpoints.glob("step-*"))
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        while process.poll() is None and set(checkpoints.glob("step-*")) <= before:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 1.0))
        running = process.poll() is None
        if running:
            os.killpg(process.pid, signal.SIGKILL)
    return running


@pytest.mark.parametrize("ranks", [0, 2])
def test_killed_and_resumed_ends_with_the_history_of_an_undisturbed_run(data, tmp_path, ranks):
    flags = ["--epochs", "6", "--checkpoint-every", "3"]
    assert fit(data, tmp_path / "whole", *flags, ranks=ranks).returncode == 0
    moments, workdir = random.Random(4), tmp_path / "killed"
    command = [
        *launcher(ranks),
        *FIT,
        "--data",
        str(data),
        "--workdir",
        str(workdir),
        *QUICK,
        *flags,
        "--resume",
    ]
    kills = sum(kill_at_random(command, workdir / "checkpoints", moments) for _ in range(3))
    assert kills >= 1
    assert fit(data, workdir, *flags, "--resume", ranks=ranks).returncode == 0
    same_history(tmp_path / "whole", workdir)


def test_eight_ranks_and_mpi(data, tmp_path):
    done = fit(data, tmp_path / "eight", "--epochs", "1", "--batch", "2", ranks=8)
    assert done.returncode == 0, done.stderr
    assert history(tmp_path / "eight")[0]["step"] == "4"
    assert done.stdout.count("epoch 1/1") == 1
    mpirun = [need_engine("mpirun"), "--allow-run-as-root", "--oversubscribe", "-np", "2"]
    flags = ["--data", str(data), *QUICK, "--epochs", "1"]
    over_mpi = subprocess.run(
        [*mpirun, *FIT, "--workdir", str(tmp_path / "mpi"), *flags],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=300,
        check=False,
    )
    assert over_mpi.returncode == 0, over_mpi.stderr
    assert fit(data, tmp_path / "gloo", "--epochs", "1", ranks=2).returncode == 0
    same_history(tmp_path / "mpi", tmp_path / "gloo")


def our_errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "error:" in line and "horovodrun" not in line]


def test_nan_ends_all_ranks_with_one_message(data, tmp_path):
    begin = time.monotonic()
    done = fit(
        data,
        tmp_path / "run",
        "--epochs",
        "2",
        "--learning-rate",
        "1e30",
        "--warmup-epochs",
        "0",
        "--optimizer",
        "sgd",
        ranks=2,
    )
    assert done.returncode != 0
    assert len(our_errors(done)) == 1, done.stderr
    assert "lower --learning-rate" in done.stderr
    assert time.monotonic() - begin < 60  # start-up included: it must not hang until a stall limit


def test_a_damaged_shard_ends_all_ranks_with_one_message(data, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(data, broken)
    victim = sorted(broken.glob("train-*"))[0]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))
    done = fit(broken, tmp_path / "run", "--epochs", "1", ranks=2)
    assert done.returncode != 0
    assert len(our_errors(done)) == 1, done.stderr
    assert "tfrecords_tools.verify" in done.stderr


@pytest.mark.parametrize(
    ("flags", "message", "code"),
    [
        (["--batch", "1000"], "67 training records are fewer than 1 ranks x batch 1000", 2),
        (["--bands", "VV"], "the data has no band VV", 2),
        (["--bands", "B10"], "unknown bands: B10", 2),
        (["--epochs", "0"], "--epochs is 0", 2),
        (["--model", "resnet51"], "invalid choice: 'resnet51'", 2),
        (["--epochz", "1"], "epochz", 2),
    ],
)
def test_nonsense_is_refused(data, tmp_path, flags, message, code):
    done = fit(data, tmp_path / "run", *flags)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3


def test_other_data_is_refused(data, tmp_path):
    assert "no such directory" in fit(tmp_path / "nowhere", tmp_path / "run").stderr
    other = tmp_path / "newer"
    shutil.copytree(data, other)
    content = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**content, "format_version": 9}))
    done = fit(other, tmp_path / "run")
    assert (done.returncode, "format version 9" in done.stderr) == (1, True)


def test_two_ranks_say_a_usage_error_once(data, tmp_path):
    done = fit(data, tmp_path / "run", "--batch", "1000", ranks=2)
    assert done.returncode != 0
    assert len(our_errors(done)) == 1, done.stderr


def test_a_config_file_fills_flags_and_refuses_unknown_keys(tmp_path):
    from jeoparda_tf.training.config import FitConfig

    file = tmp_path / "c.yaml"
    file.write_text("bands: [B04, B03]\nepochs: 7\ndecay_at: [0.5]\nflips: false\n")
    argv = ["--data", "d", "--workdir", "w", "--config", str(file), "--epochs", "9"]
    config = cli.parse(FitConfig, "fit", "", argv)
    assert (config.bands, config.epochs, config.decay_at, config.flips) == (("B04", "B03"), 9, (0.5,), False)
    file.write_text("epoch: 7\n")
    with pytest.raises(UsageError, match="epoch"):
        cli.parse(FitConfig, "fit", "", argv)


@pytest.mark.parametrize(
    "given", [{}, {"init": "imagenet"}, {"init": "RUN", "superres": Path("S"), "stage": Path("D")}]
)
def test_config_json_of_a_run_is_a_config_file_of_the_same_settings(tmp_path, given):
    from jeoparda_tf.training.config import FitConfig

    config = FitConfig(data=Path("d"), workdir=tmp_path, **given)
    (tmp_path / "config.json").write_text(config.to_json())
    argv = ["--config", str(tmp_path / "config.json"), "--workdir", str(tmp_path)]
    again = cli.parse(FitConfig, "fit", "", argv)
    assert again.to_json() == config.to_json()
    # What was not given must not become the folder that the command is called in.
    for name in ("stage", "superres", "init"):
        assert (getattr(again, name) is None) == (name not in given)


def test_help_does_not_import_tensorflow():
    code = (
        "import atexit, sys; from jeoparda_tf import fit\n"
        "atexit.register(lambda: print('tensorflow' in sys.modules, file=sys.stderr))\n"
        "fit.main(['--help'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=True
    )
    assert "--workdir" in done.stdout
    assert done.stderr.strip() == "False"


def test_settings_out_of_range_are_named():
    import dataclasses

    from jeoparda_tf.training.config import FitConfig, check

    good = FitConfig(data=Path("d"), workdir=Path("w"))
    check(good)
    for name, value in [
        ("dropout", 1.0),
        ("momentum", 1.5),
        ("mixup", -1),
        ("decay_at", (0.8, 0.2)),
        ("warmup_epochs", 99),
        ("seed", -1),
        ("seed", 2**32),
    ]:
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}"):
            check(dataclasses.replace(good, **{name: value}))


def test_a_run_from_before_a_setting_existed_had_its_default() -> None:
    from jeoparda_tf.training import loop
    from jeoparda_tf.training.config import FitConfig

    now = json.loads(FitConfig(data=Path("D"), workdir=Path("W")).to_json())
    before = {name: value for name, value in now.items() if name not in ("augment", "decay_at")}
    loop._check_same(before, now, Path("config.json"))
    with pytest.raises(UsageError, match="this run had other settings: augment was none, now heavy"):
        loop._check_same(before, {**now, "augment": "heavy"}, Path("config.json"))
