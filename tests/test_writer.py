"""Shards are whole or not there: after errors, kills and on a full disk."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tfrecords_tools import tfrecord
from tfrecords_tools.errors import DataError
from tfrecords_tools.manifest import Shard
from tfrecords_tools.writer import ShardWriter

RECORDS = [b"one", b"", b"three" * 50_000]


def test_entry_is_that_of_the_file(tmp_path):
    path = tmp_path / "a.tfrecord"
    with ShardWriter(path) as writer:
        assert [writer.write(record) for record in RECORDS] == [0, 1, 2]
        assert not path.exists()
    content = path.read_bytes()
    assert writer.shard == Shard("a.tfrecord", 3, len(content), hashlib.sha256(content).hexdigest())
    assert list(tfrecord.read_records(path)) == RECORDS
    assert list(tmp_path.iterdir()) == [path]


def test_replaces_an_older_shard(tmp_path):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"old")
    with ShardWriter(path) as writer:
        writer.write(b"new")
        assert path.read_bytes() == b"old"
    assert list(tfrecord.read_records(path)) == [b"new"]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_exception_leaves_no_file(tmp_path, kind):
    def fail():
        with ShardWriter(tmp_path / "a.tfrecord") as writer:
            writer.write(b"x")
            raise kind

    with pytest.raises(kind):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_kill_leaves_only_a_temporary_file(tmp_path):
    script = (
        "import sys, pathlib, time\n"
        "from tfrecords_tools.writer import ShardWriter\n"
        "with ShardWriter(pathlib.Path(sys.argv[1])) as writer:\n"
        "    writer.write(bytes(3_000_000))\n"
        "    print('written', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a.tfrecord")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tfrecord.tmp"]


def test_folder_is_missing(tmp_path):
    with (
        pytest.raises(DataError, match="cannot be written: No such file or directory") as caught,
        ShardWriter(tmp_path / "gone" / "a.tfrecord"),
    ):
        pass
    assert caught.value.path == str(tmp_path / "gone" / "a.tfrecord")


def test_full_disk_when_syncing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(DataError, match="No space left on device"),
        ShardWriter(tmp_path / "a.tfrecord") as writer,
    ):
        writer.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_when_writing(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    writer = ShardWriter(tmp_path / "a.tfrecord")
    (tmp_path / "a.tfrecord.tmp").symlink_to("/dev/full")
    with pytest.raises(DataError, match="No space left on device"), writer:
        writer.write(bytes(2_000_000))
    assert list(tmp_path.iterdir()) == []
