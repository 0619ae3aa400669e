"""VGG19's weights of either layout; part of them; the download without a network."""

import hashlib
import io
import urllib.error
import urllib.request

import numpy as np
import pytest

from metrics import weights as metric_weights
from microscopy.scan import DataError
from superres import vgg, weights

LAYERS = ("relu1_1", "relu1_2")
EVERY_LAYER = [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M"]


def torchvision(num_convolutions):
    """Returns the first convolutions' arrays under their names in torchvision: convolution and ReLU, or a pool, take places."""
    numbers, state, place, maps = np.random.default_rng(0), {}, 0, 3
    for width in EVERY_LAYER:
        if width == "M":
            place += 1
        elif num_convolutions:
            state[f"features.{place}.weight"] = numbers.normal(size=(width, maps, 3, 3)).astype(np.float16)
            state[f"features.{place}.bias"] = numbers.normal(size=width).astype(np.float32)
            place, maps, num_convolutions = place + 2, width, num_convolutions - 1
    return state


def npz(state):
    buffer = io.BytesIO()
    np.savez(buffer, **state)
    return buffer.getvalue()


def test_torchvisions_names_become_ours(tmp_path):
    state = torchvision(16) | {"classifier.0.weight": np.zeros((2, 2))}
    named = weights._named(state)
    assert {name: array.shape for name, array in named.items()} == vgg.needed(("relu5_4",))
    np.testing.assert_array_equal(named["conv3_4/kernel"], state["features.16.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(named["conv5_4/bias"], state["features.34.bias"])
    rgb = np.random.default_rng(1).uniform(size=(5, 3))
    expected = (rgb - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(rgb @ named["preprocess/kernel"][0, 0] + named["preprocess/bias"], expected)


def test_a_file_of_the_first_layers_serves_those(tmp_path):
    (tmp_path / "w").write_bytes(npz(torchvision(2)))
    found = weights.load_vgg(str(tmp_path / "w"), LAYERS)
    assert {name: array.shape for name, array in found.arrays.items()} == vgg.needed(LAYERS)
    assert all(array.dtype == np.float32 for array in found.arrays.values())
    assert found.sha256 == hashlib.sha256((tmp_path / "w").read_bytes()).hexdigest()
    with pytest.raises(DataError, match=r"no conv2_1/kernel: it reaches relu1_2, wanted are relu5_4, relu1_1"):
        weights.load_vgg(str(tmp_path / "w"), ("relu5_4", "relu1_1"))


def test_the_normalised_file_reaches_relu3_1(real_data):
    file = real_data / "vgg19-normalised" / "vgg19_normalised_to_conv3_1.npz"
    assert weights.load_vgg(str(file), ("relu3_1",)).arrays.keys() == vgg.needed(("relu3_1",)).keys()
    with pytest.raises(DataError, match="it reaches relu3_1, wanted are relu5_4"):
        weights.load_vgg(str(file), ("relu5_4",))


ONE = torchvision(1)
WRONG = [
    ({"a": np.zeros(3)}, "another network's"),
    (ONE | {"features.0.weight": np.zeros((64, 3, 5, 5))}, "conv1_1/kernel of shape"),
    (ONE | {"features.0.bias": np.full(64, np.nan)}, "not finite"),
    ({"features.0.weight": ONE["features.0.weight"]}, "no conv1_1/kernel: it reaches no layer"),
]


@pytest.mark.parametrize(("state", "reason"), WRONG)
def test_wrong_files_are_one_error_that_names_them(tmp_path, state, reason):
    (tmp_path / "w").write_bytes(npz(state))
    with pytest.raises(DataError, match=reason) as error:
        weights.load_vgg(str(tmp_path / "w"), ("relu1_1",))
    assert str(tmp_path / "w") in str(error.value) and str(error.value).count("\n") < 5
    with pytest.raises(DataError, match="No such file.*auto"):
        weights.load_vgg(str(tmp_path / "none"), ("relu1_1",))


def test_auto_downloads_once_and_refuses_another_file(monkeypatch, tmp_path):
    content, asked = npz(ONE), []

    def urlopen(url, timeout):
        asked.append(url)
        return io.BytesIO(content)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(DataError, match="VGG19.*not dcbb9e9d"):
        weights.load_vgg("auto", ("relu1_1",))
    monkeypatch.setattr(weights, "SHA256_PREFIX", hashlib.sha256(content).hexdigest()[:8])
    file = metric_weights.cached_file("vgg19-dcbb9e9d.pth")
    for _ in range(2):
        assert weights.load_vgg("auto", ("relu1_1",)).file == str(file)
    assert asked == [weights.URL] * 2 and file.parent == tmp_path / "scanforge"
    file.write_bytes(npz(ONE | {"features.0.bias": np.zeros(64)}))
    with pytest.raises(DataError, match="not the published file.*delete"):
        weights.load_vgg("auto", ("relu1_1",))


def test_offline_says_what_to_put_where(monkeypatch, tmp_path):
    def urlopen(url, timeout):
        raise urllib.error.URLError("no route")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(DataError) as error:
        weights.load_vgg("auto", ("relu1_1",))
    message = str(error.value)
    assert weights.URL in message and str(metric_weights.cached_file("vgg19-dcbb9e9d.pth")) in message and message.count("\n") < 5
