"""Orientation tags as Pillow writes them are read from every kind of file; damaged ones are as none."""

import io

import numpy as np
import pytest
from PIL import Image

from microscopy.orientation import orientation


def encoded(kind, number=None):
    content, options = io.BytesIO(), {}
    if number is not None:
        options["exif"] = Image.Exif()
        options["exif"][274] = number
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_the_tag_is_read(kind):
    assert [orientation(encoded(kind, number)) for number in range(1, 9)] == list(range(1, 9))
    assert orientation(encoded(kind)) == 1 and orientation(encoded(kind, 9)) == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_damaged_file_states_none(kind):
    content = encoded(kind, 6)
    assert all(orientation(content[:end]) in (1, 6) for end in range(len(content)))
    assert orientation(b"") == orientation(b"\x93NUMPY") == 1
