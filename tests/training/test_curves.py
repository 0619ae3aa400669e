import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from training import curves


def noise(num, seed=0):
    return np.random.default_rng(seed).normal(size=num)


@pytest.mark.parametrize("num", [1, 999, 1000])
def test_thin_leaves_short_series_alone(num):
    steps, values = curves.thin(np.arange(num), noise(num))
    np.testing.assert_array_equal(steps, np.arange(num))
    np.testing.assert_array_equal(values, noise(num))


@pytest.mark.parametrize("num", [1001, 1500, 12345, 100000])
def test_thin_keeps_every_peak_in_order(num):
    values = noise(num)
    values[[0, num // 3, num - 1]] = [70, -90, 80]
    steps, kept = curves.thin(np.arange(num), values)
    assert 500 <= len(steps) <= 1000 and (np.diff(steps) > 0).all()
    np.testing.assert_array_equal(kept, values[steps])
    assert {70.0, -90.0, 80.0} <= set(kept)
    window = -(-num // 500) * 2  # any stretch of two runs holds one run whole, so its extremes cannot all be lost
    for start in range(0, num - window, window):
        near = (steps >= start - window) & (steps < start + 2 * window)
        assert kept[near].max() >= values[start : start + window].max() and kept[near].min() <= values[start : start + window].min()


@pytest.mark.parametrize("reach", [0, 1, 7, 60])
def test_running_mean_against_a_loop(reach):
    values = noise(50)
    expected = [values[max(0, index - reach) : index + reach + 1].mean() for index in range(50)]
    np.testing.assert_allclose(curves.running_mean(values, reach), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 58), (0.6, 0.61), (1e-7, 3e-7), (-5e8, 2e9), (99.5, 100.5), (0, 24000)])
def test_ticks_are_round_inside_and_neither_few_nor_many(low, high):
    found = curves.ticks(low, high, 5)
    assert 2 <= len(found) <= 9 and low - 1e-9 * (high - low) <= found[0] and found[-1] <= high + 1e-9 * (high - low)
    pace = np.diff(found)
    assert f"{pace[0]:.6e}"[0] in "125" and f"{pace[0]:.5e}"[1:7] == ".00000"
    np.testing.assert_allclose(pace, pace[0], rtol=1e-6)


def test_limits_cut_outliers_and_survive_constants():
    values = noise(1000)
    low, high = curves.limits(values)
    assert low < values.min() and high > values.max()
    values[3] = 1e6
    assert curves.limits(values)[1] < 10
    for constant in (0.0, -2.5, 1e-9):
        low, high = curves.limits(np.full(5, constant))
        assert low < constant < high


def drawing(text):
    (figure,) = re.findall(r"<figure.*</figure>", text, re.S)
    return ElementTree.fromstring(figure)  # well formed


def read_off(figure, kind):
    """Returns a function from the pixel to the value, as an eye reads the axis: a line through the labelled ticks."""
    where, of_line = {"x": ("x", "x1"), "y": ("y", "y1")}[kind]
    labels = [node for node in figure.iter("text") if node.get("class") == kind]
    values = [float(node.text.replace(",", "")) for node in labels]
    rules = [node for node in figure.iter("line") if node.get("class") == "rule" and (node.get("x1") == node.get("x2")) == (kind == "x")]
    pixels = [float(node.get(of_line)) for node in rules]
    assert len(pixels) == len(labels) and np.abs(np.array([float(node.get(where)) for node in labels]) - pixels).max() < 25
    return np.poly1d(np.polyfit(pixels, values, 1))


@pytest.mark.parametrize("scale", [1, 1e-5, 3e7])
def test_curves_say_what_the_axes_say(scale):
    steps, values = np.arange(0, 3001, 100), scale * (np.sin(np.arange(31) / 5) + 2)
    figure = drawing(curves.chart("loss", {"a/loss": (steps, values)}, 3000))
    (path,) = list(figure.iter("path"))
    (inner,) = [node for node in figure.iter("svg") if node.get("x")]
    points = np.array([pair.split(",") for pair in re.findall(r"[-\d.]+,[-\d.]+", path.get("d"))], float)
    points += [float(inner.get("x")), float(inner.get("y"))]
    np.testing.assert_allclose(read_off(figure, "x")(points[:, 0]), steps, atol=3000 / 400)
    np.testing.assert_allclose(read_off(figure, "y")(points[:, 1]), values, atol=np.ptp(values) / 150)
    assert len([*figure.iter("circle")]) == 31


def test_overlaid_curves_have_their_colour_in_the_legend():
    series = {f"{name}/loss": (np.arange(5), noise(5, seed)) for seed, name in enumerate("abcd")}
    figure = drawing(curves.chart("loss", series, 4))
    legend = ["".join(node.itertext()) for node in figure.iter("li")]
    assert legend == [f"{name} {values[-1]:.4g}" for name, (_, values) in series.items()]
    swatches = [node.get("style").removeprefix("background:") for node in figure.iter("i")]
    assert len(set(swatches)) == 4 and swatches == [node.get("stroke") for node in figure.iter("path")]


def test_noise_is_pale_under_its_mean_and_a_smooth_curve_is_only_itself():
    steps = np.arange(3000)
    noisy = drawing(curves.chart("a", {"a": (steps, noise(3000))}, 3000))
    assert [node.get("class") for node in noisy.iter("path")] == ["pale", "solid"]
    smooth = drawing(curves.chart("a", {"a": (steps, np.exp(-steps / 1000))}, 3000))
    assert [node.get("class") for node in smooth.iter("path")] == ["solid"]


def test_chart_of_one_point_of_a_cut_axis_and_of_hostile_names():
    assert len([*drawing(curves.chart("a", {"a": (np.array([0]), np.array([3.0]))}, 0)).iter("circle")]) == 1
    values = noise(500)
    values[7] = 1234
    name = "<script>&\"'"
    text = curves.chart(name, {name: (np.arange(500), values)}, 500)
    assert "1.23e+03" in drawing(text).find("figcaption").text and "<script" not in text
    assert drawing(text).find("h3").text == name
