"""Filters against OpenCV, `jax.image`, double loops over the kernel's own definition, and closed forms."""

import cv2
import jax
import numpy as np
import pytest

import resize

SIZES = [((17, 23), (9, 31)), ((40, 32), (13, 8)), ((12, 9), (30, 27)), ((8, 8), (8, 8))]
FILTERS = [resize.bilinear, resize.area, resize.lanczos, resize.bicubic, resize.pil_bicubic, resize.tf1_bilinear]


def noise(size=(17, 23), channels=2, num=2, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (num, *size, channels)).astype(np.float32)


def opencv(images, size, how):
    return np.stack([cv2.resize(image, size[::-1], interpolation=how) for image in images])


def keys(x):
    x = abs(x)
    return 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def matlab_line(line, new_size):
    """A line of pixels as imresize's description says: every term of the sum, the border mirrored by walking back."""
    scale, result = len(line) / new_size, []
    for i in range(new_size):
        centre, wide, total, weight = (i + 0.5) * scale - 0.5, max(scale, 1), 0.0, 0.0
        for j in range(int(centre - 2 * wide) - 2, int(centre + 2 * wide) + 3):
            place = j
            while not 0 <= place < len(line):
                place = -1 - place if place < 0 else 2 * len(line) - 1 - place
            total += keys((j - centre) / wide) * line[place]
            weight += keys((j - centre) / wide)
        result.append(total / weight)
    return np.array(result)


@pytest.mark.parametrize(("size", "new_size"), SIZES)
def test_bilinear_without_antialiasing_is_opencvs(size, new_size):
    found = resize.bilinear(noise(size), *new_size, antialias=False)
    np.testing.assert_allclose(found, opencv(noise(size), new_size, cv2.INTER_LINEAR), atol=2e-3)


@pytest.mark.parametrize(("size", "new_size"), SIZES[1:2] + SIZES[3:])
def test_area_is_opencvs(size, new_size):
    np.testing.assert_allclose(resize.area(noise(size), *new_size), opencv(noise(size), new_size, cv2.INTER_AREA), atol=1e-3)


def test_area_keeps_the_mean_and_repeats_pixels():
    images = noise()
    np.testing.assert_allclose(resize.area(images, 10, 31).mean((1, 2)), images.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(resize.area(images, 34, 69), images.repeat(2, 1).repeat(3, 2), rtol=1e-6)


@pytest.mark.parametrize("name", ["bilinear", "pil_bicubic", "lanczos"])
@pytest.mark.parametrize(("size", "new_size"), SIZES)
def test_antialiased_filters_are_those_of_jax_image(name, size, new_size):
    method = {"bilinear": "linear", "pil_bicubic": "cubic", "lanczos": "lanczos3"}[name]
    expected = jax.image.resize(noise(size), (2, *new_size, 2), method, precision="highest")
    np.testing.assert_allclose(getattr(resize, name)(noise(size), *new_size), expected, atol=2e-3)


@pytest.mark.parametrize(("size", "new_size"), [(17, 5), (5, 17), (40, 10), (3, 1), (9, 9)])
def test_bicubic_is_the_sum_of_imresize(size, new_size):
    line = noise((size, 1), 1, 1)
    found = resize.bicubic(line, new_size, 1)[0, :, 0, 0]
    np.testing.assert_allclose(found, matlab_line(line[0, :, 0, 0].astype(float), new_size), atol=1e-3)


def test_bicubic_rounds_after_each_pass_as_uint8_images_do():
    image = np.round(noise((16, 24), 1, 1))
    rows = np.stack([matlab_line(column, 4) for column in image[0, :, :, 0].T.astype(float)], 1)
    rows = np.clip(np.floor(rows + 0.5), 0, 255)
    expected = np.stack([matlab_line(row, 6) for row in rows])
    found = np.asarray(resize.bicubic(image, 4, 6, rounded=True))[0, :, :, 0]
    np.testing.assert_array_equal(found, np.clip(np.floor(expected + 0.5), 0, 255))
    first = np.asarray(resize.bicubic(image, 16, 6, rounded=True))
    np.testing.assert_array_equal(resize.bicubic(image, 8, 6, rounded=True), resize.bicubic(first, 8, 6, rounded=True))


@pytest.mark.parametrize(("folder", "number"), [("Set5", i) for i in range(1, 6)] + [("Set14", i) for i in range(1, 15)])
def test_bicubic_makes_the_published_low_resolution_files(real_data, folder, number):
    high, low = (
        cv2.imread(str(real_data / "sr-x4" / folder / f"img_{number:03d}_{which}.png"), cv2.IMREAD_UNCHANGED) for which in ("HR", "LR")
    )
    images = high.reshape(1, *high.shape[:2], -1)
    found = np.asarray(resize.bicubic(images, *low.shape[:2], rounded=True))[0].reshape(low.shape)
    np.testing.assert_array_equal(found[2:-2, 2:-2], low[2:-2, 2:-2])
    assert low[2:-2, 2:-2].size > 2000 and low.std() > 10


@pytest.mark.parametrize(("size", "new_size"), [(7, 299), (300, 299), (640, 299), (5, 5)])
def test_tf1_bilinear_mixes_two_pixels_from_the_corner(size, new_size):
    line = noise((size, 1), 1, 1)[0, :, 0, 0]
    places = np.arange(new_size) * (size / new_size)
    expected = np.interp(places, np.arange(size), line.astype(float))  # np.interp repeats the last value
    np.testing.assert_allclose(resize.tf1_bilinear(line.reshape(1, size, 1, 1), new_size, 1)[0, :, 0, 0], expected, atol=1e-3)


@pytest.mark.parametrize("function", FILTERS)
def test_constants_and_unchanged_sizes_stay_and_axes_are_not_mixed(function):
    flat = np.full((1, 11, 13, 3), 7.5, np.float32)
    np.testing.assert_allclose(function(flat, 4, 29), np.full((1, 4, 29, 3), 7.5), rtol=1e-6)
    images = noise()
    np.testing.assert_allclose(function(images, 17, 23), images, atol=1e-3)
    turned = function(images.swapaxes(1, 2), 31, 9).swapaxes(1, 2)
    np.testing.assert_allclose(function(images, 9, 31), turned, atol=2e-3)


def test_a_ramp_stays_a_ramp_away_from_the_border():
    ramp = np.broadcast_to(np.arange(64, dtype=np.float32)[:, None, None], (1, 64, 4, 1))
    for function in (resize.bilinear, resize.area, resize.bicubic, resize.lanczos):
        found = np.asarray(function(ramp, 16, 4))[0, 4:-4, 0, 0]
        np.testing.assert_allclose(found, np.arange(4, 12) * 4 + 1.5, atol=1e-3)


def test_integers_are_read_as_numbers_and_wrong_shapes_are_refused():
    images = np.round(noise()).astype(np.uint8)
    found = resize.bilinear(images, 5, 5)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, resize.bilinear(images.astype(np.float32), 5, 5))
    with pytest.raises(ValueError, match="at least 1"):
        resize.area(images, 0, 4)
    with pytest.raises(ValueError, match=r"\(17, 23, 2\)"):
        resize.area(images[0], 4, 4)
