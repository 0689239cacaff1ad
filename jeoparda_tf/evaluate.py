"""Scores a trained model on a split of its data: F1, precision, recall and average precision.

With --masks it scores maps instead: pixel accuracy and intersection over union against the patches' reference maps.
Over ranks, put `horovodrun -np 2` before the command: the scores are the same for any number of ranks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Literal, Optional, TypeVar, Union

import numpy as np

from tfrecords_tools import cli, table
from tfrecords_tools import manifest as manifests
from tfrecords_tools.cli import option
from tfrecords_tools.errors import DataError, PeerError, UsageError, UserError
from tfrecords_tools.manifest import Feature, Manifest

from .bigearthnet.bands import MAP_FEATURE
from .models.spec import ModelSpec, check_data
from .scoring import hierarchy, masks, results, thresholds
from .scoring.masks import MaskScores
from .scoring.scores import Scores, score
from .training import workdir

T = TypeVar("T")
# Columns of a table in a log: the longest class name takes two lines.
_LOG_WIDTH = 110
# Records that --fine-tune-masks shuffles at once, of 190 kB each.
_SHUFFLE = 512


@dataclass(frozen=True)
class EvaluateConfig:
    """What to score, and how scores become predictions."""

    workdir: Path = option("of the run that `fit` made")
    split: str = option("split of the data to score", "test")
    data: Optional[Path] = option("directory of shards; without it, the one the run was trained on", None)
    checkpoint: Union[Literal["best", "last"], int] = option(
        "best (by macro F1 on validation), last, or the number of a step", "best"
    )
    tune_thresholds: bool = option("find each class's threshold of the best F1 on the val split first", False)
    threshold: float = option("for all classes, where they are not tuned", thresholds.DEFAULT)
    batch: int = option("patches of one rank at a time", 64)
    masks: bool = option("score maps of the patches against their reference maps, instead of names", False)
    stride: Literal["32", "16", "8"] = option("with --masks: pixels between two places that are named", "8")
    fine_tune_masks: bool = option(
        "with --masks: train the last layer on the train split's maps first", False
    )
    mask_head: bool = option("with --masks: take the last layer that --fine-tune-masks trained before", False)
    mask_epochs: int = option("of --fine-tune-masks", 5)
    mask_learning_rate: float = option("of --fine-tune-masks (Adam)", 0.001)


@dataclass(frozen=True)
class Plan:
    """An evaluation whose parts were found to fit together."""

    config: EvaluateConfig
    directory: Path
    manifest: Manifest
    spec: ModelSpec


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        about: what was scored: `split`, `data`, `origin`, `nomenclature`, `model`, `step`, `thresholds`.
        result: the scores.
        levels: the scores in the coarser nomenclatures, where the model has the 43 classes; else empty.
        seconds: that prediction took, from the first batch to the last.
        path: of the JSON file.
    """

    about: dict[str, Any]
    result: Scores
    levels: hierarchy.Levels
    seconds: float
    path: Path


@dataclass(frozen=True)
class MaskEvaluation:
    """A finished evaluation of maps; `about`, `seconds` and `path` as in `Evaluation`, `records` are its patches."""

    about: dict[str, Any]
    result: MaskScores
    records: int
    seconds: float
    path: Path


def plan(config: EvaluateConfig) -> Plan:
    """Checks all that can be checked without TensorFlow.

    Raises:
        UsageError: a flag's value is out of range, the workdir is none, the data is not where the run had it.
        DataError: the data lacks the split, or is not what the model was made for.
    """
    if not 0 <= config.threshold <= 1:
        raise UsageError(f"--threshold is {config.threshold}, but must be 0 to 1")
    if config.batch < 1:
        raise UsageError(f"--batch is {config.batch}, but must be at least 1")
    if config.masks and config.tune_thresholds:
        raise UsageError("--masks takes the class of the highest score: there is no threshold to tune")
    if (config.fine_tune_masks or config.mask_head) and not config.masks:
        raise UsageError("--fine-tune-masks and --mask-head go with --masks")
    if config.mask_epochs < 1 or config.mask_learning_rate <= 0:
        raise UsageError("--mask-epochs must be at least 1, --mask-learning-rate positive")
    settings = workdir.read_config(config.workdir)
    directory = config.data or Path(settings["data"])
    if config.data is None and not directory.is_dir():
        raise UsageError("the run's data is not there any more", path=directory, remedy="name it with --data")
    manifest, spec = manifests.read(directory), workdir.read_spec(config.workdir)
    check_data(spec, manifest, directory)
    for split in (
        config.split,
        *(["val"] if config.tune_thresholds else []),
        *(["train"] if config.fine_tune_masks else []),
    ):
        if not manifest.split(split, directory).records:
            raise DataError(f"split {split!r} has no records", path=directory)
    stored = [feature.name for feature in manifest.features]
    if config.masks and MAP_FEATURE.name not in stored:
        remedy = "convert version 2 with --reference-maps, and name the shards with --data"
        raise UsageError("the data has no reference maps", path=directory, remedy=remedy)
    return Plan(config, directory, manifest, spec)


def evaluate(job: Plan) -> Evaluation:
    """Predicts the split on all ranks, scores it, and has rank 0 write the files.

    Returns:
        the same on every rank.

    Raises:
        UserError: with what was wrong on the lowest rank where something was; silent on the others.
    """
    return _over_ranks(lambda: _evaluate(job))


def evaluate_masks(job: Plan) -> MaskEvaluation:
    """Maps the patches of the split on all ranks and scores the maps, from counts summed over the ranks.

    Returns:
        the same on every rank.

    Raises:
        UserError: as in `evaluate`; a UsageError where the model gives no map.
    """
    return _over_ranks(lambda: _evaluate_masks(job))


def _over_ranks(action: Callable[[], T]) -> T:
    from .stack import tf
    from .training import distributed

    distributed.start()
    try:
        return action()
    except tf.errors.OpError as error:
        if distributed.is_peer_failure(error):
            raise PeerError(1) from error
        raise


def _evaluate(job: Plan) -> Evaluation:
    from .training import distributed

    config, classes = job.config, job.manifest.nomenclature.classes
    model, _, step = _together(lambda: workdir.load_model(config.workdir, config.checkpoint))
    about = _about(job, step)
    cuts: Union[float, np.ndarray] = config.threshold
    if config.tune_thresholds:
        scores, labels = _predict(job, model, "val")
        cuts = thresholds.tune(labels, scores)
    begin = time.perf_counter()
    scores, labels = _predict(job, model, config.split)
    seconds = time.perf_counter() - begin
    result = score(labels, scores, cuts)
    levels = hierarchy.by_level(job.manifest.nomenclature, result, labels, scores)
    how = "tuned on val" if config.tune_thresholds else f"{config.threshold:g} for all classes"
    about["thresholds"] = how
    if distributed.rank() == 0:
        if config.tune_thresholds:
            results.write_thresholds(config.workdir, {**about, "split": "val"}, classes, result.thresholds)
        results.write(config.workdir, about, result, classes, labels, scores, levels)
    return Evaluation(
        about, result, levels, seconds, config.workdir / results.FOLDER / f"{config.split}.json"
    )


def _evaluate_masks(job: Plan) -> MaskEvaluation:
    from .mapping import dense, fine_tune
    from .mapping import masks as counting
    from .training import distributed

    config, names = job.config, job.spec.nomenclature
    model, _, step = _together(lambda: workdir.load_model(config.workdir, config.checkpoint))
    logits = _together(lambda: dense.logits_map(model, int(config.stride)))
    feature = next(f for f in job.manifest.features if f.name == MAP_FEATURE.name)
    folder, stride = config.workdir / results.FOLDER, int(config.stride)
    if config.fine_tune_masks:
        _fine_tune(job, logits, feature)
        if distributed.rank() == 0:
            fine_tune.write(logits, folder, step=step, stride=stride)
    elif config.mask_head:
        _together(lambda: fine_tune.load(logits, folder, step=step, stride=stride))
    dataset, batches = _part(job, config.split, (*job.spec.features, feature))
    begin = time.perf_counter()
    counts, labels = _together(
        lambda: counting.confusion(logits, dataset, names, feature.name, job.directory, batches)
    )
    total, labels = distributed.gather(counts[None]).sum(0), distributed.gather(labels)
    seconds = time.perf_counter() - begin
    _together(lambda: check_records(job.directory, job.manifest, config.split, labels))
    result = masks.score(total[:, :-1], int(total[0, -1]))
    trained = config.fine_tune_masks or config.mask_head
    about = {**_about(job, step), "stride": stride, "head": "reference maps" if trained else "classifier"}
    path = folder / f"{config.split}-masks{'-fine-tuned' if trained else ''}.json"
    if distributed.rank() == 0:
        results.write_json(path, {**about, "records": len(labels), **result.to_json(names.classes)})
    return MaskEvaluation(about, result, len(labels), seconds, path)


def _fine_tune(job: Plan, logits: Any, feature: Feature) -> None:
    """Trains the last layer on the reference maps of the train split, over all ranks."""
    from .input import pipeline, sampling
    from .mapping import fine_tune
    from .training import distributed

    config, size = job.config, distributed.size()
    records = job.manifest.splits["train"].records
    batch = max(1, min(config.batch, records // size))
    if not sampling.steps_per_epoch(records, size, batch):
        raise UsageError(f"{records} training records are fewer than {size} ranks")

    def epoch(number: int) -> Any:
        return pipeline.for_training(
            job.directory, job.manifest, (*job.spec.features, feature), batch=batch, epoch=number, seed=0,
            rank=distributed.rank(), size=size, flips=False, shuffle_buffer=_SHUFFLE,
            threads=distributed.threads() if distributed.local_size() > 1 else 0,
        )  # fmt: skip

    fine_tune.train(
        logits, epoch, job.spec.nomenclature, feature.name, epochs=config.mask_epochs,
        learning_rate=config.mask_learning_rate, mean=distributed.mean, mean_gradients=distributed.mean_gradients,
    )  # fmt: skip


def _about(job: Plan, step: int) -> dict[str, Any]:
    return {
        "split": job.config.split, "data": str(job.directory.resolve()), "origin": job.manifest.origin,
        "nomenclature": job.manifest.nomenclature.name, "model": job.spec.name, "step": step,
    }  # fmt: skip


def _part(job: Plan, split: str, features: Sequence[Feature]) -> tuple[Any, int]:
    """Returns this rank's part of a split, and in how many batches it comes."""
    from .input import pipeline
    from .training import distributed

    size, batch = distributed.size(), job.config.batch
    dataset = pipeline.for_evaluation(
        job.directory, job.manifest, split, features, batch=batch, rank=distributed.rank(), size=size,
        threads=distributed.threads() if distributed.local_size() > 1 else 0,
    )  # fmt: skip
    return dataset, -(-job.manifest.splits[split].records // (size * batch))


def _predict(job: Plan, model: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores and labels of a whole split, in the order of its records, on every rank."""
    from .scoring import inference
    from .training import distributed

    dataset, batches = _part(job, split, job.spec.features)
    part = _together(lambda: inference.predict(model, dataset, directory=job.directory, batches=batches))
    scores, labels = (distributed.gather(array) for array in part)
    _together(lambda: check_complete(job.directory, job.manifest, split, scores, labels))
    return scores, labels


def check_complete(
    directory: Path, manifest: Manifest, split: str, scores: np.ndarray, labels: np.ndarray
) -> None:
    """Raises a DataError unless every record of a split was predicted once, in order, each class with a number."""
    check_records(directory, manifest, split, labels)
    wrong = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(wrong):
        where = f"{len(wrong)} records of {split}, first for record {wrong[0]}"
        remedy = "take an earlier --checkpoint, or train with a lower learning rate"
        raise DataError(f"the model gives no number for {where}", path=directory, remedy=remedy)


def check_records(directory: Path, manifest: Manifest, split: str, labels: np.ndarray) -> None:
    """Raises a DataError unless the labels that were read are those of every record of a split, in order."""
    # A name the nomenclature lacks leaves its row short: it cannot equal the record's.
    expected = table.read_labels(directory, split, manifest.nomenclature.classes)
    if len(labels) != manifest.splits[split].records or not np.array_equal(labels, expected):
        problem = f"the records of {split} are not those that {manifests.TABLE_NAME} lists"
        remedy = f"`python -m tfrecords_tools.verify {directory}` finds out why"
        raise DataError(problem, path=directory, remedy=remedy)


def _together(action: Callable[[], T]) -> T:
    """Does something on every rank; if it fails on any, all end, and the lowest such rank says why."""
    from .training import distributed

    done: list[T] = []
    problem: Optional[UserError] = None
    try:
        done.append(action())
    except UserError as error:
        problem = error
    distributed.agree(problem)
    return done[0]


def show(evaluation: Evaluation, classes: Sequence[str]) -> None:
    """Prints the tables, and where the files are."""
    about, records = evaluation.about, evaluation.result.records
    title = f"{_title(about, records, len(classes))}, thresholds: {about['thresholds']}"
    console = _console()
    console.print(results.class_table(evaluation.result, classes, title))
    console.print(results.average_table(evaluation.result))
    if evaluation.levels:
        console.print(results.level_table(evaluation.levels))
    rate = records / evaluation.seconds
    print(f"predicted in {evaluation.seconds:.1f} s ({rate:,.0f} patches/s)\nwritten: {evaluation.path}")


def show_masks(evaluation: MaskEvaluation, classes: tuple[str, ...]) -> None:
    """Prints the table and the averages, and where the file is."""
    about, result, records = evaluation.about, evaluation.result, evaluation.records
    how = f"a place every {about['stride']} pixels, last layer of the {about['head']}"
    title = f"{_title(about, records, len(classes))}, {how}"
    _console().print(masks.class_table(result, classes, title))
    present = int(np.isfinite(result.iou).sum())
    print(
        f"pixel accuracy {result.accuracy:.3f}, mean IoU {result.mean_iou:.3f} of the {present} classes above"
    )
    print(f"pixels: {result.confusion.sum():,} compared, {result.ignored:,} whose code has no class ignored")
    rate = records / evaluation.seconds
    print(f"mapped in {evaluation.seconds:.1f} s ({rate:,.0f} patches/s)\nwritten: {evaluation.path}")


def _title(about: dict[str, Any], records: int, classes: int) -> str:
    origin = "" if about["origin"] == "BigEarthNet" else f"Not BigEarthNet: {about['origin']}. "
    return (
        f"{origin}{about['split']} split, {records:,} patches, {about['nomenclature']} ({classes} classes), "
        f"{about['model']} of step {about['step']}"
    )


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    return console


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Parses the flags, evaluates, prints the scores."""
    config = cli.parse(EvaluateConfig, "python -m jeoparda_tf.evaluate", __doc__, argv)
    job = cli.once(lambda: plan(config))
    classes = job.manifest.nomenclature.classes
    if config.masks:
        scored = evaluate_masks(job)
        if cli.is_first_rank():
            show_masks(scored, classes)
        return
    evaluation = evaluate(job)
    if cli.is_first_rank():
        show(evaluation, classes)


if __name__ == "__main__":
    cli.run(main)
