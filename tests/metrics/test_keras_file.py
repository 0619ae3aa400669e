"""Keras' names: which are told for such, what a file must hold, and what becomes of its arrays."""

import numpy as np
import pytest

from metrics import inception, weights
from metrics.inception_table import construction_order
from metrics.keras_file import is_keras, to_state
from microscopy.scan import DataError


def small(first=0, prefix="", gamma=False):
    """Returns one-pixel arrays of a Keras InceptionV3 whose layers are told apart by their values, numbered from `first`."""
    arrays = {
        f"{prefix}predictions/kernel": np.zeros((2, 1000), np.float32),
        f"{prefix}predictions/bias": np.arange(1000, dtype=np.float32),
    }
    for place in range(94):
        ending = f"_{place + first}" if place + first else ""
        arrays[f"{prefix}conv2d{ending}/kernel"] = np.full((1, 3, 1, 2), place, np.float32)
        norm = {"beta": [place, -place], "moving_mean": [1, 0], "moving_variance": [1, 3]} | ({"gamma": [5, 5]} if gamma else {})
        arrays |= {f"{prefix}batch_normalization{ending}/{part}": np.float32(value) for part, value in norm.items()}
    return arrays


def test_names_of_keras_are_told_from_others():
    for name in (
        "conv2d/kernel",
        "conv2d_1/conv2d_1/kernel:0",
        "model_weights/conv2d_7/conv2d_7/kernel:0",
        "inception_v3/conv2d_93/kernel",
    ):
        assert is_keras([name])
    for name in ("Conv2d_1a_3x3/kernel", "Conv2d_1a_3x3.conv.weight", "conv2d_x/kernel", "predictions/kernel", "my_conv2d/kernel", ""):
        assert not is_keras([name])


@pytest.mark.parametrize(("first", "prefix"), [(0, ""), (1, "model_weights/"), (188, "inception_v3/")])
@pytest.mark.parametrize("gamma", [False, True])
def test_the_nth_number_is_the_nth_layer(first, prefix, gamma):
    state = to_state(small(first, prefix, gamma))
    for place, name in enumerate(construction_order()):
        assert state[f"{name}.conv.weight"].shape == (2, 1, 1, 3) and (state[f"{name}.conv.weight"] == place).all()
        np.testing.assert_array_equal(state[f"{name}.bn.bias"], [place, -place])
    arrays = weights.fold(state)
    # kernel g / sqrt(var + 0.001), bias b - mean g / sqrt(var + 0.001), of the layer before the last.
    gain = (5 if gamma else 1) / np.sqrt([1.001, 3.001])
    np.testing.assert_allclose(arrays["Mixed_7c.branch3x3dbl_3b/kernel"], np.broadcast_to(92 * gain, (1, 3, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(arrays["Mixed_7c.branch3x3dbl_3b/bias"], [92 - gain[0], -92], rtol=1e-6)
    np.testing.assert_array_equal(arrays["fc/bias"], np.arange(1000))
    assert arrays["fc/kernel"].shape == (2, 1000)


def test_what_is_no_whole_inception_is_one_short_error(tmp_path):
    whole = small()
    wrong = [
        ({name: array for name, array in whole.items() if not name.startswith("conv2d_93/")}, "holds 93 layers conv2d, InceptionV3 has 94"),
        (whole | {"conv2d_94/kernel": np.zeros((1, 1, 1, 1), np.float32)}, "holds 95 layers conv2d"),
        ({name: array for name, array in whole.items() if "moving_mean" not in name}, "no complete batch norm for Conv2d_1a_3x3"),
        (whole | {"conv2d_2/kernel": np.zeros(3, np.float32)}, "no kernel .* for Conv2d_2b_3x3"),
    ]
    for arrays, reason in wrong:
        np.savez(tmp_path / "keras.npz", **arrays)
        with pytest.raises(DataError, match=reason) as error:
            weights.read(tmp_path / "keras.npz")
        assert "keras.npz" in str(error.value) and str(error.value).count("\n") < 5


def test_whose_network_it_is_shows_or_is_said(tmp_path):
    cases = {"imagenet-keras": small(), "fid": {"a/kernel": np.zeros(3, np.float32), "fc/kernel": np.zeros((2, 1008), np.float32)}}
    cases["imagenet-torchvision"] = {"a/kernel": np.zeros(3, np.float32), "fc/kernel": np.zeros((2, 1000), np.float32)}
    for network, arrays in cases.items():
        np.savez(tmp_path / "w.npz", **arrays)
        assert weights.load(str(tmp_path / "w.npz")).network == network
        assert weights.load(str(tmp_path / "w.npz"), "imagenet-keras").network == "imagenet-keras"
    with pytest.raises(DataError, match="network vgg: not one of fid, imagenet-torchvision, imagenet-keras"):
        weights.load(str(tmp_path / "w.npz"), "vgg")


def test_images_for_imagenet_run_from_minus_one_to_one():
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3), np.uint8)
    images[0, :20], images[1, :20] = 0, 255
    found = np.asarray(inception.prepare(images, "bilinear", "imagenet-keras"))
    np.testing.assert_allclose(found[0, :100], -1, atol=1e-6)
    np.testing.assert_allclose(found[1, :100], 1, atol=1e-6)
    # torchvision: normalised by mean and std, then taken back by transform_input.
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    resized = np.asarray(inception.RESIZES["bilinear"](images, 299, 299)).astype(float)
    normalised = (resized / 255 - mean) / std
    np.testing.assert_allclose(
        inception.prepare(images, "bilinear", "imagenet-torchvision"), normalised * std / 0.5 + (mean - 0.5) / 0.5, atol=1e-6
    )
