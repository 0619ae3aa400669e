"""TensorBoard event files without TensorFlow: tensorboardX's records, written in the calling thread.

Its `SummaryWriter` hands events to a thread through a bounded queue; when the disk is full that thread ends and the
run then waits on the queue for ever. Written directly, the same fault is an exception that the logbook can pass over.
"""

import pathlib
import time
from collections.abc import Mapping

import numpy as np


def open_events(folder: pathlib.Path, step: int):
    """Returns a tensorboardX `EventsWriter` on a new event file in `folder`, for a run that has completed `step`.

    Where `folder` holds events of an earlier process, the new file opens with the session mark that makes TensorBoard
    forget their points after `step`. Raises ImportError without tensorboardX.
    """
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import SessionLog

    folder.mkdir(parents=True, exist_ok=True)
    resumed = any(folder.glob("*tfevents*"))
    writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
    if resumed:
        _write(writer, time.time(), step + 1, session_log=SessionLog(status=SessionLog.START))
    writer.flush()
    return writer


def add_scalars(writer, step: int, seconds: float, scalars: Mapping[str, float]) -> None:
    """Writes one point a name at `step` and `seconds` (unix) and flushes."""
    from tensorboardX.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
    _write(writer, seconds, step, summary=Summary(value=values))
    writer.flush()


def add_picture(writer, step: int, seconds: float, name: str, picture: np.ndarray, png: bytes) -> None:
    """Writes `png`, the encoded `picture` (h, w) or (h, w, 3), as the image `name` and flushes."""
    from tensorboardX.proto.summary_pb2 import Summary

    channels = 3 if picture.ndim == 3 and picture.shape[-1] == 3 else 1
    image = Summary.Image(height=picture.shape[0], width=picture.shape[1], colorspace=channels, encoded_image_string=png)
    _write(writer, seconds, step, summary=Summary(value=[Summary.Value(tag=name, image=image)]))
    writer.flush()


def _write(writer, seconds: float, step: int, **content) -> None:
    from tensorboardX.proto.event_pb2 import Event

    writer.write_event(Event(wall_time=seconds, step=step, **content))
