import math
import re

import numpy as np
import pytest

from database import charts
from microscopy.plots import Axis


def numbers(pattern, text):
    return [tuple(map(float, found)) for found in re.findall(pattern, text)]


def test_a_curve_goes_through_its_points_on_a_logarithmic_axis():
    x, y = Axis("frequency", 1.0, 100.0, log=True), Axis("power", 0.0, 4.0)
    text = charts.curves("A & B", x, y, {"<real>": (np.array([1.0, 10.0, 100.0]), np.array([0.0, 2.0, 4.0]))}, "n < 3")
    path = numbers(r"([\d.]+),([\d.]+)", re.search(r'class="solid s0" d="([^"]+)"', text)[1])
    left, right, top, bottom = charts._LEFT, charts._RIGHT, charts._TOP, charts._BOTTOM
    np.testing.assert_allclose(path, [(left, bottom), ((left + right) / 2, (top + bottom) / 2), (right, top)], atol=0.06)
    for words in ("A &amp; B", "&lt;real&gt;", "n &lt; 3", ">frequency<", ">power<", ">10<", ">100<"):
        assert words in text


def test_values_that_are_not_finite_are_left_out():
    x = y = Axis("a", 0.0, 1.0)
    text = charts.curves("", x, y, {"a": (np.array([0.0, 0.5, 1.0]), np.array([0.0, np.nan, 1.0]))})
    assert "nan" not in text and len(numbers(r"([\d.]+),([\d.]+)", re.search(r'd="([^"]+)"', text)[1])) == 2


def test_distances_lie_by_their_logarithm_and_the_floor_at_one():
    rows = [charts.Distance("height", 2.0, 1.0, 4.0), charts.Distance("psd", 10.0, 9.0, 11.0), charts.Distance("none", 0.0, 0.0, 0.3)]
    text = charts.distances("card", rows)
    dots = [x for x, _ in numbers(r'<circle class="dot s0" r="4.5" cx="([\d.]+)" cy="([\d.]+)"', text)]
    one = float(re.search(r'class="dashed" x1="([\d.]+)"', text)[1])
    assert (dots[1] - one) / (dots[0] - one) == pytest.approx(math.log(10) / math.log(2), abs=0.01)
    ends = numbers(r'class="s0" stroke-width="2" x1="([\d.]+)" x2="([\d.]+)"', text)
    assert ends[0][0] == pytest.approx(one, abs=0.1) and ends[0][1] - one == pytest.approx(2 * (dots[0] - one), abs=0.2)
    assert dots[2] == charts._NAMES  # at the axis' end


def test_bars_are_as_long_as_their_values():
    text = charts.bars("both", {"made": {"Dice": 0.5, "AP50": 0.0}, "real": {"Dice": 1.0, "error": 4.0}})
    long = {words: float(wide) for wide, words in re.findall(r'width="([\d.]+)" height="14" rx="2"/><text[^>]*>([\d.]+)<', text)}
    assert long["0.5"] == pytest.approx(long["1"] / 2) and long["0"] == 0 and long["4"] == long["1"]
    assert text.count("<rect") == 4 and ">made<" in text and "real: Dice 1, error 4" in text
