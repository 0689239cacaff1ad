"""What the user sees at the end of a conversion."""

from __future__ import annotations

from tfrecords_tools import cli
from tfrecords_tools.manifest import FILE_NAME, TABLE_NAME

from .config import ConvertConfig
from .output import QUARANTINE
from .preview import Preview
from .run import Outcome

_LAYOUTS = {
    "v1": "version 1 (a folder a patch)",
    "v2": "version 2 (reBEN: tiles and metadata.parquet)",
    "tfrecord": "TFRecords of version 1 (TU Berlin's scripts)",
}


def print_summary(outcome: Outcome, config: ConvertConfig) -> None:
    """Prints splits, sizes, what was left out and why, where everything is, and what may come next."""
    from rich.table import Table

    manifest, out = outcome.manifest, config.out
    if manifest is None:
        print(f"task {config.task}: its {outcome.shards:,} shards are in {out}")
        print("next: when all tasks have ended, the same command with --finish in place of --task")
        return
    if outcome.already:
        print(
            f"{out} holds this conversion already: the same patches and settings. Whether the archive's files have "
            "changed since was not looked at; --force converts again."
        )
    source = "" if manifest.origin == "BigEarthNet" else f", {manifest.origin}"
    title = f"{_LAYOUTS[outcome.archive.layout]}{source}, {manifest.nomenclature.name}"
    table = Table("split", title=title, title_justify="left")
    for column in ("patches", "shards", "MB", "labels a patch"):
        table.add_column(column, justify="right")
    for name, split in manifest.splits.items():
        labels = sum(split.label_counts) / max(1, split.records)
        size = sum(shard.bytes for shard in split.shards) / 1e6
        table.add_row(name, f"{split.records:,}", f"{len(split.shards):,}", f"{size:,.1f}", f"{labels:.2f}")
    cli.console().print(table)
    for reason, count in manifest.excluded.items():
        where = f" (see {out / QUARANTINE})" if reason == "faulty" else ""
        print(f"left out: {count:,} {reason}{where}")
    if not manifest.statistics:
        print(
            "no train split, so no statistics of the bands: a model cannot be trained on these shards alone"
        )
    print(f"shards, {FILE_NAME} and {TABLE_NAME} are in {out}")
    print(f"next: python -m tfrecords_tools.show {out}")
    print(f"      python -m jeoparda_tf.fit --data {out} --workdir RUN")


def print_preview(preview: Preview, config: ConvertConfig) -> None:
    """Prints what would be done, and the time that it would take."""
    from rich.table import Table

    title = f"would convert: {_LAYOUTS[preview.archive.layout]}, {preview.nomenclature.name}"
    table = Table("split", title=title, title_justify="left")
    for column in ("patches", "shards", "MB"):
        table.add_column(column, justify="right")
    for name, split in preview.splits.items():
        table.add_row(name, f"{split.patches:,}", f"{split.shards:,}", f"{split.bytes / 1e6:,.1f}")
    cli.console().print(table)
    counts = {name: split.label_counts for name, split in preview.splits.items() if split.label_counts}
    if counts:
        classes = Table("class")
        for split_name in counts:
            classes.add_column(split_name, justify="right")
        for index, name in enumerate(preview.nomenclature.classes):
            classes.add_row(name, *(f"{own[index]:,}" for own in counts.values()))
        cli.console().print(classes)
    else:
        print("classes: not known yet; the labels of version 1 are read with the pixels")
    for reason, count in preview.excluded.items():
        print(f"left out: {count:,} {reason}")
    size = sum(split.bytes for split in preview.splits.values())
    print(f"{config.out} would hold {preview.files:,} files, {size / 1e9:,.2f} GB of shards")
    for fault in preview.faults[:3]:
        print(f"faulty, in the sample: {fault.file}: {fault.reason}")
    _print_time(preview, config)


def _print_time(preview: Preview, config: ConvertConfig) -> None:
    reading = sum(own.seconds for own in preview.readings)
    if preview.readings:
        spilled = sum(own.bytes for own in preview.readings) / 1e9
        seen = sum(own.unpacked for own in preview.readings) / 1e9
        print(
            f"first, what is compressed would be read into {config.out}/.conversion, {spilled:,.2f} GB until the "
            f"manifest is written: about {_duration(reading)}, as for {seen:,.2f} GB of it"
        )
    if any(own.listed for own in preview.readings):
        print("patches are those of the lists or the table: whether the archive has them was not looked at")
    if preview.seconds is None:
        print(f"time: not known, since none of {preview.sampled} patches could be read")
        return
    several, one = (_duration(reading + preview.seconds / workers) for workers in (preview.workers, 1))
    print(
        f"time: about {several} with {preview.workers} workers, {one} with one, as for a sample of "
        f"{preview.sampled} patches"
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
