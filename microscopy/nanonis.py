"""Nanonis .sxm scans: all channels of both scan directions, as the picture on the surface."""

import re

import numpy as np

from microscopy.channels import MAX_CHANNELS, MAX_NAME, Channel, as_float32
from microscopy.headers import check_end, check_size, text_header
from microscopy.scan import DataError
from microscopy.units import number, number_or_none, pixel_size, symbol, whole

MAGIC = b":NANONIS_VERSION:"
_END, _DATA = b":SCANIT_END:", b"\x1a\x04"
_COLUMNS = ("Channel", "Name", "Unit", "Direction")


def read_sxm(content: bytes, max_pixels: int) -> list[Channel]:
    """Returns the channels of a .sxm file, forward before backward, in the order of its DATA_INFO.

    Values are the big-endian float32 as stored, in the unit stated; lines that were not scanned stay NaN. Backward lines are
    stored from right to left and are turned; a scan upwards is stored from its lower end and is turned. Raises DataError, without
    the file's name, for a header that is damaged or contradicts itself, more than `max_pixels`, or too little data.
    Source: Nanonis "SXM file format" (header tags, DATA_INFO, 1A 04 before the data).
    """
    header, end = text_header(content, _END, "Nanonis scan")
    start = content.find(_DATA, end) + len(_DATA)
    if start < len(_DATA):
        raise DataError("is a truncated Nanonis scan (no end of header); copy it again")
    fields = _fields(header)
    if _field(fields, "SCANIT_TYPE").split() != ["FLOAT", "MSBFIRST"]:
        raise DataError(f"is a Nanonis scan of type {_field(fields, 'SCANIT_TYPE')[:40]!r}, not FLOAT MSBFIRST; save it again with Nanonis")
    width, height = (whole(text, "SCAN_PIXELS") for text in _two(fields, "SCAN_PIXELS"))
    check_size(width, height, max_pixels)
    x, y = (number(text, "SCAN_RANGE") for text in _two(fields, "SCAN_RANGE"))
    scale = pixel_size((y, x), "m", (height, width))
    upwards = _upwards(_field(fields, "SCAN_DIR"))
    bias = number_or_none(fields.get("BIAS", ""))
    images = _images(fields)
    size = width * height * 4
    if start + len(images) * size > len(content):
        have = (len(content) - start) // size
        raise DataError(f"is a truncated Nanonis scan (pixels of {have} of its {len(images)} images); copy it again")
    check_end(start + len(images) * size, width * 4, content, f"{len(images)} images of {width} x {height} pixels")
    channels = []
    for index, (name, unit, direction) in enumerate(images):
        pixels = np.frombuffer(content, ">f4", width * height, start + index * size).reshape(height, width)
        pixels = pixels[:: -1 if upwards else 1, :: -1 if direction == "backward" else 1]
        channels.append(Channel(name, as_float32(pixels), unit, scale, direction, bias))
    return channels


def _fields(header: str) -> dict[str, str]:
    """Returns tag -> the lines below it."""
    parts = re.split(r"^:([^:\r\n]+):[ \t]*\r?$", header, flags=re.MULTILINE)
    return dict(zip(parts[1::2], (text.strip("\r\n") for text in parts[2::2]), strict=True))


def _field(fields: dict[str, str], tag: str) -> str:
    if not fields.get(tag, "").strip():
        raise DataError(f"is a Nanonis scan without {tag}; copy or save it again")
    return fields[tag].strip()


def _two(fields: dict[str, str], tag: str) -> list[str]:
    texts = _field(fields, tag).split()
    if len(texts) != 2:
        raise DataError(f"is a Nanonis scan whose {tag} is {_field(fields, tag)[:40]!r}; copy or save it again")
    return texts


def _upwards(text: str) -> bool:
    if text not in ("up", "down"):
        raise DataError(f"is a Nanonis scan whose SCAN_DIR is {text[:40]!r}, not up or down; copy or save it again")
    return text == "up"


def _images(fields: dict[str, str]) -> list[tuple[str, str, str]]:
    """Returns (name, unit, direction) of each stored image, in the order of storage."""
    lines = _field(fields, "DATA_INFO").splitlines()
    if len(lines) > MAX_CHANNELS:
        raise DataError(f"is a Nanonis scan of {len(lines)} channels; save it again with Nanonis")
    rows = [[cell.strip() for cell in line.strip().split("\t")] for line in lines if line.strip()]
    if tuple(rows[0][:4]) != _COLUMNS:
        raise DataError(f"is a Nanonis scan whose DATA_INFO has other columns than {', '.join(_COLUMNS)}; save it again with Nanonis")
    images = []
    for row in rows[1:]:
        directions = {"both": ("forward", "backward"), "forward": ("forward",), "backward": ("backward",)}.get((row + [""] * 4)[3])
        if directions is None or not row[1]:
            raise DataError(f"is a Nanonis scan with a damaged line in DATA_INFO: {' '.join(row)[:60]!r}; copy it again")
        images.extend((row[1][:MAX_NAME], symbol(row[2]), direction) for direction in directions)
    if not images:
        raise DataError("is a Nanonis scan of no channel; save it again with Nanonis")
    return images
