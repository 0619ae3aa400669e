"""Signals: at once where nothing is lost; else a first asks, a second Ctrl-C interrupts; and the old handlers come back."""

import gc
import importlib
import os
import signal
import sys
import time

import pytest

from training.signals import stop_flag

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_sets_the_flag_and_the_work_goes_on(number):
    before = handlers()
    with stop_flag() as stop:
        stop.gentle = True
        assert stop.signal is None and handlers() != before
        os.kill(os.getpid(), number)
        assert stop.signal == number
    assert stop.signal == number and handlers() == before


@pytest.mark.parametrize("number", SIGNALS)
def test_with_nothing_to_lose_a_signal_interrupts_at_once_and_says_which(number):
    with pytest.raises(KeyboardInterrupt), stop_flag() as stop:
        os.kill(os.getpid(), number)
        pytest.fail("the signal went by")
    assert stop.signal == number


def test_a_second_ctrl_c_interrupts_at_once_and_the_handlers_come_back():
    before = handlers()
    with pytest.raises(KeyboardInterrupt), stop_flag() as stop:
        stop.gentle = True
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second Ctrl-C went by")
    assert handlers() == before


def test_ctrl_c_after_sigterm_interrupts_and_more_sigterms_do_not():
    with pytest.raises(KeyboardInterrupt), stop_flag() as stop:
        stop.gentle = True
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)


def test_the_handlers_come_back_after_an_error_and_flags_are_separate():
    before = handlers()
    with pytest.raises(ZeroDivisionError), stop_flag():
        1 / 0  # noqa: B018 - any error
    assert handlers() == before
    with stop_flag() as outer:
        with stop_flag() as inner:
            inner.gentle = True
            os.kill(os.getpid(), signal.SIGTERM)
        assert inner.signal == signal.SIGTERM and outer.signal is None


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_in_a_collector_callback_or_an_import_is_raised_after_it(number, tmp_path, monkeypatch):
    def _xla_gc_callback(phase, info):
        if phase == "stop" and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    sent = []
    with pytest.raises(KeyboardInterrupt), stop_flag() as stop:
        gc.callbacks.append(_xla_gc_callback)
        try:
            gc.collect()
        finally:
            gc.callbacks.remove(_xla_gc_callback)
        assert sent == [number]
        time.sleep(5)
        pytest.fail("the signal was lost")
    assert stop.signal == number
    module = tmp_path / "imported_by_a_test.py"
    module.write_text(f"import os\nos.kill(os.getpid(), {int(number)})\nwhole = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(KeyboardInterrupt), stop_flag():
        assert importlib.import_module(module.stem).whole
        time.sleep(5)
        pytest.fail("the signal was lost")
    del sys.modules[module.stem]
