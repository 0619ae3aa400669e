"""Bruker (Veeco, Digital Instruments) NanoScope files, .spm and .000 to .999: every image, scaled by the header's sensitivities."""

import re

import numpy as np

from microscopy.channels import MAX_CHANNELS, MAX_NAME, Channel, as_float32, direction_of
from microscopy.headers import check_size, text_header
from microscopy.scan import DataError
from microscopy.units import number, pixel_size, quantity, ratio, symbol, whole

MAGIC = (b"\\*File list", b"\\*EC File list", b"\\*Force file list", b"?*File list")
_END = b"\\*File list end"
_IMAGES = ("ciao image list", "afm image list", "ncafm image list", "stm image list", "image list")
_SCALE = re.compile(r"(?:V\s+)?(?:\[([^\]]*)\]\s*)?(?:\((?:[^()]|\([^()]*\))*\)\s*)?([-+.\deE]+)\s*(\S*)")
_LONGEST = 500  # characters of a field that is matched against a pattern
_LONG_SINCE = 0x09200000  # from this version on every value has four bytes, whatever Bytes/pixel says


def read_nanoscope(content: bytes, max_pixels: int) -> list[Channel]:
    """Returns the images of a NanoScope file from version 4.2 on, in the order of their lists.

    value = stored / 2^(8 Bytes/pixel) x hard value of "Z scale" x the sensitivity that it names ("[Sens. Zscan]"), in the
    unit that follows ("nm"); without a known sensitivity in the hard value's own unit ("V"). Lines are stored from the
    lower end of the picture on and are turned; retraced lines are stored from left to right. Force curves are passed
    over. Raises DataError, without the file's name, for damaged files, text files, no image, or more than
    `max_pixels`. Source: Veeco, "NanoScope file formats"; Bruker, "SPM files format".
    """
    if content.startswith(MAGIC[2:]):
        raise DataError("is a NanoScope file of force curves or in text form; give or save an image in binary form")
    if not re.match(rb"[^\r\n]*\r\n", content):
        raise DataError("is a NanoScope file whose line ends were changed in a transfer as text; copy it again as binary")
    header, end = text_header(content, _END, "NanoScope file")
    general, images = _lists(header)
    if not 0 < len(images) <= MAX_CHANNELS:
        raise DataError(f"is a NanoScope file of {len(images)} images; give an image file")
    version = re.fullmatch(r"\s*0x([0-9a-fA-F]{1,8})\s*", general.get("version", ""))
    width = 4 if version and int(version[1], 16) >= _LONG_SINCE else 2
    placed = [_place(fields, general, width, range(end, len(content)), max_pixels) for fields in images]
    if sum(height * length for _, (height, length) in placed) * width > len(content):
        raise DataError("is a damaged NanoScope file (its images overlap); copy it again")
    channels = []
    for fields, (offset, shape) in zip(images, placed, strict=True):
        factor, unit = _z_scale(fields, general)
        stored = np.frombuffer(content, f"<i{width}", shape[0] * shape[1], offset).reshape(shape)
        direction = direction_of(fields.get("line direction", ""))
        channels.append(Channel(_name(fields), as_float32(stored[::-1], factor), unit, _scan_size(fields, shape), direction))
    return channels


def _lists(header: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Returns (the fields outside image lists, the first of each name; the image lists' fields), names in lower case."""
    general, images, fields = {}, [], {}
    for line in header.splitlines():
        if line.startswith("\\*"):
            title = line[2:].strip().lower()
            fields = {} if title in _IMAGES or "image list" in title else general
            if title in _IMAGES:
                images.append(fields)
            continue
        name, colon, value = line.removeprefix("\\").partition(": ")
        if colon:
            fields.setdefault(name.strip().lower(), value)
    return general, images


def _first(text: str, field: str) -> int:
    return whole((text.split() or [""])[0], field)


def _place(fields: dict, general: dict, width: int, data: range, max_pixels: int) -> tuple[int, tuple[int, int]]:
    """Returns (offset of an image's values, (height, width)); the size is the scan's where the image's own does not fit its data.

    `data` are the places behind the header, where values may lie.
    """
    offset, length = (whole(fields.get(name, ""), name) for name in ("data offset", "data length"))
    shape = tuple(_first(fields.get(name, ""), name) for name in ("number of lines", "samps/line"))
    if length != shape[0] * shape[1] * width and "lines" in general and "samps/line" in general:
        scan = tuple(_first(general[name], name) for name in ("lines", "samps/line"))
        shape = scan if length == scan[0] * scan[1] * width else shape
    check_size(shape[1], shape[0], max_pixels)
    if length < shape[0] * shape[1] * width or offset < data.start or offset + length > data.stop:
        raise DataError(
            f"is a truncated or damaged NanoScope file ({shape[1]} x {shape[0]} pixels in {length} bytes at {offset}); copy it again"
        )
    return offset, shape


def _z_scale(fields: dict, general: dict) -> tuple[float, str]:
    """Returns (factor of a stored value, unit)."""
    name = next((name for name in fields if re.fullmatch(r"@\d+:z scale", name)), "z scale")
    found = _SCALE.match(fields.get(name, "").strip()[:_LONGEST])
    if not found:
        raise DataError(f"is a NanoScope file whose Z scale is {fields.get(name, '')[:60]!r}; copy it again")
    value, unit = number(found[2], "Z scale"), symbol(found[3])
    bytes_per_pixel = _first(fields.get("bytes/pixel", "2"), "Bytes/pixel")
    if bytes_per_pixel not in (1, 2, 4):
        raise DataError(f"is a NanoScope file of {bytes_per_pixel} bytes a pixel; copy it again")
    factor = value / 256**bytes_per_pixel
    sensitivity = _SCALE.match(general.get(f"@{(found[1] or '').strip().lower()}", "").strip()[:_LONGEST])
    if sensitivity:
        over, slash, under = sensitivity[3].partition("/")
        prefix = ratio(unit or "V", symbol(under)) if slash else 1.0
        if prefix is not None:
            return factor * number(sensitivity[2], found[1]) * prefix, symbol(over) if slash else unit
    return factor, unit


def _name(fields: dict) -> str:
    text = next((value for name, value in fields.items() if re.fullmatch(r"(@\d+:)?image data", name)), "")
    text = text[:_LONGEST]
    quoted, bracketed = re.search(r'"([^"]*)"', text), re.search(r"\[([^\]]*)\]", text)
    return ((quoted and quoted[1].strip()) or (bracketed and bracketed[1].strip()) or text.strip() or "image")[:MAX_NAME]


def _scan_size(fields: dict, shape: tuple[int, int]) -> tuple[float, float] | None:
    size = fields.get("scan size", "")[:_LONGEST]
    found = re.fullmatch(r"\s*(\S+)\s+(\S+)\s+(\S+)\s*", size)
    x, y, unit = found.groups() if found else (*([(size.split() or [""])[0]] * 2), quantity(size, "Scan size")[1])
    width, height = number(x, "Scan size"), number(y, "Scan size")
    if fields.get("aspect ratio", "1:1").strip() not in ("1:1", "1"):
        height = width * shape[0] / shape[1]  # fewer lines over a lower picture: the pixels stay square
    return pixel_size((height, width), symbol(unit), shape)
