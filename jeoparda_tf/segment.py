"""Maps land cover: a trained classifier, made fully convolutional, over a scene of any size.

A scene is a patch folder, a Sentinel-2 L2A product (.SAFE) or a stacked GeoTIFF. Beside MAP.tif it writes
MAP.probabilities.tif, MAP.qml (the style that QGIS loads by itself) and MAP.png.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Optional, Union

from tfrecords_tools import cli
from tfrecords_tools.cli import option
from tfrecords_tools.errors import UsageError

if TYPE_CHECKING:
    from .models.spec import ModelSpec

_CACHE = 2**29  # bytes of decoded blocks of rasters


@dataclass(frozen=True)
class SegmentConfig:
    """Which model, which scene, and how it is mapped."""

    scene: Path = option("patch folder, .SAFE folder or GeoTIFF", positional=True, metavar="SCENE")
    workdir: Path = option("of the run that `fit` made")
    out: Path = option("class map to write, a .tif", short="-o", metavar="MAP.tif")
    probabilities: Optional[Path] = option("scores to write; without it, MAP.probabilities.tif", None)
    checkpoint: Union[Literal["best", "last"], int] = option(
        "best (by macro F1 on validation), last, or the number of a step", "best"
    )
    stride: Literal["32", "16", "8"] = option("pixels between two places that the model names", "8")
    threshold: float = option("a pixel whose highest score is lower stays unclassified", 0.0)
    bands: tuple[str, ...] = option("of a GeoTIFF: the names of its bands in their order", (), nargs="+")
    scale: float = option("of a GeoTIFF: reflectance = number * scale + offset", 0.0001)
    offset: float = option("of a GeoTIFF", 0.0)
    mask_head: bool = option(
        "use the head that `evaluate --fine-tune-masks` trained on reference maps", False
    )
    batch: int = option("tiles in memory at once", 8)


def segment(config: SegmentConfig) -> Path:
    """Maps a scene.

    Returns:
        the path of the class map.

    Raises:
        UsageError: flags, model and scene do not fit together.
        DataError: the run or the scene cannot be read, or the map not written.
    """
    from .bigearthnet.bands import S1_FEATURE
    from .training import workdir

    if config.out.suffix != ".tif" or not config.out.absolute().parent.is_dir():
        raise UsageError("-o must name a .tif file in a folder that exists", path=config.out)
    if config.probabilities and not config.probabilities.absolute().parent.is_dir():
        raise UsageError(
            "--probabilities must name a file in a folder that exists", path=config.probabilities
        )
    if not 0 <= config.threshold <= 1 or config.batch < 1 or config.scale <= 0:
        raise UsageError("--threshold must be 0 to 1, --batch at least 1, --scale positive")
    workdir.read_config(config.workdir)  # says best what is wrong with a folder that is no run
    spec = workdir.read_spec(config.workdir)
    if S1_FEATURE in spec.features:
        raise UsageError("the model takes Sentinel-1, which scenes do not hold", path=config.workdir)
    import rasterio

    # Of its own accord GDAL keeps 5 % of the machine's memory. A row of blocks of all bands of a product is 170 MB.
    with rasterio.Env(GDAL_CACHEMAX=_CACHE):
        return _map(config, spec)


def _map(config: SegmentConfig, spec: ModelSpec) -> Path:
    from .mapping import colours, scene
    from .scoring.results import FOLDER
    from .training import workdir

    sources = scene.find(config.scene, spec.input_bands, config.bands, config.scale, config.offset)
    finest = min(spec.features, key=lambda feature: feature.gsd)
    opened = scene.Scene(sources, spec.features, finest.gsd)
    from .mapping import dense, fine_tune, rasters, tiles

    model, _, step = workdir.load_model(config.workdir, config.checkpoint)
    logits = dense.logits_map(model, int(config.stride))
    if config.mask_head:
        fine_tune.load(logits, config.workdir / FOLDER, step=step, stride=int(config.stride))
    strips = tiles.probabilities(logits, opened, finest.shape[0], config.batch, exclusive=config.mask_head)
    names, palette = spec.nomenclature.classes, colours.of(spec.nomenclature)
    scores = config.probabilities or config.out.with_suffix(".probabilities.tif")
    counts = rasters.write(strips, opened.grid, names, palette, config.threshold, config.out, scores)
    opened.close()
    rasters.quicklook(config.out, names, palette, counts, config.out.with_suffix(".png"))
    return config.out


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Parses the flags, maps, says where the map is."""
    config = cli.parse(SegmentConfig, "python -m jeoparda_tf.segment", __doc__, argv)
    path = segment(config)
    print(f"map: {path}, quick-look: {path.with_suffix('.png')}")


if __name__ == "__main__":
    cli.run(main)
