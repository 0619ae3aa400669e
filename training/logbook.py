"""The log of record of a run: metrics.jsonl, status.json, sample pictures, TensorBoard events and the progress line."""

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

import numpy as np

from microscopy import atomic, label_field, pictures
from training import tensorboard
from training.clock import Clock, progress_line
from training.errors import RunError

STATES = ("running", "finished", "interrupted", "failed")


def _parse(path: pathlib.Path) -> list[tuple[bytes, dict[str, Any]]]:
    lines, records = path.read_bytes().removesuffix(b"\n").split(b"\n"), []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            records.append((line, record | {"step": int(record["step"])}))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            if number == len(lines):  # a killed process or a full disk tears the line under way, which is the last
                break
            raise RunError(
                f"{path}: line {number} is no JSON object with a `step`; the log of record has been edited or damaged.\n"
                "Repair or delete that line, then start again."
            ) from error
    return records


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Returns the objects of a metrics.jsonl in file order, without a torn last line; [] where there is no file.

    Raises RunError that names the line number where any other line is not an object with a `step`.
    """
    path = pathlib.Path(path)
    return [record for _, record in _parse(path)] if path.exists() else []


def cut(path: str | os.PathLike, step: int) -> None:
    """Drops every line of a metrics.jsonl whose step lies after `step`, and a torn last line, in one atomic exchange.

    A resumed run logs these steps again, so each is then logged once. Raises RunError as `read` does; the file is
    then as it was.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return
    content = b"".join(line + b"\n" for line, record in _parse(path) if record["step"] <= step)
    if content != path.read_bytes():
        atomic.write_bytes(path, content)


def finite(step: int, scalars: Mapping[str, Any]) -> dict[str, float]:
    """Returns the scalars as floats; RunError naming those that are NaN, infinite or no scalars."""
    values = {name: np.asarray(value, np.float64) for name, value in scalars.items()}
    wrong = [name for name, value in values.items() if value.ndim or name in ("step", "time")]
    if wrong:
        raise RunError(f"step {step}: {', '.join(wrong[:8])} cannot be logged; a log point takes scalars, and no name `step` or `time`.")
    wrong = [f"{name} is {value}" for name, value in values.items() if not np.isfinite(value)]
    if wrong:
        raise RunError(
            f"step {step}: {', '.join(wrong[:8])}. The run stops before this state is logged or saved.\n"
            "Start again from the last checkpoint with a lower learning rate, or look at the data for extreme values."
        )
    return {name: float(value) for name, value in values.items()}


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
    """`with writing(path):` turns an OSError inside (disk full, no permission) into a RunError that names `path`."""
    try:
        yield
    except OSError as error:
        remedy = "Free space or mend the permissions, then start again."
        raise RunError(f"{path} cannot be written: {error.strerror or error}.\n{remedy}") from error


@dataclasses.dataclass
class Logbook:
    """What a run leaves in its workdir; made by `open_logbook`. On hosts that are not primary every method writes nothing.

    `events` is the TensorBoard file and `bar` the tqdm bar, None where there is none.
    """

    workdir: pathlib.Path
    num_steps: int
    batch_size: int
    primary: bool
    clock: Clock
    wall_clock: Callable[[], float]
    stream: TextIO
    events: Any = None
    bar: Any = None
    checkpoint: int | None = None
    latest: dict[str, float] = dataclasses.field(default_factory=dict)

    def tick(self, step: int) -> None:
        """Tells the clock and the bar that a call has just completed `step`; the first call is taken for compilation."""
        self.clock.tick(step)
        if self.bar is not None:
            self.bar.set_postfix_str(progress_line(self.clock, self.num_steps, self.batch_size, self.latest), refresh=False)
            self.bar.update(step - self.bar.n)

    def pause(self) -> None:
        """Stops the clock, for evaluation and saving, and takes the bar off the screen so that other lines stay readable."""
        self.clock.pause()
        if self.bar is not None:
            self.bar.clear()

    def resume(self) -> None:
        """Starts the clock again; each `pause` needs one."""
        self.clock.resume()
        if self.bar is not None:
            self.bar.refresh()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """`with logbook.paused():` does not count what happens inside as training time."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def log(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl, flushed: `step`, `time` (unix seconds) and the scalars under their names.

        The values are scalars of any numeric type. Raises RunError on every host, before anything is written, that
        names those which are NaN or Inf; and where the disk refuses.
        """
        values = finite(step, scalars)
        if not self.primary:
            return
        seconds, path = self.wall_clock(), self.workdir / "metrics.jsonl"
        line = json.dumps({"step": int(step), "time": seconds} | values, allow_nan=False) + "\n"
        with writing(path), open(path, "ab") as file:
            file.write(line.encode())
        self._board(tensorboard.add_scalars, step, seconds, values)
        self.latest = values
        if self.bar is None:
            words = progress_line(self.clock, self.num_steps, self.batch_size, values)
            print(f"step {step:,}/{self.num_steps:,}: {words}", file=self.stream, flush=True)

    def sync(self) -> None:
        """Flushes metrics.jsonl to the disk, so that no power cut leaves a checkpoint without the lines before it."""
        path = self.workdir / "metrics.jsonl"
        if self.primary and path.exists():
            with writing(path), open(path, "ab") as file:
                os.fsync(file.fileno())

    def picture(self, name: str, step: int, picture: np.ndarray) -> None:
        """Writes the uint8 picture (h, w) or RGB (h, w, 3) to WORKDIR/`name`/step_%08d.png, whole or not at all."""
        if not self.primary:
            return
        path = self.workdir / name / f"step_{step:08d}.png"
        with writing(path):
            pictures.write_png(path, picture)
        self._board(tensorboard.add_picture, step, self.wall_clock(), name, picture, path.read_bytes())

    def images(self, name: str, step: int, images: np.ndarray) -> None:
        """Draws a grid of images (n, h, w, c), or stacks' middle planes, uint8 or float in [-1, 1], as `picture` does.

        Floats with a label field as last channel are drawn as `label_field.shown` does.
        """
        images = pictures.middle_plane(np.asarray(images))
        images = images if images.dtype == np.uint8 else label_field.shown(images)
        self.picture(name, step, pictures.grid(images))

    def status(
        self, state: str, step: int, checkpoint: int | None = None, error: str | None = None, parameters_sha256: str | None = None
    ) -> dict[str, Any]:
        """Returns what it writes to status.json: state, step, num_steps, eta_seconds, images_per_second, checkpoint and what else is given.

        `state` is one of `STATES`. `checkpoint` is the last saved step; None keeps the one told before. What is not
        known is null. A disk that refuses is a RunError, but only a note where the run has already failed.
        """
        if state not in STATES:
            raise ValueError(f"state is {state!r}, not one of {', '.join(STATES)}")
        self.checkpoint = self.checkpoint if checkpoint is None else int(checkpoint)
        speed, eta = self.clock.steps_per_second(), self.clock.eta_seconds(self.num_steps)
        value = {"state": state, "step": int(step), "num_steps": self.num_steps, "eta_seconds": eta}
        value |= {"images_per_second": speed and speed * self.batch_size, "checkpoint": self.checkpoint}
        value |= {"error": error} if state == "failed" else {}
        value |= {"parameters_sha256": parameters_sha256} if parameters_sha256 else {}
        if not self.primary:
            return value
        path = self.workdir / "status.json"
        try:
            with writing(path):
                atomic.write_json(path, value)
        except RunError as refusal:
            if state != "failed":
                raise
            print(f"note: {refusal}", file=self.stream)
        return value

    def close(self) -> None:
        """Ends the bar and the TensorBoard file; closing twice is fine."""
        if self.bar is not None:
            self.bar.close()
        if self.events is not None:
            self._board(lambda events: events.close())
        self.bar = self.events = None

    def _board(self, write: Callable, *arguments) -> None:
        if self.events is None:
            return
        try:
            write(self.events, *arguments)
        except Exception as error:  # a board is a convenience: whatever ails it, the run and its log of record go on
            print(f"note: no more TensorBoard events ({error})", file=self.stream)
            with contextlib.suppress(Exception):
                self.events.close()
            self.events = None


def open_logbook(
    workdir: str | os.PathLike,
    *,
    step: int,
    num_steps: int,
    batch_size: int,
    primary: bool = True,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
    stream: TextIO | None = None,
) -> Logbook:
    """Returns the logbook of a run that has completed `step` of `num_steps`; metrics.jsonl is cut to that step.

    `batch_size` counts the images of one step over all devices; `primary` is True on the one host that writes. `clock`
    gives seconds that never jump back, `wall_clock` unix seconds. Progress goes to `stream` (stderr): a bar on a
    terminal, else a line a log point. Raises RunError where metrics.jsonl is damaged or the disk refuses.
    """
    workdir, stream = pathlib.Path(workdir), stream or sys.stderr
    logbook = Logbook(workdir, num_steps, batch_size, primary, Clock(clock, step), wall_clock, stream)
    if not primary:
        return logbook
    with writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        cut(workdir / "metrics.jsonl", step)
    try:
        logbook.events = tensorboard.open_events(workdir / "tensorboard", step)
    except Exception as error:  # missing, too old for this protobuf, disk full: none of it is worth a run
        print(f"note: no TensorBoard events are written ({error})", file=stream)
    if stream.isatty():
        logbook.bar = _bar(step, num_steps, stream)
    return logbook


def _bar(step: int, num_steps: int, stream: TextIO):
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    layout = "{percentage:3.0f}%|{bar:12}| {n_fmt}/{total_fmt}{postfix}"
    return tqdm(initial=step, total=num_steps, file=stream, bar_format=layout, dynamic_ncols=True)
