"""Stopwatch for side-by-side figures: calls take turns, so that a machine that slows down slows all of them."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

PAUSE = 0.02
"""Seconds between two timed calls: worker threads of the library that just ran go to sleep instead of spinning into the next."""


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int, pause: float = PAUSE) -> dict[str, list[float]]:
    """Returns name -> seconds of each of `rounds` calls. A call returns only when its work is done.

    Each is called once untimed. Rounds run forwards and backwards in turn (A B, B A, ...), so that a steady drift cancels.
    """
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in list(calls)[:: 1 if number % 2 == 0 else -1]:
            time.sleep(pause)
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def repeated(call: Callable[[], object], times: int) -> Callable[[], None]:
    """Returns a call that makes `times` calls."""

    def several():
        for _ in range(times):
            call()

    return several


def repeats_for(call: Callable[[], object], seconds: float) -> int:
    """Returns how many calls take about `seconds`, at least 1, after one untimed call."""
    call()
    start = time.perf_counter()
    call()
    return max(1, round(seconds / max(time.perf_counter() - start, 1e-9)))


def summary(seconds: Sequence[float], per: float = 1.0) -> dict[str, float]:
    """Returns milliseconds a unit of work, `median_ms`, `min_ms` and `max_ms`, of calls that did `per` units each."""
    values = [1e3 * value / per for value in seconds]
    return {"median_ms": statistics.median(values), "min_ms": min(values), "max_ms": max(values)}


def ratio(peer: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """Returns the median, least and greatest of peer/ours round by round: above 1 ours is faster."""
    values = [a / b for a, b in zip(peer, ours, strict=True)]
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio_text(values: Mapping[str, float]) -> str:
    """Returns "peer/ours 1.12 (1.08 .. 1.17)"."""
    return f"peer/ours {values['median']:.2f} ({values['min']:.2f} .. {values['max']:.2f})"


def num_cores() -> int:
    """Returns the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
