"""Scores of one 43-class model at CORINE's levels 1, 2 and 3 and in the 19-class nomenclature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tfrecords_tools.manifest import Nomenclature

from ..bigearthnet.nomenclature import BEN19, CLC43, CLC_LEVEL_1, CLC_LEVEL_2, roll_up
from .scores import Scores, score


class Level(NamedTuple):
    """The scores in one nomenclature."""

    nomenclature: Nomenclature
    scores: Scores


Levels = Mapping[str, Level]


def by_level(
    nomenclature: Nomenclature, result: Scores, labels: np.ndarray, scores: np.ndarray
) -> dict[str, Level]:
    """Scores predictions of the 43 classes in the nomenclatures they imply.

    A parent's label, prediction and score are the maximum of its children's, so it is predicted where any child is,
    whatever the thresholds of the children. All records count, those without a 19-class label too.

    Args:
        nomenclature: of the model.
        result: the scores of its own classes, with their thresholds.
        labels: 0/1 [records, classes].
        scores: float [records, classes].

    Returns:
        the scores by the nomenclature's name, level 3 as it was; empty for other models than of the 43 classes.
    """
    if nomenclature != CLC43:
        return {}
    predicted = scores >= result.thresholds
    levels = {"clc_level_3": Level(CLC43, result)}
    for coarser in (CLC_LEVEL_1, CLC_LEVEL_2, BEN19):
        parts = [roll_up(values, CLC43, coarser) for values in (labels, scores, predicted)]
        levels[coarser.name] = Level(coarser, score(parts[0], parts[1], predicted=parts[2]))
    return {name: levels[name] for name in ("clc_level_1", "clc_level_2", "clc_level_3", "ben19")}
