"""What PNG, JPEG and NPY files declare, read before anything is decoded (TIFF has its own file, `tiff.py`).

Each parser returns a `Header` whose `body` holds only the parts that carry pixels: a decoder that never sees text,
colour profiles, previews or animation frames cannot be led astray by them. They raise DataError without the file's name.
"""

import dataclasses
import re
import struct
import zlib

import numpy as np

from microscopy.scan import DataError

MAX_TEXT = 2**23  # bytes of a header in words
MAX_PARTS = 2**17  # chunks or segments a file may have: walking them must end soon
_PNG_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_JPEG_PADDING = re.compile(rb"\xff+")
_JPEG_SCANS = 100
_NPY_FIELDS = re.compile(r"\{\s*'descr':\s*'([^']*)',\s*'fortran_order':\s*(True|False),\s*'shape':\s*\(([\d,\s]*)\),?\s*\}\s*", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file declares: `kind`, pixels (`height`, `width`), `num_channels` (alpha included), `bits` a sample.

    `alpha`: the last channel is alpha, or a transparency table was left out. `palette`: samples are indices; the
    colours are in the file. `inverted`: 0 is white and the decoder leaves it so. `offset` is where NPY samples start.
    """

    kind: str
    height: int
    width: int
    num_channels: int
    bits: int
    body: bytes
    alpha: bool = False
    palette: bool = False
    inverted: bool = False
    dtype: np.dtype | None = None
    fortran: bool = False
    offset: int = 0


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Returns None if an image of `width` x `height` px may be decoded; raises DataError if empty or over `max_pixels`."""
    if width < 1 or height < 1:
        raise DataError(f"declares {width} x {height} pixels; export it again")
    if width * height > max_pixels:
        raise DataError(f"has {width} x {height} pixels, more than max_pixels = {max_pixels}; crop or bin it, or raise max_pixels")


def text_header(content: bytes, end: bytes, kind: str) -> tuple[str, int]:
    """Returns (the text before the marker `end`, from Latin-1; where the marker ends); DataError where it is not in the first 8 MiB."""
    place = content.find(end, 0, MAX_TEXT)
    if place < 0:
        raise DataError(f"is a truncated {kind} (no end of header); copy it again")
    return content[:place].decode("latin-1"), place + len(end)


def check_end(end: int, row: int, content: bytes, what: str) -> None:
    """Returns None where `content` ends at `end`, or less than a `row` of bytes behind it; raises DataError where pixels are left over."""
    if end + row <= len(content):
        raise DataError(f"holds {len(content) - end} bytes more than {what} take: its header is damaged; copy it again")


def unpack(layout: str, content: bytes, offset: int) -> tuple:
    """Returns the values of the `struct` layout at `offset`; raises DataError where the content ends before."""
    if offset < 0 or offset + struct.calcsize(layout) > len(content):
        raise DataError("is truncated; copy or export it again")
    return struct.unpack_from(layout, content, offset)


def png_header(content: bytes, max_pixels: int, *, indices: bool = False) -> Header:
    """Returns the Header of a PNG whose chunks, checksums and amount of pixel data have been verified.

    With `indices` a palette is left out of `body`, so that it decodes to the stored indices. Raises DataError for
    damaged, truncated or animated files and for images over `max_pixels` (before their data is looked at). Source: PNG
    specification, third edition (W3C 2025), sections 5 and 11.
    """
    width, height, bits, colour, method, filtering, interlace = unpack(">IIBBBBB", content, 16)
    if content[8:16] != b"\0\0\0\rIHDR" or bits not in _PNG_BITS.get(colour, ()) or method or filtering or interlace > 1:
        raise DataError("is a damaged PNG (first chunk); export it again")
    check_size(width, height, max_pixels)
    chunks = _png_chunks(content)
    names = [name for name, _ in chunks]
    unknown = [name for name in names if name[:1].isupper() and name not in (b"IHDR", b"PLTE", b"IDAT", b"IEND")]
    if names.count(b"IHDR") != 1 or unknown or (colour == 3 and b"PLTE" not in names):
        raise DataError("is a damaged PNG (unexpected chunk); export it again")
    if b"acTL" in names:
        raise DataError("is an animated PNG; save one frame a file")
    _check_png_data([data for name, data in chunks if name == b"IDAT"], _png_data_size(width, height, bits, colour, interlace))
    palette = colour == 3
    shown = struct.pack(">IIBBBBB", width, height, bits, 0 if palette and indices else colour, 0, 0, interlace)
    kept = (b"IDAT", b"PLTE") if palette and not indices else (b"IDAT",)
    parts = [(b"IHDR", shown), *(chunk for chunk in chunks if chunk[0] in kept), (b"IEND", b"")]
    body = content[:8] + b"".join(_png_chunk(*part) for part in parts)
    return Header("PNG", height, width, _PNG_CHANNELS[colour], bits, body, alpha=colour in (4, 6) or b"tRNS" in names, palette=palette)


def _png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def _png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    chunks, position = [], 8
    while not chunks or chunks[-1][0] != b"IEND":
        length, name = unpack(">I4s", content, position)
        data = content[position + 8 : position + 8 + length]
        (crc,) = unpack(">I", content, position + 8 + length)
        if crc != zlib.crc32(data, zlib.crc32(name)):
            raise DataError(f"is damaged (checksum of PNG chunk {ascii(name)[2:-1]} is wrong); copy or export it again")
        chunks.append((name, data))
        position += 12 + length
        if len(chunks) > MAX_PARTS:
            raise DataError(f"has more than {MAX_PARTS} PNG chunks; export it again")
    return chunks


def _png_data_size(width: int, height: int, bits: int, colour: int, interlace: int) -> int:
    passes = _ADAM7 if interlace else ((0, 0, 1, 1),)
    sizes = [(max(0, -((x - width) // dx)), max(0, -((y - height) // dy))) for x, y, dx, dy in passes]
    return sum(h * (1 + (w * bits * _PNG_CHANNELS[colour] + 7) // 8) for w, h in sizes if w and h)


def _check_png_data(parts: list[bytes], expected: int) -> None:
    # Decoders fill missing rows with grey and say nothing, so the inflated bytes are counted here, 4 kB of input at a time.
    inflater, size = zlib.decompressobj(), 0
    try:
        for piece in (part[start : start + 4096] for part in parts for start in range(0, len(part), 4096)):
            size += len(inflater.decompress(piece))
            if inflater.eof or size > expected:
                break
    except zlib.error:
        raise DataError("is a damaged PNG (pixel data); copy or export it again") from None
    if size != expected or not inflater.eof:
        raise DataError("is a PNG whose pixel data does not fill the image; copy or export it again")


def jpeg_header(content: bytes, max_pixels: int) -> Header:
    """Returns the Header of a JPEG whose segments have been walked up to the end marker.

    Grey or three-component 8-bit images, baseline or progressive. Raises DataError for anything else, for truncated
    files and for images over `max_pixels`. The format has no checksum: flipped bits in the pixel data go unseen.
    Source: ITU-T T.81, annex B.
    """
    parts, frame, num_scans, position = [content[:2]], None, 0, 2
    while True:
        padding = _JPEG_PADDING.match(content, position)
        if not padding:
            raise DataError("is a truncated or damaged JPEG; copy or export it again")
        marker, *_ = unpack("B", content, padding.end())
        start = padding.end() - 1
        if marker == 0xD9:
            break
        (length,) = unpack(">H", content, start + 2)
        unpack("B", content, start + 1 + max(length, 2))
        position = start + 2 + length
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if frame:
                raise DataError("is a JPEG with more than one image; save one image a file")
            frame = _jpeg_frame(content, start, max_pixels)
        if marker == 0xDA:
            num_scans += 1
            position = _jpeg_scan_end(content, position)
        if not (0xE1 <= marker <= 0xED or marker in (0xEF, 0xFE)):  # previews, profiles, comments; JFIF and Adobe stay
            parts.append(content[start:position])
        if len(parts) > MAX_PARTS or num_scans > _JPEG_SCANS or (num_scans and not frame):
            raise DataError("is a damaged JPEG; export it again")
    if not num_scans:
        raise DataError("is a JPEG without pixel data; copy or export it again")
    return Header("JPEG", *frame, 8, b"".join([*parts, b"\xff\xd9"]))


def _jpeg_frame(content: bytes, start: int, max_pixels: int) -> tuple[int, int, int]:
    marker, length, precision, height, width, num_channels = unpack(">BHBHHB", content, start + 1)
    if marker not in (0xC0, 0xC1, 0xC2) or precision != 8 or num_channels not in (1, 3) or length != 8 + 3 * num_channels:
        raise DataError("is a JPEG of a rare kind (12 bit, lossless, CMYK or damaged); save it as 8-bit grey or RGB")
    check_size(width, height, max_pixels)
    return height, width, num_channels


def _jpeg_scan_end(content: bytes, position: int) -> int:
    found = _JPEG_MARKER.search(content, position)
    if not found:
        raise DataError("is a truncated JPEG (no end marker); copy or export it again")
    return found.start()


def npy_header(content: bytes, max_pixels: int) -> Header:
    """Returns the Header of a .npy file with an array (h, w), or (h, w, 3) of colours, of bool, integers or floats.

    Raises DataError for other arrays (objects are never unpickled), truncated files and more than `max_pixels` values.
    Source: NumPy NEP 1.
    """
    major, minor = unpack("BB", content, 6)
    if major not in (1, 2, 3) or minor:
        raise DataError("is a .npy file of an unknown version; save it again with numpy.save")
    layout = "<H" if major == 1 else "<I"
    offset = 8 + struct.calcsize(layout)
    (length,) = unpack(layout, content, 8)
    if length > 4096 or offset + length > len(content):
        raise DataError("is a truncated or damaged .npy file; save it again with numpy.save")
    # NumPy writes its fields in this order; nothing is evaluated.
    fields = _NPY_FIELDS.fullmatch(content[offset : offset + length].decode("latin-1"))
    if not fields or not re.fullmatch(r"[<>|=]?(b1|[iu][1248]|f[248])", fields[1]):
        raise DataError("is not an array of integers or floats, or its header is damaged; save it as uint8, uint16 or float32")
    shape = [int(size[:18]) for size in re.findall(r"\d+", fields[3])]  # longer numbers are over any limit as they are
    if len(shape) != 2 and shape[2:] != [3]:
        raise DataError(f"has {len(shape)} dimensions; save one array (h, w) or (h, w, 3) a file")
    check_size(shape[1], shape[0], max_pixels)
    dtype = np.dtype(fields[1])
    num_channels = 3 if len(shape) == 3 else 1
    if offset + length + shape[0] * shape[1] * num_channels * dtype.itemsize > len(content):
        raise DataError("is truncated; copy or save it again")
    bits = dtype.itemsize * 8
    return Header("NPY", *shape[:2], num_channels, bits, content, dtype=dtype, fortran=fields[2] == "True", offset=offset + length)
