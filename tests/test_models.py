"""Models against keras.applications, upsampling against TensorFlow's, normalising by hand."""

from __future__ import annotations

import numpy as np
import pytest

from jeoparda_tf import models
from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.bigearthnet.nomenclature import BEN19, CLC43
from jeoparda_tf.models import head, inputs, resnet
from jeoparda_tf.models.spec import ModelSpec, check_data, spec_for
from jeoparda_tf.stack import tf
from tests import shards
from tfrecords_tools.errors import DataError, UsageError

pytestmark = pytest.mark.tensorflow

RANDOM = np.random.default_rng(0)


def spec(name: str = "tiny", choice: tuple[str, ...] = ("all",), **settings) -> ModelSpec:
    names = bands.choose(choice)
    features = tuple(f for f in (*bands.S2_FEATURES, bands.S1_FEATURE) if set(f.band_names) & set(names))
    statistics = {band: (100.0 * i, 10.0 + i) for i, band in enumerate(names)}
    return ModelSpec(name, names, features, CLC43, statistics, **settings)


def patches(of: ModelSpec, batch: int = 2) -> dict[str, np.ndarray]:
    return {f.name: RANDOM.integers(0, 4000, (batch, *f.shape)).astype(f.dtype) for f in of.features}


def usual(of: ModelSpec, batch: int) -> dict[str, np.ndarray]:
    """Pixels with the mean and spread that the model expects."""
    mean = {f.name: np.array([of.statistics[b] for b in f.band_names]).T for f in of.features}
    return {f.name: RANDOM.normal(*mean[f.name], (batch, *f.shape)).astype(np.float32) for f in of.features}


def test_resnet50_on_rgb_computes_what_keras_applications_computes():
    image = tf.keras.Input((120, 120, 3))
    ours = tf.keras.Model(image, list(resnet.resnet50(image, 0.0).values())[-1])
    theirs = tf.keras.applications.ResNet50(include_top=False, weights=None, input_shape=(120, 120, 3))
    assert ours.count_params() == theirs.count_params()
    randomise(theirs)
    for layer in theirs.layers:
        if layer.weights:
            ours.get_layer(layer.name).set_weights(layer.get_weights())
    x = RANDOM.normal(0, 1, (2, 120, 120, 3)).astype(np.float32)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
    assert float(tf.math.reduce_std(theirs(x))) > 0.01


def randomise(model) -> None:
    """Gives BatchNorm statistics and biases values other than 0 and 1, so that a swapped pair would show."""
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(RANDOM.uniform(0.5, 1.5, weight.shape))


def test_resnet18_is_a_reference_written_out_by_hand():
    image = tf.keras.Input((64, 64, 3))
    model = tf.keras.Model(image, list(resnet.resnet18(image, 0.0).values())[-1])
    # torchvision's ResNet18 without its last layer has 11,176,512 weights and no biases, which ours has in its 4,800
    # filters; Keras counts the moving statistics too.
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == 11_176_512 + 4800
    randomise(model)
    x = RANDOM.normal(0, 1, (2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(model(x), by_hand(model, x), rtol=1e-3, atol=1e-3)


def by_hand(model, x):
    """ResNet18 in plain operations, in inference."""

    def conv(x, name, strides, padding):
        layer, norm = model.get_layer(f"{name}_conv"), model.get_layer(f"{name}_bn")
        x = tf.nn.conv2d(x, layer.kernel, strides, padding) + layer.bias
        x = (x - norm.moving_mean) / tf.sqrt(norm.moving_variance + 1.001e-5)
        return x * norm.gamma + norm.beta

    around = [[0, 0], [3, 3], [3, 3], [0, 0]]
    x = tf.nn.relu(conv(tf.pad(x, around), "conv1", 2, "VALID"))
    x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")
    for stage in range(2, 6):
        for block in (1, 2):
            name, strides = f"conv{stage}_block{block}", 2 if stage > 2 and block == 1 else 1
            out = tf.nn.relu(conv(x, f"{name}_1", strides, "SAME"))
            out = conv(out, f"{name}_2", 1, "SAME")
            x = tf.nn.relu(out + (conv(x, f"{name}_0", strides, "SAME") if strides > 1 else x))
    return x


def test_published_weights_fit_with_twelve_bands_but_for_the_first_layer():
    model = models.build(spec("resnet50"))
    # 23,587,712 of keras.applications' ResNet50 without top, 9 x 49 x 64 more of the nine further bands, 43 classes.
    expected = 23_587_712 + 9 * 49 * 64 + (2048 + 1) * 43
    assert sum(np.prod(w.shape) for w in model.weights if w.dtype.is_floating) == expected


@pytest.mark.parametrize("choice", [("all",), ("rgb",), ("10m+20m",), ("B12", "VH", "B01", "B04")])
def test_channels_are_the_bands_in_the_order_asked_for(choice):
    of = spec(choice=choice, upsample="nearest")
    arrays, image = inputs.image(of)
    x = patches(of, 1)
    out = tf.keras.Model(arrays, image)(x).numpy()[0]
    assert out.shape == (120, 120, len(of.bands))
    for channel, band in enumerate(of.bands):
        feature = next(f for f in of.features if band in f.band_names)
        mean, std = of.statistics[band]
        native = (x[feature.name][0, :, :, feature.band_names.index(band)].astype(np.float64) - mean) / std
        factor = 120 // feature.shape[0]
        np.testing.assert_allclose(
            out[..., channel], np.kron(native, np.ones((factor, factor))), rtol=1e-5, atol=1e-5
        )


def test_only_coarse_bands_stay_on_their_own_grid():
    _, image = inputs.image(spec(choice=("60m",)))
    assert image.shape == (None, 20, 20, 2)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("factor", [2, 6])
def test_upsampling_is_tensorflows(method, factor):
    x = RANDOM.normal(0, 1, (2, 20, 20, 3)).astype(np.float32)
    out = inputs.Upsample(factor, method)(x)
    # With antialias (which does nothing when enlarging) TensorFlow computes its weights; without, it looks them up in a
    # table of 1,024 steps and is off by up to 3e-3.
    expected = tf.image.resize(x, (20 * factor, 20 * factor), method, antialias=method != "nearest")
    np.testing.assert_allclose(out, expected, atol=1e-4)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
def test_upsampling_commutes_with_turning(method):
    x = RANDOM.normal(0, 1, (1, 20, 20, 2)).astype(np.float32)
    layer = inputs.Upsample(3, method)
    np.testing.assert_allclose(layer(np.rot90(x, axes=(1, 2))), np.rot90(layer(x), axes=(1, 2)), atol=1e-5)


def test_bicubic_reproduces_a_parabola_inside():
    # Keys' kernel is exact for polynomials of degree two.
    matrix = inputs.interpolation_matrix(20, 3, "bicubic")
    centres = (np.arange(60) + 0.5) / 3 - 0.5
    np.testing.assert_allclose((matrix @ np.arange(20) ** 2)[6:-6], centres[6:-6] ** 2, atol=1e-9)


def test_l2_of_the_convolutions_is_in_the_losses():
    model = models.build(spec(l2=0.01))
    kernels = [layer.kernel for layer in model.layers if isinstance(layer, tf.keras.layers.Conv2D)]
    assert len(kernels) > 5
    expected = 0.01 * sum(float(tf.reduce_sum(kernel**2)) for kernel in kernels)
    assert float(tf.add_n(model.losses)) == pytest.approx(expected, rel=1e-5)
    assert models.build(spec(l2=0.0)).losses == []


def test_dropout_masks_depend_on_seed_and_count_alone():
    x = np.ones((1, 1000), np.float32)
    layer, again, other = (
        head.StatelessDropout(0.3, 1),
        head.StatelessDropout(0.3, 1),
        head.StatelessDropout(0.3, 2),
    )
    first, second = layer(x, training=True), layer(x, training=True)
    np.testing.assert_array_equal(first, again(x, training=True))
    assert (first != second).numpy().any()
    assert (first != other(x, training=True)).numpy().any()
    assert 0.2 < np.mean(first == 0) < 0.4
    np.testing.assert_allclose(first[first > 0], 1 / 0.7, rtol=1e-5)
    np.testing.assert_array_equal(layer(x), x)
    resumed = head.StatelessDropout(0.3, 1)
    resumed.build(x.shape)
    resumed.calls.assign(1)
    np.testing.assert_array_equal(resumed(x, training=True), second)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_gives_float32_scores_near_those_of_float32(precision):
    single, half = models.build(spec(seed=1)), models.build(spec(seed=1, precision=precision))
    half.set_weights(single.get_weights())
    x = usual(spec(), 4)
    assert half.get_layer("conv1_conv").compute_dtype == precision[6:]
    assert tf.keras.mixed_precision.global_policy().name == "float32"
    scores = half(x)
    assert scores.dtype == tf.float32
    np.testing.assert_allclose(scores, single(x), atol=0.05)


def test_spec_survives_json_and_unknown_names_are_refused():
    of = spec(choice=("B04", "VV"), l2=0.1, dropout=0.2, upsample="bicubic")
    assert ModelSpec.from_json(of.to_json()) == of
    with pytest.raises(UsageError, match="unknown model 'resnet51'"):
        models.build(spec("resnet51"))


def test_spec_refuses_data_without_its_bands_and_classes(tmp_path):
    manifest = shards.write(tmp_path, {"train": 3})
    assert spec_for(manifest, ("B04",), name="tiny").statistics["B04"][0] == manifest.statistics["B04"].mean
    with pytest.raises(UsageError, match="no band VV"):
        spec_for(manifest, ("B04", "VV"), name="tiny")
    with pytest.raises(DataError, match="43 classes of clc43, this data has 19 of ben19"):
        check_data(spec(), manifest, tmp_path)
    assert manifest.nomenclature == BEN19
