"""Trains and scores every row of a table of settings, one after the other, and sets them side by side.

python -m jeoparda_tf.study jobs/studies/ladder.yaml OUT --from-eurosat EuroSAT_RGB.tar
python -m jeoparda_tf.study TABLE.yaml OUT --data SHARDS

The same command goes on where it was interrupted: finished runs are skipped, an unfinished one is resumed. Each
command is printed before it runs.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from tfrecords_tools import cli, locks, manifest
from tfrecords_tools.cli import option
from tfrecords_tools.errors import DataError, PeerError, StoppedError, UsageError

from .scoring import results
from .training import studies, workdir
from .training.config import FitConfig, check, differences
from .training.studies import Row, Study

SHARDS, SMALL, RUNS, SPEED = "shards", "small", "runs", "speed"
# Of --speed: the first epoch has the start-up in it, the second is measured.
_SPEED_EPOCHS = 2


@dataclass(frozen=True)
class StudyConfig:
    """Which table, on what, where to."""

    table: Path = option("YAML file: what is common to all rows, and what each row changes", positional=True)
    out: Path = option("folder of the study: runs, tables, pictures", positional=True)
    data: Optional[Path] = option("directory of shards to train and score on", None)
    from_eurosat: Optional[Path] = option(
        "instead: tar or folder of EuroSAT's RGB images; mosaics of them are made and converted in OUT", None
    )
    rows: tuple[str, ...] = option(
        "train these rows only, and compare all that are done by then; the default is all", (), nargs="+"
    )
    launcher: str = option("what to put before `fit` and `evaluate`, as 'horovodrun -np 2'", "")
    speed: bool = option(
        "train each row for two epochs more, with nothing else on the machine, and take images/s from there",
        False,
    )


def study(config: StudyConfig) -> Path:
    """Makes the data, trains, scores and compares, whatever is not there yet.

    Returns:
        the folder of the study.

    Raises:
        UsageError: table, data or settings do not fit; a run of that name has other settings.
        StoppedError: a signal has asked a run to end; its work is saved.
        PeerError: a command failed, and has said why.
        DataError: a command was killed.
    """
    table = studies.read(config.table)
    launcher = _words(config.launcher)
    if (config.data is None) == (config.from_eurosat is None):
        raise UsageError("give either --data or --from-eurosat")
    unknown = set(config.rows) - {row.name for row in table.rows}
    if unknown:
        raise UsageError(f"no row {', '.join(sorted(unknown))}", path=config.table)
    chosen = [row for row in table.rows if not config.rows or row.name in config.rows]
    for row in table.rows:
        _write_settings(config.out, row)
    with locks.held(config.out / "data.lock", "another study"):
        whole, train = _data(config, table)
    for row, seed in table.runs:
        if row in chosen:
            _run(config.out, row, seed, whole, train, launcher)
    if config.speed:
        for row in chosen:
            _measure_speed(config.out, row, train, launcher)
    _compare(config.out, table)
    return config.out


def _words(launcher: str) -> list[str]:
    try:
        return shlex.split(launcher)
    except ValueError as error:
        raise UsageError(f"--launcher {launcher}: {error}") from error


def run_folder(out: Path, row: Row, seed: int) -> Path:
    """Returns the workdir of a run."""
    return out / RUNS / f"{row.name}-seed{seed}"


def _write_settings(out: Path, row: Row) -> None:
    """Writes `OUT/settings/ROW.yaml` for `fit --config`, after it was seen to be such a file."""
    path = _settings(out, row)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # JSON is YAML.
        workdir.write_text(path, json.dumps(dict(row.settings), indent=1) + "\n")
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", path=path) from error
    check(_fit_config(out, row, 0))


def _fit_config(out: Path, row: Row, seed: int) -> FitConfig:
    """Returns what `fit` makes of a row's settings."""
    flags = ("--data", "-", "--workdir", "-", "--seed", str(seed))
    return cli.parse(FitConfig, f"row {row.name}", "", ["--config", str(_settings(out, row)), *flags])


def _settings(out: Path, row: Row) -> Path:
    return out / "settings" / f"{row.name}.yaml"


def _data(config: StudyConfig, table: Study) -> tuple[Path, Path]:
    """Returns the shards to score on, and those to train on."""
    whole = config.data or config.out / SHARDS
    _check_data(config.out, train_fraction=table.train_fraction)
    if config.from_eurosat:
        _check_data(config.out, mosaics=table.mosaics)
    if config.from_eurosat and not (whole / manifest.FILE_NAME).is_file():
        archive = config.out / "archive"
        if not archive.exists():
            _call(
                "sample",
                archive,
                "--from-eurosat",
                config.from_eurosat,
                "--layout",
                "v2",
                "--patches",
                table.mosaics,
            )
        _call("convert", archive, whole, "--reference-maps")
    shards = [shard.sha256 for split in manifest.read(whole).splits.values() for shard in split.shards]
    _check_data(config.out, shards=hashlib.sha256("".join(shards).encode()).hexdigest()[:16])
    if table.train_fraction == 1:
        return whole, whole
    small = config.out / SMALL
    if not (small / manifest.FILE_NAME).is_file():
        # Left from an interrupted call, which cannot go on.
        shutil.rmtree(small, ignore_errors=True)
        _call("split", whole, small, "--fraction", table.train_fraction, package="tfrecords_tools")
    return whole, small


def _check_data(out: Path, **now: Any) -> None:
    """Notes in `OUT/data.json` what the study is on; a UsageError where it was on something else."""
    path = out / "data.json"
    before = json.loads(path.read_text()) if path.is_file() else {}
    changed = [
        f"{name} was {before[name]}, now {now[name]}"
        for name in now
        if before.get(name, now[name]) != now[name]
    ]
    if changed:
        problem = f"this study is on other data: {'; '.join(changed)}"
        raise UsageError(
            problem, path=out, remedy="take another OUT; what is done here would be mixed with it"
        )
    workdir.write_text(path, json.dumps({**before, **now}, indent=1) + "\n")


def _run(out: Path, row: Row, seed: int, whole: Path, train: Path, launcher: Sequence[str]) -> None:
    """Trains and scores one row with one seed, as far as that was not done before."""
    folder = run_folder(out, row, seed)
    if not _finished(folder, json.loads(_fit_config(out, row, seed).to_json())):
        what = ("--config", _settings(out, row), "--data", train, "--workdir", folder, "--seed", seed)
        _call("fit", *what, "--resume", launcher=launcher)
    scored = folder / results.FOLDER
    where = ("--workdir", folder, "--data", whole)
    if not (scored / "test.json").is_file():
        _call("evaluate", *where, "--tune-thresholds", launcher=launcher)
    if row.masks is None:
        return
    flags = (*where, "--masks", *(f"--{key.replace('_', '-')}={value}" for key, value in row.masks.items()))
    if not (scored / "test-masks.json").is_file():
        _call("evaluate", *flags, launcher=launcher)
    if not (scored / "test-masks-fine-tuned.json").is_file():
        _call("evaluate", *flags, "--fine-tune-masks", launcher=launcher)


def _measure_speed(out: Path, row: Row, train: Path, launcher: Sequence[str]) -> None:
    folder = out / SPEED / row.name
    flags = ("--config", _settings(out, row), "--data", train, "--workdir", folder)
    shutil.rmtree(folder, ignore_errors=True)
    short = ("--epochs", _SPEED_EPOCHS, "--warmup-epochs", 1, "--keep", 1)
    _call("fit", *flags, *short, launcher=launcher)


def _finished(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the run has all its epochs; a UsageError where it is one of other settings."""
    if not (folder / workdir.HISTORY).is_file():
        return False
    before = workdir.read_config(folder)
    changed = differences(before, settings)
    if changed:
        problem = f"this run had other settings: {'; '.join(changed)}"
        raise UsageError(
            problem, path=folder, remedy="remove it, name the row otherwise, or take another OUT"
        )
    with (folder / workdir.HISTORY).open(newline="") as file:
        rows = list(csv.DictReader(file))
    # The row of an epoch is there before its checkpoint: killed between the two, a run is not at its end.
    steps = len(rows) >= before["epochs"] and int(rows[-1]["step"])
    return bool(steps) and (folder / workdir.CHECKPOINTS / f"step-{steps:08d}").is_dir()


def _call(command: str, *flags: Any, package: str = "jeoparda_tf", launcher: Sequence[str] = ()) -> None:
    """Runs one of our commands; a signal that asks for an end is passed on, and waited for.

    Raises:
        StoppedError: it was asked to end.
        PeerError: it failed, and has said why.
        DataError: it was killed, before it could say why.
    """
    words = [*launcher, sys.executable, "-m", f"{package}.{command}", *map(str, flags)]
    print(f"$ {shlex.join(words)}", flush=True)
    horovodrun = bool(launcher) and Path(launcher[0]).name == "horovodrun"
    asked: list[int] = []

    def pass_on(number: int, _: Any) -> None:
        asked.append(number)
        # horovodrun would die of SIGUSR1, and its ranks would go on alone.
        child.send_signal(signal.SIGTERM if horovodrun else number)

    with subprocess.Popen(words) as child:
        # Ctrl-C reaches both from the terminal; the others reach this process alone.
        before: dict[int, Any] = {
            number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGUSR1)
        }
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = child.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    if code in (75, 130) or (code and asked):  # horovodrun has a code of its own where its ranks end with 75
        raise StoppedError(
            "a run was asked to end",
            remedy="the same command goes on from there",
            exit_code=130 if code == 130 else 75,
        )
    if code < 0:
        problem = f"{command} was killed by {signal.Signals(-code).name}"
        raise DataError(problem, remedy="perhaps for want of memory; the same command goes on from there")
    if code:
        raise PeerError(code)


def _compare(out: Path, table: Study) -> None:
    """Prints the table; writes it as JSON and Markdown, and the pictures."""
    from .figures import study as figures

    runs = [(row, seed, run_folder(out, row, seed)) for row, seed in table.runs]
    runs = [run for run in runs if (run[2] / results.FOLDER / "test.json").is_file()]
    found = figures.collect(table, runs, {row.name: out / SPEED / row.name for row in table.rows})
    cli.console().print(figures.table(found))
    pictures: Mapping[str, Any] = figures.draw(found)
    try:
        workdir.write_text(out / "results.json", json.dumps(figures.to_json(found), indent=1) + "\n")
        workdir.write_text(out / "results.md", figures.markdown(found))
        for name, picture in pictures.items():
            (out / f"{name}.png").write_bytes(picture.png())
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", path=out) from error
    workdirs = [str(folder) for _, _, folder in runs]
    if len(workdirs) > 1:
        _call("report", "--compare", *workdirs, "-o", out / "comparison")


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Parses the flags, carries the study out, says where the results are."""
    config = cli.parse(StudyConfig, "python -m jeoparda_tf.study", __doc__, argv)
    print(f"study: {study(config)}/results.md")


if __name__ == "__main__":
    cli.run(main)
