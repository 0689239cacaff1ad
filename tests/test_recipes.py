"""The recipes under jobs/: each is a file that `fit --config` takes."""

from __future__ import annotations

import pytest
import yaml

from jeoparda_tf.training.config import FitConfig, check
from tests.conftest import REPOSITORY
from tfrecords_tools import cli

RECIPES = sorted((REPOSITORY / "jobs" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_taken_by_fit(recipe):
    config = cli.parse(FitConfig, "fit", "", ["--config", str(recipe), "--data", "d", "--workdir", "w"])
    check(config)
    # Nothing of the file is passed over: every line of it is a setting of the run.
    written = {
        key: tuple(v) if isinstance(v, list) else v for key, v in yaml.safe_load(recipe.read_text()).items()
    }
    assert written
    assert {key: getattr(config, key) for key in written} == written


def test_large_batches_warm_up_and_scale_as_their_optimizer_wants():
    read = {
        path.stem: cli.parse(FitConfig, "fit", "", ["--config", str(path), "--data", "d", "--workdir", "w"])
        for path in RECIPES
    }
    sgd, lamb = read["sgd-linear-scaling"], read["lamb-large-batch"]
    assert (sgd.optimizer, sgd.scale_learning_rate, sgd.warmup_epochs) == ("sgd", True, 5)
    assert (lamb.optimizer, lamb.scale_learning_rate, lamb.warmup_epochs) == ("lamb", False, 5)


# Recipe, published F1 (None: none confirmed), and what makes it that row.
ROWS = [
    ("shallow-20", "0.69", {"model": "shallow", "epochs": 20}),
    (
        "resnet50-20",
        "0.72",
        {"model": "resnet50", "epochs": 20, "schedule": "step", "flips": True, "l2": 1e-4, "dropout": 0.3},
    ),
    (
        "resnet18-mixup-1cycle",
        "0.76",
        {"model": "resnet18", "epochs": 50, "schedule": "1cycle", "augment": "heavy", "mixup": 0.3},
    ),
    ("literature-pretrained-rgb", "0.4988", {"model": "resnet50", "bands": ("rgb",), "init": "imagenet"}),
    ("literature-shallow-rgb", "0.6759", {"model": "shallow", "bands": ("rgb",)}),
    ("literature-shallow-all", "0.7098", {"model": "shallow", "bands": ("all",), "upsample": "bicubic"}),
    ("literature-kbranch", None, {"model": "kbranch", "bands": ("all",)}),
]


@pytest.mark.parametrize(("name", "published", "settings"), ROWS, ids=[row[0] for row in ROWS])
def test_rows_of_the_table_name_their_published_score_beside_ours(name, published, settings):
    path = REPOSITORY / "jobs" / "recipes" / f"{name}.yaml"
    config = cli.parse(FitConfig, "fit", "", ["--config", str(path), "--data", "d", "--workdir", "w"])
    assert {key: getattr(config, key) for key in settings} == settings
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    (score,) = [line for line in comments if line.startswith("# Published: ")]
    assert score.startswith(f"# Published: F1 {published} (" if published else "# Published: no score")
    assert "# Ours: not measured on BigEarthNet." in comments
    if published:
        told = " ".join(
            line.strip("# ") for line in comments[comments.index(score) : comments.index(score) + 3]
        )
        # Source, nomenclature, split and average, or that they are not known.
        assert "slides, 2019" in told or "doi:10.1109/IGARSS.2019.8900532, as quoted by others" in told
        assert "43 classes" in told
        assert (
            "split and bands not stated" in told or "60 / 20 / 20 % for training, validation and test" in told
        )
        assert "average, split and bands not stated" in told or "average unconfirmed" in told
