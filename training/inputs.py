"""The scans that a prediction is asked for: files, and of a TIFF with several pages each of them, found, read and measured."""

import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from microscopy import tiff_stack
from microscopy.channels import label
from microscopy.folder import list_scans, read_scan
from microscopy.formats import read_content, read_header
from microscopy.native import is_native
from microscopy.scan import DataError, Scan
from training import sources

STACKS = (".tif", ".tiff")


class Item(NamedTuple):
    """One scan of the input: its file, and of a TIFF with several pages which of them, from 1."""

    file: pathlib.Path
    page: int | None = None

    def __str__(self) -> str:
        return f"{self.file}, page {self.page}" if self.page else str(self.file)


def items(files: Mapping[str, pathlib.Path], pages: bool) -> dict[str, Item]:
    """Returns id -> Item of the files (`folder.list_scans`); with `pages` those of the stack "a" are "a_page0001" and so on.

    DataError where a page would have the id of another scan.
    """
    found = {}
    for id, file in files.items():
        count = tiff_stack.num_pages(file) if pages and file.suffix.lower() in STACKS else 1
        own = {f"{id}_page{n:04d}": Item(file, n) for n in range(1, count + 1)} if count > 1 else {id: Item(file)}
        same = found.keys() & own.keys() | (own.keys() & files.keys() if count > 1 else set())
        if same:
            raise DataError(f"{file}: a page of it would have the same name as the scan {min(same)}; rename one")
        found |= own
    return found


def make_read(max_pixels: int, channel: str = ""):
    """Returns read(id, item) -> Scan (`folder.read_scan`; a page has its file's SHA-256), which keeps the last two stacks in memory."""

    @functools.lru_cache(2)
    def opened(file: pathlib.Path) -> tuple[list, str]:
        return tiff_stack.open_stack(file, max_pixels=max_pixels), sources.digest(file)

    def read(id: str, item: Item) -> Scan:
        if item.page is None:
            return read_scan(id, item.file, max_pixels=max_pixels, channel=channel)
        pages, sha256 = opened(item.file)
        found = tiff_stack.read_page(pages, item.page, str(item.file), max_pixels=max_pixels)
        return Scan(id, found.pixels, sha256, str(item), found.unit or "grey", found.nm_per_pixel, label(found))

    return read


def sizes(
    place: str, *, max_pixels: int, channel: str = "", pages: bool = False, scaled: bool = False
) -> Iterator[tuple[tuple[int, int], tuple[float, float] | None]]:
    """Yields ((h, w), nm per pixel (y, x) or None; always None unless `scaled`) of the scans that can be read.

    From their headers where that will do; one page stands for all of a stack. The others are told when their turn comes.
    """
    read = make_read(max_pixels, channel)
    for id, item in items(list_scans(place, any_depth=True), pages).items():
        try:
            if is_native(item.file) or item.page == 1 or scaled and item.file.suffix.lower() in STACKS and item.page is None:
                scan = read(id, item)
                yield scan.pixels.shape[:2], scan.nm_per_pixel if scaled else None
            elif item.page is None:
                header = read_header(read_content(item.file, max_pixels=max_pixels), max_pixels)
                yield (header.height, header.width), None
        except DataError:
            continue
