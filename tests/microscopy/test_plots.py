"""Charts read back: where a curve, a mark and a tick are drawn is where the axes say."""

import numpy as np
import pytest

from microscopy import plots


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 58), (0.6, 0.61), (1e-7, 3e-7), (-5e8, 2e9), (99.5, 100.5), (0, 24000)])
def test_ticks_are_round_inside_and_neither_few_nor_many(low, high):
    found = plots.ticks(low, high, 5)
    assert 2 <= len(found) <= 9 and low - 1e-9 * (high - low) <= found[0] and found[-1] <= high + 1e-9 * (high - low)
    pace = np.diff(found)
    assert f"{pace[0]:.6e}"[0] in "125" and f"{pace[0]:.5e}"[1:7] == ".00000"
    np.testing.assert_allclose(pace, pace[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "wanted"), [(0.015, 2.0, [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]), (3, 3e6, [10, 100, 1e3, 1e4, 1e5, 1e6])]
)
def test_ticks_of_a_logarithmic_axis(low, high, wanted):
    axis = plots.Axis("x", low, high, log=True)
    np.testing.assert_allclose(axis.ticks(), wanted)
    np.testing.assert_allclose(axis.place([low, np.sqrt(low * high), high]), [0, 0.5, 1], atol=1e-12)
    assert len(plots.Axis("x", 1e-30, 1e30, log=True).ticks()) <= 8


def coloured(picture, colour):
    """Rows and columns of the pixels nearest to a colour, inside the frame."""
    inside = picture[41:364, 89:622].astype(int)
    rows, columns = np.nonzero(np.abs(inside - np.array(colour)).sum(-1) < 60)
    return rows + 41, columns + 89


@pytest.mark.parametrize("log", [False, True])
def test_a_curve_is_drawn_where_the_axes_say(log):
    x, y = plots.Axis("x", 1.0, 100.0, log=log), plots.Axis("y", 1.0, 1000.0, log=log)
    across = np.linspace(0.1, 0.9, 50)
    values = [10 ** (2 * across), 10 ** (3 * (1 - across))] if log else [1 + 99 * across, 1 + 999 * (1 - across)]
    picture = plots.chart("falling", x, y, {"one": tuple(values)})
    assert picture.shape == (420, 640, 3) and picture.dtype == np.uint8
    rows, columns = coloured(picture, plots.COLOURS[0])
    wanted = 40 + (columns - 88) / 534 * 324  # down the diagonal from upper left to lower right
    assert len(rows) > 300 and np.abs(rows - wanted).max() < 3
    assert abs(columns.min() - (88 + 53)) < 4 and abs(columns.max() - (88 + 481)) < 4


def test_curves_marks_and_filling():
    x, y = plots.Axis("x", 0.0, 10.0), plots.Axis("y", 0.0, 1.0)
    flat = {"a": ([0, 10], [0.25, 0.25]), "b": ([0, 10], [0.75, 0.75])}
    picture = plots.chart("two", x, y, flat, {"here": 5.0, "outside": 11.0})
    for index, level in ((0, 0.25), (1, 0.75)):
        rows, _ = coloured(picture, plots.COLOURS[index])
        assert abs(np.median(rows) - (364 - level * 324)) < 2
    assert (picture[200:204, 355] == 0).all() and not (picture[200:204, 355 + 53] == 0).any()
    filled = plots.chart("one", x, y, {"a": flat["a"]}, filled=True)
    assert (filled[330, 100:600] != picture[330, 100:600]).any(axis=-1).mean() > 0.9  # below the curve
    np.testing.assert_array_equal(filled[150, 100:250], plots.chart("one", x, y, {"a": flat["a"]})[150, 100:250])


def test_a_curve_beyond_the_axes_is_cut_and_gaps_are_passed_over():
    x, y = plots.Axis("x", 0.0, 10.0), plots.Axis("y", 0.0, 1.0)
    picture = plots.chart("spike", x, y, {"a": ([0, 4, 5, 6, 8, 10], [0.5, 0.5, 1e9, 0.5, np.nan, 0.5])})
    frame = plots.chart("spike", x, y, {"a": ([0], [-5.0])})
    np.testing.assert_array_equal(picture[:36], frame[:36])
    np.testing.assert_array_equal(picture[368:], frame[368:])


@pytest.mark.parametrize(("anchor", "left", "right"), [("left", 100, 160), ("middle", 70, 130), ("right", 40, 100)])
def test_text_lies_where_it_is_anchored(anchor, left, right):
    picture = np.full((40, 200), 255, np.uint8)
    plots.write(picture, 100, 25, "50 nm", anchor=anchor)
    _, columns = np.nonzero(picture < 128)
    assert columns.size and left <= columns.min() and columns.max() <= right
    assert plots.text_width("50 nm") == pytest.approx(np.ptp(columns), abs=8)


def test_a_band_is_shaded_between_its_ends_and_nowhere_else():
    axis, places = plots.Axis("x", 0.0, 1.0), np.linspace(0, 1, 50)
    bare = plots.chart("", axis, axis, {})
    shaded = plots.chart("", axis, axis, {}, band=(places, np.full(50, 0.25), np.full(50, 0.5)))
    rows, columns = np.nonzero((bare != shaded).any(-1))
    whole = plots.HEIGHT - 56 - 40
    assert abs((rows.max() - rows.min()) / whole - 0.25) < 0.01 and columns.max() - columns.min() > 0.95 * (plots.WIDTH - 106)
