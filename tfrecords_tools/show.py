"""Prints what a directory of shards holds and, asked for, single records as text and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from . import cli, manifest
from .errors import DataError, UsageError
from .manifest import Manifest, Split

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table

LOW, HIGH = 2, 98  # percentiles


@dataclass(frozen=True)
class Config:
    """What to show."""

    directory: Path = cli.option("directory of shards", positional=True)
    split: Optional[str] = cli.option("split of the records; by default the first", default=None)
    record: tuple[int, ...] = cli.option(
        "numbers of records to show, from 0 in the split's order", default=(), nargs="+", metavar="N"
    )
    plot: Optional[Path] = cli.option(
        "draw the records (record 0 if none is named) to this file", default=None
    )
    shards: bool = cli.option("list every shard with its hash", default=False)


def read_record(directory: Path, known: Manifest, split: str, number: int) -> dict[str, Any]:
    """Reads one record by its number in the split.

    Returns:
        what `tfrecord.decode_example` returns, and where it was found as `shard` and `position`.

    Raises:
        UsageError: the split has no such record.
        DataError: there is no such split, or the record is damaged.
    """
    from .tfrecord import decode_at, pick_records

    entry = known.split(split, directory)
    if not 0 <= number < entry.records:
        remedy = f"its records are 0 to {entry.records - 1}" if entry.records else "it is empty"
        raise UsageError(f"{split} has no record {number}", path=directory, remedy=remedy)
    file, position = _locate(entry, number)
    (record,) = pick_records(directory / file, [position])
    return {**decode_at(record, known, directory / file, position), "shard": file, "position": position}


def _locate(split: Split, number: int) -> tuple[str, int]:
    """Returns the shard of a split's record and the position in it."""
    ends = np.cumsum([shard.records for shard in split.shards])
    index = int(np.searchsorted(ends, number, side="right"))
    return split.shards[index].file, number - int(ends[index] - split.shards[index].records)


def tables(known: Manifest, with_shards: bool = False) -> Iterator[Table]:
    """Yields the manifest as tables: splits, shards where asked for, classes, bands, what was left out."""
    yield grid("splits", "split", "records", "shards", "MB", rows=_split_rows(known))
    if with_shards:
        shards = [shard for split in known.splits.values() for shard in split.shards]
        rows = [(s.file, f"{s.records:,}", f"{s.bytes:,}", s.sha256) for s in shards]
        yield grid("shards", "file", "records", "bytes", "SHA-256", rows=rows)
    yield grid(f"classes of {known.nomenclature.name}", "class", *known.splits, rows=_class_rows(known))
    head = ("band", "feature", "m", "nm", "mean", "std", "min", "max")
    yield grid("bands, statistics of the train split", *head, rows=_band_rows(known))
    if known.excluded:
        yield grid(
            "left out", "reason", "patches", rows=[(why, f"{n:,}") for why, n in known.excluded.items()]
        )


def grid(title: str, *columns: str, rows: Sequence[tuple[str, ...]]) -> Table:
    """Returns a table of text, its first column to the left, numbers to the right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _split_rows(known: Manifest) -> list[tuple[str, ...]]:
    return [
        (name, f"{s.records:,}", f"{len(s.shards):,}", f"{sum(shard.bytes for shard in s.shards) / 1e6:,.1f}")
        for name, s in known.splits.items()
    ]


def _class_rows(known: Manifest) -> list[tuple[str, ...]]:
    """Returns the records of each class in each split, most frequent first."""
    counts = np.array([split.label_counts for split in known.splits.values()], int)
    order = np.argsort(-counts.sum(axis=0), kind="stable") if known.splits else ()
    return [(known.nomenclature.classes[i], *(f"{n:,}" for n in counts[:, i])) for i in order]


def _band_rows(known: Manifest) -> list[tuple[str, ...]]:
    rows = []
    for feature in known.features:
        for band in feature.bands:
            s = known.statistics.get(band.name)
            numbers = [f"{value:,.2f}" for value in (s.mean, s.std, s.min, s.max)] if s else ["-"] * 4
            wavelength = f"{band.wavelength:g}" if band.wavelength else "-"
            rows.append((band.name, feature.name, str(feature.gsd), wavelength, *numbers))
        if not feature.bands:
            rows.append(("-", feature.name, str(feature.gsd), *["-"] * 5))
    return rows


def record_table(record: dict[str, Any], known: Manifest) -> Table:
    """Returns each band's and map's pixels of one record in numbers."""
    rows = []
    for feature in known.features:
        array = record[feature.name]
        layers = np.moveaxis(array, -1, 0) if feature.bands else [array]
        for name, layer in zip(feature.band_names or ("-",), layers):
            size = " x ".join(map(str, layer.shape))
            numbers = [f"{value:,.2f}" for value in (layer.min(), layer.mean(dtype=np.float64), layer.max())]
            rows.append((name, feature.name, f"{size} {feature.dtype}", *numbers))
    return grid("pixels", "band", "feature", "size", "min", "mean", "max", rows=rows)


def labels_of(record: dict[str, Any], known: Manifest) -> list[str]:
    """Returns the class names of a record."""
    return [known.nomenclature.classes[index] for index in np.flatnonzero(record["labels"])]


def draw(records: Sequence[dict[str, Any]], known: Manifest) -> Figure:
    """Draws records, one a row, in each of the manifest's combinations of bands.

    Raises:
        DataError: the manifest names no combination.
    """
    from matplotlib.figure import Figure

    if not known.display:
        raise DataError("the manifest names no bands to show as a picture")
    columns, rows = len(known.display), len(records)
    figure = Figure(figsize=(max(4.0 * columns, 7), 4.9 * rows + 0.5), layout="constrained")
    for part, record in zip(np.atleast_1d(figure.subfigures(rows, 1)), records):
        _draw_one(part, record, known)
    how = f"Each channel is stretched from its {LOW}nd to its {HIGH}th percentile. Pixels: {known.origin}."
    figure.supxlabel(how, fontsize=8)
    return figure


def _draw_one(part: Any, record: dict[str, Any], known: Manifest) -> None:
    import textwrap

    from .pictures import composite, stretch

    labels = textwrap.fill("; ".join(labels_of(record, known)) or "no label", 90)
    part.suptitle(f"{record['name']}\n{labels}", fontsize=9)
    for axes, (name, bands) in zip(
        np.atleast_1d(part.subplots(1, len(known.display))), known.display.items()
    ):
        pixels = stretch(composite(record, known.features, bands), LOW, HIGH)
        axes.imshow(pixels if len(bands) == 3 else pixels[..., 0], cmap="gray", interpolation="nearest")
        axes.set_title(f"{name}: {', '.join(bands)}", fontsize=10)
        axes.set_axis_off()


def _print_manifest(known: Manifest, config: Config, console: Console) -> None:
    console.print(f"{config.directory}: {known.origin}, order of seed {known.seed}")
    for key, value in known.sources.items():
        console.print(f"  {key}: {value}")
    for table in tables(known, config.shards):
        console.print(table)


def _print_record(number: int, record: dict[str, Any], known: Manifest, console: Console) -> None:
    console.print(f"record {number}: {record['name']} ({record['shard']}, position {record['position']})")
    console.print(f"  labels: {'; '.join(labels_of(record, known)) or 'none'}")
    console.print(record_table(record, known))


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Prints the manifest, or with `--record` or `--plot` those records."""
    config = cli.parse(Config, "python -m tfrecords_tools.show", __doc__, argv)
    known = manifest.read(config.directory)
    console = cli.console()
    numbers = config.record or ((0,) if config.plot else ())
    if not numbers:
        _print_manifest(known, config, console)
        return 0
    split = config.split or next(iter(known.splits), "train")
    records = [read_record(config.directory, known, split, number) for number in numbers]
    for number, record in zip(numbers, records):
        _print_record(number, record, known, console)
    if config.plot:
        _save(draw(records, known), config.plot)
        console.print(f"picture: {config.plot}")
    return 0


def _save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:  # ValueError: no such picture format
        raise UsageError(
            f"cannot be written: {error}", path=path, remedy="name a .png, .pdf or .svg file"
        ) from error


if __name__ == "__main__":
    cli.run(main)
