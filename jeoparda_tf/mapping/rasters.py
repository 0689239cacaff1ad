"""Class map and probabilities as cloud-optimised GeoTIFFs, a style that names the classes in QGIS, a quick-look."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from tfrecords_tools.errors import DataError

from .colours import Colour
from .scene import Grid

NODATA = 255
# Probabilities are stored in whole steps of this.
STEP = 1 / 250
_SIDE = 1000  # pixels of a quick-look, at most
_SHOWN, _WRAP = 12, 42  # classes in its legend, letters of a line there


def write(
    strips: Iterable[tuple[int, np.ndarray, np.ndarray]],
    grid: Grid,
    names: Sequence[str],
    colours: Sequence[Colour],
    threshold: float,
    path: Path,
    probabilities: Path,
) -> np.ndarray:
    """Writes both GeoTIFFs, each whole or not at all, and `<path>.qml` beside the map.

    The map is uint8: 0 unclassified (no score reaches the threshold), class number + 1, 255 nodata. The probabilities
    are uint8, a band a class, score = value / 250, 255 nodata.

    Returns:
        uint8 [classes + 1]: how many pixels of the map have each number.

    Raises:
        DataError: they cannot be written.
    """
    import rasterio

    counts = np.zeros(len(names) + 1, np.int64)
    try:
        with tempfile.TemporaryDirectory(dir=path.absolute().parent) as folder:
            drafts = [Path(folder, "map.tif"), Path(folder, "probabilities.tif")]
            with _draft(drafts[0], grid, 1) as classes, _draft(drafts[1], grid, len(names)) as scores:
                _describe(classes, scores, names, colours)
                for top, values, empty in strips:
                    area = rasterio.windows.Window(0, top, values.shape[2], values.shape[1])
                    best = np.where(values.max(0) >= threshold, values.argmax(0) + 1, 0)
                    counts += np.bincount(best[~empty], minlength=len(counts))
                    steps = np.where(empty, NODATA, np.rint(values / STEP))
                    classes.write(np.where(empty, NODATA, best).astype(np.uint8), 1, window=area)
                    scores.write(steps.astype(np.uint8), window=area)
            for draft, final, resampling in zip(drafts, (path, probabilities), ("NEAREST", "AVERAGE")):
                _finish(draft, final, resampling)
            style = Path(folder, "style.qml")
            style.write_text(_style(names, colours))
            style.replace(path.with_suffix(".qml"))
    except (OSError, rasterio.errors.RasterioError) as error:
        raise DataError(f"cannot be written: {error}", path=path) from error
    return counts


def _draft(path: Path, grid: Grid, bands: int) -> Any:
    """Opens a GeoTIFF that can be written strip by strip, as a cloud-optimised one cannot."""
    import rasterio

    return rasterio.open(
        path, "w", driver="GTiff", width=grid.shape[1], height=grid.shape[0], count=bands, dtype="uint8",
        nodata=NODATA, crs=grid.crs, transform=grid.transform, tiled=True, compress="deflate", bigtiff="if_safer",
    )  # fmt: skip


def _describe(classes: Any, scores: Any, names: Sequence[str], colours: Sequence[Colour]) -> None:
    classes.write_colormap(1, {0: (255, 255, 255, 255), **{i + 1: c for i, c in enumerate(colours)}})
    classes.update_tags(1, **{f"CLASS_{i + 1}": name for i, name in enumerate(names)}, CLASS_0="unclassified")
    scores.scales, scores.descriptions = (STEP,) * len(names), tuple(names)


def _finish(draft: Path, final: Path, resampling: str) -> None:
    """Makes a cloud-optimised GeoTIFF of a draft and puts it where it belongs."""
    import rasterio.shutil

    # Beside it: the probabilities may go to another disk, to which nothing can be renamed.
    with tempfile.TemporaryDirectory(dir=final.absolute().parent) as folder:
        made = Path(folder, "made.tif")
        rasterio.shutil.copy(
            draft, made, driver="COG", compress="DEFLATE", overview_resampling=resampling, blocksize=256
        )
        made.replace(final)


def _style(names: Sequence[str], colours: Sequence[Colour]) -> str:
    """Returns QGIS' style of a paletted raster; QGIS loads it by itself, as it has the raster's name."""
    entries = "\n".join(
        f'<paletteEntry value="{i + 1}" alpha="255" color="#{r:02x}{g:02x}{b:02x}" label={quoteattr(name)}/>'
        for i, (name, (r, g, b)) in enumerate(zip(names, colours))
    )
    first = '<paletteEntry value="0" alpha="255" color="#ffffff" label="unclassified"/>'
    palette = f"<colorPalette>{first}\n{entries}</colorPalette>"
    return (
        '<!DOCTYPE qgis>\n<qgis><pipe><rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1">'
        f"{palette}</rasterrenderer></pipe></qgis>\n"
    )


def quicklook(
    path: Path, names: Sequence[str], colours: Sequence[Colour], counts: np.ndarray, out: Path
) -> None:
    """Draws a map with the names of its most frequent classes.

    Args:
        path: of the class map.
        names: of the classes.
        colours: of them.
        counts: pixels of each number of the map.
        out: a PNG.
    """
    import rasterio
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    with rasterio.open(path) as file:
        step = max(1, max(file.shape) // _SIDE)
        numbers = file.read(1, out_shape=(file.height // step, file.width // step))
    palette = np.full((256, 3), 255, np.uint8)
    palette[1 : len(colours) + 1] = colours
    palette[NODATA] = 128
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(palette[numbers], interpolation="nearest")
    axes.set_axis_off()
    entries = legend(names, counts, bool((numbers == NODATA).any()))
    handles = [
        Patch(facecolor=palette[number] / 255, edgecolor="#666666", label=label) for number, label in entries
    ]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
    figure.savefig(out, dpi=110)


def legend(names: Sequence[str], counts: np.ndarray, nodata: bool) -> list[tuple[int, str]]:
    """Returns number and words of the 12 most frequent values of a map, then those of nodata if there is any.

    Args:
        names: of the classes.
        counts: pixels of each number of the map, nodata not among them.
        nodata: whether there are pixels without data.
    """
    labels, total = ["unclassified", *names], counts.sum()
    shown = [int(i) for i in np.argsort(-counts, kind="stable")[:_SHOWN] if counts[i]]
    entries = [(i, textwrap.fill(f"{labels[i]}, {_percent(counts[i] / total)}", _WRAP)) for i in shown]
    return entries + ([(NODATA, "no data")] if nodata else [])


def _percent(share: float) -> str:
    """What is there never reads as 0.0 %, what is not all never as 100.0 %."""
    if share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < share < 1 else f"{100 * share:.1f} %"
