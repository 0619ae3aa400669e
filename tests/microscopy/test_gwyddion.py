"""Gwyddion files written by hand and by gwyfile come back; sizes that do not fit are refused before anything is made of them."""

import io
import struct

import numpy as np
import pytest

from microscopy.channels import label
from microscopy.gwyddion import read_gwy
from microscopy.scan import DataError
from tests.microscopy import native_writers as write

KEY = np.random.default_rng(1)
A, B = KEY.normal(size=(2, 5, 8)) * 1e-9


def test_channels_with_their_titles_units_and_sizes():
    fields = [write.gwy_field(A), write.gwy_field(B, units=("m", "V")), write.gwy_field(A, units=("", ""))]
    others = [
        write.gwy_part("/0/show", "o", write.gwy_field(B)),
        write.gwy_part("/0/mask", "o", write.gwy_field(B)),
        write.gwy_part("/0/base/palette", "s", b"Gray\0"),
        write.gwy_part("/names", "S", struct.pack("<I", 2) + b"a\0bc\0"),
        write.gwy_part("/objects", "O", struct.pack("<I", 1) + write.gwy_object("GwySIUnit")),
        write.gwy_part("/numbers", "I", struct.pack("<I3i", 3, 1, 2, 3)),
        write.gwy_part("/flag", "b", b"\1") + write.gwy_part("/letter", "c", b"x") + write.gwy_part("/big", "q", bytes(8)),
    ]
    channels = read_gwy(write.gwy(fields, ["Z (Forward)", "Amplitude [Retrace]", "A \u03bc (1)"], *others), 40)
    assert [label(c) for c in channels] == ["Z forward", "Amplitude backward", "A \u03bc (1)"]
    assert read_gwy(write.gwy(fields, ["Height Retrace", "", "Z"]), 40)[0].direction == "backward"
    for channel, picture in zip(channels, (A, B, A), strict=True):
        np.testing.assert_array_equal(channel.pixels, picture.astype(np.float32))
    assert [c.unit for c in channels] == ["m", "V", ""]
    assert channels[0].nm_per_pixel == pytest.approx((200, 250)) and channels[2].nm_per_pixel is None


def test_a_file_that_gwyfile_writes():
    gwyfile = pytest.importorskip("gwyfile", reason="pip install gwyfile (requirements-dev.txt)")
    objects = gwyfile.objects
    container = objects.GwyContainer()
    container["/7/data"] = objects.GwyDataField(A, xreal=4e-7, yreal=5e-7, si_unit_xy="m", si_unit_z="m")
    container["/7/data/title"] = "Height"
    file = io.BytesIO()
    container.tofile(file)
    (channel,) = read_gwy(file.getvalue(), 40)
    np.testing.assert_array_equal(channel.pixels, A.astype(np.float32))
    assert (channel.name, channel.unit) == ("Height", "m") and channel.nm_per_pixel == pytest.approx((100, 50))


def changed(old, new):
    content = write.gwy([write.gwy_field(A)], ["Z"])
    assert old in content
    return content.replace(old, new, 1)


HOSTILE = {
    "width of 2^31 - 1": (changed(b"xres\0i" + struct.pack("<i", 8), b"xres\0i" + struct.pack("<i", 2**31 - 1)), "max_pixels"),
    "negative width": (changed(b"xres\0i" + struct.pack("<i", 8), b"xres\0i" + struct.pack("<i", -8)), "declares -8 x 5"),
    "count of 2^32 - 1": (changed(b"data\0D" + struct.pack("<I", 40), b"data\0D" + b"\xff" * 4), "truncated or damaged"),
    "count too small": (changed(b"data\0D" + struct.pack("<I", 40), b"data\0D" + struct.pack("<I", 39)), "damaged"),
    "container longer than the file": (changed(b"GwyContainer\0", b"GwyContainer\0\xff\xff\xff\xff"), "damaged"),
    "size of nan": (changed(b"xreal\0d" + struct.pack("<d", 2e-6), b"xreal\0d" + struct.pack("<d", np.nan)), "a scan of nan"),
    "size of zero": (changed(b"yreal\0d" + struct.pack("<d", 1e-6), b"yreal\0d" + bytes(8)), "a scan of 2e-06 x 0"),
    "unknown type": (changed(b"xres\0i", b"xres\0Z"), "damaged"),
    "another object": (changed(b"GwyDataField", b"GwyDataLines"), "damaged"),
    "no image": (write.gwy([], []), "0 images"),
    "no data": (write.gwy([write.gwy_object("GwyDataField")], ["Z"]), "damaged"),
    "no NUL": (b"GWYPGwyContainer\0" + struct.pack("<I", 5) + b"/0/da", "damaged"),
    "array past the end": (b"GWYP" + write.gwy_object("GwyContainer", b"/n\0D\xff\xff\xff\x7f"), "damaged"),
    "strings without end": (b"GWYP" + write.gwy_object("GwyContainer", b"/n\0S\xff\xff\0\0" + b"a\0" * 9), "damaged"),
    "million components": (b"GWYP" + write.gwy_object("GwyContainer", b"\0b\1" * 10**6), "components"),
    "Gwyddion 1": (b"GWYO" + bytes(50), "Gwyddion 1"),
    "no container": (b"GWYP" + write.gwy_object("GwyDataField"), "damaged"),
    "magic only": (b"GWYP", "damaged"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_sizes_and_counts_that_do_not_fit(kind):
    content, words = HOSTILE[kind]
    with pytest.raises(DataError, match=words):
        read_gwy(content, 10**6)


def test_every_truncation_is_refused():
    content = write.gwy([write.gwy_field(A)], ["Z"])
    for cut in range(4, len(content), 7):
        with pytest.raises(DataError):
            read_gwy(content[:cut], 10**6)
