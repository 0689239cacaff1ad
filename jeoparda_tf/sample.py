"""Writes a small archive in BigEarthNet's layout: synthetic, or mosaics of EuroSAT images.

What it holds is told by OUT/ORIGIN.txt and repeated wherever the data is shown. OUT appears when it is whole.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Optional

from tfrecords_tools import cli
from tfrecords_tools.errors import UsageError

if TYPE_CHECKING:
    from .synthetic.archive import Entry


@dataclass(frozen=True)
class SampleConfig:
    """Which archive to write."""

    out: Path = cli.option("folder to write, new or empty", positional=True)
    patches: int = cli.option("how many patches", 400)
    layout: Literal["v1", "v2"] = cli.option("version of BigEarthNet whose layout it gets", "v1")
    s1: bool = cli.option("write Sentinel-1 pairs as well", False)
    seed: int = cli.option("the same seed gives the same bytes", 0)
    from_eurosat: Optional[Path] = cli.option(
        "tar or folder of EuroSAT's RGB images, <Class>/<image>.jpg: patches become mosaics of these", None
    )
    workers: Optional[int] = cli.option("processes; as many as cores when not given", None)


def sample(config: SampleConfig) -> list[Entry]:
    """Writes the archive.

    Raises:
        UsageError: a value is out of range, OUT is not empty, or EuroSAT's images are not there.
        DataError: an image is broken, or OUT cannot be written.
    """
    from .synthetic import archive, eurosat, places, scene

    for name, least in (("seed", 0), ("workers", 1)):
        value = getattr(config, name)
        if value is not None and value < least:
            raise UsageError(f"--{name} must be at least {least}, not {value}")
    if config.from_eurosat and config.s1:
        raise UsageError("EuroSAT has no Sentinel-1 images", remedy="leave out --s1 or --from-eurosat")
    plan = places.plan(config.patches, config.layout, config.seed, veils=not config.from_eurosat)
    workers = config.workers or os.cpu_count() or 1
    if config.from_eurosat:
        mosaics = eurosat.Mosaics(eurosat.find(config.from_eurosat), config.seed)
        return archive.write(config.out, config.layout, plan, mosaics, "mosaics of EuroSAT images", workers)
    landscape = scene.Scene(config.seed, config.s1)
    return archive.write(config.out, config.layout, plan, landscape, "synthetic sample", workers)


def _report(config: SampleConfig, entries: Sequence[Entry]) -> None:
    clear = Counter(entry.place.split for entry in entries if not entry.place.veil)
    veiled = Counter(entry.place.veil for entry in entries if entry.place.veil)
    classes = Counter(label for entry in entries for label in entry.labels)
    origin = "mosaics of EuroSAT images" if config.from_eurosat else "synthetic sample"
    print(f"{config.out}: {origin}, {len(entries)} patches in the layout of {config.layout}")
    print("  " + ", ".join(f"{split} {count}" for split, count in clear.items()))
    if veiled:
        hidden = ", ".join(f"{count} under {veil}" for veil, count in sorted(veiled.items()))
        print(f"  in no split's list: {hidden}")
    if len(entries) < config.patches:
        print(f"  left out for want of a 19-class label: {config.patches - len(entries)}")
    print(f"  {len(classes)} classes, {sum(classes.values()) / len(entries):.2f} labels a patch")
    print(f"next: {_next_command(config)}")


def _next_command(config: SampleConfig) -> str:
    out, shards = config.out, config.out.with_name(config.out.name + "-shards")
    if config.layout == "v2":
        s1 = f" --s1 {out / 'BigEarthNet-S1'}" if config.s1 else ""
        return f"python -m jeoparda_tf.convert {out} {shards}{s1} --reference-maps"
    s1 = f" --s1 {out / 'BigEarthNet-S1-v1.0'}" if config.s1 else ""
    return f"python -m jeoparda_tf.convert {out / 'BigEarthNet-v1.0'} {shards} --splits {out}{s1}"


def main(argv: Optional[Sequence[str]] = None) -> None:
    """The command line."""
    config = cli.parse(SampleConfig, "python -m jeoparda_tf.sample", __doc__, argv)
    _report(config, sample(config))


if __name__ == "__main__":
    cli.run(main)
