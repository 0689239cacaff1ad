from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import f1_score, precision_recall_curve

from jeoparda_tf.bigearthnet.nomenclature import BEN19, CLC43
from jeoparda_tf.figures import classes, confusion, curves, page, patches, precision_recall, signatures, style
from jeoparda_tf.figures.evaluation import Evaluation, read
from tests import runs
from tfrecords_tools.errors import DataError, UsageError
from tfrecords_tools.manifest import Band, Feature

YES, NO = True, False


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    runs.write(folder / "run", folder / "data")
    return folder / "run"


@pytest.fixture(scope="module")
def evaluation(run: Path) -> Evaluation:
    return read(run, "test")


def small(labels: list[list[bool]], scores: list[list[float]]) -> Evaluation:
    """An evaluation of a few patches of classes a, b, c ..., threshold 0.5."""
    count = len(labels[0])
    return Evaluation(
        "test", tuple("abcdefgh"[:count]), "letters", "random numbers", Path("nowhere"), 1, "0.5 for all classes",
        np.array(labels), np.array(scores, np.float32), np.full(count, 0.5),
    )  # fmt: skip


def assert_drawn(picture: style.Picture) -> np.ndarray:
    """The PNG opens, has ink and colours, and nothing touches its edges, where it would be cut."""
    image = np.asarray(Image.open(io.BytesIO(picture.png())).convert("RGB"))
    assert image.shape[1] == round(style.WIDTH * style.DPI)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    assert (image < 128).any(axis=2).mean() > 0.005
    for edge in (image[0], image[-1], image[:, 0], image[:, -1]):
        assert (edge > 250).all()
    assert picture.alt
    assert picture.caption
    return image


def texts(figure: Figure) -> str:
    return "\n".join(t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text")))


class TestCurves:
    def test_reads_what_training_writes(self, tmp_path: Path) -> None:
        (tmp_path / "h.csv").write_text(
            "epoch,step,learning_rate,loss,val_loss,val_f1_macro,val_f1_micro\n1,9,0.1,0.7,0.6,0.2,0.5\n2,18,0.01,0.5,0.4,0.3,0.4\n3,27,0.001,0.4,,,\n"
        )
        history = curves.read_history(tmp_path / "h.csv")
        np.testing.assert_array_equal(history["loss"], [0.7, 0.5, 0.4])
        np.testing.assert_array_equal(history["val_loss"], [0.6, 0.4, np.nan])
        assert curves.best_epoch(history) == 1
        figure = curves.draw(history, "a note").figure
        loss, f1, rate = figure.axes
        np.testing.assert_array_equal(loss.lines[0].get_xydata(), [[1, 0.7], [2, 0.5], [3, 0.4]])
        np.testing.assert_array_equal(f1.lines[0].get_ydata()[:2], [0.5, 0.4])
        np.testing.assert_array_equal(f1.lines[1].get_ydata()[:2], [0.2, 0.3])
        np.testing.assert_array_equal(rate.lines[0].get_ydata(), [0.1, 0.01, 0.001])
        assert "best macro F1: 0.300 in epoch 2" in texts(figure)

    @pytest.mark.parametrize(("epochs", "validated"), [(1, True), (20, True), (5, False)])
    def test_draws(self, tmp_path: Path, epochs: int, validated: bool) -> None:
        runs.write_history(tmp_path / "h.csv", epochs, validated)
        assert_drawn(curves.draw(curves.read_history(tmp_path / "h.csv"), "note"))

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (None, "cannot be read"),
            ("", "no epoch has ended"),
            ("epoch,loss\n1,2\n", "no column learning_rate"),
            ("epoch,loss\n1,x\n", "not a table of numbers"),
            ("epoch,loss\n1\n2,3,4\n", "not a table of numbers|no column"),
        ],
    )
    def test_damaged(self, tmp_path: Path, text: str | None, problem: str) -> None:
        if text is not None:
            (tmp_path / "h.csv").write_text(text)
        with pytest.raises(DataError, match=problem) as caught:
            curves.read_history(tmp_path / "h.csv")
        assert caught.value.path == str(tmp_path / "h.csv")


class TestSpread:
    @given(st.lists(st.floats(0, 1), max_size=8))
    def test_gap_order_and_limits(self, positions: list[float]) -> None:
        moved = style.spread(positions, 0.11, 0, 1)
        order = np.argsort(positions, kind="stable")
        assert (np.diff(moved[order]) >= 0.11 - 1e-9).all()
        assert (moved >= -1e-9).all()
        assert (moved <= 1 + 1e-9).all()

    def test_leaves_what_is_apart_and_parts_the_rest_evenly(self) -> None:
        np.testing.assert_allclose(style.spread([0.5, 0.9, 0.5], 0.1, 0, 1), [0.45, 0.9, 0.55])


class TestClasses:
    def test_points_are_support_and_f1(self) -> None:
        found = small(
            [[YES, NO, NO], [YES, YES, NO], [NO, YES, NO]],
            [[0.9, 0.1, 0.1], [0.5, 0.2, 0.1], [0.8, 0.7, 0.2]],
        )
        axes = classes.against_support(found).figure.axes[0]
        # a: TP 2, FP 1, FN 0; b: TP 1, FN 1; c does not occur. Thresholds take in what equals them.
        np.testing.assert_allclose(axes.lines[0].get_xydata(), [[2, 0.8], [2, 2 / 3]])
        assert axes.get_xscale() == "log"
        assert "mean 0.733" in texts(axes.figure)

    def test_bars_are_sorted_by_support_with_all_names(self, evaluation: Evaluation) -> None:
        axes = classes.bars(evaluation).figure.axes[0]
        result = evaluation.result
        order = sorted(range(43), key=lambda i: -result.support[i])
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], result.f1[order])
        names = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]
        assert names == [CLC43.classes[i] for i in order]

    def test_no_name_touches_another_or_the_frame(self, evaluation: Evaluation) -> None:
        figure = classes.against_support(evaluation).figure
        axes = figure.axes[0]
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) > 10
        for number, box in enumerate(boxes):
            assert not box.count_overlaps(boxes[number + 1 :])
            assert axes.bbox.x0 <= box.x0
            assert box.x1 <= axes.bbox.x1

    def test_bar_labels_do_not_touch(self, evaluation: Evaluation) -> None:
        figure = classes.bars(evaluation).figure
        figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
        for upper, lower in zip(boxes, boxes[1:]):
            assert lower.y1 <= upper.y0 + 1


class TestPrecisionRecall:
    def test_points_equal_sklearn(self, evaluation: Evaluation) -> None:
        scores = np.round(evaluation.scores, 2)  # ties
        for i in np.flatnonzero(evaluation.labels.any(axis=0)):
            recall, precision = precision_recall.curve(evaluation.labels[:, i], scores[:, i])
            theirs = precision_recall_curve(evaluation.labels[:, i], scores[:, i])
            np.testing.assert_allclose(precision, theirs[0][:-1][::-1])
            np.testing.assert_allclose(recall, theirs[1][:-1][::-1])

    def test_by_hand(self) -> None:
        recall, precision = precision_recall.curve(
            np.array([YES, NO, YES, NO]), np.array([0.9, 0.8, 0.8, 0.1])
        )
        np.testing.assert_allclose(recall, [0.5, 1, 1])
        np.testing.assert_allclose(precision, [1, 2 / 3, 2 / 4])

    def test_chooses_the_ends_without_absent_classes(self) -> None:
        often, rare = precision_recall.chosen(np.array([5, 0, 9, 1, 7, 2, 8, 3, 6]))
        assert often.tolist() == [2, 6, 4, 8]
        assert rare.tolist() == [3, 5, 7, 0]
        often, rare = precision_recall.chosen(np.array([0, 4, 0]))
        assert (often.tolist(), rare.tolist()) == ([1], [])

    def test_dot_lies_on_its_curve(self, evaluation: Evaluation) -> None:
        result = evaluation.result
        for i in np.flatnonzero(result.support):
            recall, precision = precision_recall.curve(evaluation.labels[:, i], evaluation.scores[:, i])
            if evaluation.predicted[:, i].any():
                assert np.isclose(recall, result.recall[i])[np.isclose(precision, result.precision[i])].any()


class TestConfusion:
    LABELS = np.array([[YES, NO, NO], [YES, NO, NO], [YES, YES, NO], [NO, YES, NO]])
    PREDICTED = np.array([[YES, YES, NO], [YES, NO, YES], [NO, YES, NO], [YES, NO, NO]])

    def test_by_hand(self) -> None:
        shares, counted = confusion.false_alarms_given(self.LABELS, self.PREDICTED)
        nan = np.nan
        # Two patches have a but not b, in one of them b was predicted; one has b but not a, and a was predicted.
        np.testing.assert_allclose(shares, [[nan, 1 / 2, 1 / 3], [1, nan, 0], [nan, nan, nan]])
        np.testing.assert_array_equal(counted, [[0, 2, 3], [1, 0, 2], [0, 0, 0]])
        np.testing.assert_allclose(confusion.false_alarms(self.LABELS, self.PREDICTED), [1, 1 / 2, 1 / 4])

    def test_equals_counting_patch_by_patch(self, evaluation: Evaluation) -> None:
        labels, predicted = evaluation.labels[:, :8], evaluation.predicted[:, :8]
        shares, counted = confusion.false_alarms_given(labels, predicted)
        for i in range(8):
            for j in range(8):
                members = labels[:, i] & ~labels[:, j]
                assert counted[i, j] == members.sum()
                assert (
                    np.isnan(shares[i, j])
                    if not members.any()
                    else shares[i, j] == predicted[members, j].mean()
                )

    def test_first_row_is_any_patch(self) -> None:
        figure = confusion.draw(small(self.LABELS.tolist(), self.PREDICTED.astype(float).tolist())).figure
        # c has no patch and is not shown.
        shown = [text.get_text() for text in figure.axes[0].texts]
        assert shown == ["100", "50", "·", "50", "100", "·"]


class TestPatches:
    def test_sample_f1_equals_sklearn(self, evaluation: Evaluation) -> None:
        f1 = patches.sample_f1(evaluation.labels, evaluation.predicted)
        theirs = f1_score(evaluation.labels, evaluation.predicted, average="samples", zero_division=0)
        assert f1.mean() == pytest.approx(theirs)
        assert patches.sample_f1(np.array([[YES, YES, NO]]), np.array([[YES, NO, YES]])) == pytest.approx(
            [0.5]
        )

    def test_picks_extremes_and_median_once_each(self) -> None:
        labels = np.array([[YES, NO, NO], [YES, YES, NO], [YES, YES, YES], [NO, YES, NO], [YES, YES, NO]])
        predicted = np.array([[YES, NO, NO], [YES, YES, NO], [NO, NO, NO], [YES, NO, NO], [YES, NO, YES]])
        # F1: 1, 1, 0, 0, 0.5; more labels win among equals.
        assert patches.choose(labels, predicted, 1) == {"best": [1], "typical": [4], "worst": [2]}
        everything = [i for picked in patches.choose(labels, predicted, 2).values() for i in picked]
        assert sorted(everything) == [0, 1, 2, 3, 4]

    def test_reads_the_records_that_were_evaluated(self, evaluation: Evaluation) -> None:
        shown, displays = patches.examples(evaluation)
        assert [example.kind for example in shown] == ["best"] * 2 + ["typical"] * 2 + ["worst"] * 2
        f1 = patches.sample_f1(evaluation.labels, evaluation.predicted)
        for example in shown:
            assert example.name == f"S2A_MSIL2A_20170613T101031_{example.index}_7"
            assert example.f1 == f1[example.index]
            marks = {"right": [], "missed": [], "false alarm": []}
            for mark, name in example.names:
                marks[mark].append(CLC43.classes.index(name))
            assert (
                sorted(marks["right"] + marks["missed"])
                == np.flatnonzero(evaluation.labels[example.index]).tolist()
            )
            assert (
                sorted(marks["right"] + marks["false alarm"])
                == np.flatnonzero(evaluation.predicted[example.index]).tolist()
            )
            assert example.images["RGB"].shape == (12, 12, 3)
        assert list(displays) == ["RGB", "false colour"]

    def test_shortens_the_list_of_a_poor_model(self, evaluation: Evaluation) -> None:
        everything = replace(evaluation, thresholds=np.zeros(43))
        shown, displays = patches.examples(everything)
        written = texts(patches.draw(everything, shown, displays).figure)
        alarms = 43 - int(evaluation.labels[shown[0].index].sum())
        assert f"and {alarms - 6} more" in written
        first = [name for mark, name in shown[0].names if mark == "false alarm"]
        scores = [evaluation.scores[shown[0].index, CLC43.classes.index(name)] for name in first]
        assert scores == sorted(scores, reverse=True)

    def test_refuses_other_records(self, evaluation: Evaluation) -> None:
        with pytest.raises(DataError, match="other test records"):
            patches.examples(
                replace(evaluation, labels=evaluation.labels[:-1], scores=evaluation.scores[:-1])
            )
        with pytest.raises(DataError, match="other test records"):
            patches.examples(
                replace(evaluation, labels=evaluation.labels[::-1], scores=evaluation.scores[::-1])
            )

    def test_missing_folder_and_shard(self, evaluation: Evaluation, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such directory"):
            patches.examples(replace(evaluation, data=tmp_path / "gone"))
        for name in ("manifest.json", "records.parquet"):
            (tmp_path / name).write_bytes((evaluation.data / name).read_bytes())
        with pytest.raises(DataError, match="cannot be read") as caught:
            patches.examples(replace(evaluation, data=tmp_path))
        assert caught.value.path is not None
        assert caught.value.path.endswith(".tfrecord")


def draw_all(evaluation: Evaluation) -> list[style.Picture]:
    return [
        classes.against_support(evaluation),
        classes.bars(evaluation),
        precision_recall.draw(evaluation),
        confusion.draw(evaluation),
        patches.draw(evaluation, *patches.examples(evaluation)),
    ]


class TestEveryPicture:
    def test_43_classes(self, evaluation: Evaluation) -> None:
        for picture in draw_all(evaluation):
            assert_drawn(picture)
            note = texts(picture.figure).replace("\n", " ")
            for part in ("test split", "300 patches", "clc43", "Not BigEarthNet: synthetic sample"):
                assert part in note, picture.name

    def test_19_classes_of_the_archive_itself(self, tmp_path: Path) -> None:
        runs.write(tmp_path / "run", tmp_path / "data", patches=40, nomenclature=BEN19, origin="BigEarthNet")
        for picture in draw_all(read(tmp_path / "run", "test")):
            assert_drawn(picture)
            assert "Not BigEarthNet" not in texts(picture.figure)

    @pytest.mark.parametrize("score", [0.0, 1.0])
    def test_one_patch_one_class(self, score: float) -> None:
        found = small([[YES]], [[score]])
        for draw in (classes.against_support, classes.bars, precision_recall.draw, confusion.draw):
            assert_drawn(draw(found))

    def test_same_bytes_again(self, evaluation: Evaluation) -> None:
        assert classes.bars(evaluation).png() == classes.bars(evaluation).png()


class TestEvaluation:
    def test_reads_what_evaluate_writes(self, evaluation: Evaluation) -> None:
        labels, scores = runs.correlated(300)
        np.testing.assert_array_equal(evaluation.labels, labels)
        np.testing.assert_array_equal(evaluation.scores, scores)
        assert evaluation.classes == CLC43.classes
        assert evaluation.step == 1700
        assert (
            evaluation.note
            == "test split, 300 patches, clc43 (43 classes). Not BigEarthNet: synthetic sample"
        )

    def test_thresholds_in_words(self, evaluation: Evaluation) -> None:
        assert evaluation.threshold_note == "thresholds 0.5 for all classes"
        tuned = replace(evaluation, decision="tuned on val", thresholds=np.linspace(0.25, 0.75, 43))
        assert tuned.threshold_note == "thresholds tuned on val (0.25 to 0.75)"

    def test_class_rows_are_sorted_and_mark_what_is_absent(self) -> None:
        rows = page.class_rows(small([[NO, YES, NO], [YES, YES, NO]], [[0.9, 0.9, 0.9], [0.9, 0.1, 0.1]]))
        assert [row["name"] for row in rows] == ["b", "a", "c"]
        assert [row["f1"] for row in rows] == ["0.667", "0.667", "–"]
        assert (rows[2]["fp"], rows[2]["average_precision"]) == ("1", "–")

    def test_not_evaluated(self, run: Path) -> None:
        with pytest.raises(UsageError, match="no evaluation of the val split") as caught:
            read(run, "val")
        assert "jeoparda_tf.evaluate" in str(caught.value)
        assert "--split val" in str(caught.value)


class TestSignatures:
    def test_by_hand(self) -> None:
        features = (
            Feature("fine", "uint16", (2, 2, 2), 10, (Band("B", 800.0), Band("A", 500.0))),
            Feature("radar", "float32", (2, 2, 1), 10, (Band("VV"),)),
        )
        pixels = [np.array([[[1, 10], [3, 10]], [[1, 10], [3, 10]]]), np.full((2, 2, 2), 6)]
        records = [
            {"fine": array, "radar": np.zeros((2, 2, 1)), "labels": np.array(labels)}
            for array, labels in zip(pixels, ([1, 1, 0], [0, 1, 0]))
        ]
        found = signatures.measure(records, features, 3)
        assert found.bands == ("A", "B")
        assert found.wavelengths.tolist() == [500, 800]
        assert found.patches.tolist() == [1, 2, 0]
        # The second class: patch means (10, 2) and (6, 6).
        np.testing.assert_allclose(found.mean[:2], [[10, 2], [8, 4]])
        np.testing.assert_allclose(found.spread[:2], [[0, 0], [2, 2]])
        assert np.isnan(found.mean[2]).all()

    def test_draws_the_most_frequent_classes_of_the_shards(self, evaluation: Evaluation) -> None:
        found = signatures.read(evaluation)
        assert found.patches.tolist() == evaluation.labels.sum(0).tolist()
        picture = signatures.draw(evaluation, found)
        assert_drawn(picture)
        panels = [axes for axes in picture.figure.axes if axes.lines]
        first = int(np.argmax(found.patches))
        assert len(panels) == 8
        np.testing.assert_allclose(panels[0].lines[0].get_ydata(), found.mean[first] / 10_000)
        assert panels[0].get_title("left").endswith(f",\u00a0{found.patches[first]:,}")
        picture.figure.draw_without_rendering()
        for left, right in zip(panels[::2], panels[1::2]):
            assert left._left_title.get_window_extent().x1 < right._left_title.get_window_extent().x0
