"""A study's table: what a row sets, in which order the runs come, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from jeoparda_tf.figures import style
from jeoparda_tf.figures.study import Found, Result, draw
from jeoparda_tf.training import studies
from jeoparda_tf.training.config import FitConfig, check
from tests.conftest import REPOSITORY
from tfrecords_tools.errors import UsageError

TABLE = """
title: Two rows
mosaics: 30
train_fraction: 0.5
curves: optimizer
common: {model: tiny, epochs: 3, bands: [rgb]}
rows:
  plain: {seeds: [4, 7], masks: {stride: 32, mask_epochs: 1}}
  mixed: {mixup: 0.3, epochs: 2}
"""


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.yaml"
    path.write_text(text)
    return path


def test_rows_change_what_is_common(tmp_path):
    study = studies.read(_write(tmp_path, TABLE))
    assert (study.title, study.mosaics, study.train_fraction, study.curves) == (
        "Two rows",
        30,
        0.5,
        "optimizer",
    )
    plain, mixed = study.rows
    assert plain.settings == {"model": "tiny", "epochs": 3, "bands": ["rgb"]}
    assert mixed.settings == {"model": "tiny", "epochs": 2, "bands": ["rgb"], "mixup": 0.3}
    assert (plain.changes, mixed.changes) == ({}, {"mixup": 0.3, "epochs": 2})
    assert (plain.seeds, mixed.seeds) == ((4, 7), (0,))
    assert (plain.masks, mixed.masks) == ({"stride": 32, "mask_epochs": 1}, None)
    # Every row has a first run before any has a second.
    assert [(row.name, seed) for row, seed in study.runs] == [("plain", 4), ("mixed", 0), ("plain", 7)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rows: {a: {mixupp: 0.3}}", "row a: unknown mixupp"),
        ("rows: {a: {seed: 1}}", "row a: unknown seed"),
        ("rows: {a: {}}\ncommon: {workdir: x}", "common: unknown workdir"),
        ("rows: {a: {}}\ncolour: red", "the file: unknown colour"),
        ("rows: {}", "rows must map names to values"),
        ("title: x", "rows must map names to values"),
        ("- a", "the file must map names to values"),
        ("rows: {a: {seeds: 3}}", "seeds must be a list of whole numbers, not 3"),
        ("rows: {a: {seeds: []}}", "seeds must be a list of whole numbers"),
        ("rows: {a: {seeds: [true]}}", "seeds must be a list of whole numbers"),
        ("rows: {../a: {}}", "a name has letters, digits"),
        ("rows: {a: {}}\ntrain_fraction: 0", "train_fraction is 0, but must be above 0"),
        ("rows: {a: {}}\nmosaics: few", "mosaics is 'few'"),
        ("rows: {a: {}}\ncurves: colour", "curves is 'colour', which is no setting of fit"),
        ("rows: {a: {masks: true}}", "row a, masks, must map names to values"),
        ("rows: {a: {masks: {epochs: 3}}}", "row a, masks: unknown epochs"),
        ("rows: [", "is no YAML"),
    ],
)
def test_what_is_no_table(tmp_path, text, problem):
    with pytest.raises(UsageError, match=r"table\.yaml") as caught:
        studies.read(_write(tmp_path, text))
    assert problem in str(caught.value)


def test_a_missing_table(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        studies.read(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "jobs" / "studies").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_studies_under_jobs_are_such_tables(path):
    study = studies.read(path)
    for row in study.rows:
        values = {
            key: tuple(value) if isinstance(value, list) else value for key, value in row.settings.items()
        }
        config = dataclasses.replace(FitConfig(data=Path("d"), workdir=Path("w")), **values)
        check(config)
    # The same for all, or it is no comparison.
    assert len({row.settings["epochs"] for row in study.rows}) == 1


def test_curves_mark_every_run_and_tell_tuned_ones_from_others():
    def result(seed: int, size: int, macro: float) -> Result:
        scores = {"micro": 0.9, "macro": macro, "micro_tuned": 0.9, "macro_tuned": macro + 0.25}
        return Result(f"sgd-{size}", "", seed, "", scores, size, "sgd", 1, 1.0, {})

    found = Found("A", ("b",), (result(0, 32, 0.5), result(1, 32, 0.25), result(0, 64, 0.125)), "optimizer")
    lines = draw(found)["curves"].figure.axes[0].lines
    marks = {
        line.get_markerfacecolor(): list(line.get_ydata()) for line in lines if line.get_marker() != "None"
    }
    assert marks == {style.BLUE: [0.5, 0.25, 0.125], "white": [0.75, 0.5, 0.375]}
    means = {line.get_linestyle(): list(line.get_ydata()) for line in lines if line.get_marker() == "None"}
    assert means == {"-": [0.375, 0.125], "--": [0.625, 0.375]}
