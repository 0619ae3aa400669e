"""Nanosurf .nid files (easyScan, Nanosurf Studio): every channel of the scans forward and backward."""

import re

import numpy as np

from microscopy.channels import MAX_CHANNELS, MAX_NAME, Channel, as_float32, direction_of
from microscopy.headers import check_end, check_size, text_header
from microscopy.scan import DataError
from microscopy.units import number, pixel_size, symbol, whole

MAGIC = b"[DataSet]"
_DATA = b"#!"


def read_nid(content: bytes, max_pixels: int) -> list[Channel]:
    """Returns the image channels of a .nid file in the order of its groups; spectra and sweeps are passed over.

    Signed integers of 8, 16 or 32 bits become Dim2Min + (n + half) / full * Dim2Range in Dim2Unit. Lines are stored from
    the lower end of the picture on and are turned; backward lines are stored from left to right. Raises DataError, without
    the file's name, for a header that is damaged or contradicts itself, more than `max_pixels`, or too little data.
    Source: Nanosurf AG, `nid_reader` of its package nanosurf (values); Gwyddion's `ezdfile` (order of the lines).
    """
    header, offset = text_header(content, _DATA, "Nanosurf file")
    sections, channels = _sections(header), []
    for name in _stored(sections.get("DataSet", {})):
        fields = sections.get(name)
        if fields is None:
            raise DataError(f"is a damaged Nanosurf file (no section {name[:40]!r}); copy it again")
        width, height, bits = (whole(fields.get(key, ""), f"{key} of {name}") for key in ("Points", "Lines", "SaveBits"))
        if bits not in (8, 16, 32) or fields.get("SaveMode", "Binary") != "Binary" or fields.get("SaveSign", "Signed") != "Signed":
            raise DataError(f"is a Nanosurf file with {bits} bits a value, {fields.get('SaveSign')}; save it as a binary .nid")
        size = width * height * bits // 8
        if offset + size > len(content):
            raise DataError(f"is a truncated Nanosurf file (data of {name} incomplete); copy it again")
        if "scan" in fields.get("Frame", "").lower() and height > 1:
            check_size(width, height, max_pixels)
            channels.append(_channel(np.frombuffer(content, f"<i{bits // 8}", width * height, offset), (height, width), bits, fields, name))
        offset += size
    check_end(offset, 1, content, "its channels")
    if not channels:
        raise DataError("is a Nanosurf file without a scan (spectra only); give an image file")
    return channels


def _channel(stored: np.ndarray, shape: tuple[int, int], bits: int, fields: dict[str, str], section: str) -> Channel:
    low, span, x, y = (number(fields.get(key, ""), f"{key} of {section}") for key in ("Dim2Min", "Dim2Range", "Dim0Range", "Dim1Range"))
    pixels = as_float32(stored.reshape(shape)[::-1], span / 2**bits, low + span / 2)
    scale = pixel_size((y, x), symbol(fields.get("Dim0Unit", "")), shape)
    unit = symbol(fields.get("Dim2Unit", ""))
    return Channel(fields.get("Dim2Name", section)[:MAX_NAME], pixels, unit, scale, direction_of(fields["Frame"]))


def _sections(header: str) -> dict[str, dict[str, str]]:
    sections, fields = {}, {}
    for line in header.splitlines():
        title = re.fullmatch(r"\s*\[([^\]]*)\]\s*", line)
        if title:
            fields = sections.setdefault(title[1], {})
        else:
            key, equals, value = line.partition("=")
            if equals:
                fields.setdefault(key.strip(), value.strip())
    return sections


def _stored(dataset: dict[str, str]) -> list[str]:
    """Returns the sections' names in the order in which their values are stored; a group may leave channel numbers out."""
    names, num_groups = [], whole(dataset.get("GroupCount", ""), "GroupCount")
    counts = [whole(dataset.get(f"Gr{group}-Count", "0"), f"Gr{group}-Count") for group in range(min(num_groups, MAX_CHANNELS + 1))]
    if num_groups > MAX_CHANNELS or sum(counts) > MAX_CHANNELS:
        raise DataError(f"is a Nanosurf file of {num_groups} groups with {sum(counts)} channels; copy or save it again")
    for group, count in enumerate(counts):
        keys = (f"Gr{group}-Ch{channel}" for channel in range(count))
        names.extend(dataset[key] for key in keys if key in dataset)
    return names
