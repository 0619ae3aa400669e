"""Gwyddion .gwy files: every image channel. Our own reader, because every size must be checked before anything is unpacked."""

import re
import struct
from collections.abc import Iterator

import numpy as np

from microscopy.channels import MAX_CHANNELS, MAX_NAME, Channel, as_float32, direction_of
from microscopy.headers import MAX_PARTS, check_size, unpack
from microscopy.scan import DataError
from microscopy.units import pixel_size, symbol

MAGIC = (b"GWYP", b"GWYO")
_SIZES = {b"b": 1, b"c": 1, b"i": 4, b"q": 8, b"d": 8}
_ARRAY_SIZES = {b"C": 1, b"I": 4, b"Q": 8, b"D": 8}
_DAMAGED = "is a truncated or damaged Gwyddion file; copy or save it again"


def read_gwy(content: bytes, max_pixels: int) -> list[Channel]:
    """Returns the image channels ("/N/data") of a .gwy file in the order of their numbers, float64 reduced to float32.

    The title is the name; its last word may be the direction, and "(Forward)" or "[Retrace]" is then no part of the name.
    Masks, presentations, graphs, volumes and spectra are passed over. Raises DataError, without the file's name, for
    damaged files (a size or count that does not fit into what holds it), no image, or more than `max_pixels`.
    Source: Gwyddion user guide, "Gwyddion native data files".
    """
    if content[:4] != MAGIC[0]:
        raise DataError("is a file of Gwyddion 1; open it in Gwyddion 2 and save it again")
    name, start, end = _object(content, 4, len(content))
    if name != b"GwyContainer":
        raise DataError(_DAMAGED)
    fields, titles = {}, {}
    for key, kind, first, last in _components(content, start, end):
        found = re.fullmatch(rb"/(\d{1,9})/data(/title)?", key)
        if found and kind == b"s" and found[2]:
            titles[int(found[1])] = content[first : min(last - 1, first + MAX_NAME)].decode("utf-8", "replace").strip()
        if found and kind == b"o" and not found[2]:
            fields[int(found[1])] = (first, last)
    if not 0 < len(fields) <= MAX_CHANNELS:
        raise DataError(f"is a Gwyddion file of {len(fields)} images; save it with at least one and at most {MAX_CHANNELS}")
    return [_channel(content, *fields[number], titles.get(number, f"channel {number}"), max_pixels) for number in sorted(fields)]


def _channel(content: bytes, start: int, end: int, title: str, max_pixels: int) -> Channel:
    name, start, end = _object(content, start, end)
    parts = {key: (kind, first, last) for key, kind, first, last in _components(content, start, end)}
    if name != b"GwyDataField" or any(parts.get(key, b"?")[0] != kind for key, kind in ((b"xres", b"i"), (b"yres", b"i"), (b"data", b"D"))):
        raise DataError(_DAMAGED)
    width, height = (struct.unpack_from("<i", content, parts[key][1])[0] for key in (b"xres", b"yres"))
    check_size(width, height, max_pixels)
    _, first, last = parts[b"data"]
    if last - first != 4 + width * height * 8:
        raise DataError(f"is a Gwyddion file with {(last - first - 4) // 8} values for {width} x {height} pixels; save it again")
    stored = np.frombuffer(content, "<f8", width * height, first + 4).reshape(height, width)
    extent = [_real(content, parts, key) for key in (b"yreal", b"xreal")]
    scale = pixel_size(tuple(extent), _unit(content, parts, b"si_unit_xy"), (height, width)) if None not in extent else None
    closing = re.fullmatch(r"(.*?)\s*[(\[]([^()\[\]]*)[)\]]\s*", title, re.DOTALL)
    direction = direction_of(closing[2] if closing else (title.split() or [""])[-1])
    shown = closing[1] if closing and direction and closing[1] else title
    return Channel(shown, as_float32(stored), _unit(content, parts, b"si_unit_z"), scale, direction)


def _real(content: bytes, parts: dict, key: bytes) -> float | None:
    kind, first, _ = parts.get(key, (b"", 0, 0))
    return struct.unpack_from("<d", content, first)[0] if kind == b"d" else None


def _unit(content: bytes, parts: dict, key: bytes) -> str:
    kind, first, last = parts.get(key, (b"", 0, 0))
    if kind != b"o":
        return ""
    for name, kind, start, end in _components(content, *_object(content, first, last)[1:]):
        if name == b"unitstr" and kind == b"s":
            return symbol(content[start : end - 1].decode("utf-8", "replace"))
    return ""


def _object(content: bytes, start: int, end: int) -> tuple[bytes, int, int]:
    """Returns (type name, where its components start, where they end) of the object at `start`; it ends before `end`."""
    stop = content.find(b"\0", start, end)
    if stop < 0 or stop + 5 > end:
        raise DataError(_DAMAGED)
    first = stop + 5
    last = first + unpack("<I", content, stop + 1)[0]
    if last > end:
        raise DataError(_DAMAGED)
    return content[start:stop], first, last


def _components(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes, int, int]]:
    """Yields (name, type, where its value starts, where it ends) of the components between `start` and `end`."""
    for _ in range(MAX_PARTS):
        if start == end:
            return
        stop = content.find(b"\0", start, end)
        kind, first = content[stop + 1 : stop + 2], stop + 2
        last = _value_end(content, kind, first, end) if 0 <= stop < end - 1 else end + 1
        if last > end:
            raise DataError(_DAMAGED)
        yield content[start:stop], kind, first, last
        start = last
    raise DataError(f"is a Gwyddion file with more than {MAX_PARTS} components; save it with fewer")


def _value_end(content: bytes, kind: bytes, first: int, end: int) -> int:
    if kind in _SIZES:
        return first + _SIZES[kind]
    if kind == b"s":
        return _after_nul(content, first, end)
    if kind == b"o":
        return _object(content, first, end)[2]
    if kind not in (b"S", b"O", *_ARRAY_SIZES) or first + 4 > end:
        raise DataError(_DAMAGED)
    (count,) = unpack("<I", content, first)
    if kind in _ARRAY_SIZES:
        return first + 4 + count * _ARRAY_SIZES[kind]
    if count > MAX_PARTS:
        raise DataError(_DAMAGED)
    last = first + 4
    for _ in range(count):
        last = _after_nul(content, last, end) if kind == b"S" else _object(content, last, end)[2]
    return last


def _after_nul(content: bytes, first: int, end: int) -> int:
    stop = content.find(b"\0", first, end)
    if stop < 0:
        raise DataError(_DAMAGED)
    return stop + 1
