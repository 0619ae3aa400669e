import errno
import io
import json
import os
import signal
import subprocess
import sys

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from microscopy import atomic
from training import logbook as lb
from training import tensorboard
from training.errors import RunError


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def opened():
    """Opens logbooks with small defaults and closes them after the test."""
    books = []

    def open_one(workdir, step=0, **options):
        options = {"num_steps": 100, "batch_size": 8, "stream": io.StringIO(), "wall_clock": lambda: 1.5e9} | options
        books.append(lb.open_logbook(workdir, step=step, **options))
        return books[-1]

    yield open_one
    for book in books:
        book.close()


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def files(workdir):
    return sorted(str(path.relative_to(workdir)) for path in workdir.rglob("*") if path.is_file())


def test_log_writes_one_object_a_point_in_order(opened, tmp_path):
    book = opened(tmp_path / "run")
    book.log(10, {"generator/loss": jnp.float32(0.1), "count": 3, "half": jnp.bfloat16(0.5)})
    assert lines(tmp_path / "run") == [{"step": 10, "time": 1.5e9, "generator/loss": float(np.float32(0.1)), "count": 3.0, "half": 0.5}]
    book.log(20, {"z": np.float64(1 / 3), "a": np.int32(-2)})
    assert list(lines(tmp_path / "run")[1]) == ["step", "time", "z", "a"] and lines(tmp_path / "run")[1]["z"] == 1 / 3
    assert lb.read(tmp_path / "run" / "metrics.jsonl") == lines(tmp_path / "run")


@pytest.mark.parametrize("primary", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, jnp.float32(np.nan)])
def test_not_finite_names_the_leaf_and_writes_nothing(opened, tmp_path, primary, value):
    book = opened(tmp_path, primary=primary)
    before = files(tmp_path)
    with pytest.raises(RunError, match=r"step 7: generator/loss is -?(nan|inf)\.") as caught:
        book.log(7, {"fine": 1.0, "generator/loss": value})
    assert "fine" not in str(caught.value) and len(str(caught.value).splitlines()) <= 5
    assert files(tmp_path) == before and not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize(("name", "value"), [("grid", np.zeros(1)), ("step", 1.0), ("time", 1.0)])
def test_log_refuses_arrays_and_its_own_names(opened, tmp_path, name, value):
    with pytest.raises(RunError, match=rf"step 1: {name} cannot be logged"):
        opened(tmp_path).log(1, {name: value})
    assert not (tmp_path / "metrics.jsonl").exists()


def test_resume_cuts_to_the_restored_step_so_each_step_is_logged_once(opened, tmp_path):
    book = opened(tmp_path)
    for step in (10, 20, 30, 40):
        book.log(step, {"loss": step})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5')  # torn: a prefix that names an early step must not count
    book = opened(tmp_path, step=20)
    assert [line["step"] for line in lines(tmp_path)] == [10, 20]
    for step in (30, 40):
        book.log(step, {"loss": -step})
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(10, 10), (20, 20), (30, -30), (40, -40)]


@pytest.mark.parametrize("tail", [b'{"step": 3, "ti', b"\x00\x00\x00", b"\xff\xfe", b"rubbish\n", b"\n", b"[1]", b'{"step": 1e999}'])
def test_cut_drops_a_torn_last_line_only(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    whole = b'{"step": 1, "time": 0.5}\n{"step":2,"time":1}\n'
    path.write_bytes(whole + tail)
    assert [record["step"] for record in lb.read(path)] == [1, 2]
    lb.cut(path, 2)
    assert path.read_bytes() == whole


def test_cut_ends_a_whole_last_line_that_lacks_its_newline(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}')
    lb.cut(path, 2)
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize("garbage", [b"rubbish", b"", b'"step"', b'{"time": 1}', b'{"step": null}', b"\xff", b'{"step": Infinity}'])
def test_garbage_before_the_end_is_an_error_with_its_line_number(opened, tmp_path, garbage):
    path = tmp_path / "metrics.jsonl"
    content = b'{"step": 1}\n{"step": 2}\n' + garbage + b'\n{"step": 4}\n'
    path.write_bytes(content)
    for act in (lambda: lb.read(path), lambda: lb.cut(path, 1), lambda: opened(tmp_path, step=1)):
        with pytest.raises(RunError, match=r"metrics\.jsonl: line 3 ") as caught:
            act()
        assert len(str(caught.value).splitlines()) <= 5
    assert path.read_bytes() == content


def test_cut_is_atomic_and_needless_work_is_not_done(opened, tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    lb.cut(path, 5)
    assert not path.exists()
    path.write_bytes(b'{"step": 1}\n{"step": 9}\n')
    identity = path.stat().st_ino
    lb.cut(path, 9)
    assert path.stat().st_ino == identity
    monkeypatch.setattr(atomic.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(RunError, match="No space left"):
        opened(tmp_path, step=5)
    assert path.read_bytes() == b'{"step": 1}\n{"step": 9}\n' and files(tmp_path) == ["metrics.jsonl"]


def test_a_killed_process_loses_no_logged_line(opened, tmp_path):
    script = (
        "import sys; from training.logbook import open_logbook\n"
        "book = open_logbook(sys.argv[1], step=0, num_steps=10**9, batch_size=1)\n"
        "for step in range(1, 10**9):\n"
        "    book.log(step, {'loss': 1 / step}); print(step, flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment()) as process:
        for line in process.stdout:
            if int(line) == 200:
                os.kill(process.pid, signal.SIGKILL)
                break
        told = max([200, *(int(line) for line in process.stdout if line.endswith("\n"))])
    steps = [record["step"] for record in lb.read(tmp_path / "metrics.jsonl")]
    assert steps == list(range(1, len(steps) + 1)) and told <= len(steps)
    opened(tmp_path, step=150)
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 151))


def environment():
    return os.environ | {"PYTHONPATH": os.getcwd(), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, the disk that is always full")
def test_full_disk_is_a_run_error_that_names_the_file(opened, tmp_path):
    book = opened(tmp_path)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"metrics\.jsonl cannot be written: No space left"):
        book.log(1, {"loss": 1.0})


def test_status_tells_speed_eta_and_the_last_checkpoint(opened, tmp_path):
    seconds = iter([0.0, 2.0, 4.0])
    book = opened(tmp_path, step=40, clock=lambda: next(seconds))
    book.status("running", 40)
    empty = {"state": "running", "step": 40, "num_steps": 100, "eta_seconds": None, "images_per_second": None, "checkpoint": None}
    assert json.loads((tmp_path / "status.json").read_text()) == empty
    for step in (50, 60, 70):
        book.tick(step)
    book.status("running", 70, checkpoint=60)
    known = empty | {"step": 70, "eta_seconds": 6.0, "images_per_second": 40.0, "checkpoint": 60}
    assert json.loads((tmp_path / "status.json").read_text()) == known
    book.status("failed", 70, error="disk <full>")
    assert json.loads((tmp_path / "status.json").read_text()) == known | {"state": "failed", "error": "disk <full>"}
    book.status("finished", 70, checkpoint=70, parameters_sha256="ab12")
    finished = known | {"state": "finished", "checkpoint": 70, "parameters_sha256": "ab12"}
    assert json.loads((tmp_path / "status.json").read_text()) == finished
    with pytest.raises(ValueError, match="paused"):
        book.status("paused", 70)


def test_status_on_a_refusing_disk_never_hides_the_failure_it_reports(opened, tmp_path, monkeypatch):
    book = opened(tmp_path)
    monkeypatch.setattr(atomic.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(RunError, match=r"status\.json cannot be written: No space left"):
        book.status("running", 1)
    book.status("failed", 1, error="NaN")
    assert "note: " in book.stream.getvalue() and not (tmp_path / "status.json").exists()


def test_pictures_stand_under_their_step(opened, tmp_path):
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    book = opened(tmp_path)
    book.picture("samples", 1000, picture)
    book.picture("samples", 1000, picture[..., 0])  # a resumed run draws the same step again
    book.picture("restored", 2, picture)
    assert [name for name in files(tmp_path) if name.endswith("png")] == ["restored/step_00000002.png", "samples/step_00001000.png"]
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "restored/step_00000002.png"))[..., ::-1], picture)


def test_other_hosts_write_nothing(opened, tmp_path):
    book = opened(tmp_path / "run", primary=False, stream=Terminal())
    book.tick(10)
    with book.paused():
        book.picture("samples", 10, np.zeros((4, 4), np.uint8))
    book.log(10, {"loss": 1.0})
    book.status("running", 10, checkpoint=10)
    book.close()
    assert files(tmp_path) == [] and not (tmp_path / "run").exists() and book.stream.getvalue() == ""


def test_without_a_terminal_one_line_a_log_point(opened, tmp_path):
    seconds = iter([0.0, 5.0, 10.0, 1000.0, 1005.0])
    book = opened(tmp_path, clock=lambda: next(seconds), num_steps=1000)
    book.tick(10)
    book.log(10, {"a/loss": 0.25})
    book.tick(20)
    with book.paused():
        book.log(20, {"a/loss": 0.125})
    book.tick(30)
    book.log(30, {"a/loss": 0.0625})
    book.close()
    assert book.stream.getvalue().splitlines() == [
        "step 10/1,000: a/loss 0.25",
        "step 20/1,000: 1 steps/s, 8 images/s, ETA 0:16:20, a/loss 0.125",
        "step 30/1,000: 1.33 steps/s, 10.67 images/s, ETA 0:12:08, a/loss 0.0625",
    ]


def test_on_a_terminal_a_bar_with_speed_and_scalars(opened, tmp_path):
    seconds = iter(np.arange(0.0, 50.0, 0.5))
    book = opened(tmp_path, step=20, clock=lambda: next(seconds), stream=Terminal())
    book.log(20, {"a/loss": 0.25})
    for step in range(21, 101):
        book.tick(step)
    book.close()
    book.close()
    last = book.stream.getvalue().split("\r")[-1]
    assert "100%" in last and "100/100" in last and "2 steps/s, 16 images/s, ETA 0:00:00, a/loss 0.25" in last


def test_no_bar_without_tqdm_and_no_events_without_tensorboardx(opened, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tensorboardX.proto.event_pb2", None)
    book = opened(tmp_path, stream=Terminal())
    book.log(1, {"loss": 1.0})
    book.picture("samples", 1, np.zeros((4, 4), np.uint8))
    book.close()
    assert files(tmp_path) == ["metrics.jsonl", "samples/step_00000001.png"]
    note, line = book.stream.getvalue().splitlines()
    assert "tensorboardX" in note and line == "step 1/100: loss 1"


def test_a_failing_board_ends_the_board_and_not_the_run(opened, tmp_path, monkeypatch):
    book = opened(tmp_path)
    if book.events is None:
        pytest.skip("tensorboardX is not installed")
    monkeypatch.setattr(tensorboard, "_write", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    book.log(1, {"loss": 1.0})
    book.log(2, {"loss": 2.0})
    book.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2] and book.stream.getvalue().count("note:") == 1
