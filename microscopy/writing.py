"""Images as files that state their pixel size: Gwyddion's .gwy for heights, TIFF as ImageJ and Fiji write it for anything."""

import fractions
import struct

import numpy as np

from microscopy.scan import DataError

_METRES = 1e-9
_SHORT, _LONG, _RATIONAL, _ASCII = 3, 4, 5, 2


def encode_gwy(height_nm: np.ndarray, nm_per_pixel: tuple[float, float] | None, title: str = "Height") -> bytes:
    """Returns the content of a .gwy file with one channel: heights in nm (h, w) stored as float64 metres, nm_per_pixel (y, x).

    The stored value is the double nearest to height x 1e-9; read back and reduced to float32 nm it is within one unit in
    the last place of what was given. Without a pixel size the lateral unit is left out and a pixel is 1. Raises DataError for another
    shape or values that are not finite. Source: Gwyddion user guide, "Gwyddion native data files".
    """
    if height_nm.ndim != 2 or not np.isfinite(height_nm).all():
        raise DataError(f"a .gwy file holds finite heights (h, w), not an array of shape {height_nm.shape}; write TIFF or NPY")
    height, width = height_nm.shape
    y, x = (size * _METRES for size in nm_per_pixel) if nm_per_pixel else (1.0, 1.0)
    metres = (height_nm.astype(np.float64) * _METRES).astype("<f8")
    field = b"".join(
        (
            _part("xres", "i", struct.pack("<i", width)),
            _part("yres", "i", struct.pack("<i", height)),
            _part("xreal", "d", struct.pack("<d", width * x)),
            _part("yreal", "d", struct.pack("<d", height * y)),
            _part("si_unit_xy", "o", _unit("m" if nm_per_pixel else "")),
            _part("si_unit_z", "o", _unit("m")),
            _part("data", "D", struct.pack("<I", metres.size) + metres.tobytes()),
        )
    )
    name = title.replace("\0", " ").encode() + b"\0"
    parts = _part("/0/data", "o", _object("GwyDataField", field)) + _part("/0/data/title", "s", name) + _part("/0/data/visible", "b", b"\1")
    return b"GWYP" + _object("GwyContainer", parts)


def _part(name: str, kind: str, content: bytes) -> bytes:
    return name.encode() + b"\0" + kind.encode() + content


def _object(name: str, parts: bytes) -> bytes:
    return name.encode() + b"\0" + struct.pack("<I", len(parts)) + parts


def _unit(text: str) -> bytes:
    return _object("GwySIUnit", _part("unitstr", "s", text.encode() + b"\0"))


def encode_tiff_stack(planes: np.ndarray, nm_per_pixel: tuple[float, float] | None = None) -> bytes:
    """Returns the content of a TIFF of one page a plane, (d, h, w) of grey levels, that Fiji opens as a stack; else as `encode_tiff`."""
    if planes.ndim != 3 or not len(planes):
        raise DataError(f"a stack is (d, h, w), not of shape {planes.shape}")
    words = f"images={len(planes)}\nslices={len(planes)}\n" if len(planes) > 1 else ""
    pages = [_page(plane, nm_per_pixel, words) for plane in planes]
    content, at, sizes = b"II*\0" + struct.pack("<I", 8 + len(pages[0][1])), 8, [len(data) for _, data in pages[1:]]
    for (tags, data), following in zip(pages, [*sizes, None], strict=True):
        tags[_OFFSET_AT] = (273, _LONG, [at])
        start = at + len(data)
        at = start + len(_directory(tags, start))
        if at + (following or 0) >= 2**32:
            raise DataError(f"a TIFF holds less than 4 GB, not planes of shape {planes.shape}; write parts")
        content += data + _directory(tags, start, 0 if following is None else at + following)
    return content


def encode_tiff(pixels: np.ndarray, nm_per_pixel: tuple[float, float] | None = None, unit: str = "grey") -> bytes:
    """Returns the content of an uncompressed little-endian TIFF with the pixels (h, w) or (h, w, 3) RGB bit by bit.

    float32, uint8 or uint16. `nm_per_pixel` (y, x) is stated as ImageJ does (unit=nm, pixels a nm as X and Y resolution, to
    within 1e-9 of it), the values' `unit` as vunit unless they are "grey"; Fiji and `native.read_channels` read both. Raises DataError
    for another type or shape. Source: TIFF 6.0 (Adobe, 1992); ImageJ's `TiffEncoder` and `FileSaver`.
    """
    tags, data = _page(pixels, nm_per_pixel, "" if unit in ("", "grey") else f"vunit={unit}\n")
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + _directory(tags, 8 + len(data))


_OFFSET_AT = 6
"""Where among a page's tags the place of its pixels stands."""


def _page(pixels: np.ndarray, nm_per_pixel: tuple[float, float] | None, more: str) -> tuple[list[tuple], bytes]:
    """Returns (the tags of a page whose pixels begin at byte 8, its pixels); `more` goes behind the unit in ImageJ's words."""
    bits = {"float32": 32, "uint8": 8, "uint16": 16}.get(str(pixels.dtype))
    if bits is None or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or not pixels.size:
        raise DataError(f"a TIFF holds float32, uint8 or uint16 (h, w) or (h, w, 3), not {pixels.dtype} of shape {pixels.shape}")
    height, width = pixels.shape[:2]
    samples = 3 if pixels.ndim == 3 else 1
    data = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes()
    y, x = nm_per_pixel or (1.0, 1.0)
    words = f"ImageJ=1.54f\nunit={'nm' if nm_per_pixel else 'pixel'}\n{more}"
    tags = [
        (256, _LONG, [width]),
        (257, _LONG, [height]),
        (258, _SHORT, [bits] * samples),
        (259, _SHORT, [1]),
        (262, _SHORT, [2 if samples == 3 else 1]),
        (270, _ASCII, words.encode() + b"\0"),
        (273, _LONG, [8]),
        (277, _SHORT, [samples]),
        (278, _LONG, [height]),
        (279, _LONG, [len(data)]),
        (282, _RATIONAL, _rational(1.0 / x)),
        (283, _RATIONAL, _rational(1.0 / y)),
        (296, _SHORT, [1]),  # resolution in no unit of its own
        (339, _SHORT, [3 if bits == 32 else 1] * samples),
    ]
    return tags, data + b"\0" * (-len(data) % 4)


def _rational(value: float) -> list[int]:
    """Returns [over, under] of 32 bits each next to a positive value."""
    limit = 2**32 - 1
    nearest = fractions.Fraction(value).limit_denominator(max(1, min(limit, int(limit / value)) if value > 0 else 1))
    if not 0 < nearest.numerator <= limit:
        raise DataError(f"{1 / value:g} nm per pixel cannot be stated in a TIFF; write NPY")
    return [nearest.numerator, nearest.denominator]


def _directory(tags: list[tuple], start: int, following: int = 0) -> bytes:
    """Returns a directory at `start` with the tags' longer values behind it; `following` is the place of the next page's, 0: none."""
    entries, values, place = [], b"", start + 2 + 12 * len(tags) + 4
    for tag, kind, numbers in tags:
        packed = numbers if kind == _ASCII else struct.pack(f"<{len(numbers)}{'H' if kind == _SHORT else 'I'}", *numbers)
        count = len(numbers) // 2 if kind == _RATIONAL else len(numbers)
        inline = packed if len(packed) <= 4 else struct.pack("<I", place + len(values))
        entries.append(struct.pack("<HHI", tag, kind, count) + inline.ljust(4, b"\0"))
        if len(packed) > 4:
            values += packed + b"\0" * (len(packed) % 2)
    return struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", following) + values
