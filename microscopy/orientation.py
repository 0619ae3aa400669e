"""The orientation tag of a photograph: which way up other programs show pixels that are read as stored here."""

import struct

from microscopy import tiff_tags
from microscopy.scan import DataError

_TAG = 274


def orientation(content: bytes) -> int:
    """Returns the orientation, 1 to 8, that a JPEG, PNG or TIFF file states; 1, as stored, where it states none or another number.

    Sources: Exif 2.3, 4.6.4; PNG specification, third edition, 11.3.2.4 (eXIf); TIFF 6.0, section 8.
    """
    exif = content
    if content[:3] == b"\xff\xd8\xff":
        exif = _of_jpeg(content)
    elif content[:8] == b"\x89PNG\r\n\x1a\n":
        exif = _of_png(content)
    if exif[:4] not in tiff_tags.MAGIC:
        return 1
    try:
        found = tiff_tags.value(tiff_tags.first_directory(exif), _TAG, 1)
    except DataError:
        return 1
    return found if 1 <= found <= 8 else 1


def _of_jpeg(content: bytes) -> bytes:
    position = 2
    while content[position : position + 1] == b"\xff" and position + 4 <= len(content):
        marker, length = struct.unpack_from(">BH", content, position + 1)
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker in (0xDA, 0xD9):
            break
        if marker == 0xE1 and content[position + 4 : position + 10] == b"Exif\0\0":
            return content[position + 10 : position + 2 + length]
        position += 2 + length
    return b""


def _of_png(content: bytes) -> bytes:
    position = 8
    while position + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, position)
        if name == b"eXIf":
            return content[position + 8 : position + 8 + length]
        position += 12 + length
    return b""
