"""Prints what a directory of shards holds and, asked for, single records as text and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional

import numpy as np

from . import cli, manifest
from .errors import UsageError
from .manifest import Manifest, Split

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table


@dataclass(frozen=True)
class Config:
    """What to show."""

    directory: Path = cli.option("directory of shards", positional=True)
    split: Optional[str] = cli.option("split of the records; by default the first", default=None)
    record: tuple[int, ...] = cli.option(
        "numbers of records to show, from 0 in the split's order", default=(), nargs="+", metavar="N"
    )
    plot: Optional[Path] = cli.option("draw to this file: .png, .pdf or .svg", default=None)
    what: Literal["patches", "bands", "classes"] = cli.option(
        "of --plot: records (0 if none is named) in colour, or band by band; or how often each class is",
        default="patches",
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


def _print_manifest(known: Manifest, config: Config, console: Console) -> None:
    console.print(f"{config.directory}: {known.origin}, order of seed {known.seed}")
    for key, value in known.sources.items():
        console.print(f"  {key}: {value}")
    for table in tables(known, config.shards):
        console.print(table)


def _print_record(number: int, record: dict[str, Any], known: Manifest, console: Console) -> None:
    console.print(f"record {number}: {record['name']} ({record['shard']}, position {record['position']})")
    labels = [known.nomenclature.classes[index] for index in np.flatnonzero(record["labels"])]
    console.print(f"  labels: {'; '.join(labels) or 'none'}")
    console.print(record_table(record, known))


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Prints the manifest, or with `--record` or `--plot` those records; draws where asked to."""
    config = cli.parse(Config, "python -m tfrecords_tools.show", __doc__, argv)
    known = manifest.read(config.directory)
    console = cli.console()
    of_records = config.record or (config.plot and config.what != "classes")
    records: list[dict[str, Any]] = []
    if of_records:
        split, numbers = config.split or next(iter(known.splits), "train"), config.record or (0,)
        records = [read_record(config.directory, known, split, number) for number in numbers]
        for number, record in zip(numbers, records):
            _print_record(number, record, known, console)
    else:
        _print_manifest(known, config, console)
    if config.plot:
        _save(_draw(config.what, records, known), config.plot)
        console.print(f"picture: {config.plot}")
    return 0


def _draw(what: str, records: Sequence[dict[str, Any]], known: Manifest) -> Figure:
    from . import plots  # here, as matplotlib takes half a second

    if what == "classes":
        return plots.classes(known)
    return (plots.patches if what == "patches" else plots.bands)(records, known)


def _save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:  # ValueError: no such picture format
        raise UsageError(
            f"cannot be written: {error}", path=path, remedy="name a .png, .pdf or .svg file"
        ) from error


if __name__ == "__main__":
    cli.run(main)
