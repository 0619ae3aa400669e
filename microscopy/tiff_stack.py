"""TIFF files of several pages: each page as a file of its own, so that the checks and the decoder of single images serve stacks too."""

import mmap
import os
import struct
from collections.abc import Iterator

import numpy as np

from microscopy import tiff_tags
from microscopy.channels import Channel
from microscopy.formats import read_content
from microscopy.masks import decode_mask
from microscopy.native import read_channel
from microscopy.scan import DataError
from microscopy.tiff_tags import Directory

MAX_PAGES = 2**17
_SUBFILE, _DESCRIPTION = 254, 270
_SCALE = (_DESCRIPTION, 282, 283, 296)
_BLOCKS = ((273, 279), (324, 325))
_LONGEST_TAG = 2**22


def read_stack(path: str | os.PathLike, *, max_pixels: int, max_total: int) -> list[Channel]:
    """Returns the pages of a TIFF as Channels in file order, read as `native.read_channel` reads a file of one page.

    Smaller copies and masks of pages are passed over. Where a page states no description and resolution it has the first
    page's, as ImageJ writes stacks. Raises DataError, naming the file and the page, as `read_channel` does for each page (at most
    `max_pixels` pixels), and for more than `max_total` pixels in all or pages that do not end.
    """
    content = read_content(path, max_pixels=max_pixels)
    if content[:4] not in tiff_tags.MAGIC:
        raise DataError(f"{path}: is no TIFF file; save it as TIFF, or give a folder")
    found, total = [], 0
    for number, page in enumerate(_pages(content, str(path)), 1):
        channel, _, _ = read_channel(page, f"{path}, page {number}", "", max_pixels=min(max_pixels, max_total - total))
        total += channel.pixels.shape[0] * channel.pixels.shape[1]
        if total >= max_total:
            raise DataError(f"{path}: has more than {max_total} pixels; split the stack")
        found.append(channel)
    return found


def read_masks(path: str | os.PathLike, *, max_pixels: int) -> list[np.ndarray]:
    """Returns the pages of a TIFF as int32 ids (h, w), each read as `masks.read_mask` reads a file; its errors, naming file and page."""
    content = read_content(path, max_pixels=max_pixels)
    if content[:4] not in tiff_tags.MAGIC:
        raise DataError(f"{path}: is no TIFF file; save the masks of a stack as TIFF of one page a plane")
    return [decode_mask(page, f"{path}, page {n}", max_pixels=max_pixels) for n, page in enumerate(_pages(content, str(path)), 1)]


def num_pages(path: str | os.PathLike) -> int:
    """Returns how many pages a TIFF has, copies and masks left out; 1 for a file that is none or whose pages cannot be followed."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return len(_directories(content)) if content[:4] in tiff_tags.MAGIC else 1
    except (OSError, ValueError, DataError):
        return 1


def open_stack(path: str | os.PathLike, *, max_pixels: int) -> list[Directory]:
    """Returns the pages of a TIFF for `read_page`, which read nothing more from the disk; DataError, naming the file, as `read_stack`."""
    content = read_content(path, max_pixels=max_pixels)
    try:
        return _directories(content)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def read_page(pages: list[Directory], number: int, name: str, *, max_pixels: int) -> Channel:
    """Returns page `number`, from 1, of `open_stack`'s as `read_stack` has it; DataError, naming file and page, where it cannot."""
    try:
        page = _alone(pages[number - 1], pages[0])
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    return read_channel(page, f"{name}, page {number}", "", max_pixels=max_pixels)[0]


def _pages(content: bytes, name: str) -> Iterator[bytes]:
    try:
        pages = _directories(content)
        # A file of one page goes as it is: an instrument's own tags may be large.
        yield from (_alone(page, pages[0]) for page in pages) if len(pages) > 1 else (content,)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def _directories(content: bytes) -> list[Directory]:
    page, places = tiff_tags.first_directory(content), set()
    found = [page]
    while page.following:
        if page.following in places or len(places) >= MAX_PAGES:
            raise DataError("is a damaged TIFF whose pages do not end; export it again")
        places.add(page.following)
        page = tiff_tags.following(page)
        # Bit 0: a smaller copy of another page; bit 2: its transparency mask.
        found += [] if tiff_tags.value(page, _SUBFILE, 0) & 5 else [page]
    return found


def _alone(page: Directory, first: Directory) -> bytes:
    """Returns a TIFF (BigTIFF from one) that holds this page only: its tags, its strips or tiles one behind the other."""
    tags = {}
    for source in (first, page):
        kept = _SCALE if source is first and source is not page else source.entries
        for tag in kept:
            kind, count, _ = source.entries.get(tag, (0, 0, b""))
            data = tiff_tags.stored(source, tag, _LONGEST_TAG + 1)
            if data and len(data) <= _LONGEST_TAG and tag != _SUBFILE:
                tags[tag] = (kind, count, data)
    blocks = b""
    for offsets_tag, counts_tag in _BLOCKS:
        if offsets_tag in tags and counts_tag in tags:
            blocks, places = _gathered(page, offsets_tag, counts_tag)
            starts = (16 if page.big else 8) + places
            tags[offsets_tag] = (16 if page.big else 4, len(starts), starts.astype(page.order + ("u8" if page.big else "u4")).tobytes())
    return _written(page.order, page.big, tags, blocks)


def _gathered(page: Directory, offsets_tag: int, counts_tag: int) -> tuple[bytes, np.ndarray]:
    offsets, counts = tiff_tags.values(page, offsets_tag), tiff_tags.values(page, counts_tag)
    if len(offsets) != len(counts) or (offsets + counts > len(page.content)).any() or counts.sum() > len(page.content):
        raise DataError("is a truncated TIFF; copy or export it again")
    blocks = b"".join(page.content[start : start + size] for start, size in zip(offsets, counts, strict=True))
    return blocks, np.cumsum(counts) - counts


def _written(order: str, big: bool, tags: dict[int, tuple[int, int, bytes]], blocks: bytes) -> bytes:
    width, pointer, count = (8, "Q", "Q") if big else (4, "I", "H")
    magic = (b"II" if order == "<" else b"MM") + (struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42))
    start = len(magic) + width + len(blocks)
    behind = start + struct.calcsize("<" + count) + len(tags) * (20 if big else 12) + width
    entries, values = [], b""
    for tag, (kind, number, data) in sorted(tags.items()):
        inline = data.ljust(width, b"\0")
        if len(data) > width:
            inline = struct.pack(order + pointer, behind + len(values))
            values += data
        entries.append(struct.pack(order + "HH" + pointer, tag, kind, number) + inline)
    head = magic + struct.pack(order + pointer, start) + blocks
    return head + struct.pack(order + count, len(tags)) + b"".join(entries) + struct.pack(order + pointer, 0) + values
