"""The recipes under jobs/: each is a file that `fit --config` takes."""

from __future__ import annotations

import pytest

from jeoparda_tf.training.config import FitConfig, check
from tests.conftest import REPOSITORY
from tfrecords_tools import cli

RECIPES = sorted((REPOSITORY / "jobs" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_taken_by_fit(recipe):
    config = cli.parse(FitConfig, "fit", "", ["--config", str(recipe), "--data", "d", "--workdir", "w"])
    check(config)


def test_large_batches_warm_up_and_scale_as_their_optimizer_wants():
    read = {
        path.stem: cli.parse(FitConfig, "fit", "", ["--config", str(path), "--data", "d", "--workdir", "w"])
        for path in RECIPES
    }
    sgd, lamb = read["sgd-linear-scaling"], read["lamb-large-batch"]
    assert (sgd.optimizer, sgd.scale_learning_rate, sgd.warmup_epochs) == ("sgd", True, 5)
    assert (lamb.optimizer, lamb.scale_learning_rate, lamb.warmup_epochs) == ("lamb", False, 5)
