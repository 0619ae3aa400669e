"""Throughput and remaining time of a run: steps over training time alone, without compilation, evaluation and saving."""

import dataclasses
import datetime
from collections.abc import Callable


@dataclasses.dataclass
class Clock:
    """A stopwatch of completed steps: `num_timed` steps of this process took `seconds` of training.

    `now` gives seconds that never jump back (time.monotonic). The first call is not timed, because it compiles.
    """

    now: Callable[[], float]
    step: int
    num_timed: int = 0
    seconds: float = 0.0
    mark: float | None = None
    depth: int = 0

    def tick(self, step: int) -> None:
        """Counts the call that has just completed `step`."""
        now = self.now()
        if self.mark is not None and not self.depth:
            self.num_timed += step - self.step
            self.seconds += now - self.mark
        self.step, self.mark = step, now

    def pause(self) -> None:
        """Stops the watch; pauses nest."""
        if self.mark is not None and not self.depth:
            self.seconds += self.now() - self.mark
        self.depth += 1

    def resume(self) -> None:
        """Goes on where the outermost `pause` stopped."""
        self.depth -= 1
        if self.mark is not None and not self.depth:
            self.mark = self.now()

    def steps_per_second(self) -> float | None:
        """Returns the mean over this process, or None before a second call has completed."""
        return self.num_timed / self.seconds if self.num_timed and self.seconds > 0 else None

    def eta_seconds(self, num_steps: int) -> float | None:
        """Returns the training time left until `num_steps`, in seconds, or None while the speed is not known."""
        left, speed = max(0, num_steps - self.step), self.steps_per_second()
        return 0.0 if not left else left / speed if speed else None


def progress_line(clock: Clock, num_steps: int, batch_size: int, scalars: dict[str, float]) -> str:
    """Returns steps/s, images/s, ETA (h:mm:ss) and four scalars, losses first, in one line; what is not known is left out."""
    speed, eta = clock.steps_per_second(), clock.eta_seconds(num_steps)
    words = [] if speed is None else [f"{speed:.3g} steps/s", f"{speed * batch_size:,.4g} images/s"]
    words += [] if eta is None else [f"ETA {datetime.timedelta(seconds=round(eta))}"]
    return ", ".join(
        words + [f"{name} {value:.4g}" for name, value in sorted(scalars.items(), key=lambda item: not item[0].endswith("/loss"))[:4]]
    )
