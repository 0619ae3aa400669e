"""Pixel size and value unit that a TIFF states in words: ImageJ's and OME's descriptions."""

import math
import re

from microscopy import tiff_tags
from microscopy.scan import DataError
from microscopy.tiff_tags import Directory
from microscopy.units import nm_per, number_or_none, symbol

_DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION = 270, 282, 283
_PIXELS = re.compile(r"<(?:\w+:)?Pixels\s([^<>]{1,4096})>")
_NOT_MEASURED = ("m",)  # no microscope; lengths in cm and inch, which units.py does not know, are those of a printed page


def stated_scale(content: bytes) -> tuple[tuple[float, float] | None, str]:
    """Returns (nm per pixel (y, x) or None, unit symbol of the values or "") as the first page's description states them.

    ImageJ: `unit` (and `yunit`) with the pixels per unit of XResolution and YResolution, and `vunit`. OME: PhysicalSizeX and
    PhysicalSizeY in their units, um where none is given. A resolution without such words is that of a printed page and no
    scale. Tags that are damaged state nothing.
    """
    try:
        page = tiff_tags.first_directory(content)
        description = tiff_tags.text(page, _DESCRIPTION, 2**20)
        if description.startswith("ImageJ="):
            return _imagej(description, page)
    except DataError:
        return None, ""
    pixels = _PIXELS.search(description) if "<OME" in description else None
    return (_ome(pixels[1]) if pixels else None), ""


def _imagej(description: str, page: Directory) -> tuple[tuple[float, float] | None, str]:
    lines = (line.partition("=") for line in description.splitlines())
    fields = {key.strip(): text.strip() for key, equals, text in lines if equals}
    unit = fields.get("unit", "")
    sizes = []
    for tag, name in ((_Y_RESOLUTION, fields.get("yunit", unit)), (_X_RESOLUTION, unit)):
        factor, per_unit = nm_per(symbol(name)), tiff_tags.real(page, tag)
        sizes.append(factor / per_unit if factor and per_unit and symbol(name) not in _NOT_MEASURED else None)
    return _both(*sizes), symbol(fields.get("vunit", ""))


def _ome(attributes: str) -> tuple[float, float] | None:
    found = {name: first or second for name, first, second in re.findall(r"(\w+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", attributes)}
    sizes = []
    for axis in ("Y", "X"):
        size = number_or_none(found.get(f"PhysicalSize{axis}", ""))
        factor = nm_per(symbol(found.get(f"PhysicalSize{axis}Unit", "um").replace("&#181;", "u").replace("&#xB5;", "u")))
        sizes.append(size * factor if size is not None and factor else None)
    return _both(*sizes)


def _both(y: float | None, x: float | None) -> tuple[float, float] | None:
    return (y, x) if y is not None and x is not None and 0 < y < math.inf and 0 < x < math.inf else None
