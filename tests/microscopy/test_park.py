"""Park TIFFs written by tifffile with the private tags come back: stored value x gain, upright, in the unit stated."""

import numpy as np
import pytest

from microscopy.native import read_channels
from microscopy.scan import DataError
from tests.microscopy import native_writers as write

KEY = np.random.default_rng(6)
A = KEY.normal(size=(5, 8)).astype(np.float32)
N = KEY.integers(-30_000, 30_000, size=(5, 8))


@pytest.mark.parametrize("kind, picture", [(0, N), (1, N * 60_000), (2, A)])
def test_values_of_every_type(kind, picture):
    (channel,) = read_channels(write.park(picture, gain=-2.5e-4, kind=kind), "a.tiff", max_pixels=256)
    np.testing.assert_allclose(channel.pixels, picture * -2.5e-4, rtol=1e-6)
    assert (channel.name, channel.direction, channel.unit, channel.bias) == ("Topography", "forward", "um", 0.75)
    assert channel.nm_per_pixel == pytest.approx((300, 375))


def test_backward_scans_and_other_units():
    (channel,) = read_channels(write.park(A, unit="V", forward=0), "a.tiff", max_pixels=256)
    assert (channel.direction, channel.unit) == ("backward", "V")


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"shape": (2**30, 2**30)}, "max_pixels"),
        ({"shape": (5, -8)}, "declares -8 x 5"),
        ({"shape": (50, 8)}, "160 bytes for 8 x 50"),
        ({"kind": 0, "category": 1}, "line profile"),
        ({"gain": float("nan")}, "gain nan"),
        ({"size_um": (0.0, 3.0)}, "a scan of 3 x 0 um"),
    ],
)
def test_headers_that_cannot_be(changes, words):
    with pytest.raises(DataError, match=rf"^a\.tiff: .*{words}"):
        read_channels(write.park(A, **changes), "a.tiff", max_pixels=1000)


def test_truncations_are_refused_unless_only_the_preview_is_cut():
    content = write.park(A)
    whole = read_channels(content, "a.tiff", max_pixels=1000)[0].pixels
    preview = content.rfind(bytes(256))  # 16 x 16 pixels at the end
    assert preview + 256 == len(content)
    for cut in range(8, len(content), 41):
        try:
            read = read_channels(content[:cut], "a.tiff", max_pixels=1000)[0].pixels
        except DataError as error:
            assert str(error).startswith("a.tiff: ")
        else:
            assert cut >= preview - 16  # what lies before it is padding
            np.testing.assert_array_equal(read, whole)
