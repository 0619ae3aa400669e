"""Units as files spell them: one plain symbol each, lengths in nanometres."""

import math
import re

from microscopy.scan import DataError

_NM = {"m": 1e9, "mm": 1e6, "um": 1e3, "nm": 1.0, "angstrom": 0.1, "pm": 1e-3, "fm": 1e-6}
_SPELLINGS = {
    "micron": "um",
    "microns": "um",
    "micrometer": "um",
    "nanometer": "nm",
    "meter": "m",
    "metre": "m",
    "\u00c5": "angstrom",
    "\u212b": "angstrom",
    "Ang": "angstrom",
    "Angstrom": "angstrom",
    "\u00b0": "deg",
    "\u00ba": "deg",
    "Deg": "deg",
    "degree": "deg",
    "degrees": "deg",
    "Volt": "V",
    "Volts": "V",
    "Ampere": "A",
    "a.u.": "",
}
_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12}
_LONGEST = 100  # characters of a number or quantity, of which none needs more: patterns are matched against short texts only
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


def symbol(text: str) -> str:
    """Returns the plain ASCII symbol of a unit as a file spells it: "m", "um", "nm", "angstrom", "A", "V", "deg", ...; "" for none.

    Micro is written u, however the file writes it; what is not known is returned as it stands, without spaces.
    """
    text = text.strip(" \t\r\n\0")[:_LONGEST].replace("\\u00B5", "u").replace("\\u00b5", "u")
    text = re.sub("^[\u00b5\u03bc~](?=[A-Za-z])", "u", text)
    return _SPELLINGS.get(text, text)


def nm_per(unit: str) -> float | None:
    """Returns the nanometres in one `unit` (a symbol), or None where it is no length."""
    return _NM.get(unit)


def ratio(unit: str, other: str) -> float | None:
    """Returns how many of `other` one `unit` is ("mV", "V" -> 1e-3); None where they are not the same but for an SI prefix."""
    for prefix, factor in _PREFIXES.items():
        for prefix_of_other, divisor in _PREFIXES.items():
            base = unit.removeprefix(prefix)
            if base and unit == prefix + base and other == prefix_of_other + base:
                return factor / divisor
    return None


def number(text: str, field: str) -> float:
    """Returns the finite number that stands alone in `text`; DataError naming the header's `field` otherwise."""
    found = number_or_none(text)
    if found is None:
        raise DataError(f"states {field} as {text.strip()[:30]!r}, which is no number; copy or export it again")
    return found


def number_or_none(text: str) -> float | None:
    """Returns the finite number that stands alone in `text`, or None: for what is worth recording but not worth refusing a file."""
    text = text.strip()
    return float(text) if len(text) <= _LONGEST and re.fullmatch(_NUMBER, text) and math.isfinite(float(text)) else None


def whole(text: str, field: str) -> int:
    """Returns the whole number from 0 on that stands alone in `text`; DataError naming the header's `field` otherwise."""
    if not re.fullmatch(r"\s*\d{1,18}\s*", text, re.ASCII):
        raise DataError(f"states {field} as {text.strip()[:30]!r}, not as a whole number; copy or export it again")
    return int(text)


def quantity(text: str, field: str) -> tuple[float, str]:
    """Returns (value, unit symbol) of a text such as "500 nm"; DataError naming the header's `field` where it is none."""
    found = re.match(rf"({_NUMBER})\s*(.*)", text.strip()[:_LONGEST], re.DOTALL)
    if not found:
        raise DataError(f"states {field} as {text.strip()[:30]!r}, which is no quantity; copy or export it again")
    return number(found[1], field), symbol(found[2])


def pixel_size(extent: tuple[float, float], unit: str, shape: tuple[int, int]) -> tuple[float, float] | None:
    """Returns nm per pixel (y, x) of an image of `shape` that covers `extent` (y, x) in `unit`; None where that is no length.

    Raises DataError where a length is zero, negative or not finite.
    """
    factor = nm_per(unit)
    if factor is None:
        return None
    y, x = (length * factor / size for length, size in zip(extent, shape, strict=True))
    if not (0 < y < math.inf and 0 < x < math.inf):
        raise DataError(f"states a scan of {extent[1]:g} x {extent[0]:g} {unit}; copy or export it again")
    return y, x
