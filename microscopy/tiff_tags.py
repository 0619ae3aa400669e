"""The directories of a TIFF file and the values of their tags, each read within the file's bounds."""

import dataclasses
import struct

import numpy as np

from microscopy.headers import unpack
from microscopy.scan import DataError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}
_REALS = {**_INTEGERS, 6: "i1", 8: "i2", 9: "i4", 11: "f4", 12: "f8", 17: "i8"}


@dataclasses.dataclass(frozen=True)
class Directory:
    """One page's tags as stored: tag -> (type, count, raw entry), and where the next page starts (0: none)."""

    content: bytes
    order: str
    big: bool
    entries: dict[int, tuple[int, int, bytes]]
    following: int


def first_directory(content: bytes) -> Directory:
    """Returns the first page's directory of a TIFF or BigTIFF; DataError where it is damaged. Source: TIFF 6.0 (Adobe, 1992); BigTIFF."""
    order = "<" if content[:2] == b"II" else ">"
    big = unpack(order + "H", content, 2)[0] == 43
    if big and unpack(order + "HH", content, 4) != (8, 0):
        raise DataError("is a damaged BigTIFF; export it again")
    return directory(content, order, big, unpack(order + ("Q" if big else "I"), content, 8 if big else 4)[0])


def directory(content: bytes, order: str, big: bool, offset: int) -> Directory:
    """Returns the directory at `offset`; DataError where it does not lie within the content or has more than 4096 tags."""
    (count,) = unpack(order + ("Q" if big else "H"), content, offset)
    start, size = offset + (8 if big else 2), 20 if big else 12
    if count > 4096 or start + count * size > len(content):
        raise DataError("is a truncated or damaged TIFF (directory); copy or export it again")
    entries = {}
    for position in range(start, start + count * size, size):
        tag, kind, number = unpack(order + ("HHQ" if big else "HHI"), content, position)
        entries.setdefault(tag, (kind, number, content[position : position + size]))
    return Directory(content, order, big, entries, unpack(order + ("Q" if big else "I"), content, start + count * size)[0])


def following(page: Directory) -> Directory:
    """Returns the directory of the page after `page`, which must have one."""
    return directory(page.content, page.order, page.big, page.following)


def values(page: Directory, tag: int) -> np.ndarray:
    """Returns the integers of a tag as int64; raises DataError if absent, of another type or outside the file."""
    kind, count, _ = page.entries.get(tag, (0, 0, b""))
    if kind not in _INTEGERS or not 0 < count <= len(page.content):
        raise DataError(f"is a TIFF whose tag {tag} is missing or damaged; export it again")
    found = np.frombuffer(stored(page, tag), page.order + _INTEGERS[kind])
    if found.max() >= 2**62:
        raise DataError(f"is a TIFF whose tag {tag} is damaged; export it again")
    return found.astype(np.int64)


def value(page: Directory, tag: int, default: int | None = None) -> int:
    """Returns the first integer of a tag, or `default` (unless None) where the tag is absent; DataError as `values`."""
    if default is not None and tag not in page.entries:
        return default
    return int(values(page, tag)[0])


def stored(page: Directory, tag: int, limit: int | None = None) -> bytes:
    """Returns a tag's bytes as stored, at most `limit`; b"" where it is absent or of no known type.

    Raises DataError where they lie outside the file.
    """
    kind, count, raw = page.entries.get(tag, (0, 0, b""))
    inline, size = raw[12:] if page.big else raw[8:], _SIZES.get(kind, 0) * count
    if size <= len(inline):
        return inline[:size]
    (offset,) = struct.unpack(page.order + ("Q" if page.big else "I"), inline)
    if offset + size > len(page.content):
        raise DataError("is a truncated TIFF; copy or export it again")
    return page.content[offset : offset + (size if limit is None else min(size, limit))]


def text(page: Directory, tag: int, limit: int = 1_000) -> str:
    """Returns an ASCII tag up to its first NUL, at most `limit` bytes, as UTF-8 or else Latin-1; "" where it is absent or no text."""
    if page.entries.get(tag, (0,))[0] != 2:
        return ""
    found = stored(page, tag, limit).split(b"\0")[0]
    try:
        return found.decode("utf-8")
    except UnicodeDecodeError:
        return found.decode("latin-1")


def real(page: Directory, tag: int) -> float | None:
    """Returns the first number of a tag of any numeric type (a rational as its quotient), or None where there is none."""
    kind, count, _ = page.entries.get(tag, (0, 0, b""))
    if count and kind == 5:
        over, under = struct.unpack_from(page.order + "2I", stored(page, tag, 8))
        return over / under if under else None
    return float(np.frombuffer(stored(page, tag, 8), page.order + _REALS[kind], 1)[0]) if count and kind in _REALS else None
