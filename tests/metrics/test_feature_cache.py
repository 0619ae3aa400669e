"""Features kept on disk: found again for the same pixels and protocol only, rebuilt where damaged, pruned by use; extraction itself."""

import json
import os

import numpy as np
import pytest

from metrics import feature_cache, inception, score, set_features, weights
from metrics.image_sets import ImageSet
from microscopy.scan import Scan


def scans(count=3, seed=0, dtype=np.uint8):
    random = np.random.default_rng(seed)
    sizes = [(20 + i % 2, 24) for i in range(count)]
    return [Scan(str(i), random.uniform(0, 255, size).astype(dtype), "", f"{i}.png") for i, size in enumerate(sizes)]


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory):
    """Random weights that reach the first tap: quick, and enough for all that is not about values."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("weights") / "w.npz"
    np.savez(path, **{name: np.float32(random.normal(0, 0.1, shape)) for name, shape in inception.layers(("64",)).items()})
    return path


def test_a_key_changes_with_pixels_order_shape_type_and_facts():
    of = scans()
    other = scans()
    other[1].pixels[3, 4] ^= 1
    keys = [
        feature_cache.key(*pair) for pair in ((of, {"a": 1}), (of[::-1], {"a": 1}), (other, {"a": 1}), (of, {"a": 2}), (of[:2], {"a": 1}))
    ]
    flat = [Scan("0", np.zeros(shape, dtype), "") for shape, dtype in (((4, 6), np.uint8), ((6, 4), np.uint8), ((4, 3), np.uint16))]
    keys += [feature_cache.key([scan], {}) for scan in flat]
    assert len(set(keys)) == len(keys) and feature_cache.key(scans(), {"a": 1}) == keys[0]


def test_what_was_stored_comes_back_and_what_does_not_fit_does_not(tmp_path):
    features = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    assert feature_cache.store(tmp_path / "new", "abc", features)
    assert np.array_equal(feature_cache.load(tmp_path / "new", "abc", 4), features)
    assert feature_cache.load(tmp_path / "new", "abc", 5) is None and feature_cache.load(tmp_path / "new", "abd", 4) is None
    path = tmp_path / "new" / "abc.npz"
    os.link(path, path.with_name("abd.npz"))
    assert feature_cache.load(tmp_path / "new", "abd", 4) is None  # its own key tells
    whole = path.read_bytes()
    for content in (b"", whole[:80], whole[:100] + b"\xff" + whole[101:], b"text"):
        path.write_bytes(content)
        found = feature_cache.load(tmp_path / "new", "abc", 4)
        assert found is None or np.array_equal(found, features)
    (tmp_path / "file").write_text("")
    assert not feature_cache.store(tmp_path / "file", "abc", features) and feature_cache.load(None, "abc", 4) is None


def test_features_used_longest_ago_go_first(tmp_path):
    features = np.zeros((10, 10), np.float32)
    for place, name in enumerate("abc"):
        feature_cache.store(tmp_path, name, features)
        os.utime(tmp_path / f"{name}.npz", (place, place))
    feature_cache.load(tmp_path, "a", 10)
    size = (tmp_path / "a.npz").stat().st_size
    feature_cache.store(tmp_path, "d", features, max_bytes=3 * size)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "c", "d"]


def test_extraction_is_that_of_inception_and_the_second_time_comes_from_the_cache(tmp_path, weight_file, monkeypatch):
    options = set_features.Options("64", str(weight_file), cache=tmp_path / "cache")
    sets = [ImageSet("real", scans(19), None), ImageSet("other", scans(6, 1), None)]
    first, facts = set_features.measure(("fid",), sets, options)
    loaded = weights.load(str(weight_file))
    single = inception.make_features(loaded, ("64",))
    expected = np.concatenate([single(scan.pixels[None])["64"] for scan in sets[0].scans[:4]])
    np.testing.assert_allclose(first[0].layers["features"][:4], expected, rtol=1e-5, atol=1e-6)
    assert facts == {"features": "64", "resize": "tf1", "network": "fid", "weights_sha256": loaded.sha256} and not first[0].cached
    monkeypatch.setattr(inception, "prepare", lambda *_, **__: pytest.fail("computed again"))
    again, _ = set_features.measure(("fid",), sets, options)
    assert again[0].cached and again[1].cached and np.array_equal(again[0].layers["features"], first[0].layers["features"])


def test_the_command_says_what_came_from_the_cache_and_none_keeps_nothing(tmp_path, weight_file, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for place in range(2):
        images = np.random.default_rng(place).normal(size=(6, 16, 16))
        np.save(tmp_path / f"{place}.npy", images)
    words = [str(tmp_path / "0.npy"), str(tmp_path / "1.npy"), "--metrics=kid", "--features=64", f"--weights={weight_file}"]
    values = []
    for extra in ("--cache=none", "--cache=auto", "--cache=auto"):
        assert score.main([*words, extra, f"--json={tmp_path / 'out.json'}"]) == 0
        values.append(json.loads((tmp_path / "out.json").read_text()))
        kept = list((tmp_path / "home").rglob("*.npz"))
        assert len(kept) == (0 if extra == "--cache=none" else 2)
    printed = capsys.readouterr().out
    assert values[0] == values[1] == values[2] and printed.count("came from the cache") == 1
    for path in kept:
        path.write_bytes(path.read_bytes()[:50])
    assert score.main([*words, f"--json={tmp_path / 'out.json'}"]) == 0  # damaged: computed again, silently
    assert json.loads((tmp_path / "out.json").read_text()) == values[0] and capsys.readouterr().err == ""


def test_weights_that_do_not_reach_the_layer_are_a_short_error(tmp_path, weight_file, capsys):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(6, 16, 16)))
    place = str(tmp_path / "a.npy")
    assert score.main([place, place, "--metrics=fid", f"--weights={weight_file}", "--cache=none"]) == 1
    error = capsys.readouterr().err
    assert "only 64" in error and len(error.splitlines()) <= 5
