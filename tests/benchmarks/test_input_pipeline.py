"""`python -m benchmarks.input_pipeline` end to end, and that its OpenCV loop cuts the crops that ours cuts."""

import concurrent.futures
import json
import math

import numpy as np
import pytest
from scipy import ndimage

from benchmarks import input_pipeline

# ml_collections reads config files by a method that Python has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


def test_both_are_timed_and_cut_the_same_crops(tmp_path, capsys):
    path = tmp_path / "figures.json"
    flags = ["--config=configs/dcgan96.py:tiny", "--config.data.num_simulated=3", "--batch=8", "--sizes=32,96", "--rounds=2"]
    assert input_pipeline.main(["input_pipeline", *flags, f"--json={path}"]) == 0
    figures = json.loads(path.read_text())
    assert figures["crop"] == [256, 256] and [row["px"] for row in figures["sizes"]] == [32, 96]
    for row in figures["sizes"]:
        assert min(row[f"{name}_crops_per_second"] for name in ("ours", "float32", "uint8")) > 0
        assert 0 < row["apart"] < 3 < 20 < row["unrelated"]
        assert all(value["min"] <= value["median"] <= value["max"] for value in row["ratios"].values())
    assert "crops/s" in capsys.readouterr().out


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("angle", [0.0, 0.3, 2.5])
def test_the_opencv_crop_is_the_turned_window_averaged(angle, flip):
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(90, 80)), 3).astype(np.float32)
    v, u = np.mgrid[:32, :48] - np.array([15.5, 23.5]).reshape(2, 1, 1)
    u = -u if flip else u
    at = [44.2 + math.cos(angle) * v + math.sin(angle) * u, 40.7 - math.sin(angle) * v + math.cos(angle) * u]
    window = ndimage.map_coordinates(image, at, order=1, mode="nearest")
    wanted = window.reshape(16, 2, 16, 3).mean((1, 3))
    result = input_pipeline.opencv_crop(image, 44.2, 40.7, angle, flip, (32, 48), 16)
    # OpenCV rounds positions to 1/32 px
    np.testing.assert_allclose(result, wanted, atol=0.05 * image.std())


def test_every_thread_has_its_share_and_eight_bits_stay_near():
    image = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(90, 80)), 3)
    grey = np.uint8(np.interp(image, [image.min(), image.max()], [0, 255]))
    place = {"scan": np.zeros(5, int), "y": np.full(5, 44.0), "x": np.full(5, 40.0), "angle": np.arange(5.0) / 4}
    place |= {"quarter": np.arange(5) % 4, "flip": np.arange(5) % 2 == 0}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        exact = input_pipeline.opencv_crops(pool, 2, [grey.astype(np.float32) / 127.5 - 1], place, (40, 40), 20)
        coarse = input_pipeline.opencv_crops(pool, 2, [grey], place, (40, 40), 20)
    assert exact.shape == coarse.shape == (5, 20, 20, 1) and np.abs(np.diff(exact, axis=0)).max(axis=(1, 2, 3)).min() > 0.1
    np.testing.assert_allclose(coarse, exact, atol=2 / 127.5)


def test_sizes_that_are_none_are_refused(capsys):
    assert input_pipeline.main(["input_pipeline", "--sizes=32,wide"]) == 2
    assert "--sizes=32,wide" in capsys.readouterr().err
    assert input_pipeline.main(["input_pipeline", "--batch=0"]) == 2
