"""TensorBoard event files without TensorFlow: tensorboardX's records, written in the calling thread.

Its `SummaryWriter` hands events to a thread through a bounded queue; when the disk is full that thread ends and the
run then waits on the queue for ever. Written directly, the same fault is an exception that the logbook can pass over.
"""

import pathlib
import socket
import struct
import time
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np


def open_events(folder: pathlib.Path, step: int) -> BinaryIO:
    """Returns a new, unbuffered event file in `folder`, for a run that has completed `step`.

    Where `folder` holds events of an earlier process, the new file opens with the session mark that makes TensorBoard
    forget their points after `step`. Raises ImportError without tensorboardX.
    """
    from tensorboardX.proto.event_pb2 import SessionLog

    folder.mkdir(parents=True, exist_ok=True)
    resumed = any(folder.glob("*tfevents*"))
    now = time.time_ns()  # TensorBoard reads the files in the order of their names
    events = open(folder / f"events.out.tfevents.{now // 10**9:010d}.{socket.gethostname()}.{now}", "xb", buffering=0)  # noqa: SIM115 - open for the run
    _write(events, now / 1e9, 0, file_version="brain.Event:2")
    if resumed:
        _write(events, now / 1e9, step + 1, session_log=SessionLog(status=SessionLog.START))
    return events


def add_scalars(events: BinaryIO, step: int, seconds: float, scalars: Mapping[str, float]) -> None:
    """Writes one point a name at `step` and `seconds` (unix)."""
    from tensorboardX.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
    _write(events, seconds, step, summary=Summary(value=values))


def add_picture(events: BinaryIO, step: int, seconds: float, name: str, picture: np.ndarray, png: bytes) -> None:
    """Writes `png`, the encoded `picture` (h, w) or (h, w, 3), as the image `name`."""
    from tensorboardX.proto.summary_pb2 import Summary

    channels = 3 if picture.ndim == 3 and picture.shape[-1] == 3 else 1
    image = Summary.Image(height=picture.shape[0], width=picture.shape[1], colorspace=channels, encoded_image_string=png)
    _write(events, seconds, step, summary=Summary(value=[Summary.Value(tag=name, image=image)]))


def _write(events: BinaryIO, seconds: float, step: int, **content) -> None:
    """Appends one TFRecord: length, its masked CRC-32C, the event, its masked CRC-32C."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    event = Event(wall_time=seconds, step=step, **content).SerializeToString()
    length = struct.pack("<Q", len(event))
    events.write(length + struct.pack("<I", masked_crc32c(length)) + event + struct.pack("<I", masked_crc32c(event)))
