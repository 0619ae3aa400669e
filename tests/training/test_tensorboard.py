import io
import struct
import sys

import cv2
import numpy as np
import pytest

from training.logbook import open_logbook

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="tensorboardX is not installed")


def crc32c(content: bytes) -> int:
    """CRC-32C bit by bit (RFC 3720, appendix B.4; reflected polynomial 0x82F63B78)."""
    register = 0xFFFFFFFF
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def masked(content: bytes) -> int:
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(path):
    """Reads a TFRecord file by its published layout: length, masked CRC of it, content, masked CRC of it."""
    content, at, found = path.read_bytes(), 0, []
    while at < len(content):
        (length,) = struct.unpack("<Q", content[at : at + 8])
        body = content[at + 12 : at + 12 + length]
        assert struct.unpack("<I", content[at + 8 : at + 12])[0] == masked(content[at : at + 8])
        assert struct.unpack("<I", content[at + 12 + length : at + 16 + length])[0] == masked(body)
        found.append(event_pb2.Event.FromString(body))
        at += 16 + length
    return found


def shown(workdir):
    """Returns {(name, step): values} as TensorBoard shows them: a session start forgets every point from its step on."""
    points = {}
    for path in sorted((workdir / "tensorboard").iterdir()):
        for event in events(path):
            if event.HasField("session_log") and event.session_log.status == event.session_log.START:
                points = {key: values for key, values in points.items() if key[1] < event.step}
            for value in event.summary.value:
                points.setdefault((value.tag, event.step), []).append(value)
    return points


@pytest.fixture
def opened():
    """Opens logbooks and closes them after the test, so that one left open looks like a killed process inside it."""
    books = []

    def open_one(workdir, step):
        books.append(open_logbook(workdir, step=step, num_steps=100, batch_size=8, stream=io.StringIO(), wall_clock=lambda: 1.5e9))
        return books[-1]

    yield open_one
    for book in books:
        book.close()


def test_scalars_arrive_with_step_and_time(opened, tmp_path):
    book = opened(tmp_path, 0)
    book.log(10, {"generator/loss": 0.25, "discriminator/loss": -2.0})
    (path,) = (tmp_path / "tensorboard").iterdir()  # read before close: every log point is flushed
    first, event = events(path)
    assert first.file_version == "brain.Event:2" and not first.HasField("session_log")
    assert (event.step, event.wall_time) == (10, 1.5e9)
    assert {value.tag: value.simple_value for value in event.summary.value} == {"generator/loss": 0.25, "discriminator/loss": -2.0}
    book.close()


def test_a_resumed_run_shows_no_point_twice(opened, tmp_path):
    for restored, steps in ((0, (10, 20, 30, 40)), (20, (30, 40, 50)), (40, (50,))):
        book = opened(tmp_path, restored)
        for step in steps:
            book.log(step, {"loss": restored + step})
    assert {key: [value.simple_value for value in values] for key, values in shown(tmp_path).items()} == {
        ("loss", 10): [10], ("loss", 20): [20], ("loss", 30): [50], ("loss", 40): [60], ("loss", 50): [90],
    }  # fmt: skip


def test_pictures_are_stored_as_png_without_pillow(opened, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "PIL"] + ["PIL"]:
        monkeypatch.setitem(sys.modules, name, None)
    book = opened(tmp_path, 0)
    colour = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    book.picture("samples", 10, colour)
    book.picture("grey", 10, colour[..., 0])
    book.close()
    points = shown(tmp_path)
    image = points["samples", 10][0].image
    assert (image.height, image.width, image.colorspace) == (5, 4, 3) and points["grey", 10][0].image.colorspace == 1
    pixels = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(pixels[..., ::-1], colour)
