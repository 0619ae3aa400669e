"""The stopwatch: who is called when, and what the figures are."""

import time

import pytest

from benchmarks import timing


def test_calls_take_turns_forwards_and_backwards_after_one_untimed_call():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = timing.interleaved(calls, 3, pause=0.0)
    assert "".join(order) == "abc" + "abc" + "cba" + "abc"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_pauses_are_not_timed_and_work_is():
    seconds = timing.interleaved({"work": lambda: time.sleep(0.02), "none": lambda: None}, 2, pause=0.01)
    assert min(seconds["work"]) >= 0.02 and max(seconds["none"]) < 0.01


def test_summary_is_milliseconds_a_unit_and_ratios_are_taken_round_by_round():
    assert timing.summary([0.2, 0.1, 0.6], per=2) == pytest.approx({"median_ms": 100.0, "min_ms": 50.0, "max_ms": 300.0})
    values = timing.ratio([2.0, 3.0, 8.0], [1.0, 2.0, 2.0])
    assert values == pytest.approx({"median": 2.0, "min": 1.5, "max": 4.0})
    assert timing.ratio_text(values) == "peer/ours 2.00 (1.50 .. 4.00)"
    with pytest.raises(ValueError, match="zip"):
        timing.ratio([1.0], [1.0, 2.0])


def test_repeats_fill_the_time_asked_for():
    count = []
    assert 2 <= timing.repeats_for(lambda: time.sleep(0.005), 0.03) <= 6
    assert timing.repeats_for(lambda: time.sleep(0.005), 0.0) == 1
    timing.repeated(lambda: count.append(1), 5)()
    assert len(count) == 5
