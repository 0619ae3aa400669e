"""The one door to scan files: what a file is shows in its content, and every kind becomes a list of channels."""

import os
import pathlib
import re

import numpy as np

from microscopy import gwyddion, igor, jpk, nanonis, nanoscope, nanosurf, park, tiff_tags, wsxm
from microscopy.channels import Channel, choose, numbered, to_nm
from microscopy.formats import SUFFIXES, decode_image, read_content
from microscopy.scan import DataError
from microscopy.tiff_scale import stated_scale

NATIVE_SUFFIXES = (".sxm", ".gwy", ".ibw", ".nid", ".spm", ".jpk", ".jpk-qi-image", ".stp", ".top", ".tom")
_MAGIC_SIZE = 20


def read_channels(content: bytes, name: str, *, max_pixels: int) -> list[Channel]:
    """Returns the channels of a scan file's bytes: Nanonis, Gwyddion, Igor/Asylum, Nanosurf, NanoScope, WSxM, Park, JPK.

    PNG, JPEG, NPY and other TIFF files become one channel without a name, pixels as `decode_image` gives them, in grey
    levels; a TIFF's stated pixel size (`stated_scale`) comes along and, for float32 (h, w), its values' unit.

    Raises DataError naming the file by `name`, in one line, for whatever cannot be read whole. No header makes it
    allocate for more than `max_pixels` pixels an image, nor for more values than the file holds.
    """
    try:
        channels = _native(content, max_pixels)
        if channels is None and pathlib.Path(name).suffix.lower() in NATIVE_SUFFIXES:
            raise DataError(f"is no {pathlib.Path(name).suffix} file or damaged at its start; copy or export it again")
        if channels is None:
            scale, unit = stated_scale(content) if content.startswith(tiff_tags.MAGIC) else (None, "")
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    if channels is not None:
        return numbered(channels)
    pixels = decode_image(content, name, max_pixels=max_pixels)
    measured = unit and pixels.dtype == np.float32 and pixels.ndim == 2
    return [Channel("", pixels, unit if measured else "grey", scale)]


def list_channels(path: str | os.PathLike, *, max_pixels: int) -> list[Channel]:
    """Returns every channel of one file, in the units stored; DataError, naming the file, as `read_content` and `read_channels`."""
    return read_channels(read_content(path, max_pixels=max_pixels), str(path), max_pixels=max_pixels)


def read_channel(content: bytes, name: str, wanted: str, *, max_pixels: int) -> tuple[Channel, slice, str]:
    """Returns (the channel that `choose` takes, heights in nm; the lines of it that were measured; a note where some were not).

    `read_channels` with the rules of `choose` and `finished_lines`: DataError, naming the file, wherever one of them raises it.
    """
    channels = read_channels(content, name, max_pixels=max_pixels)
    try:
        channel = to_nm(choose(channels, wanted))
        lines, note = finished_lines(channel.pixels)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    return channel, lines, note


def is_native(path: pathlib.Path) -> bool:
    """Returns whether a file is taken for an instrument's own: by its suffix, or, with NanoScope's numbers, by its first bytes too."""
    if re.fullmatch(r"\.\d{3}", path.suffix) and path.is_file():
        try:
            with open(path, "rb") as file:
                return file.read(_MAGIC_SIZE).startswith(nanoscope.MAGIC)
        except OSError:
            return False
    return path.suffix.lower() in NATIVE_SUFFIXES


def is_scan_file(path: pathlib.Path) -> bool:
    """Returns whether a file is taken for a scan: an image, or an instrument's own file."""
    return path.suffix.lower() in SUFFIXES or is_native(path)


def finished_lines(pixels: np.ndarray) -> tuple[slice, str]:
    """Returns (the lines of (h, w, ...) pixels that were measured whole, a note on those cut off: "" for none).

    Raises DataError, without a file's name, where values that are NaN or infinite lie between measured lines, or fewer
    than half the lines are left.
    """
    height = len(pixels)
    if pixels.dtype.kind != "f":
        return slice(0, height), ""
    whole = np.isfinite(pixels).reshape(height, -1).all(axis=1)
    lines = np.flatnonzero(whole)
    if not len(lines) or len(lines) * 2 < height:
        raise DataError(f"is unfinished: {len(lines)} of {height} lines were measured; scan it to the end or leave it out")
    first, last = int(lines[0]), int(lines[-1]) + 1
    if not whole[first:last].all():
        missing = int((~whole[first:last]).sum())
        raise DataError(f"holds NaN or infinite values in {missing} of {height} lines amid the others; fill them or cut them off")
    if len(lines) == height:
        return slice(0, height), ""
    places = [f"{number} at the {end}" for number, end in ((first, "top"), (height - last, "bottom")) if number]
    return slice(first, last), f"unfinished: {' and '.join(places)} of {height} lines cut off"


def _native(content: bytes, max_pixels: int) -> list[Channel] | None:
    """Returns the channels of an instrument's own file, None for any other."""
    for magic, read in (
        (nanonis.MAGIC, nanonis.read_sxm),
        (gwyddion.MAGIC, gwyddion.read_gwy),
        (nanosurf.MAGIC, nanosurf.read_nid),
        (nanoscope.MAGIC, nanoscope.read_nanoscope),
        (wsxm.MAGIC, wsxm.read_wsxm),
    ):
        if content.startswith(magic):
            return read(content, max_pixels)
    if igor.byte_order(content):
        return igor.read_ibw(content, max_pixels)
    if content.startswith(tiff_tags.MAGIC):
        page = tiff_tags.first_directory(content)
        if park.is_park(page):
            return park.read_park(page, max_pixels)
        if jpk.is_jpk(page):
            return jpk.read_jpk(page, max_pixels)
    return None
