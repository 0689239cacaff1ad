"""Which patches are converted, in which split, and which are left out and why: from names and lists alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Optional

from jeoparda_tf.bigearthnet import archive as archives
from jeoparda_tf.bigearthnet import lists, metadata
from jeoparda_tf.bigearthnet.archive import TABLE, Archive
from jeoparda_tf.bigearthnet.metadata import Metadata
from tfrecords_tools.errors import DataError, UsageError

from .config import ConvertConfig
from .faults import Faults
from .fractions import Fractions
from .pairs import pair

SNOW_AND_CLOUD = "under seasonal snow, cloud or shadow"


class Entry(NamedTuple):
    """A patch that some list wants in a split; `file` is that list."""

    name: str
    split: str
    file: str


@dataclass(frozen=True)
class Wanted:
    """What the lists, the table or the fractions ask for.

    Attributes:
        entries: patches with their splits.
        source: where the splits come from, for the manifest.
        otherwise: why a patch of the archive is in no split.
        s1: Sentinel-1 partners by name, where the lists have them.
    """

    entries: list[Entry]
    source: str
    otherwise: str
    s1: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """The patches to convert.

    Attributes:
        splits: names by split, in no particular order.
        excluded: number of patches left out, by reason.
        source: where the splits come from.
        s1: Sentinel-1 partners by name; empty if none are wanted.
        metadata: v2's table; None for v1, whose labels are read with the pixels.
    """

    splits: dict[str, list[str]]
    excluded: dict[str, int]
    source: str
    s1: dict[str, str]
    metadata: Optional[Metadata]


def select(config: ConvertConfig, archive: Archive, faults: Faults) -> Selection:
    """Chooses the patches of a conversion.

    Raises:
        UsageError: there is no way, or more than one, to split them.
        DataError: lists contradict each other or the archive, and faults are not skipped; or no patch is left.
    """
    _check_split_source(config, archive)
    found = archives.find_patches(archive)
    for name, error in found.misplaced:
        faults.add(name, error)
    table = metadata.read(archive, config.include_snow_and_cloud) if archive.layout == "v2" else None
    present = set(found.names)
    excluded = {"folder not named like a patch": found.strange}
    unwanted: set[str] = set()
    for reason, names in _exclusions(config, archive):
        excluded[reason] = excluded.get(reason, 0) + len(present.intersection(names) - unwanted)
        unwanted.update(names)
    present -= unwanted
    wanted = _wanted(config, archive, table, present)
    chosen = _one_split_each((entry for entry in wanted.entries if entry.name not in unwanted), faults)
    excluded[wanted.otherwise] = len(present.difference(entry.name for entry in wanted.entries))
    excluded.update(_drop_absent(chosen, present, archive, faults))
    s1 = _partners(chosen, wanted, archive, table, faults) if archive.s1 else {}
    splits: dict[str, list[str]] = {split: [] for split in lists.SPLITS}
    for entry in chosen.values():
        splits[entry.split].append(entry.name)
    excluded = {reason: count for reason, count in excluded.items() if count}
    if not chosen:
        told = "; ".join(f"{count:,} {reason}" for reason, count in excluded.items())
        raise DataError("no patch is left to convert", path=archive.root, remedy=f"left out: {told}")
    return Selection(splits, excluded, wanted.source, s1, table)


def _check_split_source(config: ConvertConfig, archive: Archive) -> None:
    if config.splits and config.split_fractions:
        raise UsageError("--splits and --split-fractions exclude each other")
    if archive.layout == "v1" and not config.splits and not config.split_fractions:
        raise UsageError(
            "version 1 holds no split",
            path=archive.root,
            remedy="name the published lists with --splits DIR (nearly all of their test patches touch a training "
            "patch, so scores come out too good), or draw blocks apart with --split-fractions 0.6 0.2 0.2",
        )
    if archive.layout != "v2" and config.include_snow_and_cloud:
        raise UsageError(
            "--include-snow-and-cloud is for version 2; version 1 is converted with all but --exclude"
        )


def _exclusions(config: ConvertConfig, archive: Archive) -> Iterable[tuple[str, list[str]]]:
    for path in config.exclude:
        yield f"in {path.name}", [row.s2 for row in lists.read(path)]
    if archive.layout == "v2" and not config.include_snow_and_cloud:
        yield SNOW_AND_CLOUD, metadata.snow_and_cloud(archive)


def _wanted(config: ConvertConfig, archive: Archive, table: Optional[Metadata], present: set[str]) -> Wanted:
    if config.splits:
        return _from_lists(config.splits)
    if config.split_fractions:
        by_block = config.split_by == "block"
        fractions = Fractions(config.split_fractions, config.seed, by_block)
        told = " ".join(str(share) for share in config.split_fractions)
        source = f"fractions {told} of {'blocks of 8 x 8 patches' if by_block else 'single patches'}"
        names = sorted(present) if table is None else table.names
        file = table.file if table else ""
        entries = [Entry(name, fractions.split_of(name), file) for name in names]
        return Wanted(entries, source, f"not in {TABLE}")
    if (records := archive.records) is not None:
        entries = [Entry(name, records.split_of(name), records[name].path) for name in records]
        return Wanted(entries, "names of the TFRecord files", "")
    assert table is not None  # v1 without a source of splits was refused
    entries = [Entry(name, split, table.file) for name, split in zip(table.names, table.splits)]
    return Wanted(entries, TABLE, f"not in {TABLE}")


def _from_lists(directory: Path) -> Wanted:
    entries, s1 = [], {}
    for split, path in lists.split_files(directory).items():
        rows = lists.read(path)
        entries += [Entry(row.s2, split, str(path)) for row in rows]
        s1.update({row.s2: row.s1 for row in rows if row.s1})
    return Wanted(entries, "lists", "in no split list", s1)


def _one_split_each(entries: Iterable[Entry], faults: Faults) -> dict[str, Entry]:
    """Returns the entries by name, without those that come twice."""
    chosen: dict[str, Entry] = {}
    twice: set[str] = set()
    for entry in entries:
        first = chosen.setdefault(entry.name, entry)
        if first is not entry:
            if first.split == entry.split:
                problem, remedy = "is in it twice", "remove one of the two"
            else:
                problem = f"is in two splits, {first.split} and {entry.split}"
                remedy = "decide on one"
            faults.add(entry.name, DataError(problem, path=entry.file, remedy=remedy))
            twice.add(entry.name)
    for name in twice:
        del chosen[name]
    return chosen


def _drop_absent(
    chosen: dict[str, Entry], present: set[str], archive: Archive, faults: Faults
) -> dict[str, int]:
    """Drops patches that the archive has not, and counts them: a half-extracted archive would quarantine thousands."""
    absent = [entry for entry in chosen.values() if entry.name not in present]
    if absent and not faults.skip:
        names = ", ".join([entry.name for entry in absent[:3]] + ["..."] * (len(absent) > 3))
        raise DataError(
            f"{len(absent):,} of {len(chosen):,} listed patches are not in it: {names} (listed in {absent[0].file})",
            path=archive.root,
            remedy="extract the whole archive, or convert what is there with --on-error skip",
        )
    for entry in absent:
        del chosen[entry.name]
    return {"listed, but not in the archive": len(absent)}


def _partners(
    chosen: dict[str, Entry], wanted: Wanted, archive: Archive, table: Optional[Metadata], faults: Faults
) -> dict[str, str]:
    """Finds the Sentinel-1 partners, and drops patches without one."""
    if archive.records is not None:
        s1 = archive.records.s1
    else:
        s1 = table.s1(list(chosen)) if table else wanted.s1 or pair(str(archive.s1), faults, archive.s1_tar)
    for name in [name for name in chosen if name not in s1]:
        faults.add(name, DataError("has no Sentinel-1 partner", path=archive.s1))
        del chosen[name]
    return {name: s1[name] for name in chosen}
