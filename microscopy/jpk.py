"""JPK (Bruker) image scans, .jpk and .jpk-qi-image: a TIFF with one page a channel, scaled by private tags."""

import numpy as np

from microscopy import tiff_tags
from microscopy.channels import MAX_NAME, Channel, as_float32
from microscopy.headers import MAX_PARTS, check_size
from microscopy.scan import DataError
from microscopy.tiff_tags import Directory
from microscopy.units import pixel_size, symbol

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _OFFSETS, _SAMPLES, _COUNTS, _FORMAT = 256, 257, 258, 259, 273, 277, 279, 339
_U_LENGTH, _V_LENGTH, _REFLECT = 32834, 32835, 32837
_NAME, _RETRACE, _NUM_SLOTS, _DEFAULT_SLOT = 32848, 32849, 32896, 32897
_SLOT, _SLOT_SIZE = 32912, 48  # the first calibration slot's tags; within a slot: 0 its name
_UNIT, _SCALING, _FACTOR, _OFFSET = 18, 19, 20, 21
_MAX_PAGES = 256
_TYPES = {(1, 16): "u2", (1, 32): "u4", (2, 16): "i2", (2, 32): "i4", (3, 32): "f4", (3, 64): "f8"}


def is_jpk(page: Directory) -> bool:
    """Returns whether the first page states JPK's scan grid."""
    return all(page.entries.get(tag, (0,))[0] == 12 for tag in (_U_LENGTH, _V_LENGTH))


def read_jpk(page: Directory, max_pixels: int) -> list[Channel]:
    """Returns the channels of a JPK scan in the order of its pages, trace as "forward"; the thumbnail is passed over.

    value = factor x stored + offset of the calibration slot that the file calls its default, in that slot's unit. Lines
    are stored from the lower end of the picture on and are turned, unless the grid is reflected; retraced lines are stored
    from left to right. Raises DataError, without the file's name, for damaged files, compressed pages, no channel, or more
    than `max_pixels`. Source: JPK Instruments, "JPKImageSpec" 2.0.
    """
    content, channels, num_bytes = page.content, [], 0
    lengths = [abs(tiff_tags.real(page, tag) or 0.0) for tag in (_V_LENGTH, _U_LENGTH)]
    reflect, num_pages = bool(tiff_tags.real(page, _REFLECT)), 0
    while True:
        if tiff_tags.text(page, _NAME) not in ("", "thumbnail"):
            stored = _stored(page, max_pixels)
            num_bytes += stored.nbytes
            if num_bytes > len(content):
                raise DataError("is a damaged JPK scan (its pages overlap); copy it again")
            factor, offset, unit = _calibration(page)
            pixels = as_float32(stored[:: 1 if reflect else -1], factor, offset)
            direction = "backward" if tiff_tags.real(page, _RETRACE) else "forward"
            channels.append(
                Channel(tiff_tags.text(page, _NAME)[:MAX_NAME], pixels, unit, pixel_size(tuple(lengths), "m", pixels.shape), direction)
            )
        num_pages += 1
        if not page.following or num_pages > _MAX_PAGES:
            break
        page = tiff_tags.following(page)
    if not channels or num_pages > _MAX_PAGES:
        raise DataError(f"is a JPK file of {len(channels)} channels on {num_pages} pages; copy it again")
    return channels


def _stored(page: Directory, max_pixels: int) -> np.ndarray:
    """Returns a page's samples (h, w) as stored, in native byte order."""
    width, height = (tiff_tags.value(page, tag) for tag in (_WIDTH, _HEIGHT))
    check_size(width, height, max_pixels)
    kind = _TYPES.get((tiff_tags.value(page, _FORMAT, 1), tiff_tags.value(page, _BITS)))
    if kind is None or tiff_tags.value(page, _COMPRESSION, 1) != 1 or tiff_tags.value(page, _SAMPLES, 1) != 1:
        raise DataError("is a JPK scan with pages of a kind not read (compressed or coloured); save it again with JPK's software")
    if any(page.entries.get(tag, (0, 0))[1] > MAX_PARTS for tag in (_OFFSETS, _COUNTS)):
        raise DataError("is a damaged JPK scan (too many strips); copy it again")
    offsets, counts = (tiff_tags.values(page, tag) for tag in (_OFFSETS, _COUNTS))
    dtype = np.dtype(page.order + kind)
    fits = len(offsets) == len(counts) and (offsets + counts <= len(page.content)).all()
    if not fits or counts.sum() != width * height * dtype.itemsize:
        raise DataError(f"is a truncated or damaged JPK scan (strips of {width} x {height} pixels); copy it again")
    strips = b"".join(page.content[start : start + size] for start, size in zip(offsets, counts, strict=True))
    return np.frombuffer(strips, dtype).reshape(height, width)


def _calibration(page: Directory) -> tuple[float, float, str]:
    """Returns (factor, offset, unit) of the default slot."""
    wanted, num_slots = tiff_tags.text(page, _DEFAULT_SLOT), tiff_tags.real(page, _NUM_SLOTS) or 0.0
    starts = [_SLOT + _SLOT_SIZE * slot for slot in range(64) if slot < num_slots]
    start = next((start for start in starts if tiff_tags.text(page, start) == wanted), None)
    scaling = tiff_tags.text(page, start + _SCALING) if start is not None else ""
    if scaling not in ("LinearScaling", "NullScaling"):
        raise DataError(
            f"is a JPK scan whose calibration {wanted[:40]!r} is {scaling[:40] or 'missing'}; save it again with JPK's software"
        )
    if scaling == "NullScaling":
        return 1.0, 0.0, ""
    factor, offset = (tiff_tags.real(page, start + place) for place in (_FACTOR, _OFFSET))
    if factor is None or offset is None or not np.isfinite([factor, offset]).all():
        raise DataError(f"is a JPK scan with a damaged calibration {wanted[:40]!r}; copy it again")
    return factor, offset, symbol(tiff_tags.text(page, start + _UNIT))
