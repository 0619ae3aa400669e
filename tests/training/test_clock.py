import pytest

from training.clock import Clock, progress_line


class Hand:
    """A clock the test turns by hand."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


def test_first_call_and_pauses_are_not_training_time():
    hand = Hand()
    clock = Clock(hand, step=100)
    assert clock.steps_per_second() is None and clock.eta_seconds(200) is None
    hand.seconds += 60  # compilation
    clock.tick(110)
    assert clock.steps_per_second() is None and clock.eta_seconds(200) is None
    for step in (120, 130):
        hand.seconds += 2
        clock.tick(step)
    hand.seconds += 1
    clock.pause()
    hand.seconds += 500
    clock.pause()  # a pause within a pause
    hand.seconds += 500
    clock.resume()
    hand.seconds += 500
    clock.resume()
    hand.seconds += 1
    clock.tick(140)
    assert (clock.num_timed, clock.seconds) == (30, 6.0)
    assert clock.steps_per_second() == pytest.approx(5)
    assert clock.eta_seconds(200) == pytest.approx(60 / 5)
    assert clock.eta_seconds(140) == 0 and clock.eta_seconds(90) == 0


def test_pause_before_the_first_call_leaves_compilation_out():
    hand = Hand()
    clock = Clock(hand, step=0)
    clock.pause()
    hand.seconds += 100
    clock.resume()
    hand.seconds += 100
    clock.tick(1)
    hand.seconds += 4
    clock.tick(2)
    assert clock.steps_per_second() == pytest.approx(1 / 4)


def test_progress_line_says_only_what_is_known():
    hand = Hand()
    clock = Clock(hand, step=0)
    assert progress_line(clock, 100, 16, {}) == ""
    clock.tick(1)
    assert progress_line(clock, 100, 16, {"a/loss": 0.123456}) == "a/loss 0.1235"
    hand.seconds += 100
    clock.tick(51)
    scalars = dict.fromkeys("abcdef", 1.0)
    assert progress_line(clock, 3651, 16, scalars) == "0.5 steps/s, 8 images/s, ETA 2:00:00, a 1, b 1, c 1, d 1"
