"""Files that arrive: each once, when its size and time stood still between two polls; growing, empty and vanished ones wait."""

import os

import numpy as np
import pytest

from microscopy.pictures import encode_png
from training import arrivals
from training.signals import Stop

CONTENT = encode_png(np.arange(64, dtype=np.uint8).reshape(8, 8))


@pytest.fixture
def polls(tmp_path, monkeypatch):
    monkeypatch.setattr(arrivals, "POLL_SECONDS", 0.0)
    stop = Stop()
    return stop, arrivals.settled(str(tmp_path), stop)


def test_half_a_file_waits_until_it_stands_still(tmp_path, polls):
    _, rounds = polls
    assert next(rounds) == {}
    (tmp_path / "a.png").write_bytes(CONTENT[:30])
    assert next(rounds) == {}
    (tmp_path / "a.png").write_bytes(CONTENT)
    assert next(rounds) == {}
    assert next(rounds) == {"a": tmp_path / "a.png"}
    assert next(rounds) == next(rounds) == {}
    os.utime(tmp_path / "a.png", ns=(1, 1))
    assert (next(rounds), next(rounds)) == ({}, {"a": tmp_path / "a.png"})


def test_empty_vanished_and_other_files_are_passed_over(tmp_path, polls):
    stop, rounds = polls
    for name in ("a.png", "gone.png", "notes.txt", ".b.png"):
        (tmp_path / name).write_bytes(b"" if name == "a.png" else CONTENT)
    assert next(rounds) == {}
    (tmp_path / "gone.png").unlink()
    assert next(rounds) == next(rounds) == {}
    (tmp_path / "a.png").write_bytes(CONTENT)
    assert (next(rounds), next(rounds)) == ({}, {"a": tmp_path / "a.png"})
    stop.signal = 2
    assert list(rounds) == []


def test_what_is_wrong_with_the_folder_is_told_once(tmp_path, polls, capsys):
    _, rounds = polls
    next(rounds)
    assert "waiting for files; Ctrl-C ends" in capsys.readouterr().out
    (tmp_path / "images").mkdir()
    for name in ("a.png", "images/a.png"):
        (tmp_path / name).write_bytes(CONTENT)
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a.tif").write_bytes(CONTENT)
    (tmp_path / "a.tif.png").write_bytes(CONTENT)
    next(rounds), next(rounds)
    assert capsys.readouterr().out.count("would have the same name as") == 1
