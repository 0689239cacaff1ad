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
        assert [values.pop() for values in seen.values()] == [0] * 9  # ranks do not differ at all
        for name in ("fp16", "bfloat16"):
            assert 0 < max(seen.pop(name)) < 1e-2, name
        assert max(seen.pop("float32")) < 2e-5
        assert len(seen) == 6
        # In float64, because Adam and LAMB divide gradients by their own size: of one that is nothing but rounding they
        # make a whole step, and float32's rounding moves weights by up to 0.02. Here it stays below their epsilon.
        for name, (weights, moving) in seen.items():
            assert weights < 1e-10, (name, weights)
            assert moving < 2e-8, (name, moving)  # Keras rounds 1 - momentum to float32
