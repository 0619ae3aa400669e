"""PSNR and SSIM against closed forms, scikit-image, and the published bicubic figures of Set5 and Set14."""

import json
import math
import os
import pathlib

import numpy as np
import PIL.Image
import pytest
import skimage.metrics

from metrics import image
from microscopy.scan import DataError

DATA = pathlib.Path(os.environ.get("SCANFORGE_TEST_DATA", pathlib.Path(__file__).resolve().parents[3] / "shared" / "data")) / "sr-x4"


def picture(shape=(40, 50, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_luma_of_primaries_is_that_of_rec_601():
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    np.testing.assert_array_equal(image.luma(colours.astype(np.uint8)), [[16, 235, 81, 145, 41]])
    np.testing.assert_allclose(image.luma(colours.astype(float)), [[16, 235, 81.481, 144.553, 40.966]], rtol=1e-12)
    grey = picture((6, 7))
    np.testing.assert_array_equal(image.luma(grey), grey)
    np.testing.assert_array_equal(image.luma(grey[..., None]), grey)


def test_psnr_of_a_constant_difference():
    grey = picture((30, 30)).clip(0, 250)
    assert image.psnr(grey + 5.0, grey) == pytest.approx(20 * math.log10(255 / 5))
    assert image.psnr(grey, grey) == math.inf
    grey_twice = image.scores(grey, picture((30, 30), 1))
    assert grey_twice["psnr_y"] == grey_twice["psnr_rgb"] and grey_twice["ssim_y"] == grey_twice["ssim_rgb"]
    colour = picture().clip(0, 250).astype(float)
    brighter = colour + [5.0, 0.0, 0.0]
    assert image.psnr(brighter, colour, on_luma=False) == pytest.approx(10 * math.log10(255**2 * 3 / 25))
    assert image.psnr(brighter, colour) == pytest.approx(20 * math.log10(255 / (5 * 65.481 / 255)))


def test_the_border_is_cut_off():
    first = picture()
    second = first.copy()
    second[:4], second[-4:], second[:, :4], second[:, -4:] = 0, 0, 0, 0
    assert image.psnr(first, second) == image.psnr(first, second, on_luma=False) == math.inf
    assert image.ssim(first, second) == pytest.approx(1, abs=1e-12)
    assert image.psnr(first, second, cut=3) < 40


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_agrees_with_another_implementation(channels):
    first = picture((37, 45, channels)).astype(float)
    second = (0.7 * first + 0.3 * picture((37, 45, channels), 1)).round()
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255, "channel_axis": 2}
    expected = skimage.metrics.structural_similarity(first, second, **options)
    assert image.ssim(first, second, on_luma=False, cut=0) == pytest.approx(expected, abs=1e-10)
    assert 0.3 < expected < 0.999


def test_bad_input_is_refused():
    for first, second, message in (
        (picture(), picture((40, 51, 3)), "same size"),
        (picture((8, 8)), picture((8, 8)), "nothing is left"),
        (np.full((30, 30), np.nan), picture((30, 30)), "NaN"),
        (picture((30, 30, 4)), picture((30, 30, 4)), "numbers"),
        (picture((30, 30)) * 2.0, picture((30, 30)), r"0\.\.255"),
    ):
        with pytest.raises(DataError, match=message):
            image.psnr(first, second)
    with pytest.raises(DataError, match="11 x 11"):
        image.ssim(picture((18, 30)), picture((18, 30)))


@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_bicubic_upscaling_gets_the_published_figures(name):
    if not (DATA / "published_x4.json").exists():
        pytest.skip(f"{DATA} is absent")
    published = json.loads((DATA / "published_x4.json").read_text())[name]["bicubic"]
    found = []
    for number in range(1, len(published["psnr_y"]) + 1):
        with (
            PIL.Image.open(DATA / name / f"img_{number:03d}_HR.png") as high,
            PIL.Image.open(DATA / name / f"img_{number:03d}_LR.png") as low,
        ):
            upscaled = np.asarray(low.resize(high.size, PIL.Image.Resampling.BICUBIC))
            found.append((image.psnr(upscaled, np.asarray(high)), image.ssim(upscaled, np.asarray(high))))
    np.testing.assert_allclose([psnr for psnr, _ in found], published["psnr_y"], rtol=0, atol=0.06)
    np.testing.assert_allclose([ssim for _, ssim in found], published["ssim_y"], rtol=0, atol=0.001)
