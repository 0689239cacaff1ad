"""Command lines: flags, YAML, errors and exit codes; and --help of every tool without heavy imports."""

from __future__ import annotations

import errno
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

import pytest

from tfrecords_tools import cli
from tfrecords_tools.errors import DataError, UsageError


@dataclass(frozen=True)
class Config:
    folder: Path = cli.option("a folder", positional=True)
    rate: float = cli.option("required", group="training")
    kind: Literal["sgd", "adam"] = cli.option("a choice", default="sgd")
    parts: tuple[float, ...] = cli.option("several", default=(0.5, 0.5), nargs="+")
    name: Optional[str] = cli.option("optional", default=None)
    with_maps: bool = cli.option("off by default", default=False)
    augment: bool = cli.option("on by default", default=True)
    out: Optional[Path] = cli.option("with a short name", default=None, short="-o")


def _parse(*argv):
    return cli.parse(Config, "prog", "What it does.", [str(a) for a in argv])


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


def test_defaults():
    assert _parse("x", "--rate", 1) == Config(Path("x"), 1.0)


def test_flags():
    switches = ["--with-maps", "--no-augment"]
    values = ["--rate", "0.1", "--kind", "adam", "--parts", "0.2", "0.3", "0.5", "--name", "n"]
    assert _parse("x", *values, *switches) == Config(
        Path("x"), 0.1, "adam", (0.2, 0.3, 0.5), "n", True, False
    )


def test_a_short_name_is_the_long_one():
    for flag in ("-o", "--out"):
        assert _parse("x", "--rate", 1, flag, "y").out == Path("y")


def test_yaml(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("rate: 0.1\nkind: adam\nparts: [0.2, 0.8]\nname: null\nwith_maps: true\naugment: false\n")
    assert _parse("x", "--config", file) == Config(Path("x"), 0.1, "adam", (0.2, 0.8), None, True, False)
    assert _parse("x", "--config", file, "--rate", 3).rate == 3


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["x"], "rate"),
        (["--rate", "1"], "folder"),
        (["x", "--rate", "1", "--colour", "red"], "--colour"),
        (["x", "--rate", "fast"], "fast"),
        (["x", "--rate", "1", "--kind", "rmsprop"], "rmsprop"),
        (["x", "--rate", "1", "--parts", "0.1", "b"], "parts"),
        (["x", "--rate", "1", "--config", "gone.yaml"], "gone.yaml"),
    ],
)
def test_usage_errors(argv, message, capsys):
    with pytest.raises(UsageError) as caught:
        _parse(*argv)
    assert message in str(caught.value)
    assert "see: prog --help" in str(caught.value)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("text", ["colour: red\nrate: 1\n", "rate: [1\n", "rate: fast\n"])
def test_bad_yaml(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UsageError):
        _parse("x", "--config", tmp_path / "c.yaml")


@pytest.mark.parametrize("variable", ["HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"])
def test_other_ranks_are_silent(monkeypatch, capsys, variable):
    monkeypatch.setenv(variable, "3")
    with pytest.raises(SystemExit) as caught:
        cli.run(lambda: _parse("x", "--colour"))
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", "")


def _fail_with(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "code", "message"),
    [
        (lambda: None, 0, ""),
        (lambda: 1, 1, ""),
        (
            _fail_with(DataError("is broken", path="a", remedy="mend it")),
            1,
            "error: a: is broken\n  mend it\n",
        ),
        (_fail_with(UsageError("no")), 2, "error: no\n"),
        (_fail_with(KeyboardInterrupt()), 130, "interrupted\n"),
        (
            _fail_with(OSError(errno.ENOSPC, "No space left", "f")),
            1,
            "error: [Errno 28] No space left: 'f'\n",
        ),
    ],
)
def test_run(main, code, message, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.run(main)
    assert caught.value.code == code
    assert capsys.readouterr().err == message


def test_faults_of_the_program_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 // 0)


def test_closed_pipe(tmp_path):
    script = "from tfrecords_tools import cli\ndef main():\n    print('x' * 100_000)\ncli.run(main)"
    command = f'"{sys.executable}" -c "{script}" | head -c 1; echo " ${{PIPESTATUS[0]}}"'
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("x 0\n", "")


def test_existing_folder(tmp_path):
    assert cli.existing_folder(tmp_path, "--s1") == tmp_path
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="no such folder for --s1"):
        cli.existing_folder(tmp_path / "gone", "--s1")
    with pytest.raises(UsageError, match="not a folder, but --s1 must be one"):
        cli.existing_folder(tmp_path / "file", "--s1")


@pytest.mark.parametrize("tool", ["show", "verify", "stats", "split", "tfds"])
def test_help_is_light(tool):
    script = (
        f"import sys\nfrom tfrecords_tools import {tool}\n"
        f"try:\n    {tool}.main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'tensorflow', 'matplotlib', 'pyarrow', 'rasterio', 'osgeo'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: python -m tfrecords_tools.{tool}")


def test_commands_end_with_codes(tmp_path):
    for tool, argv, code in (("verify", [tmp_path], 1), ("show", [tmp_path, "--colour"], 2)):
        command = [sys.executable, "-m", f"tfrecords_tools.{tool}", *map(str, argv)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == code
        assert result.stderr.startswith("error: ")
        assert "Traceback" not in result.stderr


def test_help_tells_defaults_but_nothing_of_pythons_types(capsys):
    from jeoparda_tf.conversion.config import ConvertConfig

    with pytest.raises(SystemExit):
        cli.parse(ConvertConfig, "convert", "", ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "of the order of the records and of --split-fractions (default: 0)" in text
    assert "size of a shard in MB, about (default: 128.0)" in text
    for noise in ("type:", "function", "%(", "default: null", "default: False", "SUPPRESS"):
        assert noise not in text
