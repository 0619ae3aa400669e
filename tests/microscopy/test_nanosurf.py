"""Nanosurf files with known integers come back as the header scales them."""

import numpy as np
import pytest

from microscopy.channels import label
from microscopy.nanosurf import read_nid
from microscopy.scan import DataError
from tests.microscopy import native_writers as write

KEY = np.random.default_rng(3)
A, B = KEY.integers(-100, 100, size=(2, 5, 8))
CHANNELS = [("Scan forward", "Z-Axis", "m", A), ("Scan backward", "Z-Axis", "m", B)]


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_integers_become_values_between_the_ends_of_their_range(bits):
    low, span = -3e-6, 8e-6
    channels = read_nid(write.nid(CHANNELS, low=low, span=span, bits=bits), 40)
    assert [(label(c), c.unit) for c in channels] == [("Z-Axis forward", "m"), ("Z-Axis backward", "m")]
    for channel, picture in zip(channels, (A, B), strict=True):
        expected = low + span * (picture / 2.0**bits + 0.5)
        np.testing.assert_allclose(channel.pixels, expected, rtol=1e-6)
    assert channels[0].nm_per_pixel == pytest.approx((200, 250))


def test_spectra_are_stepped_over():
    spectrum = KEY.integers(-9, 9, size=(3, 700))
    content = write.nid([("Spec forward", "Deflection", "N", spectrum), *CHANNELS])
    np.testing.assert_array_equal(read_nid(content, 40)[1].pixels, read_nid(write.nid(CHANNELS), 40)[1].pixels)
    with pytest.raises(DataError, match="spectra only"):
        read_nid(write.nid([("Spec forward", "Deflection", "N", spectrum)]), 40)


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("Points=8", "Points=2147483648", "truncated"),
        ("Points=8", "Points=-8", "Points of DataSet-0:1 as '-8'"),
        ("Points=8", "Points=4", "bytes more than its channels"),
        ("Lines=5", "Lines=0", "bytes more than its channels"),
        ("SaveBits=16", "SaveBits=24", "24 bits"),
        ("SaveSign=Signed", "SaveSign=Unsigned", "Unsigned"),
        ("GroupCount=2", "GroupCount=2147483647", "2147483647 groups"),
        ("Gr0-Count=3", "Gr0-Count=99999999", "channels"),
        ("Gr0-Ch1=DataSet-0:1", "Gr0-Ch1=DataSet-9:9", "no section 'DataSet-9:9'"),
        ("Dim0Range=2e-06", "Dim0Range=nan", "Dim0Range of DataSet-0:1 as 'nan'"),
        ("Dim0Range=2e-06", "Dim0Range=0", "a scan of 0 x"),
        ("Dim2Range=2e-05", "Dim2Range=", "Dim2Range of DataSet-0:1 as ''"),
        ("GroupCount=2", "Groups=2", "GroupCount as ''"),
    ],
)
def test_headers_that_cannot_be(old, new, words):
    with pytest.raises(DataError, match=words):
        read_nid(write.nid(CHANNELS).replace(old.encode(), new.encode(), 1), 1000)


def test_an_image_over_the_limit_is_refused_and_truncations_too():
    content = write.nid(CHANNELS)
    with pytest.raises(DataError, match="max_pixels"):
        read_nid(content, 39)
    for cut in range(9, len(content), 11):
        with pytest.raises(DataError):
            read_nid(content[:cut], 1000)
