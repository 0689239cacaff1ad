"""Checkpoints: whole or not at all."""

from __future__ import annotations

import json

import pytest

from jeoparda_tf.stack import tf
from jeoparda_tf.training import checkpoints
from tfrecords_tools.errors import DataError

pytestmark = pytest.mark.tensorflow


def save(folder, step: int, score: float | None = None, value: float = 0.0):
    return checkpoints.save(folder, tf.train.Checkpoint(x=tf.Variable(value)), {"step": step, "score": score})


def test_what_was_saved_comes_back(tmp_path):
    save(tmp_path, 7, 0.5, value=3.25)
    found, state = checkpoints.last_whole(tmp_path)
    assert (found.name, state["step"], state["score"]) == ("step-00000007", 7, 0.5)
    variable = tf.Variable(0.0)
    checkpoints.restore(found, tf.train.Checkpoint(x=variable))
    assert float(variable) == 3.25
    with pytest.raises(DataError, match="does not fit"):
        checkpoints.restore(found, tf.train.Checkpoint(x=tf.Variable([1.0, 2.0])))
    with pytest.raises(DataError, match="does not fit"):
        checkpoints.restore(found, tf.train.Checkpoint(y=tf.Variable(0.0)))


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    for step, score in enumerate([0.1, 0.9, 0.9, None, 0.3], start=1):
        save(tmp_path, step, score)
    assert checkpoints.best(tmp_path).name == "step-00000002"
    checkpoints.prune(tmp_path, keep=2)
    assert [path.name[-1] for path in checkpoints.all_of(tmp_path)] == ["2", "4", "5"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "no state", "state cut"])
def test_a_damaged_checkpoint_is_passed_over_with_a_word(tmp_path, damage, capsys):
    save(tmp_path, 1)
    last = save(tmp_path, 2)
    data, state = last / "variables.data-00000-of-00001", last / "state.json"
    if damage == "truncated":
        data.write_bytes(data.read_bytes()[:-1])
    elif damage == "flipped":
        content = bytearray(data.read_bytes())
        content[1] ^= 4
        data.write_bytes(bytes(content))
    elif damage == "missing":
        data.unlink()
    elif damage == "no state":
        state.unlink()
    else:
        state.write_text(state.read_text()[:-2])
    assert checkpoints.last_whole(tmp_path)[1]["step"] == 1
    assert "step-00000002: not a whole checkpoint" in capsys.readouterr().err
    save(tmp_path, 3, 0.4)
    save(tmp_path, 4, 0.2)
    checkpoints.prune(tmp_path, keep=1)
    assert [path.name[-1] for path in checkpoints.all_of(tmp_path)] == ["3", "4"]


@pytest.mark.parametrize("again", [False, True], ids=["pruned", "saved again"])
def test_killed_while_one_is_removed_leaves_only_whole_ones(tmp_path, monkeypatch, again):
    for step in range(1, 4):
        save(tmp_path, step)

    class Killed(BaseException):
        pass

    def remove_a_file_and_die(folder, ignore_errors=False):
        for file in sorted(folder.glob("*"))[:1]:
            file.unlink()
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints.shutil, "rmtree", remove_a_file_and_die)
        with pytest.raises(Killed):
            save(tmp_path, 3) if again else checkpoints.prune(tmp_path, keep=1)
    left = [checkpoints.state_of(path)["step"] for path in checkpoints.all_of(tmp_path)]
    assert left == ([1, 2] if again else [2, 3])
    save(tmp_path, 4)
    checkpoints.prune(tmp_path, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]


def test_unfinished_ones_do_not_count_and_are_replaced(tmp_path):
    leftover = tmp_path / ".step-00000003.tmp"
    leftover.mkdir()
    (leftover / "variables.index").write_text("cut")
    assert checkpoints.last_whole(tmp_path) is None
    save(tmp_path, 3)
    assert not leftover.exists()
    assert json.loads((tmp_path / "step-00000003" / "state.json").read_text())["step"] == 3


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        save(blocked, 1)
