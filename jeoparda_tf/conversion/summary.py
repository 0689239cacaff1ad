"""What the user sees at the end of a conversion."""

from __future__ import annotations

from tfrecords_tools import cli
from tfrecords_tools.manifest import FILE_NAME, TABLE_NAME

from .config import ConvertConfig
from .output import QUARANTINE
from .run import Outcome

_LAYOUTS = {"v1": "version 1 (a folder a patch)", "v2": "version 2 (reBEN: tiles and metadata.parquet)"}


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
