"""Prints the classes: CORINE's levels 1 to 3 with codes and counts, and what each is in the 19-class nomenclature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from tfrecords_tools import cli

from .bigearthnet.nomenclature import BEN19, CLASSES, LEVEL_1, LEVEL_2

if TYPE_CHECKING:
    from rich.tree import Tree

# Columns in a file or a pipe: no line is longer.
_LOG_WIDTH = 200


@dataclass(frozen=True)
class ClassesConfig:
    """Nothing to choose."""


def tree() -> Tree:
    """Returns the tree of the 43 classes; a group's count is the sum of its classes', one a label, not a patch."""
    from rich.text import Text
    from rich.tree import Tree

    def count(prefix: int, divisor: int) -> int:
        return sum(c.patches for c in CLASSES if c.code // divisor == prefix)

    root = Tree(Text(f"CORINE land cover in BigEarthNet: {len(CLASSES)} classes, {count(0, 1000):,} labels"))
    for first, name in LEVEL_1.items():
        level_1 = root.add(Text(f"{first} {name} ({count(first, 100):,})", "bold"))
        for second, part in LEVEL_2.items():
            if second // 10 != first:
                continue
            level_2 = level_1.add(Text(f"{second} {part} ({count(second, 10):,})"))
            for c in CLASSES:
                if c.code // 10 == second:
                    level_2.add(Text(f"{c.code} {c.name} ({c.patches:,}) -> {_in_19(c.ben19)}"))
    return root


def _in_19(name: Optional[str]) -> str:
    return "dropped" if name is None else f"{BEN19.classes.index(name)} {name}"


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Prints the tree."""
    cli.parse(ClassesConfig, "python -m jeoparda_tf.classes", __doc__, argv)
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    console.print(tree())
    print(
        "Counts: labels in the 590,326 patches of version 1; those of groups are sums, a patch may have several.\n"
        "->: number and name in the 19-class nomenclature, counted from 0."
    )


if __name__ == "__main__":
    cli.run(main)
