"""How far a run over stages is: its lines, its status.json, and how long the rest will take."""

import contextlib
import datetime
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence

from microscopy.atomic import write_json
from training import forecast
from training.signals import Stop


class Progress:
    """Tells of a run over the stages `names` in WORKDIR/status.json and on stdout.

    status.json holds `state` (running, finished, interrupted, failed), `stage`, `number` and `num_stages`, `eta_seconds` when the stage was
    begun (null: not known) and, for each stage, `state` (waiting, running, finished) and `seconds`. After a failure `error` has its words,
    or, where these may tell a name, the words `withheld`.
    """

    def __init__(self, workdir: pathlib.Path, names: Sequence[str], withheld: str = ""):
        self._withheld = withheld
        self._path, self._names = workdir / "status.json", list(names)
        self._stages = {name: {"state": "waiting", "seconds": None} for name in names}
        self._work, self._spent = 0.0, 0.0
        self._stage, self._eta = "", None

    def skip(self, name: str, seconds: float) -> None:
        """Tells that a stage was finished before, in so many seconds."""
        self._stages[name] = {"state": "finished", "seconds": seconds}
        print(f"Stage {self._number(name)} of {len(self._names)}, {name}: finished.", flush=True)

    def begin(self, name: str, place: pathlib.Path, work: Mapping[str, float]) -> None:
        """Tells that a stage begins; `work` is that of each stage to come, this one first, 0 where it is not known."""
        self._stage, self._eta = name, self._left(sum(work.values()))
        self._stages[name]["state"] = "running"
        text = "" if self._eta is None else f"; {'about' if self._work else 'at least'} {forecast.duration(self._eta)} to go"
        now = datetime.datetime.now().strftime("%H:%M:%S")
        print(f"\nStage {self._number(name)} of {len(self._names)}, {name}: {place} (began {now}{text})", flush=True)
        self.write("running")

    def end(self, name: str, seconds: float, work: float, spent: float) -> None:
        """Tells that a stage is finished, after `seconds`, of which `spent` went into its `work` (0: not known)."""
        self._stages[name] = {"state": "finished", "seconds": seconds}
        if work and spent:
            self._work, self._spent = self._work + work, self._spent + spent
        self.write("running")
        print(f"Stage {self._number(name)} of {len(self._names)}, {name}: finished in {forecast.duration(seconds)}.", flush=True)

    @contextlib.contextmanager
    def telling(self, stop: Stop) -> Iterator[None]:
        """Within it the run is running; afterwards status.json says how it ended."""
        try:
            yield
        except BaseException as error:
            word = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            self.write(word, self._withheld or str(error) or type(error).__name__)
            raise
        self.write("finished" if stop.signal is None else "interrupted")

    def write(self, state: str, error: str = "") -> None:
        """Writes status.json; a disk that refuses is told by what is written next."""
        number = self._number(self._stage) if self._stage else len(self._names)
        value = {"state": state, "stage": self._stage, "number": number, "num_stages": len(self._names), "time": time.time()}
        value |= {"eta_seconds": 0.0 if state == "finished" else self._eta, "stages": self._stages} | ({"error": error} if error else {})
        with contextlib.suppress(OSError):
            write_json(self._path, value)

    def _number(self, name: str) -> int:
        return self._names.index(name) + 1

    def _left(self, work: float) -> float | None:
        """Seconds for so much work: at the rate of the stages done here, before that at that of a matrix product, which none reaches."""
        if not work:
            return None
        return work * self._spent / self._work if self._work else work / forecast.matmul_rate()
