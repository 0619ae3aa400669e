"""Sound scans that do not go with the others: of another kind, of far another scale, too small. The few are left out by name.

Functions `of_` and `too_` return {id: reason}. Where more would be left out than stay they return {}: what they cannot share is told as
an error later.
"""

import math
from collections import Counter
from collections.abc import Mapping

from microscopy import resampling
from microscopy.scan import DataError, Scan

_WORDS = {"nm": "heights in nm", "grey": "grey levels without a unit"}


def of_other_kinds(scans: list[Scan]) -> dict[str, str]:
    """Returns the scans of another unit than most (of equally many, heights stay), of another stored type, or that alone state no scale."""
    counts = Counter(scan.unit for scan in scans)
    main = max(sorted(counts), key=lambda unit: (counts[unit], unit == "nm"))
    ours, found = _WORDS.get(main, f"values in {main}"), {}
    for scan in scans:
        if scan.unit != main:
            theirs = _WORDS.get(scan.unit, f"values in {scan.unit}")
            found[scan.id] = f"holds {theirs}, other scans {ours}"
    kept = [scan for scan in scans if scan.id not in found]
    if main == "grey":
        types = Counter(str(scan.pixels.dtype) for scan in kept)
        usual = max(sorted(types), key=types.get)
        others = [scan for scan in kept if str(scan.pixels.dtype) != usual]
        found |= {scan.id: f"is stored as {scan.pixels.dtype}, other scans as {usual}" for scan in others}
    lost = resampling.without_scale([scan for scan in scans if scan.id not in found])
    return _few({**found, **{scan.id: "states no nm per pixel, other scans do" for scan in lost}}, scans)


def of_other_scales(scans: list[Scan], nm_per_pixel: float, max_pixels: int) -> dict[str, str]:
    """Returns the scans that cannot be brought to `nm_per_pixel` (see `resampling.factors`)."""
    found = {}
    for scan in scans:
        try:
            resampling.factors(scan, nm_per_pixel, max_pixels)
        except DataError as error:
            found[scan.id] = str(error).removeprefix(f"{scan.file or scan.id}: ")
    return _few(found, scans)


def too_small(scans: list[Scan], side: int, free: bool) -> dict[str, str]:
    """Returns the scans, at their common scale, that hold no crop of `side` px, at every angle where rotation is `free`."""
    need = math.ceil(side * math.sqrt(2.0)) if free else side
    small = [scan for scan in scans if min(scan.pixels.shape[:2]) < need]
    return _few({scan.id: f"{_size(scan)}: too small for crops of {side} px{' at every angle' if free else ''}" for scan in small}, scans)


def grey_among_colours(grey: Mapping[str, bool], labels: Mapping[str, str | None]) -> str:
    """Returns how many scans of which classes are stored in grey among some in colour; "" where all are alike. Both are by scan id."""
    ids = [id for id, one in grey.items() if one]
    if len(ids) in (0, len(grey)):
        return ""
    own, all_of = Counter(labels[id] for id in ids), Counter(labels.values())
    each = ", ".join(f"{own[name]} of {all_of[name]} of class {name}" for name in sorted(name for name in own if name is not None))
    return f"{len(ids)} of {len(grey)} scans are stored in grey, the others in colour{f' ({each})' if each else ''}"


def _few(found: dict[str, str], scans: list[Scan]) -> dict[str, str]:
    return found if 2 * len(found) <= len(scans) else {}


def _size(scan: Scan) -> str:
    scale = f" at {scan.nm_per_pixel[1]:.4g} nm per pixel" if scan.nm_per_pixel else ""
    return f"has {scan.pixels.shape[1]} x {scan.pixels.shape[0]} px{scale}"
