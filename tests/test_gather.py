"""Archives that stream by: compressed, or from standard input; the same bytes as from folders."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jeoparda_tf.conversion import gather
from jeoparda_tf.conversion.run import convert
from tests.archives import v1_name, write_tif
from tests.conftest import REPOSITORY
from tests.conversions import compress, hashes, v1_config, v2_config
from tests.test_tar import pack
from tfrecords_tools.errors import DataError, UsageError


def _data(out: Path) -> dict[str, str]:
    return {name: digest for name, digest in hashes(out).items() if name != "manifest.json"}


def packed(root: Path, name: str, suffix: str) -> Path:
    """Packs a folder of an archive, compressed, so that the files of a patch do not lie together."""
    return compress(pack(root / name, root / f"{name}.tar"), suffix)


@pytest.mark.parametrize(("suffix", "workers", "fractions"), [(".gz", 1, False), (".zst", 2, True)])
def test_v1_same_bytes_as_folders(
    v1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, workers: int, fractions: bool
) -> None:
    split: dict[str, Any] = {"splits": None, "split_fractions": (0.5, 0.25, 0.25)} if fractions else {}
    convert(v1_config(v1, tmp_path / "a", s1=v1 / "BigEarthNet-S1-v1.0", **split))
    s2, s1 = packed(v1, "BigEarthNet-v1.0", suffix), packed(v1, "BigEarthNet-S1-v1.0", suffix)
    flushes = []
    flush = gather._Spills.flush
    monkeypatch.setattr(gather._Spills, "flush", lambda self: (flushes.append(self._taken), flush(self)))
    monkeypatch.setattr(gather, "_LEAST", 1)
    monkeypatch.setattr(gather, "_PROGRAM", 0)
    config = v1_config(v1, tmp_path / "b", archive=s2, s1=s1, workers=workers, memory="0.5MB", **split)
    assert not convert(config).already
    assert len(flushes) > 4
    assert max(flushes) < 500_000
    assert _data(tmp_path / "a") == _data(tmp_path / "b")
    assert len(_data(tmp_path / "a")) > 2
    assert not (tmp_path / "b" / ".conversion").exists()
    s1.write_bytes(s1.read_bytes())
    journal = tmp_path / "b" / ".conversion"
    journal.mkdir()
    (journal / "s2-000.spill").write_bytes(b"left by a kill just after the manifest was written")
    assert convert(config).already  # without another pass
    assert not journal.exists()
    with pytest.raises(UsageError, match="holds a conversion of another archive or with other settings"):
        convert(v1_config(v1, tmp_path / "b", archive=s2, s1=s1, seed=1, **split))


@pytest.mark.parametrize(("suffix", "beside"), [(".zst", False), (".gz", True)])
def test_v2_same_bytes_as_folders(v2: Path, tmp_path: Path, suffix: str, beside: bool) -> None:
    convert(v2_config(v2, tmp_path / "a", s1=v2 / "BigEarthNet-S1", reference_maps=True))
    s2, s1, maps = (
        packed(v2, name, suffix) for name in ("BigEarthNet-S2", "BigEarthNet-S1", "Reference_Maps")
    )
    (v2 / "Reference_Maps").rename(v2 / "elsewhere")
    more: dict[str, Any] = {"reference_maps": True}
    if not beside:
        (tmp_path / "x").mkdir()
        more = {
            "maps": maps.rename(tmp_path / "x" / "maps.tar.zst"),
            "metadata": tmp_path / "x" / "table.parquet",
        }
        (v2 / "metadata.parquet").rename(more["metadata"])
    convert(v2_config(v2, tmp_path / "b", archive=s2, s1=s1, **more))
    assert _data(tmp_path / "a") == _data(tmp_path / "b")


def _command(root: Path, archive: object, out: Path) -> list[str]:
    parts = [
        sys.executable,
        "-m",
        "jeoparda_tf.convert",
        archive,
        out,
        "--splits",
        root,
        "--shards",
        2,
        "--workers",
        1,
    ]
    return [str(part) for part in parts]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_standard_input(v1: Path, tmp_path: Path, suffix: str) -> None:
    convert(v1_config(v1, tmp_path / "a"))
    archive = pack(v1 / "BigEarthNet-v1.0", v1 / "s2.tar")
    archive = compress(archive, suffix) if suffix else archive
    with subprocess.Popen(["cat", archive], stdout=subprocess.PIPE) as cat:
        done = subprocess.run(
            _command(v1, "-", tmp_path / "b"),
            cwd=REPOSITORY,
            stdin=cat.stdout,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert _data(tmp_path / "a") == _data(tmp_path / "b")


@pytest.mark.parametrize("suffix", ["", ".zst"])
def test_sentinel_1_from_standard_input(v1: Path, tmp_path: Path, suffix: str) -> None:
    convert(v1_config(v1, tmp_path / "a", s1=v1 / "BigEarthNet-S1-v1.0"))
    s1 = pack(v1 / "BigEarthNet-S1-v1.0", v1 / "s1.tar")
    s1 = compress(s1, suffix) if suffix else s1
    s2 = packed(v1, "BigEarthNet-v1.0", ".gz") if suffix else v1 / "BigEarthNet-v1.0"
    command = [*_command(v1, s2, tmp_path / "b"), "--s1", "-"]
    with s1.open("rb") as file:
        done = subprocess.run(
            command, cwd=REPOSITORY, stdin=file, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert _data(tmp_path / "a") == _data(tmp_path / "b")
    with pytest.raises(UsageError, match="standard input is one archive, but two are named -"):
        convert(v1_config(v1, tmp_path / "c", archive=Path("-"), s1=Path("-")))


def test_faulty_patches_are_left_out_as_from_folders(v1: Path, tmp_path: Path) -> None:
    folder = v1 / "BigEarthNet-v1.0"
    (folder / v1_name(2) / f"{v1_name(2)}_B03.tif").unlink()
    (folder / v1_name(9) / f"{v1_name(9)}_labels_metadata.json").unlink()
    shutil.rmtree(folder / v1_name(5))  # listed, but not there
    first = convert(v1_config(v1, tmp_path / "a", on_error="skip")).manifest
    archive = packed(v1, "BigEarthNet-v1.0", ".gz")
    with pytest.raises(DataError, match="1 of 13 listed patches are not in it"):
        convert(v1_config(v1, tmp_path / "b", archive=archive))
    second = convert(v1_config(v1, tmp_path / "b", archive=archive, on_error="skip")).manifest
    missing = [f"{v1_name(2)}/{v1_name(2)}_B03.tif", f"{v1_name(9)}/{v1_name(9)}_labels_metadata.json"]
    for out, source in ((tmp_path / "a", folder), (tmp_path / "b", archive)):
        left_out = json.loads((out / "quarantine.json").read_text())
        assert sorted(fault["file"] for fault in left_out) == [f"{source}/{file}" for file in missing]
        assert {fault["reason"] for fault in left_out} == {"missing"}
        (out / "quarantine.json").unlink()
    assert first.excluded == second.excluded
    assert first.excluded == {"in no split list": 1, "listed, but not in the archive": 1, "faulty": 2}
    assert _data(tmp_path / "a") == _data(tmp_path / "b")


def test_force_reads_it_again(v1: Path, tmp_path: Path) -> None:
    archive, out = packed(v1, "BigEarthNet-v1.0", ".zst"), tmp_path / "b"
    convert(v1_config(v1, out, archive=archive))
    convert(v1_config(v1, tmp_path / "a", seed=1))
    again = v1_config(v1, out, archive=archive, seed=1)
    with pytest.raises(UsageError, match="start over here with --force"):
        convert(again)
    assert not convert(replace(again, force=True)).already
    assert _data(tmp_path / "a") == _data(out)
    tif = v1 / "BigEarthNet-v1.0" / v1_name(0) / f"{v1_name(0)}_B01.tif"
    tif.unlink()
    write_tif(tif, np.zeros((20, 20), np.uint16))
    packed(v1, "BigEarthNet-v1.0", ".zst")
    convert(v1_config(v1, tmp_path / "c", seed=1))
    assert not convert(replace(again, force=True)).already
    assert _data(tmp_path / "c") == _data(out) != _data(tmp_path / "a")


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_cut_off(v1: Path, tmp_path: Path, suffix: str, share: float) -> None:
    archive = packed(v1, "BigEarthNet-v1.0", suffix)
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * share)])
    told = (
        rf"BigEarthNet-v1\.0\.tar\{suffix}: .*cut off.*read up to byte [\d,]+ of {int(len(data) * share):,}"
    )
    with pytest.raises(DataError, match=told):
        convert(v1_config(v1, tmp_path / "out", archive=archive))
    assert not list((tmp_path / "out").glob("*.tfrecord"))
    archive.write_bytes(data)  # whole again: the same command takes it from the start
    convert(v1_config(v1, tmp_path / "out", archive=archive))
    convert(v1_config(v1, tmp_path / "a"))
    assert _data(tmp_path / "a") == _data(tmp_path / "out")


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_damaged_byte(v1: Path, tmp_path: Path, suffix: str) -> None:
    archive = packed(v1, "BigEarthNet-v1.0", suffix)
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(DataError, match=r"read up to byte"):
        convert(v1_config(v1, tmp_path / "out", archive=archive))
    assert not list((tmp_path / "out").glob("*.tfrecord"))


def test_what_is_refused(v1: Path, tmp_path: Path) -> None:
    for name, magic, problem in (
        ("x.tar.bz2", b"BZh9", "compressed with bzip2"),
        ("x.tar.gz", b"garbage", "not a folder"),
        ("y.tar.gz", b"\x1f\x8bgarbage", "cut off or damaged"),
    ):
        (tmp_path / name).write_bytes(magic * 200)
        with pytest.raises((UsageError, DataError), match=rf"{name}: {problem}"):
            convert(v1_config(v1, tmp_path / "out", archive=tmp_path / name))
    archive = packed(v1, "BigEarthNet-v1.0", ".gz")
    with pytest.raises(UsageError, match="a compressed archive has one reader, not tasks"):
        convert(v1_config(v1, tmp_path / "out", archive=archive, task="0/2"))
    with pytest.raises(UsageError, match="--memory much: not a size"):
        convert(v1_config(v1, tmp_path / "out", archive=archive, memory="much"))


def test_a_pass_that_has_ended_is_not_made_again(
    v1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(v1_config(v1, tmp_path / "a"))
    archive = packed(v1, "BigEarthNet-v1.0", ".gz")
    config = v1_config(v1, tmp_path / "b", archive=archive)
    with monkeypatch.context() as patch:
        patch.setattr("jeoparda_tf.conversion.run.make_plan", _stop)
        with pytest.raises(KeyboardInterrupt):
            convert(config)
    with monkeypatch.context() as patch:
        patch.setattr(gather, "_take", None)
        convert(config)
    assert _data(tmp_path / "a") == _data(tmp_path / "b")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off"])
def test_an_index_that_cannot_be_read_is_made_again(
    v1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    config = v1_config(v1, tmp_path / "out", archive=packed(v1, "BigEarthNet-v1.0", ".gz"))
    with monkeypatch.context() as patch:
        patch.setattr("jeoparda_tf.conversion.run.make_plan", _stop)
        with pytest.raises(KeyboardInterrupt):
            convert(config)
    (tmp_path / "out" / ".conversion" / "s2.npz").write_bytes(content)
    convert(config)
    convert(v1_config(v1, tmp_path / "a"))
    assert _data(tmp_path / "a") == _data(tmp_path / "out")


_PEAK = """
import sys
from pathlib import Path
from jeoparda_tf.conversion.config import ConvertConfig
from jeoparda_tf.conversion.gather import gather
from jeoparda_tf.conversion.output import Output

archive, out, memory = sys.argv[1:]
config = ConvertConfig(Path(archive), Path(out), split_fractions=(1, 0, 0), memory=memory)
print(len(gather(config, Output(config.out))["s2"]))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is told by Linux alone")
def test_a_pass_keeps_within_its_memory(tmp_path: Path) -> None:
    patches, megabytes = 600, 120
    with tarfile.open(tmp_path / "s2.tar.gz", "w:gz", compresslevel=1) as archive:
        for patch, file in itertools.product(range(patches), range(12)):
            member = tarfile.TarInfo(f"{v1_name(patch)}/{v1_name(patch)}_B{file:02d}.tif")
            member.size = 29_000
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    command = (sys.executable, "-c", _PEAK, tmp_path / "s2.tar.gz", tmp_path / "out", f"{megabytes}MB")
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found, peak = map(int, done.stdout.split())
    assert found == patches
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.spill")) == patches * 12 * 29_000  # 209 MB
    assert peak * 1024 < megabytes * 1e6


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _wait_for(out: Path, pattern: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not list(out.glob(pattern)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def test_killed_in_the_pass_and_after_it(v1: Path, tmp_path: Path) -> None:
    convert(v1_config(v1, tmp_path / "a"))
    archive, out = pack(v1 / "BigEarthNet-v1.0", v1 / "s2.tar"), tmp_path / "b"
    data, command = archive.read_bytes(), [*_command(v1, "-", out), "--memory", "1MB"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(data[: len(data) * 3 // 4])
        process.stdin.flush()
        _wait_for(out, ".conversion/*.spill", process)
        process.kill()
    assert list(out.glob(".conversion/*.spill"))
    assert not list(out.glob(".conversion/s2.archive"))
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=archive.open("rb")) as process:
        _wait_for(out, ".conversion/s2.archive", process)
        process.kill()
    done = subprocess.run(command, cwd=REPOSITORY, input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert _data(tmp_path / "a") == _data(out)
