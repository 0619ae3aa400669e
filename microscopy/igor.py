"""Igor binary waves (.ibw) as Asylum Research's microscopes write them: every layer of an image.

Our own reader: igor2 allocates what the header declares before it looks at the file's size.
"""

import re
import struct

import numpy as np

from microscopy.channels import MAX_CHANNELS, Channel, as_float32, direction_of
from microscopy.headers import check_size
from microscopy.scan import DataError
from microscopy.units import pixel_size, symbol

_HEADERS, _WAVE_HEADER = 384, 320
_TYPES = {2: "f4", 4: "f8", 8: "i1", 16: "i2", 32: "i4", 72: "u1", 80: "u2", 96: "u4"}
# Asylum states no unit for a layer; these are its software's, by what the name begins with.
_UNITS = {
    "height": "m",
    "zsensor": "m",
    "deflection": "m",
    "amplitude": "m",
    "phase": "deg",
    "current": "A",
    "frequency": "Hz",
    "potential": "V",
}


def byte_order(content: bytes) -> str:
    """Returns "<" or ">" for the content of an Igor wave of version 5 whose header's checksum holds, "" for anything else."""
    order = {b"\x05\0": "<", b"\0\x05": ">"}.get(content[:2], "")
    if not order or len(content) < _HEADERS:
        return ""
    return order if not int(np.frombuffer(content, order + "u2", _HEADERS // 2).sum()) & 0xFFFF else ""


def read_ibw(content: bytes, max_pixels: int) -> list[Channel]:
    """Returns the layers of an image wave (x, y, layers), float64 and integers as float32, row 0 turned to the top.

    Names are the layers' labels ("HeightRetrace"); the direction is their ending. Pixel size is the wave's scaling, which is the
    distance of neighbouring points. Raises DataError, without the file's name, for curves, volumes, complex
    values, versions before 5, more than `max_pixels`, and sizes that do not fit the file. Source: WaveMetrics, Technical Note 003.
    """
    order = byte_order(content)
    if not order:
        raise DataError("is no Igor wave of version 5, or its header is damaged (checksum); copy it again")
    wave_size, *sizes = struct.unpack_from(order + "12I", content, 4)  # then formula, note, data units, dimension units, labels
    (num_points,) = struct.unpack_from(order + "I", content, 76)
    (kind,) = struct.unpack_from(order + "H", content, 80)
    width, height, layers, volumes = struct.unpack_from(order + "4I", content, 132)
    layers = max(layers, 1)
    if kind not in _TYPES:
        raise DataError(f"is an Igor wave of type {kind} (text or complex); save its images as real numbers")
    if not height or volumes > 1 or layers > MAX_CHANNELS:
        raise DataError(f"is an Igor wave of {width} x {height} x {layers} x {volumes} points, no stack of images; give an image file")
    check_size(width, height, max_pixels)
    stored = np.dtype(order + _TYPES[kind])
    if num_points != width * height * layers or wave_size < _WAVE_HEADER + num_points * stored.itemsize:
        raise DataError(f"is a damaged Igor wave ({num_points} points for {width} x {height} x {layers}); copy it again")
    if 64 + wave_size + sum(sizes[:11]) > len(content):
        raise DataError("is a truncated Igor wave; copy it again")
    step_x, step_y = struct.unpack_from(order + "2d", content, 148)
    data_unit, x_unit = (symbol(content[at : at + 4].split(b"\0")[0].decode("latin-1")) for at in (212, 216))
    scale = pixel_size((step_y, step_x), x_unit, (1, 1))
    names = _labels(content, 64 + wave_size + sum(sizes[:9]), sizes[9], layers)
    cube = np.frombuffer(content, stored, num_points, _HEADERS).reshape(layers, height, width)
    layers_of_names = zip(names, cube, strict=True)
    return [Channel(name, as_float32(layer[::-1]), _unit(name, data_unit), scale, direction_of(name)) for name, layer in layers_of_names]


def _labels(content: bytes, start: int, size: int, layers: int) -> list[str]:
    """Returns the layers' names: labels of 32 bytes, the first of which is the dimension's own."""
    places = range(start + 32, start + min(size, 32 * (layers + 1)) - 31, 32)
    texts = [content[at : at + 32].split(b"\0")[0].decode("latin-1").strip() for at in places]
    return [texts[index] if index < len(texts) and texts[index] else f"layer {index + 1}" for index in range(layers)]


def _unit(name: str, data_unit: str) -> str:
    known = re.match("|".join(_UNITS), re.sub("^(dac|nap|user)", "", name.lower()))
    # The wave's own unit is that of its first layer; Asylum's other signals are volts.
    return _UNITS[known[0]] if known else data_unit if data_unit != "m" or name.startswith("layer ") else "V"
