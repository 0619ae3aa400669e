"""Igor waves written from Technical Note 003 come back, as igor2 reads them too."""

import io

import numpy as np
import pytest

from microscopy.channels import label
from microscopy.igor import byte_order, read_ibw
from microscopy.scan import DataError
from tests.microscopy import native_writers as write

KEY = np.random.default_rng(2)
A, B = KEY.normal(size=(2, 5, 8)).astype(np.float32)
LAYERS = {"HeightTrace": A, "PhaseRetrace": B}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [(2, "f"), (4, "d"), (0x10, "h"), (0x20, "i"), (8, "b"), (0x50, "H")])
def test_layers_come_back_upright_in_every_number_type(order, kind):
    pictures = {name: np.abs(np.round(layer * 30)) if kind[1] not in "fd" else layer for name, layer in LAYERS.items()}
    channels = read_ibw(write.ibw(pictures, order=order, kind=kind), 40)
    for channel, picture in zip(channels, pictures.values(), strict=True):
        np.testing.assert_array_equal(channel.pixels, picture.astype(np.float32))
    assert [(label(c), c.unit, c.direction) for c in channels] == [("HeightTrace", "m", "forward"), ("PhaseRetrace", "deg", "backward")]
    assert channels[0].nm_per_pixel == pytest.approx((2, 1))


def test_igor2_reads_the_same_values():
    binarywave = pytest.importorskip("igor2.binarywave", reason="pip install igor2 (requirements-dev.txt)")
    wave = binarywave.load(io.BytesIO(write.ibw(LAYERS)))["wave"]
    channels = read_ibw(write.ibw(LAYERS), 40)
    for index, channel in enumerate(channels):
        np.testing.assert_array_equal(channel.pixels, np.asarray(wave["wData"])[:, :, index].T[::-1])
    assert [name.decode() for name in wave["labels"][2] if name] == [c.name for c in channels]


def test_a_single_layer_and_units_that_are_no_length():
    content = write.ibw({"": A}, dims=(8, 5, 0, 0), units=("V", "s"))
    (channel,) = read_ibw(content, 40)
    np.testing.assert_array_equal(channel.pixels, A)
    assert (channel.name, channel.unit, channel.direction, channel.nm_per_pixel) == ("layer 1", "V", "", None)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"dims": (2**31, 2**31, 1, 0)}, "more than max_pixels"),
        ({"dims": (8, 5, 2**31, 0)}, "no stack of images"),
        ({"dims": (8, 5, 2, 7)}, "no stack of images"),
        ({"dims": (80, 0, 0, 0)}, "no stack of images"),
        ({"dims": (8, 5, 3, 0)}, "80 points for 8 x 5 x 3"),
        ({"dims": (0, 5, 2, 0)}, "declares 0 x 5"),
        ({"kind": (3, "f")}, "type 3"),
        ({"step": (float("nan"), 1e-9)}, "a scan of 1e-09 x nan"),
        ({"step": (1e-9, 0.0)}, "a scan of 0 x"),
    ],
)
def test_headers_that_cannot_be(changes, words):
    with pytest.raises(DataError, match=words):
        read_ibw(write.ibw(LAYERS, **changes), 1000)


def test_a_flipped_bit_in_the_header_shows_in_its_checksum():
    content = write.ibw(LAYERS)
    assert byte_order(content) == "<" and byte_order(b"\x05\0" + bytes(500)) == "" and byte_order(content[:383]) == ""
    for place in range(0, 384, 5):
        damaged = content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]
        with pytest.raises(DataError, match="checksum"):
            read_ibw(damaged, 1000)


def test_every_truncation_is_refused():
    content = write.ibw(LAYERS)
    for cut in range(0, len(content), 13):
        with pytest.raises(DataError):
            read_ibw(content[:cut], 1000)
