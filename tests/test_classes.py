"""The printed tree of classes."""

from __future__ import annotations

import subprocess
import sys

from jeoparda_tf import classes
from jeoparda_tf.bigearthnet.nomenclature import CLASSES
from tests.conftest import REPOSITORY


def test_tree_has_every_class_once_with_counts_and_mappings(capsys):
    classes.main([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "CORINE land cover in BigEarthNet: 43 classes, 1,750,375 labels"
    plain = [line.lstrip("│├└─ ") for line in lines]
    for c in CLASSES:
        assert sum(line.startswith(f"{c.code} {c.name} ({c.patches:,})") for line in plain) == 1
    assert "1 Artificial surfaces (112,313)" in plain
    assert "42 Coastal wetlands (2,989)" in plain
    assert "241 Annual crops associated with permanent crops (7,022) -> 3 Permanent crops" in plain
    assert "423 Intertidal flats (1,003) -> dropped" in plain
    # 5 + 15 groups, each above its own members.
    assert plain.index("42 Coastal wetlands (2,989)") + 1 == plain.index(
        "421 Salt marshes (1,562) -> 16 Coastal wetlands"
    )
    assert sum(line.endswith("dropped") for line in plain) == 11


def test_no_tensorflow():
    code = "import sys; from jeoparda_tf import classes; classes.main([]); print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert done.stdout.endswith("False\n")
