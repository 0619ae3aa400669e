"""WSxM files of every number type come back as the picture, in the unit of their Z amplitude."""

import numpy as np
import pytest

from microscopy.scan import DataError
from microscopy.wsxm import read_wsxm
from tests.microscopy import native_writers as write

KEY = np.random.default_rng(5)
A = KEY.normal(size=(5, 8)) * 10
N = KEY.integers(-3000, 3000, size=(5, 8))


@pytest.mark.parametrize("kind", ["double", "float"])
def test_floating_point_values_are_as_stored(kind):
    (channel,) = read_wsxm(write.wsxm(A, kind), 40)
    np.testing.assert_array_equal(channel.pixels, A.astype(np.float32))
    assert (channel.name, channel.direction, channel.unit, channel.bias) == ("Topography", "backward", "nm", 0.25)
    assert channel.nm_per_pixel == pytest.approx((50, 62.5))


@pytest.mark.parametrize("z, unit", [("60 nm", "nm"), ("60 \u00c5", "angstrom"), ("6.0E1 nA", "nA"), ("60 a.u.", "")])
def test_integers_span_the_z_amplitude(z, unit):
    (channel,) = read_wsxm(write.wsxm(N, "short", z=z), 40)
    np.testing.assert_allclose(channel.pixels, N * (60 / (N.max() - N.min())), rtol=1e-6)
    assert channel.unit == unit


def test_lengths_in_different_units_and_a_header_size_that_is_wrong():
    content = write.wsxm(A, x="0.5 \u00b5m", y="250 nm", changes=[("header size: 0000", "header size: 0001")])
    (channel,) = read_wsxm(content, 40)
    np.testing.assert_array_equal(channel.pixels, A.astype(np.float32))
    assert channel.nm_per_pixel == pytest.approx((50, 62.5))


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("columns: 8", "columns: 2147483648", "max_pixels"),
        ("columns: 8", "columns: -8", "columns as '-8'"),
        ("rows: 5", "rows: 0", "declares 8 x 0"),
        ("rows: 5", "rows: 50", "320 bytes for 8 x 50"),
        ("rows: 5", "rows: 3", "128 bytes more than 8 x 3 pixels"),
        ("Type: double", "Type: complex", "type 'complex'"),
        ("X Amplitude: 500 nm", "X Amplitude: nan nm", "X Amplitude as 'nan nm'"),
        ("X Amplitude: 500 nm", "X Amplitude: 0 nm", "a scan of 0 x"),
        ("Z Amplitude: 60 nm", "Z Amplitude: ", "Z Amplitude as ''"),
        ("Number of rows", "Number of raws", "Number of rows as ''"),
        ("SxM Image file", "IV curve file", "curves"),
        ("[Header end]", "[Header and]", "no end of header"),
    ],
)
def test_headers_that_cannot_be(old, new, words):
    with pytest.raises(DataError, match=words):
        read_wsxm(write.wsxm(A, changes=[(old, new)]), 1000)


def test_a_flat_image_and_truncations():
    flat = np.full((5, 8), 7)
    assert (read_wsxm(write.wsxm(flat, "short", z="0 nm"), 40)[0].pixels == 0).all()
    with pytest.raises(DataError, match="one value"):
        read_wsxm(write.wsxm(flat, "short", z="9 nm"), 40)
    content = write.wsxm(A)
    for cut in [*range(19, 500, 37), len(content) - 1]:
        with pytest.raises(DataError):
            read_wsxm(content[:cut], 1000)
