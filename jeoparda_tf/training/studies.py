"""A study: a table of settings, one run a row and seed, read from YAML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from tfrecords_tools.errors import UsageError

from .config import FitConfig

# What a row may set is what `fit` takes, but not what the study itself decides.
_OWN = {"data", "workdir", "resume", "stage", "seed"}
SETTINGS = {field.name for field in dataclasses.fields(FitConfig)} - _OWN
_KEYS = {"title", "mosaics", "train_fraction", "common", "rows", "curves"}
_ROW_KEYS, _MASK_KEYS = {"seeds", "masks"}, {"stride", "mask_epochs", "mask_learning_rate"}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: unique; heads the folders of its runs.
        settings: of `fit`, those common to all rows included.
        changes: those of the row alone.
        seeds: one run for each.
        masks: how its runs' maps are scored: values of `evaluate`'s `stride`, `mask_epochs` and `mask_learning_rate`;
            None where they are not.
    """

    name: str
    settings: Mapping[str, Any]
    changes: Mapping[str, Any]
    seeds: tuple[int, ...]
    masks: Optional[Mapping[str, Any]]


@dataclass(frozen=True)
class Study:
    """The table.

    Attributes:
        title: heads tables and pictures.
        rows: in the order of the file.
        mosaics: how many patches of EuroSAT images are made where there is no other data.
        train_fraction: share of the train and val splits that is trained and validated on; the whole test split is
            scored.
        curves: a setting; one curve for each of its values is drawn, macro F1 over the patches of a step. None for no
            such picture.
    """

    title: str
    rows: tuple[Row, ...]
    mosaics: int
    train_fraction: float
    curves: Optional[str]

    @property
    def runs(self) -> list[tuple[Row, int]]:
        """Rows with their seeds: the first seed of every row before the second of any."""
        rounds = max(len(row.seeds) for row in self.rows)
        return [(row, row.seeds[n]) for n in range(rounds) for row in self.rows if n < len(row.seeds)]


def read(path: Path) -> Study:
    """Reads a study; whether the values of the settings are good is for `fit` to say.

    Raises:
        UsageError: the file cannot be read, is no table of rows, or has a key that is not known.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or what looks like a date and is none
        raise UsageError(f"cannot be read: {error}", path=path) from error
    except yaml.YAMLError as error:
        raise UsageError(f"is no YAML: {' '.join(str(error).split())}", path=path) from error
    content = _mapping(content, "the file", path)
    _known(content, _KEYS, "the file", path)
    common = _mapping(content.get("common") or {}, "common", path)
    _known(common, SETTINGS, "common", path)
    rows = _mapping(content.get("rows"), "rows", path)
    mosaics = content.get("mosaics", 2400)
    if type(mosaics) is not int or mosaics < 1:
        raise UsageError(f"mosaics is {mosaics!r}, but must be a number of patches", path=path)
    fraction, curves = content.get("train_fraction", 1.0), content.get("curves")
    if not isinstance(fraction, (int, float)) or not 0 < fraction <= 1:
        raise UsageError(f"train_fraction is {fraction}, but must be above 0 and at most 1", path=path)
    if curves is not None and curves not in SETTINGS:
        raise UsageError(f"curves is {curves!r}, which is no setting of fit", path=path)
    return Study(
        title=str(content.get("title", path.stem)),
        rows=tuple(_row(str(name), row, common, path) for name, row in rows.items()),
        mosaics=mosaics,
        train_fraction=float(fraction),
        curves=curves,
    )


def _row(name: str, content: Any, common: Mapping[str, Any], path: Path) -> Row:
    where = f"row {name}"
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise UsageError(f"{where}: a name has letters, digits, '-', '_' and '.' only", path=path)
    content = _mapping(content or {}, where, path)
    _known(content, SETTINGS | _ROW_KEYS, where, path)
    seeds = content.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or any(type(seed) is not int or seed < 0 for seed in seeds):
        raise UsageError(f"{where}: seeds must be a list of whole numbers, not {seeds}", path=path)
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"{where}: {seeds} has a seed twice, which is one run", path=path)
    changes = {key: value for key, value in content.items() if key in SETTINGS}
    masks = content.get("masks")
    if masks is not None:
        masks = _mapping(masks, f"{where}, masks,", path)
        _known(masks, _MASK_KEYS, f"{where}, masks", path)
    return Row(name, {**common, **changes}, changes, tuple(seeds), masks)


def _mapping(value: Any, where: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict) or (where == "rows" and not value):
        raise UsageError(
            f"{where} must map names to values", path=path, remedy="see jobs/studies/ladder.yaml"
        )
    return value


def _known(content: Mapping[str, Any], known: set[str], where: str, path: Path) -> None:
    unknown = [str(key) for key in content if key not in known]
    if unknown:
        raise UsageError(
            f"{where}: unknown {', '.join(unknown)}",
            path=path,
            remedy=f"known are: {', '.join(sorted(known))}",
        )
