"""Scores at CORINE's levels and in 19 classes, by hand and by what must hold of any predictions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from jeoparda_tf.bigearthnet.nomenclature import (
    BEN19,
    CLASSES,
    CLC43,
    CLC_LEVEL_1,
    CLC_LEVEL_2,
    LEVEL_1,
    LEVEL_2,
    roll_up,
)
from jeoparda_tf.scoring import hierarchy, results
from jeoparda_tf.scoring.scores import score

COLUMN = {c.code: number for number, c in enumerate(CLASSES)}


def vectors(*patches: dict[int, float]) -> np.ndarray:
    """One row a patch, of values by CORINE code."""
    out = np.zeros((len(patches), 43), np.float32)
    for row, patch in zip(out, patches):
        for code, value in patch.items():
            row[COLUMN[code]] = value
    return out


def by_level(labels, scores, thresholds=0.5):
    return hierarchy.by_level(CLC43, score(labels, scores, thresholds), labels, scores)


def counts(level: hierarchy.Level, name: str) -> tuple[int, int, int]:
    index = level.nomenclature.classes.index(name)
    return tuple(int(getattr(level.scores, key)[index]) for key in ("tp", "fp", "fn"))


def test_the_groups_are_corines():
    assert CLC_LEVEL_1.codes[3] == (411, 412, 421, 422, 423)
    assert dict(zip(CLC_LEVEL_2.classes, CLC_LEVEL_2.codes))["Heterogeneous agricultural areas"] == (
        241,
        242,
        243,
        244,
    )
    assert [len(codes) for codes in CLC_LEVEL_1.codes] == [11, 11, 11, 5, 5]
    for level in (CLC_LEVEL_1, CLC_LEVEL_2):
        assert sorted(code for codes in level.codes for code in codes) == [c.code for c in CLASSES]
    assert len(LEVEL_1) == 5
    assert len(LEVEL_2) == 15


def test_by_hand():
    # Sibling for sibling: right at level 2, wrong at level 3. A dropped class says nothing among the 19.
    labels = vectors({111: 1}, {312: 1, 122: 1}, {423: 1})
    scores = vectors({112: 0.9}, {311: 0.8, 122: 0.7}, {421: 0.6})
    levels = by_level(labels, scores)
    assert list(levels) == ["clc_level_1", "clc_level_2", "clc_level_3", "ben19"]
    assert counts(levels["clc_level_3"], "Continuous urban fabric") == (0, 0, 1)
    assert counts(levels["clc_level_2"], "Urban fabric") == (1, 0, 0)
    assert counts(levels["clc_level_1"], "Artificial surfaces") == (2, 0, 0)
    assert counts(levels["ben19"], "Urban fabric") == (1, 0, 0)
    assert counts(levels["clc_level_2"], "Coastal wetlands") == (1, 0, 0)
    # Intertidal flats are dropped, salt marshes are not: the same name, other members.
    assert counts(levels["ben19"], "Coastal wetlands") == (0, 1, 0)
    assert counts(levels["ben19"], "Coniferous forest") == (0, 0, 1)
    assert levels["clc_level_3"].scores.micro.f1 == pytest.approx(2 * 1 / (2 * 1 + 3 + 3))
    assert levels["clc_level_2"].scores.micro.f1 == 1
    assert levels["clc_level_1"].scores.macro.f1 == pytest.approx(3 / 5)
    assert levels["ben19"].scores.micro.f1 == pytest.approx(2 * 1 / (2 * 1 + 2 + 1))


def test_a_parent_is_predicted_where_a_child_is_whatever_their_thresholds():
    thresholds = np.full(43, 0.5)
    thresholds[COLUMN[111]], thresholds[COLUMN[112]] = 0.9, 0.2
    labels = vectors({111: 1}, {112: 1})
    levels = by_level(labels, vectors({111: 0.8}, {112: 0.3}), thresholds)
    # 0.8 is the higher score, but below its own class's threshold.
    assert counts(levels["clc_level_2"], "Urban fabric") == (1, 0, 1)


def test_other_models_have_no_levels():
    labels = np.ones((2, 19))
    assert hierarchy.by_level(BEN19, score(labels, labels), labels, labels) == {}


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_parents_are_consistent_with_children(seed, records):
    random = np.random.default_rng(seed)
    labels = random.random((records, 43)) < 0.15
    scores = np.round(random.random((records, 43)), 1)
    thresholds = np.round(random.random(43), 1)
    levels = by_level(labels, scores, thresholds)
    predicted = scores >= thresholds
    for level in levels.values():
        assert level.scores.records == records
        for index, codes in enumerate(level.nomenclature.codes):
            children = [COLUMN[code] for code in codes]
            truth, found = labels[:, children].any(1), predicted[:, children].any(1)
            result = level.scores
            assert result.support[index] == truth.sum()
            assert (result.tp[index], result.fp[index]) == ((truth & found).sum(), (~truth & found).sum())
        groups = [[COLUMN[code] for code in codes] for codes in level.nomenclature.codes]
        truth, found = (np.stack([x[:, group].any(1) for group in groups], 1) for x in (labels, predicted))
        expected = f1_score(truth, found, average=None, zero_division=0)
        np.testing.assert_allclose(level.scores.f1, np.atleast_1d(expected), atol=1e-12)
    # Level 1 by way of level 2 is level 1.
    second = roll_up(scores, CLC43, CLC_LEVEL_2)
    for index, first in enumerate(LEVEL_1):
        members = [number for number, code in enumerate(LEVEL_2) if code // 10 == first]
        np.testing.assert_array_equal(
            second[:, members].max(1), roll_up(scores, CLC43, CLC_LEVEL_1)[:, index]
        )


def test_file_and_table_hold_every_level(tmp_path):
    labels, scores = vectors({111: 1}, {312: 1}), vectors({112: 0.9}, {312: 0.8})
    result = score(labels, scores)
    levels = by_level(labels, scores)
    path = results.write(tmp_path, {"split": "test"}, result, CLC43.classes, labels, scores, levels)
    written = json.loads(path.read_text())["levels"]
    assert written["clc_level_2"]["averages"]["micro"]["f1"] == 1
    assert written["clc_level_3"]["averages"]["micro"]["f1"] == 0.5
    urban = written["clc_level_2"]["classes"][0]
    assert (urban["name"], urban["codes"], urban["tp"]) == ("Urban fabric", [111, 112], 1)
    table = results.level_table(levels)
    assert table.columns[0]._cells == list(levels)
    assert table.columns[2]._cells == ["1.000", "1.000", "0.500", "1.000"]
    assert table.columns[3]._cells == ["0.400", "0.133", "0.023", "0.105"]
