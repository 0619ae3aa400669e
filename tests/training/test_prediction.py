"""Predictions for a folder: each file once, whatever stops in between; a bad one named and passed over; one request a folder."""

import os
import pathlib
import signal
import threading

import cv2
import jax
import numpy as np
import pytest

from configs import dcgan32
from gan import dcgan
from microscopy.scan import DataError
from training import checkpoints, prediction
from training.errors import ConfigError, RunError
from training.prediction import Request
from training.signals import Stop

FACTS = {"workdir": "somewhere", "step": 3, "tile": 0}
SUFFIXES = ("_sum.txt", "_size.txt")


@pytest.fixture
def images(tmp_path):
    """Six 8-bit pictures of 5 x 4 px, two of them in a class folder."""
    for index, name in enumerate(("a.png", "b.png", "c.tif", "d.png", "grains/a.png", "grains/e.jpg")):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((4, 5), 10 * index, np.uint8))
    return tmp_path / "in"


def run(images, output, *, facts=FACTS, one=None, stop=None, seen=None):
    def sums(scan):
        if seen is not None:
            seen.append(scan.id)
        return {"_sum.txt": str(scan.pixels.sum()).encode(), "_size.txt": str(scan.pixels.shape).encode()}

    request = Request(str(images), str(output), stop=stop or Stop())
    return prediction.run(request, facts, lambda file: SUFFIXES, one or sums, max_pixels=1000)


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "prediction.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_every_scan_has_its_files_under_its_own_name(images, tmp_path, capsys):
    outcome = run(images, tmp_path / "out")
    assert (outcome.written, outcome.there, outcome.refused) == (6, 0, [])
    found = contents(tmp_path / "out")
    assert len(found) == 12 and found["b_sum.txt"] == b"200" and found["grains/a_size.txt"] == b"(4, 5)"
    assert "6 predictions written in" in capsys.readouterr().out


def test_a_single_file_will_do_and_equal_stems_keep_their_whole_names(images, tmp_path):
    run(images / "c.tif", tmp_path / "one")
    assert set(contents(tmp_path / "one")) == {"c_sum.txt", "c_size.txt"}
    (images / "a.jpg").write_bytes((images / "grains" / "e.jpg").read_bytes())
    run(images, tmp_path / "all")
    assert {"a.png_sum.txt", "a.jpg_sum.txt", "b_sum.txt"} <= set(contents(tmp_path / "all"))


def test_what_is_there_is_left_and_what_is_missing_is_made(images, tmp_path):
    run(images, tmp_path / "out")
    whole, kept = contents(tmp_path / "out"), (tmp_path / "out" / "a_sum.txt").stat().st_mtime_ns
    (tmp_path / "out" / "b_size.txt").unlink()
    (tmp_path / "out" / "grains" / "e_sum.txt").unlink()
    seen = []
    outcome = run(images, tmp_path / "out", seen=seen)
    assert sorted(seen) == ["b", "grains/e"] and (outcome.written, outcome.there) == (2, 4)
    assert contents(tmp_path / "out") == whole and (tmp_path / "out" / "a_sum.txt").stat().st_mtime_ns == kept
    assert run(images, tmp_path / "out", seen=seen).written == 0 and len(seen) == 2


def test_a_signal_ends_it_between_two_files_and_the_same_command_goes_on(images, tmp_path, capsys):
    stop, left = Stop(), threading.Semaphore(2)

    def one(scan):
        if not left.acquire(blocking=False):
            stop.signal = signal.SIGTERM
        return dict.fromkeys(SUFFIXES, scan.id.encode())

    outcome = run(images, tmp_path / "out", one=one, stop=stop)
    assert stop.gentle and 3 <= outcome.written < 6 and "the same command goes on" in capsys.readouterr().out
    assert len(contents(tmp_path / "out")) == 2 * outcome.written
    again = run(images, tmp_path / "out", one=lambda scan: dict.fromkeys(SUFFIXES, scan.id.encode()))
    assert (again.written, again.there) == (6 - outcome.written, outcome.written)
    assert {name: content.decode() for name, content in contents(tmp_path / "out").items()} == {
        f"{id}{suffix}": id for id in ("a", "b", "c", "d", "grains/a", "grains/e") for suffix in SUFFIXES
    }


def test_bad_files_are_named_and_the_others_go_on(images, tmp_path, capsys):
    (images / "b.png").write_bytes((images / "a.png").read_bytes()[:-20])
    (images / "c.tif").write_bytes(b"")

    def one(scan):
        if scan.id == "d":
            raise DataError("is too odd; leave it out")
        return dict.fromkeys(SUFFIXES, b"1")

    with pytest.raises(RunError) as error:
        run(images, tmp_path / "out", one=one)
    lines = str(error.value).splitlines()
    assert (
        lines[0] == f"3 of 6 files have no prediction; the others are in {tmp_path / 'out'}."
        and lines[1].startswith(f"{images / 'b.png'}: ")
        and len(lines) == 4
    )
    out = capsys.readouterr().out
    assert f"refused: {images / 'd.png'}: is too odd; leave it out" in out and "3 predictions written" in out and "3 refused" in out
    assert {name.partition("_")[0] for name in contents(tmp_path / "out")} == {"a", "grains/a", "grains/e"}


def test_a_disk_that_refuses_ends_it_at_once(images, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, os.strerror(28), str(path))

    monkeypatch.setattr("training.generation.write_bytes", full)
    with pytest.raises(RunError, match=r"cannot be written: No space left on device\.\n.*the same command goes on"):
        run(images, tmp_path / "out")


def test_our_own_mistake_is_not_taken_for_a_bad_file(images, tmp_path):
    with pytest.raises(ZeroDivisionError):
        run(images, tmp_path / "out", one=lambda scan: 1 // 0)


def test_another_request_or_foreign_files_are_refused(images, tmp_path):
    run(images, tmp_path / "out")
    before = contents(tmp_path / "out")
    run(images, tmp_path / "out", facts=FACTS | {"workdir": "moved", "tile": 64})
    with pytest.raises(ConfigError, match="of another request: step is 3 there, 4 now"):
        run(images, tmp_path / "out", facts=FACTS | {"step": 4})
    assert contents(tmp_path / "out") == before
    with pytest.raises(ConfigError, match="holds files, such as a.png, without prediction.json"):
        run(images, images)


def test_predictions_inside_the_input_are_no_input_of_the_next_run(images):
    run(images, images / "out")
    assert run(images, images / "out").there == 6


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"input": ""}, "--input=FILE_OR_DIR is missing"),
        ({"output": ""}, "--output=DIR is missing"),
        ({"format": "jpeg"}, "--format=jpeg: choose png, tiff, npy, gwy"),
        ({"smoothing": -1.0}, "--smoothing=-1.0: 0"),
        ({"smoothing": float("nan")}, "--smoothing=nan: 0"),
        ({"tile": -8}, "--tile=-8: 0"),
    ],
)
def test_a_request_that_cannot_be_is_told(changed, match, tmp_path):
    request = Request(**{"input": str(tmp_path), "output": str(tmp_path / "out")} | changed)
    with pytest.raises(ConfigError, match=match):
        prediction.run(request, FACTS, lambda file: SUFFIXES, lambda scan: {}, max_pixels=1000)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "match"), [("none", "no such file or folder"), ("", "holds no image")])
def test_an_input_without_images_is_told(name, match, tmp_path):
    with pytest.raises(DataError, match=match):
        run(tmp_path / name, tmp_path.parent / "out")


def test_the_facts_name_the_weights(tmp_path):
    task = dcgan.make_task(dcgan32.get_config("tiny"))
    state = task.settle(task.init(jax.random.key(1), None))
    checkpoints.save(tmp_path, 8, state)
    facts = prediction.facts(tmp_path, Request("scans", "out", smoothing=1.5), 8)
    assert facts["weights_sha256"] == checkpoints.sha256(state) and facts["step"] == 8 and facts["smoothing"] == 1.5
    assert facts["input"] == str(pathlib.Path("scans").resolve()) and facts["format"] == "as the input"


@pytest.mark.parametrize(("names", "head"), [(("a", "b"), "No prediction was written: 2 files refused."), (("a",), "1 file refused.")])
def test_where_all_are_refused_no_others_are_spoken_of(names, head, tmp_path):
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / f"{name}.png").write_bytes(b"")
    with pytest.raises(RunError) as error:
        run(tmp_path / "in", tmp_path / "out")
    lines = str(error.value).splitlines()
    assert lines[0].endswith(head) and len(lines) == 1 + len(names) and "others" not in str(error.value)
