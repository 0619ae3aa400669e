"""One measured signal of a scan file in one scan direction, as stored; heights in nanometres; the one to train on."""

import dataclasses
import difflib
import re

import numpy as np

from microscopy.scan import DataError
from microscopy.units import nm_per

MAX_CHANNELS = 1_000
MAX_NAME = 100  # characters of a name: what is matched against patterns must be short
_FORWARD, _BACKWARD = ("forward", "fwd", "trace"), ("backward", "bwd", "retrace")
_HEIGHTS = ("z", "z-axis", "height", "topography", "topo")
_LISTED = 12


@dataclasses.dataclass(frozen=True)
class Channel:
    """One signal in one scan direction.

    `pixels`, row 0 at the top of the picture and x to the right in both directions, are the values in `unit` as float32 (h, w), NaN where
    nothing was measured; those of a photograph are as stored. `unit` is a plain symbol ("m", "nm", "A", "V", "deg"), "" where the
    file states none, "grey" for a photograph. `nm_per_pixel` is (y, x) or None where the file states no length. `direction` is
    "forward", "backward" or "" where there is but one. `bias` is the sample bias in V where stated.
    """

    name: str
    pixels: np.ndarray
    unit: str
    nm_per_pixel: tuple[float, float] | None = None
    direction: str = ""
    bias: float | None = None


def as_float32(stored: np.ndarray, factor: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """Returns stored x factor + offset as a contiguous float32 array, computed in float64; beyond float32's range infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = stored if (factor, offset) == (1.0, 0.0) else stored.astype(np.float64) * factor + offset
        return np.ascontiguousarray(scaled, np.float32)


def label(channel: Channel) -> str:
    """Returns the channel's name and direction, such as "Z backward"; the name alone where it tells the direction itself."""
    said = channel.name.lower().endswith(("trace", *_FORWARD[:1], *_BACKWARD[:1]))
    return channel.name if said or not channel.direction else f"{channel.name} {channel.direction}"


def to_nm(channel: Channel) -> Channel:
    """Returns the channel with lengths (m, mm, um, angstrom, pm, ...) as float32 nm; any other unit is left as it is."""
    factor = nm_per(channel.unit)
    if factor is None or channel.unit == "nm":
        return channel
    return dataclasses.replace(channel, pixels=as_float32(channel.pixels, factor), unit="nm")


def choose(channels: list[Channel], wanted: str = "") -> Channel:
    """Returns the channel called `wanted`, whatever its case, or the heights where `wanted` is "".

    `wanted` is a name ("Z", "Height", "HeightRetrace") with or without a direction ("Z backward", "height retrace"). Without
    one the forward (trace) channel is taken where there is one, else the backward one. "" takes the first of: a channel
    called Z, Z-Axis, Height or Topography; a length whose name speaks of height, topography or Z; any length; the
    file's first. Raises DataError, without the file's name, with the nearest and all others where no name fits.
    """
    if not wanted.strip():
        return min(channels, key=lambda channel: (_height_rank(channel), _order(channel)))
    name, direction = _parts(wanted)
    literal = [channel for channel in channels if wanted.strip().lower() in (channel.name.lower(), label(channel).lower())]
    fitting = literal or [channel for channel in channels if name in _names(channel) and direction in ("", channel.direction)]
    if not fitting:
        labels = [label(channel) for channel in channels]
        if labels == [""]:
            raise DataError(f"has no named channels, and so none called {wanted!r}; leave config.data.channel empty")
        close = difflib.get_close_matches(wanted.lower(), {text.lower(): text for text in labels}, n=1, cutoff=0.4)
        nearest = next((f" (nearest: {text})" for text in labels if close and text.lower() == close[0]), "")
        listed = ", ".join(labels[:_LISTED]) + (", ..." if len(labels) > _LISTED else "")
        raise DataError(f"has no channel {wanted!r}{nearest}; choose config.data.channel from: {listed}")
    return min(fitting, key=_order)


def numbered(channels: list[Channel]) -> list[Channel]:
    """Returns the channels with " 2", " 3", ... after names that another one with the same direction had before."""
    seen, named = {}, []
    for channel in channels:
        key = (channel.name, channel.direction)
        seen[key] = seen.get(key, 0) + 1
        named.append(channel if seen[key] == 1 else dataclasses.replace(channel, name=f"{channel.name} {seen[key]}"))
    return named


def direction_of(text: str) -> str:
    """Returns "forward", "backward" or "" as the words of a title or header field say it."""
    words = re.findall(r"[a-z]+", text.lower())
    if any(word.endswith(_BACKWARD) for word in words):
        return "backward"
    return "forward" if any(word.endswith(_FORWARD) for word in words) else ""


def _order(channel: Channel) -> int:
    return ("forward", "", "backward").index(channel.direction)


def _base(name: str) -> str:
    return re.sub(r"\s*(re)?trace$", "", name.lower())


def _names(channel: Channel) -> tuple[str, str]:
    return channel.name.lower(), _base(channel.name)


def _parts(wanted: str) -> tuple[str, str]:
    """Returns (name, direction) of a wish such as "Z backward" or "height retrace", in lower case."""
    name, _, last = wanted.strip().lower().rpartition(" ")
    if not name or last.strip("()[]") not in _FORWARD + _BACKWARD:
        return wanted.strip().lower(), ""
    return name.strip(), direction_of(last)


def _height_rank(channel: Channel) -> int:
    base, is_length = _base(channel.name), nm_per(channel.unit) is not None
    if base in _HEIGHTS:
        return 0
    if is_length and re.search(r"height|topo|\bz\b|zsensor", base):
        return 1
    return 2 if is_length else 3
