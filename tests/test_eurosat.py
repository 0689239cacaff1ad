from __future__ import annotations

import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jeoparda_tf.synthetic import eurosat
from jeoparda_tf.synthetic.places import SPLITS, plan
from jeoparda_tf.synthetic.scene import block_mean
from tests import archives
from tfrecords_tools.errors import DataError, UsageError


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of noise, three JPEGs for each class and split."""
    return archives.eurosat_images(tmp_path_factory.mktemp("eurosat") / "EuroSAT_RGB", 3)


def _variants(path: Path) -> list[np.ndarray]:
    """The eight ways an image's middle may lie in a mosaic, as digital numbers of B04, B03, B02."""
    with Image.open(path) as image:
        middle = np.asarray(image.convert("RGB"))[2:62, 2:62]
    turned = [np.rot90(middle, k) for k in range(4)]
    return [np.rint(a * (2750 / 255)).astype(np.uint16) for a in turned + [a[:, ::-1] for a in turned]]


def test_mosaics_are_real_pixels_of_their_own_split(images: Path) -> None:
    draw = eurosat.Mosaics(eurosat.find(images), seed=1)
    sources = {path: _variants(path) for path in images.rglob("*.jpg")}
    used: dict[str, set[Path]] = {split: set() for split in SPLITS}
    for place in plan(12, "v1", seed=1, veils=False):
        picture = draw(place)
        rgb = np.stack([picture.s2[band] for band in ("B04", "B03", "B02")], -1)
        for corner in ((0, 0), (0, 60), (60, 0), (60, 60)):
            window = tuple(slice(start, start + 60) for start in corner)
            found = [
                p for p, variants in sources.items() if any(np.array_equal(rgb[window], v) for v in variants)
            ]
            assert len(found) == 1
            assert np.unique(picture.mask[window]).tolist() == [eurosat.CODES[found[0].parent.name]]
            used[place.split].add(found[0])
    assert all(used.values())
    for split, paths in used.items():
        assert {eurosat.split_of(f"{path.parent.name}/{path.name}") for path in paths} == {split}
    assert sum(map(len, used.values())) == len(set.union(*used.values()))


def test_other_bands_are_block_means_of_the_three(images: Path) -> None:
    picture = eurosat.Mosaics(eurosat.find(images), seed=1)(plan(5, "v1", 1)[0])
    red, green, blue = (picture.s2[band].astype(float) for band in ("B04", "B03", "B02"))
    # Half a digital number of rounding on either side.
    np.testing.assert_allclose(picture.s2["B05"], block_mean((red + green) / 2, 2), atol=1.01)
    np.testing.assert_allclose(picture.s2["B09"], block_mean((red + 2 * green + blue) / 4, 6), atol=1.01)
    assert {name: len(a) for name, a in picture.s2.items()} == {
        **dict.fromkeys(("B02", "B03", "B04", "B08"), 120),
        **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 60),
        **dict.fromkeys(("B01", "B09"), 20),
    }


def test_numbers_of_classes_and_no_patch_of_highway_alone() -> None:
    rng = np.random.default_rng(0)
    drawn = [eurosat._quarters(rng) for _ in range(4000)]
    sizes = Counter(len(set(quarters)) for quarters in drawn)
    for size, share in {1: 0.2, 2: 0.35, 3: 0.3, 4: 0.15}.items():
        assert sizes[size] / 4000 == pytest.approx(share, abs=0.03)
    assert ["Highway"] * 4 not in drawn
    assert {len(quarters) for quarters in drawn} == {4}


def test_tar_and_folder_give_the_same(images: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "eurosat.tar", "w") as tar:
        tar.add(images, "EuroSAT_RGB")
    place = plan(5, "v1", 0)[0]
    first, second = (eurosat.Mosaics(eurosat.find(s), 0)(place) for s in (images, tmp_path / "eurosat.tar"))
    assert all(np.array_equal(first.s2[band], second.s2[band]) for band in first.s2)


def test_bad_sources_are_named(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such tar or folder"):
        eurosat.find(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no EuroSAT image"):
        eurosat.find(tmp_path)
    with tarfile.open(tmp_path / "eurosat.tar.gz", "w:gz") as tar:
        tar.add(images, "EuroSAT_RGB")
    with pytest.raises(UsageError, match="nor an uncompressed tar"):
        eurosat.find(tmp_path / "eurosat.tar.gz")
    for name in eurosat.CODES:
        if name != "River":
            for path in (images / name).iterdir():
                target = tmp_path / "copy" / name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="no image of River for the train split"):
        eurosat.find(tmp_path / "copy")


@pytest.mark.parametrize("content", ["text", "truncated", "large"])
def test_broken_images_are_named(content: str, images: Path, tmp_path: Path) -> None:
    path = tmp_path / "River_1.jpg"
    good = next((images / "River").iterdir()).read_bytes()
    path.write_bytes(b"no image" if content == "text" else good[:400])
    if content == "large":
        Image.new("RGB", (65, 64)).save(path)
    with pytest.raises(DataError, match=r"River_1\.jpg"):
        eurosat.Image("River_1.jpg", path).read()


def test_the_real_images_fill_every_split(shared_data: Path) -> None:
    pools = eurosat.find(shared_data / "eurosat_rgb_half.tar")
    counts = {split: sum(map(len, pools[split].values())) for split in SPLITS}
    assert sum(counts.values()) == 13_418
    assert counts["train"] / 13_418 == pytest.approx(0.6, abs=0.02)
    names = [{image.name for pool in pools[split].values() for image in pool} for split in SPLITS]
    assert len(set.union(*names)) == sum(map(len, names)) == 13_418
