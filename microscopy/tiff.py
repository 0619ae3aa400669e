"""What a TIFF file declares, read and verified before anything is decoded."""

import dataclasses
import struct

import numpy as np

from microscopy.headers import MAX_PARTS, Header, check_size, unpack
from microscopy.scan import DataError

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _ROWS, _PLANAR = 256, 257, 258, 259, 262, 277, 278, 284
_OFFSETS, _COUNTS, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _FORMAT = 273, 279, 322, 323, 324, 325, 339
# The tags a decoder needs (the rest: fill order, predictor, colour map, JPEG tables, chroma sampling, reference levels).
_KEPT = {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _FORMAT, 266, 317, 320, 347, 530, 532}
_STRIPS = {_ROWS, _OFFSETS, _COUNTS}
_TILES = {_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS}
_COMPRESSIONS = {1: "none", 5: "LZW", 7: "JPEG", 8: "deflate", 32773: "PackBits", 32946: "deflate"}
_SMALL_BLOCK = 2**20  # a strip or tile may be larger than a small image, up to this many pixels


@dataclasses.dataclass(frozen=True)
class _Directory:
    """One page's tags as stored: tag -> (type, count, raw entry), and where the next page starts (0: none)."""

    content: bytes
    order: str
    big: bool
    entries: dict[int, tuple[int, int, bytes]]
    following: int


def tiff_header(content: bytes, max_pixels: int, *, indices: bool = False) -> Header:
    """Returns the Header of a one-page TIFF or BigTIFF whose tags, strips and tiles have been verified.

    Grey, palette, RGB or RGBA; integers of 8, 16 or 32 bits, floats of 32 or 64, bilevel; uncompressed, LZW, deflate,
    PackBits or JPEG. `body` is the file with a new directory of the tags a decoder needs. With `indices` palettes and
    images whose 0 is white decode to the stored values. Orientation tags are left out: pixels are as stored. Raises DataError for
    truncated files, several pages, other kinds, and images over `max_pixels`. Source: TIFF 6.0 (Adobe, 1992); BigTIFF.
    """
    page = _first_page(content)
    width, height = _value(page, _WIDTH), _value(page, _HEIGHT)
    check_size(width, height, max_pixels)
    samples, photometric = _value(page, _SAMPLES, 1), _value(page, _PHOTOMETRIC)
    bits, kind = _sample_kind(page, samples)
    _check_kind(page, samples, photometric, bits, kind)
    _check_blocks(page, width, height, samples, bits, max_pixels)
    if indices and photometric in (0, 3):
        page.entries[_PHOTOMETRIC] = _entry(page, _PHOTOMETRIC, 1)
    if _TILE_WIDTH not in page.entries:
        # A decoder makes room for a whole strip, also where it is declared longer than the image.
        page.entries[_ROWS] = _entry(page, _ROWS, min(_value(page, _ROWS, height), height))
    inverted = photometric == 0 and bits == 16 and not indices
    return Header("TIFF", height, width, samples, bits, _rebuilt(page), alpha=samples == 4, palette=photometric == 3, inverted=inverted)


def _first_page(content: bytes) -> _Directory:
    order = "<" if content[:2] == b"II" else ">"
    big = unpack(order + "H", content, 2)[0] == 43
    if big and unpack(order + "HH", content, 4) != (8, 0):
        raise DataError("is a damaged BigTIFF; export it again")
    first = _directory(content, order, big, unpack(order + ("Q" if big else "I"), content, 8 if big else 4)[0])
    page, num_previews = first, 0
    while page.following:
        page = _directory(content, order, big, page.following)
        num_previews += 1
        # Bit 0: a smaller copy of another page; bit 2: its transparency mask.
        if not _value(page, 254, 0) & 5 or num_previews > 32:
            raise DataError("is a TIFF with several pages; save one image a file")
    return first


def _directory(content: bytes, order: str, big: bool, offset: int) -> _Directory:
    (count,) = unpack(order + ("Q" if big else "H"), content, offset)
    start, size = offset + (8 if big else 2), 20 if big else 12
    if count > 4096 or start + count * size > len(content):
        raise DataError("is a truncated or damaged TIFF (directory); copy or export it again")
    entries = {}
    for position in range(start, start + count * size, size):
        tag, kind, number = unpack(order + ("HHQ" if big else "HHI"), content, position)
        entries.setdefault(tag, (kind, number, content[position : position + size]))
    return _Directory(content, order, big, entries, unpack(order + ("Q" if big else "I"), content, start + count * size)[0])


def _values(page: _Directory, tag: int) -> np.ndarray:
    """Returns the integers of a tag as int64; raises DataError if absent, of another type or outside the file."""
    kind, count, raw = page.entries.get(tag, (0, 0, b""))
    if kind not in _INTEGERS or not 0 < count <= len(page.content):
        raise DataError(f"is a TIFF whose tag {tag} is missing or damaged; export it again")
    size, inline = _SIZES[kind] * count, raw[12:] if page.big else raw[8:]
    if size > len(inline):
        (offset,) = struct.unpack(page.order + ("Q" if page.big else "I"), inline)
        inline = page.content[offset : offset + size]
    if size > len(inline):
        raise DataError("is a truncated TIFF; copy or export it again")
    values = np.frombuffer(inline[:size], page.order + _INTEGERS[kind])
    if values.max() >= 2**62:
        raise DataError(f"is a TIFF whose tag {tag} is damaged; export it again")
    return values.astype(np.int64)


def _value(page: _Directory, tag: int, default: int | None = None) -> int:
    if default is not None and tag not in page.entries:
        return default
    return int(_values(page, tag)[0])


def _sample_kind(page: _Directory, samples: int) -> tuple[int, int]:
    # Bits and sample format (1 unsigned, 2 signed, 3 float) may be given once per sample, and must then agree.
    kinds = []
    for tag in (_BITS, _FORMAT):
        values = np.unique(_values(page, tag)) if tag in page.entries else np.ones(1, np.int64)
        if len(values) != 1 or not 1 <= samples <= 4:
            raise DataError(f"is a TIFF with {samples} unlike samples a pixel; save it as grey or RGB")
        kinds.append(int(values[0]))
    return kinds[0], kinds[1]


def _check_kind(page: _Directory, samples: int, photometric: int, bits: int, kind: int) -> None:
    compression = _value(page, _COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        raise DataError(f"is a TIFF with compression {compression}; save it uncompressed or with LZW, deflate or PackBits")
    depths = {0: (1, 8, 16), 1: (1, 8, 16, 32, 64), 2: (8, 16, 32, 64), 3: (8,), 6: (8,)}.get(photometric, ())
    numbers = {0: (1,), 1: (1,), 2: (3, 4), 3: (1,), 6: (3,)}.get(photometric, ())
    wrong_kind = bits not in {1: (1, 8, 16, 32), 2: (8, 16, 32), 3: (32, 64)}.get(kind, ()) or (kind != 1 and photometric in (0, 3))
    jpeg = compression == 7
    if bits not in depths or samples not in numbers or wrong_kind or (jpeg and (bits, kind) != (8, 1)) or (photometric == 6 and not jpeg):
        raise DataError(
            f"is a TIFF of a kind not read ({samples} samples of {bits} bits, format {kind}, photometric {photometric}); "
            "save it as grey or RGB of 8 or 16 bits or float32"
        )
    if samples > 1 and _value(page, _PLANAR, 1) != 1 and (bits != 8 or jpeg):
        raise DataError("is a TIFF with one plane a colour; save its pixels interleaved (RGBRGB...)")


def _check_blocks(page: _Directory, width: int, height: int, samples: int, bits: int, max_pixels: int) -> None:
    tiled = _TILE_WIDTH in page.entries
    block_width = _value(page, _TILE_WIDTH) if tiled else width
    block_height = _value(page, _TILE_HEIGHT) if tiled else min(_value(page, _ROWS, height), height)
    if block_width < 1 or block_height < 1 or block_width * block_height > max(max_pixels, _SMALL_BLOCK):
        raise DataError(f"is a TIFF with blocks of {block_width} x {block_height} pixels; export it again")
    separate = samples > 1 and _value(page, _PLANAR, 1) != 1
    number = -(-width // block_width) * -(-height // block_height) * (samples if separate else 1)
    if number > MAX_PARTS:
        raise DataError(f"is a TIFF in {number} blocks; save it with larger strips or tiles")
    offsets, counts = (_values(page, tag) for tag in ((_TILE_OFFSETS, _TILE_COUNTS) if tiled else (_OFFSETS, _COUNTS)))
    if len(offsets) != number or len(counts) != number or (counts < 1).any():
        raise DataError("is a TIFF whose pixel data is incomplete; copy or export it again")
    if (offsets + counts > len(page.content)).any():
        raise DataError("is a truncated TIFF; copy or export it again")
    if _value(page, _COMPRESSION, 1) == 1:
        row = (block_width * bits * (1 if separate else samples) + 7) // 8
        first = np.arange(number) % -(-height // block_height) * block_height
        rows = block_height if tiled else np.minimum(height - first, block_height)
        if (counts < row * rows).any():
            raise DataError("is a TIFF whose pixel data does not fill the image; copy or export it again")


def _entry(page: _Directory, tag: int, value: int) -> tuple[int, int, bytes]:
    return 4, 1, struct.pack(page.order + ("HHQI4x" if page.big else "HHII"), tag, 4, 1, value)


def _rebuilt(page: _Directory) -> bytes:
    # Strips and long values keep their place; only the directory is new, at the end, and the start points to it.
    kept = _KEPT | (_TILES if _TILE_WIDTH in page.entries else _STRIPS)
    entries = [page.entries[tag][2] for tag in sorted(page.entries) if tag in kept]
    content = page.content + b"\0" * (-len(page.content) % 8)
    count, pointer = (page.order + "Q", page.order + "Q") if page.big else (page.order + "H", page.order + "I")
    at = 8 if page.big else 4
    start = content[:at] + struct.pack(pointer, len(content))
    return start + content[len(start) :] + struct.pack(count, len(entries)) + b"".join(entries) + struct.pack(pointer, 0)
