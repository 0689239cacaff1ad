"""Trains super-resolution of the 20 m and 60 m bands to 10 m, without labels, and scores it against bicubic.

`python -m jeoparda_tf.fit --upsample superres --superres DIR` then puts it before any model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from tfrecords_tools import cli
from tfrecords_tools import manifest as manifests
from tfrecords_tools.errors import DataError, UsageError

from .training.superres_config import SuperResConfig, check
from .training.workdir import write_text

if TYPE_CHECKING:
    from rich.table import Table

UNIT = "digital numbers: reflectance x 10,000"
_SCORES = (("rmse", "RMSE", ".1f"), ("sre", "SRE, dB", ".2f"), ("uiq", "UIQ", ".4f"))
_WAYS = ("bicubic", "superres")


def superres(config: SuperResConfig) -> dict[str, Any]:
    """Trains (or, with `evaluate`, reads) the networks, scores them, writes scores and picture.

    Returns:
        the content of the JSON file: `unit`, `data`, `origin`, `trained_on`, and by split the number of patches and by
        band its scores.

    Raises:
        UserError: as `training.superres.train`.
    """
    from .training import superres as training
    from .training.superres_scores import score

    check(config)
    manifest = manifests.read(config.data)
    splits = [name for name in config.splits if name in manifest.splits and manifest.splits[name].records]
    if not splits:
        remedy = f"name some with --splits; it has: {', '.join(manifest.splits)}"
        raise DataError(f"no records in {', '.join(config.splits)}", path=config.data, remedy=remedy)
    if config.evaluate:
        with training.policy(config.precision):
            spec, networks = training.load(config.workdir)
    else:
        spec, networks = training.train(config)
    found: dict[str, Any] = {}
    with training.policy(config.precision):
        for split in splits:
            scores, patches = score(spec, networks, config, manifest, split)
            found[split] = {"patches": patches, "bands": _by_band(spec.bands, scores)}
        from .figures import superres as picture

        png = picture.draw(networks, config.data, manifest, splits[-1]).png()
    result = {
        "unit": UNIT, "data": str(config.data.resolve()), "origin": manifest.origin, "trained_on": spec.origin,
        "weights_sha256": spec.sha256, "splits": found,
    }  # fmt: skip
    scores_path, picture_path = outputs(config)
    try:
        write_text(scores_path, json.dumps(result, indent=1) + "\n")
        picture_path.write_bytes(png)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", path=config.workdir) from error
    return result


def outputs(config: SuperResConfig) -> tuple[Path, Path]:
    """Returns where scores and picture go: with `evaluate`, the name of the data is in theirs."""
    suffix = f"-{config.data.resolve().name}" if config.evaluate else ""
    return config.workdir / f"scores{suffix}.json", config.workdir / f"superres{suffix}.png"


def _by_band(bands_of: Any, scores: Any) -> dict[str, Any]:
    def numbers(quality: Any, index: int) -> dict[str, Optional[float]]:
        values = {name: float(getattr(quality, name)[index]) for name, _, _ in _SCORES}
        return {name: value if math.isfinite(value) else None for name, value in values.items()}

    return {
        band: {"gsd": gsd, **{way: numbers(both[way], index) for way in _WAYS}}
        for gsd, both in scores.items()
        for index, band in enumerate(bands_of(gsd))
    }


def table(result: dict[str, Any], split: str) -> Table:
    """Returns the scores of a split: a row a band, of each score bicubic's and ours."""
    from rich.table import Table

    part = result["splits"][split]
    made = Table(
        title=f"{split}: {part['patches']} patches ({result['origin']}), one scale down; RMSE in {result['unit']}"
    )
    made.add_column("band")
    made.add_column("to learn")
    for _, name, _ in _SCORES:
        for way in _WAYS:
            made.add_column(f"{name}, {way}", justify="right")
    for band, row in part["bands"].items():
        cells = [
            "-" if row[way][key] is None else format(row[way][key], style)
            for key, _, style in _SCORES
            for way in _WAYS
        ]
        factor = row["gsd"] // 10
        made.add_row(band, f"{factor * row['gsd']} m to {row['gsd']} m", *cells)
    return made


def _alone() -> None:
    if cli.launched() > 1:
        raise UsageError(
            "super-resolution is trained in one process", remedy="start it without a launcher of ranks"
        )


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Parses the flags, trains, scores, says where everything is and what comes next."""
    config = cli.parse(SuperResConfig, "python -m jeoparda_tf.superres", __doc__, argv)
    cli.once(_alone)
    result = superres(config)
    console = cli.console()
    for split in result["splits"]:
        console.print(table(result, split))
    scores, picture = outputs(config)
    print(f"scores: {scores}, picture: {picture}")
    if not config.evaluate:
        print(
            f"next: python -m jeoparda_tf.fit --upsample superres --superres {config.workdir} --data ... --workdir ..."
        )


if __name__ == "__main__":
    cli.run(main)
