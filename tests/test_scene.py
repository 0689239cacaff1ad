from __future__ import annotations

import numpy as np
import pytest

from jeoparda_tf.bigearthnet.bands import S2_FEATURES
from jeoparda_tf.bigearthnet.nomenclature import CLASSES
from jeoparda_tf.synthetic import landcover, noise, scene, spectra
from jeoparda_tf.synthetic.places import TILES, Place

CODES = [c.code for c in CLASSES]


@pytest.fixture(scope="module")
def pictures() -> list[scene.Picture]:
    draw = scene.Scene(seed=5, s1=True)
    # Far apart, so that many of the classes occur.
    return [draw(Place(tile, 8 * i % 91, 13 * i % 91, "train", None)) for tile in TILES for i in range(1, 20)]


def test_noise_is_uniform_and_differs_by_field() -> None:
    cells = np.arange(-300, 300)
    first, second = (noise.uniform(noise.key(name), cells[None], cells[:, None]) for name in ("a", "b"))
    counts = np.histogram(first, 10, (0.0, 1.0))[0]
    assert counts.sum() == first.size
    assert np.abs(counts / first.size - 0.1).max() < 0.003
    for other in (second, np.roll(first, 1, 0), np.roll(first, 1, 1), first.T):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.01


def test_smooth_noise_goes_through_its_lattice_and_stays_in_range() -> None:
    field, points = 42, np.arange(-5, 5)
    lattice = 2.0 * noise.uniform(field, points[None], points[:, None]) - 1.0
    at_points = noise.smooth(field, 100.0 * points, 100.0 * points, size=100.0)
    np.testing.assert_allclose(at_points, lattice, atol=1e-12)
    halfway = noise.smooth(field, np.array([50.0]), np.array([0.0]), size=100.0)
    np.testing.assert_allclose(halfway, lattice[5, 5:7].mean(), atol=1e-12)
    many = noise.smooth(field, np.arange(0, 5e3, 7.0), np.arange(0, 5e3, 7.0), 900.0, octaves=5)
    assert np.abs(many).max() <= 1.0


def test_regions_run_on_across_patches() -> None:
    x, y = 404_400 + 10.0 * np.arange(240), 5_342_400 - 10.0 * np.arange(120)
    whole = landcover.regions(0, 33, x, y)
    left, right = landcover.regions(0, 33, x[:120], y), landcover.regions(0, 33, x[120:], y)
    for part in range(3):
        assert np.array_equal(whole[part], np.hstack([left[part], right[part]]))
    # A region has one class, and neighbouring pixels nearly always the same.
    assert len(set(zip(*(a.ravel().tolist() for a in whole)))) == len(
        set(zip(whole.column.ravel().tolist(), whole.row.ravel().tolist()))
    )
    assert (whole.classes[:, 1:] == whole.classes[:, :-1]).mean() > 0.95


def test_classes_are_drawn_with_the_archives_imbalance_tempered() -> None:
    # Every region once: its cell's class, over an area larger than any archive written.
    cells = np.arange(200)
    classes = landcover._class_of(0, 33, np.tile(cells, (200, 1)), np.tile(cells[:, None], (1, 200)))
    share = np.bincount(classes.ravel(), minlength=43) / classes.size
    wanted = np.sqrt([c.patches for c in CLASSES])
    np.testing.assert_allclose(share, wanted / wanted.sum(), rtol=0.35)
    assert share[CODES.index(313)] > 15 * share[CODES.index(334)]


def test_labels_per_patch_are_about_as_many_as_in_the_archive(pictures: list[scene.Picture]) -> None:
    labels = [len(np.unique(picture.mask)) for picture in pictures]
    assert 2.4 < np.mean(labels) < 3.5  # 2.97 in the archive
    for picture in pictures:
        codes, counts = np.unique(picture.mask, return_counts=True)
        assert set(codes.tolist()) <= set(CODES)
        assert counts.min() >= 0.02 * 14400


def test_arrays_are_as_the_features_say(pictures: list[scene.Picture]) -> None:
    for feature in S2_FEATURES:
        for band in feature.band_names:
            array = pictures[0].s2[band]
            assert array.dtype == np.uint16
            assert array.shape == feature.shape[:2]
            assert array.min() >= 1
    assert pictures[0].mask.dtype == np.uint16
    assert pictures[0].s1 is not None
    assert {a.dtype.name for a in pictures[0].s1.values()} == {"float32"}


def test_levels_are_those_of_the_archive(pictures: list[scene.Picture]) -> None:
    # Means of BigEarthNet version 1: within a third of them.
    wanted = {
        "B02": 430,
        "B04": 590,
        "B05": 951,
        "B08": 2219,
        "B8A": 2266,
        "B09": 2246,
        "B11": 1594,
        "B12": 1009,
    }
    for band, mean in wanted.items():
        assert np.mean([picture.s2[band] for picture in pictures]) == pytest.approx(mean, rel=0.34)


def test_block_mean_by_hand() -> None:
    array = np.array([[1, 3, 0, 0], [5, 7, 0, 4]], float)
    assert scene.block_mean(array, 2).tolist() == [[4, 1]]


def test_coarser_bands_are_means_of_the_fine_grid() -> None:
    class Still:
        @staticmethod
        def standard_normal(shape: tuple[int, ...], dtype: type) -> np.ndarray:
            return np.zeros(shape, dtype)

    fine = np.random.default_rng(0).uniform(100, 3000, (240, 240, 12))
    bands = scene._sentinel2(fine, np.ones(12), Still())  # type: ignore[arg-type]
    for name, factor in {"B03": 2, "B11": 4, "B09": 12}.items():
        band = fine[..., spectra.SPECTRUM_BANDS.index(name)]
        wanted = [
            [band[r : r + factor, c : c + factor].mean() for c in range(0, 240, factor)]
            for r in range(0, 240, factor)
        ]
        np.testing.assert_allclose(bands[name], np.rint(wanted))


def _pure_pixels(picture: scene.Picture) -> tuple[np.ndarray, np.ndarray]:
    """Spectra and textures of 60 m pixels that hold one class, [n, 24], and their codes [n]."""
    blocks = picture.mask.reshape(20, 6, 20, 6).swapaxes(1, 2).reshape(400, 36)
    pure = (blocks == blocks[:, :1]).all(1)
    columns = []
    for array in picture.s2.values():
        cells = array.reshape(20, len(array) // 20, 20, len(array) // 20).swapaxes(1, 2).reshape(400, -1)
        columns += [cells.mean(1), cells.std(1)]
    return np.log(np.stack(columns, 1)[pure] + 20.0), blocks[pure, 0]


def test_classes_can_be_told_apart(pictures: list[scene.Picture]) -> None:
    spectra_of, codes = (np.concatenate(part) for part in zip(*map(_pure_pixels, pictures)))
    half = np.arange(len(codes)) % 2 == 0
    known = np.unique(codes[half])
    assert len(known) > 30
    means = np.stack([spectra_of[half][codes[half] == code].mean(0) for code in known])
    spread = spectra_of[half].std(0)
    distance = (((spectra_of[~half][:, None] - means) / spread) ** 2).sum(-1)
    accuracy = (known[distance.argmin(1)] == codes[~half]).mean()
    commonest = np.bincount(codes).max() / len(codes)
    assert accuracy > 3 * commonest
    assert accuracy > 0.5


def test_radar_sees_smooth_water_dark_and_towns_bright(pictures: list[scene.Picture]) -> None:
    def mean_vv(*codes: int) -> float:
        values = [p.s1["VV"][np.isin(p.mask, codes)] for p in pictures if p.s1]
        return float(np.concatenate(values).mean())

    assert mean_vv(512, 511) < -18
    assert mean_vv(111, 112, 121) > -8.5
    assert -16 < mean_vv(211, 231) < -10
    assert all((p.s1["VH"].mean() < p.s1["VV"].mean()) for p in pictures if p.s1)


def test_snow_and_cloud_hide_the_ground_but_not_its_labels() -> None:
    clear, snow, cloud = (
        scene.Scene(0)(Place(TILES[0], 7, 9, "train", veil)) for veil in (None, "snow", "cloud")
    )
    assert np.array_equal(clear.mask, snow.mask)
    assert min(snow.s2["B02"].mean(), cloud.s2["B02"].mean()) > 4 * clear.s2["B02"].mean()
    assert snow.s2["B11"].mean() < 0.5 * cloud.s2["B11"].mean()  # what tells snow from cloud


def test_every_class_has_a_look_of_its_own() -> None:
    looks = list(spectra._LOOKS.values())
    assert list(spectra._LOOKS) == CODES
    assert len(set(looks)) == 43
    assert all(0.0 < look.share <= 0.5 for look in looks)  # so that share * (1 + field) is a fraction
