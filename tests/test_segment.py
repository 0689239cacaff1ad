"""Maps: dense against the classifier, scenes of three kinds, georeference by gdal, valid cloud-optimised GeoTIFFs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jeoparda_tf import models, segment
from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.bigearthnet.nomenclature import CLC43
from jeoparda_tf.models.spec import ModelSpec
from jeoparda_tf.segment import SegmentConfig
from tests.conftest import need_module
from tests.runs import train
from tfrecords_tools.errors import UsageError

pytestmark = pytest.mark.tensorflow

RANDOM = np.random.default_rng(0)
OFFSETS = {"R10m": ("B02", "B03", "B04", "B08"), "R60m": ("B01", "B09")}


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_dense_logits_average_to_the_classifiers_and_finer_ones_hold_the_coarse(name):
    from jeoparda_tf.mapping import dense
    from jeoparda_tf.stack import tf

    spec = ModelSpec(
        name, ("B02", "B03"), bands.S2_FEATURES[:1], CLC43, {"B02": (0.0, 1.0), "B03": (0.0, 1.0)}
    )
    model = models.build(spec)
    for weight in model.weights:
        if (
            len(weight.shape) == 1
        ):  # as after training: biases that borders can show, statistics that are not 0 and 1
            weight.assign(RANDOM.uniform(0.5, 1.5, weight.shape))
    x = {"s2_10m": RANDOM.normal(0, 1, (1, 120, 120, 4)).astype(np.float32)}
    logit = tf.keras.Model(model.inputs, model.get_layer("logits").output)(x).numpy()
    spread = np.abs(logit).max()
    coarse = dense.logits_map(model, 32)(x).numpy()
    assert coarse.shape == (1, 4, 4, 43)
    np.testing.assert_allclose(coarse.mean((1, 2)) / spread, logit / spread, atol=1e-4)
    for stride, size in ((16, 8), (8, 15)):
        fine = dense.logits_map(model, stride)(x).numpy()
        assert fine.shape == (1, size, size, 43)
        np.testing.assert_allclose(
            fine[:, :: 32 // stride, :: 32 // stride] / spread, coarse / spread, atol=1e-4
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("run"), "rgb", "B01")


def pixels(rows: int, columns: int) -> dict[str, np.ndarray]:
    """Numbers of four bands on 10 and 60 m, the last 12 rows of the first 18 columns without data."""
    arrays = {band: RANDOM.integers(1001, 9000, (rows, columns)) for band in OFFSETS["R10m"]}
    arrays.update({band: RANDOM.integers(1001, 9000, (rows // 6, columns // 6)) for band in OFFSETS["R60m"]})
    for array in arrays.values():
        cut = 12 * len(array) // rows
        array[-cut:, : 18 * len(array) // rows] = 0
    return {band: array.astype(np.uint16) for band, array in arrays.items()}


def write_raster(path: Path, layers: list[np.ndarray], gsd: int, driver: str = "GTiff", **options) -> Path:
    import rasterio

    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = layers[0].shape
    transform = rasterio.Affine(gsd, 0, 300_000, 0, -gsd, 5_000_040)
    with rasterio.open(
        path, "w", driver=driver, width=columns, height=rows, count=len(layers), dtype="uint16", crs="EPSG:32633",
        transform=transform, **options,
    ) as file:  # fmt: skip
        file.write(np.stack(layers))
    return path


def write_safe(folder: Path, arrays: dict[str, np.ndarray], shift: int, unit: str = "S2B") -> Path:
    """Writes what the mapping reads of a product, its numbers 1,000 higher where the baseline says so."""
    baseline = "N0400" if shift else "N0214"
    safe = folder / f"{unit}_MSIL2A_20220613T101031_{baseline}_R022_T33UUP_20220613T140000.SAFE"
    ids = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
    listed = "".join(f'<BOA_ADD_OFFSET band_id="{i}">-{shift}</BOA_ADD_OFFSET>' for i in range(len(ids)))
    offsets = f"<BOA_ADD_OFFSET_VALUES_LIST>{listed}</BOA_ADD_OFFSET_VALUES_LIST>" if shift else ""
    safe.mkdir(parents=True)
    (safe / "MTD_MSIL2A.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?><n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/'
        'PSD/User_Product_Level-2A.xsd"><n1:General_Info><Product_Image_Characteristics><QUANTIFICATION_VALUES_LIST>'
        '<BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>'
        f"{offsets}</Product_Image_Characteristics></n1:General_Info></n1:Level-2A_User_Product>"
    )
    images = safe / "GRANULE" / "L2A_T33UUP_A027500_20220613T101031" / "IMG_DATA"
    for sub, names in OFFSETS.items():
        for band in names:
            gsd = int(sub[1:-1])
            stored = np.where(arrays[band] == 0, 0, arrays[band] + shift).astype(np.uint16)
            file = images / sub / f"T33UUP_20220613T101031_{band}_{gsd}m.jp2"
            write_raster(file, [stored], gsd, "JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
    return safe


def mapped(run: Path, scene: Path, out: Path, **flags) -> tuple[np.ndarray, np.ndarray]:
    import rasterio

    out.parent.mkdir(exist_ok=True)
    segment.segment(SegmentConfig(scene=scene, workdir=run, out=out, **{"stride": "8", **flags}))
    with rasterio.open(out) as classes, rasterio.open(out.with_suffix(".probabilities.tif")) as scores:
        return classes.read(1), scores.read()


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """A stacked GeoTIFF of 156 x 264 pixels, all on the 10 m grid; what it is made of."""
    folder = tmp_path_factory.mktemp("scene")
    arrays = pixels(156, 264)
    layers = [arrays["B04"], arrays["B02"], np.kron(arrays["B01"], np.ones((6, 6), np.uint16)), arrays["B03"]]
    return write_raster(folder / "stack.tif", layers, 10), arrays


STACK = {"bands": ("B04", "B02", "B01", "B03")}


def test_map_is_the_class_of_the_highest_score_and_depends_on_no_batch(run, scene, tmp_path):
    path, arrays = scene
    classes, scores = mapped(run, path, tmp_path / "a.tif", batch=1, **STACK)
    other, other_scores = mapped(run, path, tmp_path / "b.tif", batch=5, **STACK)
    empty = arrays["B02"] == 0
    assert empty.sum() == 12 * 18
    assert (classes[empty] == 255).all()
    assert (scores[:, empty] == 255).all()
    assert set(np.unique(classes[~empty])) <= set(range(1, 20))
    chosen = np.take_along_axis(scores, np.clip(classes - 1, 0, 18)[None].astype(int), 0)[0]
    assert (chosen == scores.max(0)).all()
    np.testing.assert_array_equal(classes, other)
    np.testing.assert_array_equal(scores, other_scores)
    nothing, _ = mapped(run, path, tmp_path / "c.tif", threshold=1.0, **STACK)
    assert set(np.unique(nothing)) == {0, 255}


def test_offset_of_new_products_is_taken_off_and_all_kinds_of_scenes_give_the_same(run, scene, tmp_path):
    path, arrays = scene
    _, expected = mapped(run, path, tmp_path / "stack.tif", **STACK)
    for shift, unit in ((0, "S2A"), (1000, "S2B"), (1000, "S2C")):
        safe = write_safe(tmp_path / unit, arrays, shift, unit)
        _, scores = mapped(run, safe, tmp_path / f"{unit}.tif")
        assert np.abs(scores.astype(int) - expected).max() <= 1
    raised = [np.where(a == 0, 0, 2 * a + 500) for a in (arrays["B04"], arrays["B02"], arrays["B03"])]
    raised.insert(2, np.kron(np.where(arrays["B01"] == 0, 0, 2 * arrays["B01"] + 500), np.ones((6, 6))))
    other = write_raster(tmp_path / "raised.tif", [layer.astype(np.uint16) for layer in raised], 10)
    _, scores = mapped(run, other, tmp_path / "r.tif", scale=0.00005, offset=-0.025, **STACK)
    assert np.abs(scores.astype(int) - expected).max() <= 1


def test_a_patch_folder_is_one_tile_whose_scores_are_the_dense_ones(run, tmp_path):
    from jeoparda_tf.mapping import dense
    from jeoparda_tf.training import workdir
    from tests.test_predict import write_patch

    folder = write_patch(tmp_path / "patch_0", 0)
    _, scores = mapped(run, folder, tmp_path / "patch.tif")
    import rasterio

    model, spec, _ = workdir.load_model(run)
    arrays = {f.name: np.zeros((1, *f.shape), f.dtype) for f in spec.features}
    for feature in spec.features:
        for index, band in enumerate(feature.band_names):
            with rasterio.open(folder / f"patch_0_{band}.tif") as file:
                arrays[feature.name][0, ..., index] = file.read(1)
    logits = dense.logits_map(model, 8)(arrays).numpy()[0]
    assert logits.shape == (15, 15, 19)
    # Where a place lies, at the middle between the four pixels around it, the map is its score.
    centre = 1 / (1 + np.exp(-logits[7, 7]))
    around = scores[:, 59:61, 59:61].mean((1, 2)) / 250
    np.testing.assert_allclose(around, centre, atol=0.03)


def test_georeference_is_what_gdal_reads_and_the_files_are_cloud_optimised(run, scene, tmp_path):
    need_module("osgeo")
    mapped(run, scene[0], tmp_path / "a.tif", **STACK)
    # In another process: rasterio brings a libgdal of its own.
    script = """
import json, sys
from osgeo import gdal
from osgeo_utils.samples.validate_cloud_optimized_geotiff import validate
gdal.UseExceptions()
for path in sys.argv[1:]:
    warnings, errors, _ = validate(path, full_check=True)
    file = gdal.Open(path)
    band = file.GetRasterBand(1)
    table = band.GetColorTable()
    print(json.dumps([errors, file.GetGeoTransform(), file.GetSpatialRef().GetAuthorityCode(None), file.RasterXSize,
                      file.RasterYSize, band.GetNoDataValue(), table and list(table.GetColorEntry(1))]))
"""
    paths = [str(tmp_path / "a.tif"), str(tmp_path / "a.probabilities.tif")]
    done = subprocess.run(
        [sys.executable, "-c", script, *paths], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    place = [[], [300_000, 10, 0, 5_000_040, 0, -10], "32633", 264, 156, 255]
    # Urban fabric, the first class, in CORINE's colour of 111.
    assert first == [*place, [230, 0, 77, 255]]
    assert second == [*place, None]
    assert 'label="Urban fabric"' in (tmp_path / "a.qml").read_text()
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_what_does_not_fit_is_said_before_anything_is_written(run, scene, tmp_path):
    with pytest.raises(UsageError, match="needs band B04, B03"):
        mapped(run, scene[0], tmp_path / "a.tif", bands=("B01", "B02"))
    with pytest.raises(UsageError, match="no such scene"):
        mapped(run, tmp_path / "none", tmp_path / "a.tif")
    with pytest.raises(UsageError, match="--probabilities must name a file in a folder that exists"):
        mapped(run, scene[0], tmp_path / "a.tif", probabilities=tmp_path / "none" / "p.tif")
    assert not list(tmp_path.iterdir())


def test_tiles_cover_every_side_and_begin_on_the_60_m_grid():
    from jeoparda_tf.mapping.tiles import starts

    assert starts(120, 120, 6) == [0]
    assert starts(80, 120, 6) == [0]
    assert starts(156, 120, 6) == [0, 36]
    assert starts(264, 120, 6) == [0, 60, 120, 144]
    assert starts(241, 120, 6) == [0, 60, 120, 126]
