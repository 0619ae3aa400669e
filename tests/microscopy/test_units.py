"""Units, numbers and sizes as headers spell them."""

import math

import pytest

from microscopy.scan import DataError
from microscopy.units import nm_per, number, number_or_none, pixel_size, quantity, ratio, symbol, whole


@pytest.mark.parametrize(
    "text, expected",
    [
        ("nm", "nm"), (" m ", "m"), ("\u00b5m", "um"), ("\u03bcm", "um"), ("~m", "um"), ("\\u00B5m", "um"), ("micron", "um"),
        ("\u00c5", "angstrom"), ("\u212b", "angstrom"), ("A", "A"), ("\u00ba", "deg"), ("\u00b0", "deg"), ("Deg", "deg"),
        ("\u00b5V", "uV"), ("a.u.", ""), ("", ""), ("N/m", "N/m"),
    ],
)  # fmt: skip
def test_symbols(text, expected):
    assert symbol(text) == expected


def test_lengths_in_nm_and_nothing_else():
    assert [nm_per(unit) for unit in ("m", "um", "nm", "angstrom", "pm")] == [1e9, 1e3, 1.0, 0.1, 1e-3]
    assert all(nm_per(unit) is None for unit in ("A", "V", "", "deg", "cm", "inch", "pixel", "Nm"))


@pytest.mark.parametrize(
    "unit, other, expected",
    [
        ("V", "V", 1),
        ("mV", "V", 1e-3),
        ("V", "mV", 1e3),
        ("um", "nm", 1e3),
        ("m", "m", 1),
        ("A", "V", None),
        ("", "V", None),
        ("V", "", None),
    ],
)
def test_ratios_of_one_unit_with_prefixes(unit, other, expected):
    assert ratio(unit, other) == (expected if expected is None else pytest.approx(expected))


def test_numbers_quantities_and_what_is_none():
    assert number(" -4.5E-1 ", "x") == -0.45 and whole(" 0256 ", "x") == 256
    assert quantity("0.5 \u00b5m", "x") == (0.5, "um") and quantity("1e3nm", "x") == (1000, "nm") and quantity("7", "x") == (7, "")
    assert number_or_none("1.5") == 1.5 and number_or_none("1e999") is None and number_or_none("many") is None
    for text in ("", "nan", "inf", "1e999", "1,5", "0x10", "1 2", "--1", "9" * 400, "1" * 5000):
        with pytest.raises(DataError, match="states width as"):
            number(text, "width")
    for text in ("", "-1", "1.0", "1e3", "9" * 19, "\u0661", "1 2"):
        with pytest.raises(DataError, match="states width as"):
            whole(text, "width")
    for text in ("", "nm", "nan nm", "1e999 nm"):
        with pytest.raises(DataError, match="states size as"):
            quantity(text, "size")


def test_pixel_sizes():
    assert pixel_size((1e-6, 4e-6), "m", (10, 20)) == pytest.approx((100, 200))
    assert pixel_size((1.0, 1.0), "V", (10, 20)) is None and pixel_size((math.nan, 1.0), "", (1, 1)) is None
    for extent in ((0.0, 1.0), (1.0, -1.0), (math.nan, 1.0), (1.0, math.inf), (1e300, 1.0)):
        with pytest.raises(DataError, match="states a scan of"):
            pixel_size(extent, "m", (10, 20))
