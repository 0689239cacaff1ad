"""What the pictures of shards hold: pixels, names, counts."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from tests import shards
from tfrecords_tools import manifest, plots, show
from tfrecords_tools.errors import DataError
from tfrecords_tools.pictures import stretch


@pytest.fixture
def small(tmp_path):
    shards.write_small(tmp_path)
    return tmp_path


def test_patches_hold_the_stretched_pixels(small):
    known = manifest.read(small)
    records = [show.read_record(small, known, "train", number) for number in (0, 1)]
    figure = plots.patches(records, known)
    assert "2nd to its 98th percentile. Pixels: random numbers." in figure.get_supxlabel()
    first = figure.subfigs[0]
    assert first.get_suptitle() == "p0\noften"
    assert [axes.get_title() for axes in first.axes] == ["heat: near, near, far", "one: far"]
    near, far = records[0]["grid"][..., 0], records[0]["grid"][..., 1]
    expected = stretch(np.stack([near, near, far], axis=-1), 2, 98)
    np.testing.assert_array_equal(first.axes[0].images[0].get_array(), expected)
    np.testing.assert_array_equal(first.axes[1].images[0].get_array(), stretch(far[..., None], 2, 98)[..., 0])


def test_bands_come_by_wavelength_each_alone_and_maps_with_their_classes(small):
    known = manifest.read(small)
    turned = (known.features[0], known.features[1])
    bands = (manifest.Band("far"), manifest.Band("near", 850.0))
    # "near" is stored second, but has a wavelength.
    turned = (dataclasses.replace(turned[0], bands=bands), turned[1])
    names = dataclasses.replace(shards.SMALL_CLASSES, codes=((1, 2), (7,), ()))
    known = dataclasses.replace(known, features=turned, nomenclature=names)
    record = show.read_record(small, known, "train", 1)
    record["map"] = np.array([[7, 7, 7, 7], [7, 7, 2, 2], [7, 7, 2, 9], [7, 7, 7, 7]], np.uint16)
    figure = plots.bands([record], known)
    part = figure.subfigs[0]
    near, far, codes, legend = part.axes
    assert part.get_suptitle() == "p1\nrare; often"
    # Digital numbers 1001, 1003, ..., 1031: percentiles 2 and 98 of 16 numbers.
    assert near.get_title() == "near, 850 nm, 30 m\n1,002 to 1,030"
    assert far.get_title() == "far, 30 m\n1,001 to 1,029"
    np.testing.assert_array_equal(near.images[0].get_array(), stretch(record["grid"][..., 1:], 2, 98)[..., 0])
    assert (near.images[0].norm.vmin, near.images[0].norm.vmax) == (0, 1)
    shown = np.asarray(codes.images[0].get_array())
    assert shown.shape == (4, 4, 3)
    assert len({tuple(colour) for colour in shown.reshape(-1, 3)}) == 3
    assert [text.get_text() for text in legend.get_legend().get_texts()] == [
        "7 often",
        "2 rare",
        "9 no class",
    ]
    first = legend.get_legend().get_patches()[0].get_facecolor()[:3]
    np.testing.assert_allclose(shown[0, 0], first)


def test_classes_are_counted_by_split_and_their_imbalance_is_said(small):
    figure = plots.classes(manifest.read(small))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["often", "rare", "[bold]never"]
    train, val = axes.lines
    assert (train.get_label(), train.get_xdata().tolist()) == ("train", [3, 1])
    assert np.rint(train.get_ydata()).tolist() == [0, 1]
    assert (val.get_label(), val.get_xdata().tolist()) == ("val", [])
    right = [label.get_text() for label in axes.child_axes[0].get_yticklabels()]
    assert right == ["75.0 %", "25.0 %", "none"]
    words = (
        "3 classes, 1 never; the most frequent occurs 3 times as often as the rarest; 1.00 labels a record"
    )
    assert words in figure.get_suptitle()


def test_nothing_touches_the_edge_of_a_picture_or_another_name(small):
    known = manifest.read(small)
    long = "Land principally occupied by agriculture, with significant areas of natural vegetation"
    many = manifest.Nomenclature("many", (*(f"{long[:-3]} {i:02d}" for i in range(20)), "x"), ())
    splits = {
        name: dataclasses.replace(split, label_counts=tuple(3**i % 1_000_003 for i in range(21)))
        for name, split in known.splits.items()
    }
    record = show.read_record(small, known, "train", 1)
    pictures = (
        plots.patches([record], known), plots.bands([record, record], known),
        plots.classes(dataclasses.replace(known, nomenclature=many, splits=splits)),
    )  # fmt: skip
    for figure in pictures:
        drawn = io.BytesIO()
        figure.savefig(drawn)
        image = np.asarray(Image.open(drawn).convert("RGB"))
        for edge in (image[0], image[-1], image[:, 0], image[:, -1]):
            assert (edge > 250).all()
    boxes = [label.get_window_extent() for label in pictures[-1].axes[0].get_yticklabels()]
    for upper, lower in zip(boxes, boxes[1:]):
        assert lower.y1 <= upper.y0 + 1


def test_no_labels_to_count(small):
    known = manifest.read(small)
    splits = {
        name: dataclasses.replace(split, label_counts=(0, 0, 0)) for name, split in known.splits.items()
    }
    with pytest.raises(DataError, match="no labels to count"):
        plots.classes(dataclasses.replace(known, splits=splits))
