"""Models against keras.applications, upsampling against TensorFlow's, normalising by hand."""

from __future__ import annotations

import numpy as np
import pytest

from jeoparda_tf import models
from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.bigearthnet.nomenclature import BEN19, CLC43
from jeoparda_tf.models import head, inputs, pixels, resnet
from jeoparda_tf.models.layers import Style, batch_norm
from jeoparda_tf.models.spec import ModelSpec, check_data, spec_for
from jeoparda_tf.stack import tf
from tests import shards
from tfrecords_tools.errors import DataError, UsageError

pytestmark = pytest.mark.tensorflow

RANDOM = np.random.default_rng(0)
PLAIN = Style()


def spec(name: str = "tiny", choice: tuple[str, ...] = ("all",), **settings) -> ModelSpec:
    names = bands.choose(choice)
    features = tuple(f for f in (*bands.S2_FEATURES, bands.S1_FEATURE) if set(f.band_names) & set(names))
    statistics = {band: (100.0 * i, 10.0 + i) for i, band in enumerate(names)}
    return ModelSpec(name, names, features, CLC43, statistics, **settings)


def patches(of: ModelSpec, batch: int = 2) -> dict[str, np.ndarray]:
    return {f.name: RANDOM.integers(0, 4000, (batch, *f.shape)).astype(f.dtype) for f in of.features}


def usual(of: ModelSpec, batch: int) -> dict[str, np.ndarray]:
    """Pixels with the mean and spread that the model expects."""
    mean = {f.name: np.array([of.statistics.get(b, (0.0, 1.0)) for b in f.band_names]).T for f in of.features}
    return {f.name: RANDOM.normal(*mean[f.name], (batch, *f.shape)).astype(np.float32) for f in of.features}


@pytest.mark.parametrize(
    ("name", "theirs"), [("resnet50", "ResNet50"), ("resnet101", "ResNet101"), ("resnet152", "ResNet152")]
)
def test_resnets_on_rgb_compute_what_keras_applications_computes(name, theirs):
    image = tf.keras.Input((32, 32, 3))
    ours = tf.keras.Model(image, list(resnet.BACKBONES[name](image, PLAIN).values())[-1])
    of_keras = getattr(tf.keras.applications, theirs)(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    assert ours.count_params() == of_keras.count_params()
    randomise(of_keras)
    for layer in of_keras.layers:
        if layer.weights:
            ours.get_layer(layer.name).set_weights(layer.get_weights())
    x = RANDOM.normal(0, 1, (2, 32, 32, 3)).astype(np.float32)
    expected = of_keras(x).numpy()
    np.testing.assert_allclose(ours(x), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert expected.std() > 0.01


def randomise(model) -> None:
    """Gives BatchNorm statistics and biases values other than 0 and 1, so that a swapped pair would show."""
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(RANDOM.uniform(0.5, 1.5, weight.shape))


@pytest.mark.parametrize(
    ("name", "blocks", "weights", "filters"),
    # torchvision's without their last layers have so many weights, and no biases, which ours have: one a filter.
    [("resnet18", (2, 2, 2, 2), 11_176_512, 4800), ("resnet34", (3, 4, 6, 3), 21_284_672, 8512)],
)
def test_basic_resnets_are_a_reference_written_out_by_hand(name, blocks, weights, filters):
    image = tf.keras.Input((64, 64, 3))
    model = tf.keras.Model(image, list(resnet.BACKBONES[name](image, PLAIN).values())[-1])
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == weights + filters
    randomise(model)
    x = RANDOM.normal(0, 1, (2, 64, 64, 3)).astype(np.float32)
    expected = by_hand(model, x, blocks).numpy()
    np.testing.assert_allclose(model(x), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def by_hand(model, x, blocks):
    """A ResNet of basic blocks in plain operations, in inference."""

    def conv(x, name, strides, padding):
        layer, norm = model.get_layer(f"{name}_conv"), model.get_layer(f"{name}_bn")
        x = tf.nn.conv2d(x, layer.kernel, strides, padding) + layer.bias
        x = (x - norm.moving_mean) / tf.sqrt(norm.moving_variance + 1.001e-5)
        return x * norm.gamma + norm.beta

    around = [[0, 0], [3, 3], [3, 3], [0, 0]]
    x = tf.nn.relu(conv(tf.pad(x, around), "conv1", 2, "VALID"))
    x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")
    for stage, count in enumerate(blocks, start=2):
        for block in range(1, count + 1):
            name, strides = f"conv{stage}_block{block}", 2 if stage > 2 and block == 1 else 1
            out = tf.nn.relu(conv(x, f"{name}_1", strides, "SAME"))
            out = conv(out, f"{name}_2", 1, "SAME")
            x = tf.nn.relu(out + (conv(x, f"{name}_0", strides, "SAME") if strides > 1 else x))
    return x


def relu_dense(x, layer):
    return np.maximum(x @ layer.kernel.numpy() + layer.bias.numpy(), 0)


@pytest.mark.parametrize("choice", [("rgb",), ("all",)])
def test_the_shallow_cnn_is_three_convolutions_written_out_by_hand(choice):
    of = spec("shallow", choice, l2=0.01)
    model = models.build(of)
    bands_in = len(of.bands)
    convolutions = bands_in * 25 * 32 + 32 + 32 * 25 * 32 + 32 + 32 * 9 * 64 + 64
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == convolutions + 14_401 * 128 + 129 * 43
    x = usual(of, 2)
    image = tf.keras.Model(model.inputs, inputs_of(model, of))(x)
    for number in (1, 2, 3):
        layer = model.get_layer(f"conv{number}_conv")
        image = tf.nn.relu(tf.nn.conv2d(image, layer.kernel, 1, "SAME") + layer.bias)
        image = tf.nn.max_pool2d(image, 2, 2, "VALID")
    flat = relu_dense(image.numpy().reshape(2, -1), model.get_layer("fc1_dense"))
    last = model.get_layer("logits")
    expected = 1 / (1 + np.exp(-(flat @ last.kernel.numpy() + last.bias.numpy())))
    np.testing.assert_allclose(model(x), expected, atol=1e-4)
    kernels = [model.get_layer(f"conv{n}_conv").kernel for n in (1, 2, 3)] + [
        model.get_layer("fc1_dense").kernel
    ]
    expected_l2 = 0.01 * sum(float(tf.reduce_sum(kernel**2)) for kernel in kernels)
    assert float(tf.add_n(model.losses)) == pytest.approx(expected_l2, rel=1e-5)


def inputs_of(model, of):
    """The tensor that the first convolution sees."""
    return model.get_layer("conv1_conv").input


def test_kbranch_sees_each_resolution_at_its_own_size():
    model = models.build(spec("kbranch", ("all",), dropout=0.5))
    sizes = {gsd: model.get_layer(f"branch{gsd}_conv1_conv").input_shape[1:] for gsd in (10, 20, 60)}
    assert sizes == {10: (120, 120, 4), 20: (60, 60, 6), 60: (20, 20, 2)}
    # Kernels and biases of the published code by hand, and two trainable weights a normalised channel.
    ten = 4 * 25 * 32 + 32 + 32 * 25 * 32 + 32 + 32 * 9 * 64 + 64 + (30 * 30 * 64 + 1) * 128
    twenty = 6 * 9 * 32 + 32 + 32 * 9 * 32 + 32 + 32 * 9 * 64 + 64 + (30 * 30 * 64 + 1) * 128
    sixty = 2 * 4 * 32 + 32 + 2 * (32 * 4 * 32 + 32) + (20 * 20 * 32 + 1) * 128
    normalised = 2 * (2 * (32 + 32 + 64 + 128) + (3 * 32 + 128) + 128)
    expected = ten + twenty + sixty + (3 * 128 + 1) * 128 + normalised + 129 * 43
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == expected
    dropouts = {layer.name: layer for layer in model.layers if isinstance(layer, head.StatelessDropout)}
    assert dropouts.pop("dropout").rate == 0.5
    assert {layer.rate for layer in dropouts.values()} == {0.25}
    assert len({layer.seed for layer in dropouts.values()}) == len(dropouts) == 13


def test_kbranch_has_branches_for_its_bands_alone_and_each_counts():
    of = spec("kbranch", ("B04", "VV", "B01"))
    model = models.build(of)
    names = [layer.name for layer in model.layers if isinstance(layer, tf.keras.layers.Conv2D)]
    assert {name.split("_")[0] for name in names} == {"branch10", "branch60"}
    assert model.get_layer("branch10_conv1_conv").input_shape[1:] == (120, 120, 2)
    x = usual(of, 1)
    before = model(x).numpy()
    for name in x:
        changed = {**x, name: x[name] + 100.0}
        assert np.abs(model(changed).numpy() - before).max() > 1e-5, name


@pytest.mark.parametrize("name", ["shallow", "kbranch", "resnet18", "resnet50"])
@pytest.mark.parametrize("choice", [("all", "s1"), ("B12", "VH", "B01", "B04")])
def test_scores_depend_on_each_band_asked_for_and_on_no_other(name, choice):
    of = spec(name, choice)
    model = models.build(of)
    x = usual(of, 1)
    before = model(x).numpy()
    for feature in of.features:
        for index, band in enumerate(feature.band_names):
            changed = x[feature.name].copy()
            changed[..., index] += (
                10 * of.statistics.get(band, (0.0, 1.0))[1] * RANDOM.random(feature.shape[:2])
            )
            moved = np.abs(model({**x, feature.name: changed}).numpy() - before).max()
            assert (moved > 1e-6) == (band in of.bands), (band, moved)


def test_a_normalisation_of_another_kind_takes_the_place_of_keras():
    made = []

    def noted(name):
        made.append(name)
        return batch_norm(name)

    model = models.build(spec("tiny"), norm=noted)
    assert sorted(made) == sorted(layer.name for layer in model.layers if layer.name.endswith("_bn"))
    assert len(made) == 9


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
    out = pixels.Upsample(factor, method)(x)
    # With antialias (which does nothing when enlarging) TensorFlow computes its weights; without, it looks them up in a
    # table of 1,024 steps and is off by up to 3e-3.
    expected = tf.image.resize(x, (20 * factor, 20 * factor), method, antialias=method != "nearest")
    np.testing.assert_allclose(out, expected, atol=1e-4)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
def test_upsampling_commutes_with_turning(method):
    x = RANDOM.normal(0, 1, (1, 20, 20, 2)).astype(np.float32)
    layer = pixels.Upsample(3, method)
    np.testing.assert_allclose(layer(np.rot90(x, axes=(1, 2))), np.rot90(layer(x), axes=(1, 2)), atol=1e-5)


def test_bicubic_reproduces_a_parabola_inside():
    # Keys' kernel is exact for polynomials of degree two.
    matrix = pixels.interpolation_matrix(20, 3, "bicubic")
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
