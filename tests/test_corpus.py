"""Every broken input of the corpus: what is printed, the exit code, and that nothing looks whole afterwards."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from jeoparda_tf import convert
from tests import shards
from tests.conversions import linked
from tests.corpus import ALL
from tests.spoil import Broken
from tfrecords_tools import cli, reshard, show, split, stats, verify
from tfrecords_tools.manifest import Band, Feature, Nomenclature

pytestmark = pytest.mark.faults
MAINS: dict[str, Any] = {
    "convert": convert.main,
    "verify": verify.main,
    "show": show.main,
    "split": split.main,
    "stats": stats.main,
    "reshard": reshard.main,
}


@pytest.fixture(scope="session")
def shards_shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards") / "data"
    features = (Feature("ten", "uint16", (4, 4, 2), 10, (Band("A"), Band("B"))),)
    classes = Nomenclature("abc", ("a", "b", "c"))
    shards.write(root, {"train": 6, "val": 2}, features=features, nomenclature=classes, display={})
    return root


def _base(command: str) -> str:
    """Returns the fixture of what a command is run on."""
    if not command.startswith("convert"):
        return "shards_shared"
    return "v1_shared" if "--splits" in command or "v1.0" in command else "v2_shared"


def test_there_are_enough_and_their_names_differ() -> None:
    assert len(ALL) == len({case.name for case in ALL}) >= 40


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_message_exit_code_and_nothing_that_looks_whole(
    case: Broken, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    linked(request.getfixturevalue(_base(case.command)), root)
    case.spoil(root)
    if "may not be read" in case.name and os.geteuid() == 0:
        pytest.skip("root may read everything")
    program, *argv = case.command.replace("ROOT", str(root)).replace("OUT", str(out)).split()
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: MAINS[program](argv))
    printed = capsys.readouterr()
    said = (printed.out + printed.err).replace(str(root), "ROOT")
    assert re.fullmatch(re.escape(case.message).replace("…", "[^\n]*"), said), said
    assert ended.value.code == case.code
    assert not (out / "manifest.json").exists()
    assert not list(out.glob("*.tmp"))
