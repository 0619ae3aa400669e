"""What a TIFF file declares, read and verified before anything is decoded."""

import struct

import numpy as np

from microscopy.headers import MAX_PARTS, Header, check_size
from microscopy.scan import DataError
from microscopy.tiff_tags import Directory, first_directory, following, value, values

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _ROWS, _PLANAR = 256, 257, 258, 259, 262, 277, 278, 284
_OFFSETS, _COUNTS, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _FORMAT = 273, 279, 322, 323, 324, 325, 339
# The tags a decoder needs (the rest: fill order, predictor, colour map, JPEG tables, chroma sampling, reference levels).
_KEPT = {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _FORMAT, 266, 317, 320, 347, 530, 532}
_STRIPS = {_ROWS, _OFFSETS, _COUNTS}
_TILES = {_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS}
_COMPRESSIONS = {1: "none", 5: "LZW", 7: "JPEG", 8: "deflate", 32773: "PackBits", 32946: "deflate"}
_SMALL_BLOCK = 2**20  # a strip or tile may be larger than a small image, up to this many pixels


def tiff_header(content: bytes, max_pixels: int, *, indices: bool = False) -> Header:
    """Returns the Header of a one-page TIFF or BigTIFF whose tags, strips and tiles have been verified.

    Grey, palette, RGB or RGBA; integers of 8, 16 or 32 bits, floats of 32 or 64, bilevel; uncompressed, LZW, deflate,
    PackBits or JPEG. `body` is the file with a new directory of the tags a decoder needs. With `indices` palettes and
    images whose 0 is white decode to the stored values. Orientation tags are left out: pixels are as stored. Raises DataError for
    truncated files, several pages, other kinds, and images over `max_pixels`. Source: TIFF 6.0 (Adobe, 1992); BigTIFF.
    """
    page = _first_page(content)
    width, height = value(page, _WIDTH), value(page, _HEIGHT)
    check_size(width, height, max_pixels)
    samples, photometric = value(page, _SAMPLES, 1), value(page, _PHOTOMETRIC)
    bits, kind = _sample_kind(page, samples)
    _check_kind(page, samples, photometric, bits, kind)
    _check_blocks(page, width, height, samples, bits, max_pixels)
    if indices and photometric in (0, 3):
        page.entries[_PHOTOMETRIC] = _entry(page, _PHOTOMETRIC, 1)
    if _TILE_WIDTH not in page.entries:
        # A decoder makes room for a whole strip, also where it is declared longer than the image.
        page.entries[_ROWS] = _entry(page, _ROWS, min(value(page, _ROWS, height), height))
    inverted = photometric == 0 and bits == 16 and not indices
    return Header("TIFF", height, width, samples, bits, _rebuilt(page), alpha=samples == 4, palette=photometric == 3, inverted=inverted)


def _first_page(content: bytes) -> Directory:
    first = page = first_directory(content)
    num_previews = 0
    while page.following:
        page = following(page)
        num_previews += 1
        # Bit 0: a smaller copy of another page; bit 2: its transparency mask.
        if not value(page, 254, 0) & 5 or num_previews > 32:
            raise DataError("is a TIFF with several pages; save one image a file")
    return first


def _sample_kind(page: Directory, samples: int) -> tuple[int, int]:
    # Bits and sample format (1 unsigned, 2 signed, 3 float) may be given once per sample, and must then agree.
    kinds = []
    for tag in (_BITS, _FORMAT):
        found = np.unique(values(page, tag)) if tag in page.entries else np.ones(1, np.int64)
        if len(found) != 1 or not 1 <= samples <= 4:
            raise DataError(f"is a TIFF with {samples} unlike samples a pixel; save it as grey or RGB")
        kinds.append(int(found[0]))
    return kinds[0], kinds[1]


def _check_kind(page: Directory, samples: int, photometric: int, bits: int, kind: int) -> None:
    compression = value(page, _COMPRESSION, 1)
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
    if samples > 1 and value(page, _PLANAR, 1) != 1 and (bits != 8 or jpeg):
        raise DataError("is a TIFF with one plane a colour; save its pixels interleaved (RGBRGB...)")


def _check_blocks(page: Directory, width: int, height: int, samples: int, bits: int, max_pixels: int) -> None:
    tiled = _TILE_WIDTH in page.entries
    block_width = value(page, _TILE_WIDTH) if tiled else width
    block_height = value(page, _TILE_HEIGHT) if tiled else min(value(page, _ROWS, height), height)
    if block_width < 1 or block_height < 1 or block_width * block_height > max(max_pixels, _SMALL_BLOCK):
        raise DataError(f"is a TIFF with blocks of {block_width} x {block_height} pixels; export it again")
    separate = samples > 1 and value(page, _PLANAR, 1) != 1
    number = -(-width // block_width) * -(-height // block_height) * (samples if separate else 1)
    if number > MAX_PARTS:
        raise DataError(f"is a TIFF in {number} blocks; save it with larger strips or tiles")
    offsets, counts = (values(page, tag) for tag in ((_TILE_OFFSETS, _TILE_COUNTS) if tiled else (_OFFSETS, _COUNTS)))
    if len(offsets) != number or len(counts) != number or (counts < 1).any():
        raise DataError("is a TIFF whose pixel data is incomplete; copy or export it again")
    if (offsets + counts > len(page.content)).any():
        raise DataError("is a truncated TIFF; copy or export it again")
    if value(page, _COMPRESSION, 1) == 1:
        row = (block_width * bits * (1 if separate else samples) + 7) // 8
        first = np.arange(number) % -(-height // block_height) * block_height
        rows = block_height if tiled else np.minimum(height - first, block_height)
        if (counts < row * rows).any():
            raise DataError("is a TIFF whose pixel data does not fill the image; copy or export it again")


def _entry(page: Directory, tag: int, number: int) -> tuple[int, int, bytes]:
    return 4, 1, struct.pack(page.order + ("HHQI4x" if page.big else "HHII"), tag, 4, 1, number)


def _rebuilt(page: Directory) -> bytes:
    # Strips and long values keep their place; only the directory is new, at the end, and the start points to it.
    kept = _KEPT | (_TILES if _TILE_WIDTH in page.entries else _STRIPS)
    entries = [page.entries[tag][2] for tag in sorted(page.entries) if tag in kept]
    content = page.content + b"\0" * (-len(page.content) % 8)
    count, pointer = (page.order + "Q", page.order + "Q") if page.big else (page.order + "H", page.order + "I")
    at = 8 if page.big else 4
    start = content[:at] + struct.pack(pointer, len(content))
    return start + content[len(start) :] + struct.pack(count, len(entries)) + b"".join(entries) + struct.pack(pointer, 0)
