"""Weights files of every kind to the same arrays; the download without a network."""

import hashlib
import io
import json
import struct
import urllib.error
import urllib.request

import numpy as np
import pytest

from metrics import weights
from microscopy.scan import DataError

STATE = {
    "a.conv.weight": np.random.default_rng(0).normal(size=(4, 3, 1, 5)).astype(np.float32),
    "a.bn.weight": np.float32([1, 2, 0.5, -1]),
    "a.bn.bias": np.float32([0, 1, 2, 3]),
    "a.bn.running_mean": np.float32([0.5, 0, -1, 2]),
    "a.bn.running_var": np.float32([1, 4, 0.25, 0]),
    "a.bn.num_batches_tracked": np.int64(3),
    "fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fc.bias": np.float32([9, 9]),
}
DTYPES = {"float32": "F32", "int64": "I64"}


def safetensors(state):
    header, body = {}, b""
    for name, array in state.items():
        data = array.tobytes()
        header[name] = {"dtype": DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def npz(arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def convolved(image, kernel):
    """The valid convolution of image (h, w, i) with kernel (kh, kw, i, o) by its definition."""
    kh, kw = kernel.shape[:2]
    height, width = image.shape[0] - kh + 1, image.shape[1] - kw + 1
    patches = [[np.einsum("yxi,yxio->o", image[r : r + kh, c : c + kw], kernel) for c in range(width)] for r in range(height)]
    return np.array(patches)


def test_folding_is_convolution_then_batch_norm():
    arrays = weights.fold(STATE)
    image = np.random.default_rng(1).normal(size=(3, 8, 3))
    plain = convolved(image, STATE["a.conv.weight"].astype(float).transpose(2, 3, 1, 0))
    scale = STATE["a.bn.weight"] / np.sqrt(STATE["a.bn.running_var"].astype(float) + 0.001)
    expected = (plain - STATE["a.bn.running_mean"]) * scale + STATE["a.bn.bias"]
    np.testing.assert_allclose(convolved(image, arrays["a/kernel"]) + arrays["a/bias"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(arrays["fc/kernel"], STATE["fc.weight"].T)
    assert set(arrays) == {"a/kernel", "a/bias", "fc/kernel"}


def test_files_are_told_apart_by_content(tmp_path):
    contents = {"state.npz": npz(STATE), "folded.npz": npz(weights.fold(STATE)), "state.bin": safetensors(STATE)}
    contents["folded.safetensors"] = safetensors(weights.fold(STATE))
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        found = weights.read(tmp_path / name)
        assert found.file == str(tmp_path / name) and found.sha256 == hashlib.sha256(content).hexdigest()
        assert found.arrays.keys() == weights.fold(STATE).keys()
        for key, array in weights.fold(STATE).items():
            np.testing.assert_array_equal(found.arrays[key], array)


WRONG = [
    (b"GIF89a", "neither .npz"),
    (b"", "neither .npz"),
    (npz(STATE)[:200], "truncated"),
    (npz({"a/kernel": np.array([{}], object)}), "damaged .npz"),
    (npz({"x": np.zeros(3)}), "no convolutions"),
    (npz({"a/kernel": np.array(["x"])}), "no convolutions"),
    (npz({"a/kernel": np.float32([1, np.nan])}), "not finite"),
    (npz({name: array for name, array in STATE.items() if name != "a.bn.running_var"}), "no complete batch norm for a"),
    (npz(STATE | {"a.bn.bias": np.zeros(3)}), "no complete batch norm for a"),
]


@pytest.mark.parametrize(("content", "reason"), WRONG)
def test_wrong_files_are_one_error_that_names_them(tmp_path, content, reason):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(DataError, match=reason) as error:
        weights.read(tmp_path / "w")
    assert str(tmp_path / "w") in str(error.value) and str(error.value).count("\n") < 5
    with pytest.raises(DataError, match="No such file.*auto"):
        weights.load(str(tmp_path / "none"))


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Returns a small file in the place of the published one, its digits expected, an empty cache; nothing is sent anywhere."""
    content = safetensors(STATE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(weights, "SHA256_PREFIX", hashlib.sha256(content).hexdigest()[:8])
    return content


def answering(monkeypatch, answer):
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def test_auto_downloads_once(monkeypatch, tmp_path, published):
    asked = answering(monkeypatch, published)
    first, second = weights.load("auto"), weights.load("auto")
    assert asked == [weights.URL] and asked[0].startswith("https://") and "6726825d" in asked[0]
    assert first.file == str(tmp_path / "scanforge" / weights.FILE) and first.sha256 == second.sha256
    assert [file.name for file in (tmp_path / "scanforge").iterdir()] == [weights.FILE]


@pytest.mark.parametrize("answer", [urllib.error.URLError("no route"), TimeoutError("slow"), b"<html>sign in</html>"])
def test_a_failed_download_says_what_to_put_where(monkeypatch, tmp_path, published, answer):
    answering(monkeypatch, answer)
    with pytest.raises(DataError) as error:
        weights.load("auto")
    message = str(error.value)
    assert weights.URL in message and str(weights.cached_file()) in message and message.count("\n") < 5
    assert not (tmp_path / "scanforge" / weights.FILE).exists()


def test_another_file_in_the_cache_is_not_used(monkeypatch, published):
    asked = answering(monkeypatch, published)
    weights.cached_file().parent.mkdir()
    weights.cached_file().write_bytes(safetensors(STATE | {"fc.bias": np.float32([8, 8])}))
    with pytest.raises(DataError, match="not the published file.*delete"):
        weights.load("auto")
    assert asked == []


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert weights.cached_file() == tmp_path / ".cache" / "scanforge" / weights.FILE


def test_a_compressed_file_with_any_bit_flipped_is_refused_or_read_as_it_was(tmp_path):
    path, wanted = tmp_path / "flipped.npz", np.random.default_rng(0).integers(0, 9, 4000).astype(np.float32)
    np.savez_compressed(path, **{"Conv2d_1a_3x3/kernel": wanted})
    whole, refused = path.read_bytes(), 0
    for place in np.random.default_rng(1).integers(0, len(whole), 300):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            with np.errstate(all="ignore"):
                content = path.read_bytes()
                arrays = weights._read_npz(content) if weights._holds_arrays(content) else {}
        except DataError:
            refused += 1
            continue
        assert all(np.array_equal(array, wanted) for array in arrays.values())
    assert refused > 200
