"""VGG19's features against the stored activations of PyTorch."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from superres import vgg
from superres.weights import load_vgg

LAYERS = ("relu2_2", "relu3_1")


@pytest.fixture(scope="module")
def real(real_data):
    """Returns (weights' arrays, stored activations, image in [-1, 1])."""
    folder = real_data / "vgg19-normalised"
    arrays = load_vgg(str(folder / "vgg19_normalised_to_conv3_1.npz"), LAYERS).arrays
    with np.load(folder / "fixture_computed_set5_001_crop64.npz") as stored:
        activations = {name: stored[name] for name in stored.files}
    image = cv2.imread(str(real_data / "sr-x4" / "Set5" / "img_001_HR.png"))[:64, :64, ::-1]
    return arrays, activations, image[None] / np.float32(127.5) - 1


@pytest.fixture
def small():
    """Returns made-up arrays up to conv2_1."""
    numbers = np.random.default_rng(0)
    return {name: numbers.normal(0, 0.1, shape).astype(np.float32) for name, shape in vgg.needed(("relu2_1",)).items()}


@pytest.mark.parametrize("padding", vgg.PADDINGS)
def test_activations_equal_those_of_pytorch(real, padding):
    arrays, activations, image = real
    found = jax.jit(lambda arrays, image: vgg.features(arrays, image, LAYERS, padding))(arrays, image)
    for layer in LAYERS:
        stored = activations[f"{padding}/{layer.replace('relu', 'relu_conv')}"]
        assert found[layer].shape == (1, *stored.shape) and stored.max() > 1
        np.testing.assert_allclose(found[layer][0], stored, rtol=0, atol=1e-4)


def test_grey_is_three_equal_channels(small):
    grey = jax.random.uniform(jax.random.key(0), (2, 9, 12, 1), minval=-1)
    found = vgg.features(small, grey, ("relu1_2", "relu2_1"))
    expected = vgg.features(small, jnp.tile(grey, (1, 1, 1, 3)), ("relu1_2", "relu2_1"))
    assert found.keys() == {"relu1_2", "relu2_1"} and found["relu2_1"].shape == (2, 4, 6, 128)
    for layer, activations in expected.items():
        np.testing.assert_allclose(found[layer], activations, atol=1e-5)


def test_the_pool_takes_the_largest_of_four(small):
    image = jax.random.uniform(jax.random.key(0), (1, 9, 12, 3), minval=-1)
    found = vgg.features(small, image, ("relu1_2", "relu2_1"))
    before = np.asarray(found["relu1_2"])[0]
    pooled = np.array([[before[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].max((0, 1)) for x in range(6)] for y in range(4)])
    padded = np.pad(pooled, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1))
    expected = np.einsum("yxcij,ijco->yxo", windows, small["conv2_1/kernel"]) + small["conv2_1/bias"]
    np.testing.assert_allclose(found["relu2_1"][0], np.maximum(expected, 0), atol=1e-4)


def test_the_layers_and_their_arrays():
    assert len(vgg.LAYERS) == 16 and vgg.LAYERS[0] == "relu1_1" and vgg.LAYERS[-1] == "relu5_4"
    every = vgg.needed(("relu5_4",))
    assert sum(np.prod(shape) for shape in every.values()) == 20_024_384 + 12  # torchvision's vgg19().features, and the preprocessing
    assert set(vgg.needed(("relu3_1", "relu1_2"))) == set(list(every)[: 2 + 2 * 5])
    for layers in ((), ("conv1_1",), ("relu2_2", "relu6_1")):
        with pytest.raises(ValueError, match="relu1_1 ... relu5_4"):
            vgg.needed(layers)


def test_bfloat16_stays_near_and_gradients_reach_the_image(small):
    image = jax.random.uniform(jax.random.key(0), (1, 8, 8, 1), minval=-1)
    exact, near = (vgg.features(small, image, ("relu2_1",), dtype=dtype)["relu2_1"] for dtype in (jnp.float32, jnp.bfloat16))
    assert near.dtype == jnp.float32 and 0 < np.abs(near - exact).max() < 0.05 * exact.max()

    def loss(image):
        return (vgg.features(small, image, ("relu2_1",))["relu2_1"] ** 2).mean()

    gradient = jax.grad(loss)(image)
    step = 3e-3 * gradient / jnp.linalg.norm(gradient)
    slope = (loss(image + step) - loss(image - step)) / 6e-3
    assert float(jnp.linalg.norm(gradient)) == pytest.approx(float(slope), rel=0.01)
    with pytest.raises(ValueError, match="zero, reflect"):
        vgg.features(small, image, ("relu2_1",), "same")
