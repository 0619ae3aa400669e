"""Tiles cover every pixel once, and small random networks give on tiles what they give on the whole image."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from microscopy import tiling
from microscopy.scan import DataError

TOLERANCE = 1e-5


def kernels(*shapes, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(0, 1 / np.sqrt(np.prod(shape[:3])), shape).astype(np.float32) for shape in shapes]


def conv(images, kernel):
    # A bias, so that zero padding in deeper layers is not what a continued image would give.
    return 0.3 + jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


SAME_SIZE = kernels((3, 3, 2, 4), (5, 5, 4, 4), (5, 5, 4, 1))


@jax.jit
def same_size(images):
    """Three zero-padded convolutions: receptive radius 1 + 2 + 2 = 5."""
    for kernel in SAME_SIZE:
        images = jnp.tanh(conv(images, kernel))
    return images


POOLED = kernels((3, 3, 2, 4), (3, 3, 4, 4), (3, 3, 8, 1))


@functools.partial(jax.jit, static_argnames="factor")
def pooled(images, factor=2):
    """A U-Net of one level, for even sizes: radius 1 (top) + 2 (one convolution at half size) + 1 (the pooling's phase) + 1 = 5."""
    top = jnp.tanh(conv(images, POOLED[0]))
    n, h, w, c = top.shape
    deep = jnp.tanh(conv(top.reshape(n, h // factor, factor, w // factor, factor, c).max((2, 4)), POOLED[1]))
    deep = deep.repeat(factor, 1).repeat(factor, 2)
    return conv(jnp.concatenate([top, deep], -1), POOLED[2])


DOUBLED = kernels((3, 3, 2, 4), (3, 3, 4, 4), (3, 3, 1, 1))


@jax.jit
def doubled(images):
    """Two convolutions, a sub-pixel layer x2 and one convolution on the large grid: radius 1 + 1 + 1."""
    images = conv(jnp.tanh(conv(images, DOUBLED[0])), DOUBLED[1])
    n, h, w, _ = images.shape
    return conv(images.reshape(n, h, w, 2, 2).transpose(0, 1, 3, 2, 4).reshape(n, 2 * h, 2 * w, 1), DOUBLED[2])


NETWORKS = {"same_size": (same_size, 5, 1, 1), "pooled": (pooled, 5, 2, 1), "doubled": (doubled, 3, 1, 2)}


def image(height, width, seed=1):
    return np.random.default_rng(seed).normal(size=(height, width, 2)).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(16, 16), (17, 40), (33, 16), (41, 57), (23, 90), (9, 50), (50, 7), (5, 4)])
def test_a_network_gives_on_tiles_what_it_gives_on_the_whole(name, size):
    network, halo, multiple, scale = NETWORKS[name]
    pixels = image(*size)
    whole = np.asarray(network(tiling.padded(pixels, multiple)[None]))[0, : size[0] * scale, : size[1] * scale]
    for tile, batch in ((16, 3), (20, 1)):
        found = tiling.in_tiles(network, pixels, tile=tile, halo=halo, multiple=multiple, scale=scale, batch=batch)
        assert found.shape == whole.shape and found.dtype == np.float32
        np.testing.assert_allclose(found, whole, atol=TOLERANCE, rtol=0)
    assert whole.std() > 0.05


@pytest.mark.parametrize(("name", "tile", "halo", "multiple"), [("same_size", 17, 3, 1), ("pooled", 18, 3, 2), ("doubled", 17, 1, 1)])
def test_too_small_a_halo_shows(name, tile, halo, multiple):
    network, _, _, scale = NETWORKS[name]
    pixels = image(48, 58)
    found = tiling.in_tiles(network, pixels, tile=tile, halo=halo, multiple=multiple, scale=scale)
    assert np.abs(found - np.asarray(network(pixels[None]))[0]).max() > 100 * TOLERANCE


def test_tiles_off_the_grid_of_the_pooling_show():
    pixels = image(64, 52)
    network = functools.partial(pooled, factor=4)  # radius 1 + (1 convolution of 4) + 3 for the phase + 1 = 9
    whole = np.asarray(network(pixels[None]))[0]
    np.testing.assert_allclose(tiling.in_tiles(network, pixels, tile=32, halo=9, multiple=4), whole, atol=TOLERANCE, rtol=0)
    off = tiling.in_tiles(network, pixels, tile=32, halo=9, multiple=1)
    assert np.abs(off - whole).max() > 100 * TOLERANCE


def test_all_images_no_smaller_than_the_tile_share_one_compilation():
    shapes = set()

    def network(images):
        shapes.add(images.shape)
        return images

    for size in ((16, 16), (17, 90), (40, 31)):
        pixels = image(*size)
        np.testing.assert_array_equal(tiling.in_tiles(network, pixels, tile=16, halo=4, batch=4), pixels)
    assert shapes == {(4, 16, 16, 2)}


@pytest.mark.parametrize(("tile", "halo", "multiple"), [(16, 0, 1), (16, 5, 1), (24, 5, 4), (32, 8, 16), (16, 7, 2), (9, 4, 1)])
def test_every_pixel_is_kept_once_with_its_halo_around_it(tile, halo, multiple):
    for height, width in itertools.product(range(multiple, 80, multiple), (multiple, 16, 48)):
        if width % multiple:
            continue
        covered = np.zeros((height, width), int)
        for source, inner, target in tiling.plan(height, width, tile, halo, multiple):
            covered[target] += 1
            for side, kept, goal, size in zip(source, inner, target, (height, width), strict=True):
                assert side.stop - side.start == min(tile, size) and side.start % multiple == side.stop % multiple == 0
                assert 0 <= side.start <= side.stop <= size and goal == slice(side.start + kept.start, side.start + kept.stop)
                assert kept.start >= halo or side.start + kept.start == 0 == kept.start
                assert side.stop - goal.stop >= halo or goal.stop == size
        assert (covered == 1).all()


def test_tiles_cover_the_plan_of_one_line_by_hand():
    found = tiling.plan(1, 20, 10, 2)
    assert [tile.source[1] for tile in found] == [slice(0, 10), slice(6, 16), slice(10, 20)]
    assert [tile.target[1] for tile in found] == [slice(0, 8), slice(8, 14), slice(14, 20)]
    assert [tile.inner[1] for tile in found] == [slice(0, 8), slice(2, 8), slice(4, 10)]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_bucket_gives_the_network_on_the_mirrored_image_whatever_its_size(name):
    network, halo, multiple, scale = NETWORKS[name]
    pixels = image(11, 18)
    margin = 4 * halo
    wide = np.pad(pixels, [(margin, margin), (margin, margin), (0, 0)], mode="reflect")
    cut = tuple(slice(margin * scale, (margin + size) * scale) for size in pixels.shape[:2])
    expected = np.asarray(network(tiling.padded(wide, multiple)[None]))[0][cut]
    shapes = set()
    for step in (8, 32, 64):
        held, window = tiling.bucketed(pixels, halo, step, multiple)
        np.testing.assert_array_equal(held[window], pixels)
        shapes.add(held.shape[:2])
        output = np.asarray(network(held[None]))[0]
        kept = tuple(slice(side.start * scale, side.stop * scale) for side in window)
        np.testing.assert_allclose(output[kept], expected, atol=TOLERANCE, rtol=0)
    assert all(size % 8 == 0 for shape in shapes for size in shape) and (64, 64) in shapes
    own = np.asarray(network(tiling.padded(pixels, multiple)[None]))[0, : 11 * scale, : 18 * scale]
    assert np.abs(own - expected).max() > 100 * TOLERANCE  # at the border, where zeros take the place of the mirror image
    inside = tuple(slice(halo * scale, (size - halo) * scale) for size in pixels.shape[:2])
    np.testing.assert_allclose(own[inside], expected[inside], atol=TOLERANCE, rtol=0)
    assert own[inside].size


def test_one_pixel_is_an_image():
    pixels = image(1, 1)
    held, window = tiling.bucketed(pixels, 5, 8)
    assert held.shape == (16, 16, 2) and (held == pixels).all() and window == (slice(5, 6),) * 2
    found = tiling.in_tiles(pooled, pixels, tile=16, halo=5, multiple=2)
    np.testing.assert_allclose(found, np.asarray(pooled(np.broadcast_to(pixels, (2, 2, 2))[None]))[0, :1, :1], atol=TOLERANCE)


def test_bad_plans_and_outputs_are_refused():
    tiles = tiling.plan(20, 20, 10, 2)
    for call, message in (
        (lambda: tiling.plan(20, 20, 10, 5), "tile of 11 pixels at least"),
        (lambda: tiling.plan(20, 20, 10, 2, 4), "divisible by 4"),
        (lambda: tiling.plan(22, 20, 8, 2, 4), "22 x 20"),
        (lambda: tiling.plan(20, 20, 10, -1), "halo"),
        (lambda: tiling.plan(0, 20, 10, 1), "0 x 20"),
        (lambda: tiling.stitch(tiling.cut(image(20, 20), tiles), tiles, (20, 20), 2), "2 times"),
        (lambda: tiling.stitch([], [], (20, 20)), "no tiles"),
        (lambda: tiling.bucketed(image(20, 20), 3, 10, 4), "divisible by 4"),
    ):
        with pytest.raises(DataError, match=message):
            call()


def test_a_ladder_of_tiles_equals_the_whole_above_its_least_rung_with_few_shapes():
    shapes = set()

    def network(images):
        shapes.add(images.shape)
        return pooled(images)

    for height in range(40, 64, 2):
        whole = image(height, 131 - height)
        found = tiling.in_ladder(network, whole, tile=64, halo=5, step=8, multiple=2)
        np.testing.assert_allclose(found, np.asarray(pooled(tiling.padded(whole, 2)[None]))[0, :, : whole.shape[1]], atol=1e-5)
    assert len(shapes) == 3 and tiling.least_rung(5, 8) == 24
    assert tiling.needs_ladder([(side, 50) for side in range(9)], 64) and not tiling.needs_ladder(
        [(side, 50) for side in range(64, 99)], 64
    )
    small = tiling.in_ladder(network, image(9, 11), tile=64, halo=5, step=8, multiple=2)
    assert small.shape[:2] == (9, 11)
    shapes.clear()
    long = image(9, 500)
    found = tiling.in_ladder(network, long, tile=64, halo=5, step=8, multiple=2)
    wide, window = tiling.bucketed(long, 5, 8, 2)
    np.testing.assert_allclose(found, np.asarray(pooled(wide[None]))[0][window], atol=1e-5)
    assert max(shape[2] for shape in shapes) == 64  # never whole
