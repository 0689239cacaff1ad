"""One step of two ranks is one step of a single rank with both batches, and so is one step of several batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import shards
from tests.conftest import REPOSITORY, need_engine

pytestmark = pytest.mark.tensorflow

SCRIPT = Path(__file__).parent / "ranks" / "one_step.py"


def test_two_ranks_take_the_step_of_one_with_the_whole_batch(tmp_path):
    shards.write(tmp_path / "data", {"train": 4})
    command = [need_engine("horovodrun"), "--gloo", "-np", "2", sys.executable, str(SCRIPT)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [*command, str(tmp_path / "data"), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        seen = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert seen.pop("size") == 2
        # Without shared statistics the same comparison does not hold, so it can fail.
        assert seen.pop("own statistics") > 1e-4
        for name in ("fp16", "bfloat16"):
            error, between = seen.pop(name)
            assert 0 < error < 1e-2, name
            assert between == 0, name
        assert len(seen) == 6
        for name, (error, between) in seen.items():
            # Adam and LAMB divide by the gradient's size, so rounding in the shared statistics weighs more: the weights
            # move by 0.03 in these steps.
            limit = 2e-5 if "sgd" in name or "frozen" in name else 1e-3
            assert error < limit, (name, error)
            assert between == 0, name
