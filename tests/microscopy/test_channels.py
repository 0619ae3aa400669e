"""The channel that a name means, and heights in nanometres."""

import numpy as np
import pytest

from microscopy.channels import Channel, choose, direction_of, label, numbered, to_nm
from microscopy.scan import DataError

ONE = np.ones((2, 3), np.float32)


def channels(*specs):
    return [Channel(name, ONE, unit, direction=direction) for name, unit, direction in specs]


STM = channels(("Current", "A", "forward"), ("Current", "A", "backward"), ("Z", "m", "backward"), ("Z", "m", "forward"))
ASYLUM = channels(*((name, "m", direction_of(name)) for name in ("ZSensorRetrace", "AmplitudeTrace", "HeightRetrace", "HeightTrace")))
JPK = channels(("measuredHeight", "m", "forward"), ("error", "V", "forward"), ("height", "m", "backward"), ("height", "m", "forward"))


@pytest.mark.parametrize(
    "found, wanted, expected",
    [
        (STM, "", "Z forward"),
        (STM, "z", "Z forward"),
        (STM, "Z backward", "Z backward"),
        (STM, " z  BWD ", "Z backward"),
        (STM, "Z retrace", "Z backward"),
        (STM, "Z (forward)", "Z forward"),
        (STM, "current", "Current forward"),
        (ASYLUM, "", "HeightTrace"),
        (ASYLUM, "HeightRetrace", "HeightRetrace"),
        (ASYLUM, "height", "HeightTrace"),
        (ASYLUM, "height retrace", "HeightRetrace"),
        (ASYLUM, "zsensor", "ZSensorRetrace"),
        (JPK, "", "height forward"),
        (JPK, "measuredheight", "measuredHeight forward"),
        (channels(("Phase", "deg", ""), ("Height Sensor", "nm", "")), "", "Height Sensor"),
        (channels(("Phase", "deg", ""), ("Amplitude", "m", "backward")), "", "Amplitude backward"),
        (channels(("Phase", "deg", "backward"), ("Phase", "deg", "forward")), "", "Phase forward"),
        (channels(("Azimuth", "m", ""), ("Z height", "m", "")), "", "Z height"),
        (channels(("Height Retrace", "m", ""), ("Height", "m", "backward")), "height retrace", "Height Retrace"),
        (channels(("Height Retrace", "m", "backward"), ("Phase", "deg", "backward")), "height", "Height Retrace"),
        (channels(("My z trace map", "V", "")), "My z trace map", "My z trace map"),
        (channels(("", "grey", "")), "", ""),
    ],
)
def test_names_and_the_rule_without_one(found, wanted, expected):
    assert label(choose(found, wanted)) == expected


@pytest.mark.parametrize(
    "found, wanted, words",
    [
        (STM, "Currant", r"no channel 'Currant' \(nearest: Current forward\); .* from: Current forward, Current backward, Z b"),
        (STM, "x", "has no channel 'x'; choose config.data.channel from: Current forward"),
        (channels(("Z", "m", "forward")), "Z backward", r"nearest: Z forward"),
        (channels(("", "grey", "")), "Z", "has no named channels"),
        (channels(*((f"c{i}", "V", "") for i in range(40))), "", None),
        (channels(*((f"c{i}", "V", "") for i in range(40))), "phase", r"c11, \.\.\."),
    ],
)
def test_names_that_fit_nothing(found, wanted, words):
    if words is None:
        assert choose(found, wanted).name == "c0"
        return
    with pytest.raises(DataError, match=words) as caught:
        choose(found, wanted)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("unit, factor", [("m", 1e9), ("mm", 1e6), ("um", 1e3), ("nm", 1), ("angstrom", 0.1), ("pm", 1e-3)])
def test_lengths_become_nm(unit, factor):
    values = np.random.default_rng(0).normal(size=(50, 50)).astype(np.float32)
    channel = to_nm(Channel("Z", values, unit, (1.0, 2.0), "backward", 0.5))
    np.testing.assert_array_equal(channel.pixels, (values.astype(np.float64) * factor).astype(np.float32))
    assert channel.pixels.dtype == np.float32
    assert (channel.unit, channel.nm_per_pixel, channel.direction, channel.bias) == ("nm", (1.0, 2.0), "backward", 0.5)


@pytest.mark.parametrize("unit", ["A", "V", "deg", "", "grey", "N/m", "nA"])
def test_what_is_no_length_stays_as_it_is(unit):
    channel = Channel("x", ONE, unit)
    assert to_nm(channel) is channel


def test_nan_stays_nan():
    assert np.isnan(to_nm(Channel("Z", np.full((1, 1), np.nan, np.float32), "m")).pixels).all()


def test_names_that_come_twice_are_numbered():
    twice = channels(("h", "m", "forward"), ("h", "m", "backward"), ("h", "m", "forward"), ("h", "m", "forward"))
    assert [c.name for c in numbered(twice)] == ["h", "h", "h 2", "h 3"]


def test_words_that_mean_a_direction():
    for text, direction in (
        ("Scan forward", "forward"), ("HeightTrace", "forward"), ("Retrace", "backward"), ("Bwd", "backward"),
        ("2nd scan backward", "backward"), ("Height", ""), ("tracer gas", ""),
    ):  # fmt: skip
        assert direction_of(text) == direction
