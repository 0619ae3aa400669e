"""z-stacks of frames: one Scan whose planes are the last axis of its pixels and of its mask, (h, w, planes).

From the simulator of emulsions, or from TIFF files of one page a plane, with masks of as many pages.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable

import numpy as np

from microscopy import emulsion, folder, tiff_stack
from microscopy.fields import MAX_PLANES, num_planes
from microscopy.flaws import luma
from microscopy.scan import AllRefused, DataError, Refused, Scan


def load_stacks(data, kept: Callable[[Scan], Scan] = lambda scan: scan) -> tuple[list[Scan], list[Refused]]:
    """Returns the stacks that a config's data section names and the files it refused (none unless `skip_bad`).

    Of a folder they are its images and masks as `folder.read_folder` finds them, TIFF files with `config.data.planes` pages; masks keep
    the numbers stored. `kept(scan)` is what is held of each. DataError naming what cannot be read; AllRefused where `skip_bad` leaves none.
    """
    planes = num_planes(data)
    if data.source == "emulsion":
        settings = emulsion.EmulsionSettings()
        scans = emulsion.emulsion_scans(settings, num_scans=data.num_simulated, seed=data.simulator_seed, num_planes=planes)
        return [kept(scan) for scan in scans], []
    place = data.source.partition(":")[2]
    files, nm = folder.list_scans(place), folder.checked_scale(data.nm_per_pixel or None)
    masks = folder.list_masks(place, data.masks or None) if data.use_masks else {}
    scans, refused = [], []
    for id, file in files.items():
        try:
            scan = read_stack(id, file, max_pixels=data.max_pixels)
            if scan.pixels.shape[2] != planes:
                raise DataError(f"{file}: has {scan.pixels.shape[2]} pages, config.data.planes is {planes}; cut the stack or leave it out")
            mask = read_stack_mask(masks[id], scan, max_pixels=data.max_pixels) if id in masks else None
            scans.append(kept(dataclasses.replace(scan, mask=mask, nm_per_pixel=nm or scan.nm_per_pixel)))
        except DataError as error:
            if not data.skip_bad:
                raise
            refused.append(Refused(str(file), str(error).removeprefix(f"{file}: ")))
    if not scans:
        first = f"{refused[0].file}: {refused[0].reason}"
        raise AllRefused(f"{place}: none of its {len(refused)} stacks can be read; the first: {first}", refused)
    return scans, refused


def read_stack(id: str, file: str | os.PathLike, *, max_pixels: int) -> Scan:
    """Returns a TIFF as a Scan of its pages, pixels (h, w, pages) in grey levels as stored, without mask.

    At most `max_pixels` pixels a page and 256 pages; colours become one channel. DataError, naming file and page, as
    `tiff_stack.read_stack`, and for pages of several sizes, types or scales, heights, and values that are not finite.
    """
    file = pathlib.Path(file)
    if tiff_stack.num_pages(file) > MAX_PLANES:
        raise DataError(f"{file}: has more than {MAX_PLANES} pages; split the stack")
    pages = tiff_stack.read_stack(file, max_pixels=max_pixels, max_total=MAX_PLANES * max_pixels + 1)
    first = pages[0]
    if first.unit not in ("grey", ""):
        raise DataError(f"{file}: holds {first.unit}; a stack of grey levels is needed")
    for number, page in enumerate(pages, 1):
        if (page.pixels.shape, page.pixels.dtype, page.nm_per_pixel) != (first.pixels.shape, first.pixels.dtype, first.nm_per_pixel):
            raise DataError(f"{file}: page {number} is of another size, type or scale than the first; save one stack a file")
        if not np.isfinite(page.pixels).all():
            raise DataError(f"{file}, page {number}: holds NaN or infinite values; fill them")
    pixels = np.stack([luma(page.pixels) for page in pages], axis=-1)
    with open(file, "rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return Scan(id, pixels, digest, str(file), nm_per_pixel=first.nm_per_pixel, label=id.split("/")[0] if "/" in id else None)


def read_stack_mask(file: str | os.PathLike, scan: Scan, *, max_pixels: int) -> np.ndarray:
    """Returns the mask of a stack, int32 of the shape of its pixels, as stored; DataError where it is another shape or no mask."""
    pages = tiff_stack.read_masks(file, max_pixels=max_pixels)
    wanted = scan.pixels.shape
    if len(pages) != wanted[2] or any(page.shape != wanted[:2] for page in pages):
        sizes = [f"{h} x {w} px on {d} pages" for h, w, d in ((*pages[0].shape, len(pages)), wanted)]
        raise DataError(f"{file}: mask and stack {pathlib.Path(scan.file).name} differ in size ({' and '.join(sizes)})")
    return np.stack(pages, axis=-1)
