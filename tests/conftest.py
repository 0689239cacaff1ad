"""What all tests share: real data where it is at hand, and engines that a user's machine may lack but CI must have."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from tests.conversions import v1, v1_shared, v2, v2_shared  # noqa: F401 - fixtures
from tests.processes import long, whole  # noqa: F401 - fixtures

REPOSITORY = Path(__file__).resolve().parent.parent
Item = TypeVar("Item")
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real patches, metadata and EuroSAT images beside the repository; skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no real data at ../shared/data")
    return SHARED_DATA


def need_engine(program: str) -> str:
    """Returns the path of a program, skips where it is missing, fails with JEOPARDA_TF_REQUIRE_ENGINES=1."""
    # The environment's own programs first: tests may run without its activation.
    path = shutil.which(program, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if path:
        return path
    if os.environ.get("JEOPARDA_TF_REQUIRE_ENGINES") == "1":
        pytest.fail(f"{program} is not installed, but this machine must have it")
    pytest.skip(f"{program} is not installed")


def need_module(name: str) -> None:
    """Skips (or fails, as `need_engine`) where a Python package of an engine cannot be imported."""
    try:
        __import__(name)
    except ImportError as error:
        if os.environ.get("JEOPARDA_TF_REQUIRE_ENGINES") == "1":
            pytest.fail(f"{name} cannot be imported, but this machine must have it: {error}")
        pytest.skip(f"{name} cannot be imported")


def faults(items: Sequence[Item], count: int) -> list[Item]:
    """Returns which of many faults to test: `count` of them, always the same, or all with JEOPARDA_TF_FAULTS=all."""
    if os.environ.get("JEOPARDA_TF_FAULTS") == "all":
        return list(items)
    chosen = random.Random(0).sample(range(len(items)), min(count, len(items)))
    return [items[index] for index in sorted(chosen)]
