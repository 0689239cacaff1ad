"""What the pictures look like, once: colours that colour-blind readers tell apart, sizes, titles, labels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

DPI = 110
# Inches: narrow, so that text stays legible where a phone shows the 572 pixels on 370 of its own.
WIDTH = 5.2
SMALL, NORMAL, LARGE = 9, 10, 12

# Hues of Okabe and Ito, "Color Universal Design" (2008), all but the blue darkened until text in them reads well on
# white (contrast 5:1 and more).
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#B34700", "#007355", "#93396C"
INK, GREY, FAINT = "#222222", "#666666", "#DDDDDD"


@dataclass(frozen=True)
class Picture:
    """A figure with the words that belong to it.

    Attributes:
        name: stem of its file.
        title: heading on the page.
        caption: what is drawn and how it is defined.
        alt: what it shows, for who cannot see it.
        figure: the drawing.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure

    def png(self) -> bytes:
        """The drawing as PNG; the same drawing gives the same bytes."""
        buffer = BytesIO()
        self.figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        return buffer.getvalue()


def canvas(height: float, title: str, note: str) -> Figure:
    """Makes an empty figure.

    Args:
        height: in inches.
        title: above, at the left.
        note: below, in grey: split, nomenclature, number of patches, origin.
    """
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)  # type: ignore[union-attr, call-arg]  # constrained: has both
    figure.suptitle(title, x=0.015, ha="left", size=LARGE, weight="bold", color=INK)
    figure.supxlabel("\n".join(textwrap.wrap(note, 78)), x=0.015, ha="left", size=SMALL, color=GREY)
    return figure


def plain(axes: Axes, grid: str = "y") -> Axes:
    """Takes frame and ticks off and lays a faint grid under the data; returns the axes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=SMALL, colors=INK, length=3)
    axes.xaxis.label.set_fontsize(NORMAL)
    axes.yaxis.label.set_fontsize(NORMAL)
    if grid:
        axes.grid(axis=grid, color=FAINT, linewidth=0.8)  # type: ignore[arg-type]  # "x", "y" or "both"
    axes.set_axisbelow(True)
    return axes


def wrapped(text: str, width: int, lines: int = 2) -> str:
    """Breaks a long name into at most so many lines; what is left over becomes an ellipsis."""
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" …"))


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Moves labels on one axis apart, in their order, as little as needed.

    Args:
        positions: where they belong.
        gap: least distance of two neighbours.
        low, high: limits for all, kept if they leave room.

    Returns:
        float64 of the same length and order.
    """
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(order))
    # Without the gaps the sorted positions must only not decrease: pool neighbours that do (isotonic regression).
    blocks: list[list[float]] = []
    for value in np.asarray(positions, np.float64)[order] - steps:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [[(a * n + b * m) / (n + m), n + m]]
    level = np.concatenate([np.full(int(count), mean) for mean, count in blocks] or [np.empty(0)])
    top = max(high - steps[-1], low) if len(order) else high
    moved = np.empty(len(order))
    moved[order] = np.clip(level, low, top) + steps
    return moved
