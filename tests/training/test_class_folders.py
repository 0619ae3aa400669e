"""Which images --labels asks for, names of class folders, the index, and files of classes that are the same whatever else is asked for."""

import csv
import io
import os
import time

import numpy as np
import pytest

from configs import dcgan32
from microscopy.folder import read_folder
from microscopy.normalisation import ValueMap
from training import checkpoints, class_folders, generation, workdir
from training.errors import ConfigError, RunError
from training.generation import Request

CLASSES = ("basophil", "large cell", "mono:cyte")


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ("", {0: 5, 1: 5, 2: 5}),
        ("all", {0: 5, 1: 5, 2: 5}),
        ("large cell:7,basophil:2", {1: 7, 0: 2}),
        ("basophil", {0: 5}),
        ("mono:cyte,large cell:1", {2: 5, 1: 1}),
        ("mono:cyte:3", {2: 3}),
        ("basophil: 3, large cell , mono:cyte : 2", {0: 3, 1: 5, 2: 2}),
    ],
)
def test_labels_are_counts_of_classes(labels, wanted):
    assert class_folders.wanted(labels, CLASSES, 5) == wanted


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ("bazophil:3", "--labels=bazophil:3: 'bazophil' is no class of the run. Did you mean basophil\\?\nThe classes are basophil, large"),
        ("xyz", "'xyz' is no class of the run. Write NAME:COUNT"),
        ("basophil:0", "'0' images of basophil"),
        ("basophil:many", "'many' images of basophil"),
        ("basophil:2,basophil:3", "basophil is named twice"),
        ("basophil,", "'' is no class"),
        ("basophil:99999999999", "--labels=basophil:99999999999: 99,999,999,999 images in all; ask for 10,000,000 at most"),
        ("basophil:6000000,large cell:6000000", "12,000,000 images in all"),
    ],
)
def test_labels_that_cannot_be_are_told_with_the_nearest_class(labels, match):
    with pytest.raises(ConfigError, match=match) as error:
        class_folders.wanted(labels, CLASSES, 5)
    assert len(str(error.value).splitlines()) <= 5


def test_folders_have_the_names_of_classes_where_they_can():
    assert class_folders.folder_names(("G1 phase", "a/b", "..", "mono:cyte", "é-(1)")) == ["G1 phase", "a_b", "__", "mono_cyte", "é-(1)"]
    for classes in (("a/b", "a:b"), ("c1", "C1"), ("<5", ">5"), ("a.b", "x", "a_b")):
        with pytest.raises(
            ConfigError, match=f"'{classes[0]}' and '{classes[-1]}' would have one folder .*\nRename one in the scans' folders"
        ):
            class_folders.folder_names(classes)
    with pytest.raises(ConfigError, match="is too long for the name of a folder: 202 bytes, 200 at most"):
        class_folders.folder_names(("round", "\u00e9" * 101))
    assert class_folders.folder_names(("a" * 200,))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A workdir of a run on CLASSES; its weights are never read, only their hash."""
    (tmp_path / "run").mkdir()
    workdir.describe(tmp_path / "run", dcgan32.get_config("tiny"), ValueMap(0.0, 255.0, "grey", (0.0, 0.0)), CLASSES)
    monkeypatch.setattr(checkpoints, "verify", lambda workdir, step: {"sha256": "abc"})
    return tmp_path / "run"


def write(run, output, labels, num=2, kind="png"):
    def chunk(label, number):
        grey = -1 + (10 * label + np.arange(4) + 4 * number) * 2 / 255
        return np.broadcast_to(grey.reshape(4, 1, 1, 1), (4, 5, 5, 3)).astype(np.float32)

    request = Request(num, 0, str(output), kind, labels=labels)
    written = class_folders.write_classes(run, request, chunk, chunk_size=4, step=8)
    return written, {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*.png")}


def test_images_are_the_same_bytes_whatever_else_is_asked_for_and_become_a_source_of_classes(run, tmp_path):
    out = tmp_path / "out"
    _, whole = write(run, tmp_path / "whole", "all", 6)
    assert write(run, out, "mono:cyte:1")[0] == 1
    stray = out / "mono_cyte" / ".generated_000001.png.77.tmp"  # of a killed process
    stray.write_bytes(b"half")
    os.utime(stray, (time.time() - 60,) * 2)
    (out / ".index.csv.77.tmp").write_bytes(b"half")
    os.utime(out / ".index.csv.77.tmp", (time.time() - 60,) * 2)
    assert write(run, out, "large cell:5,mono:cyte:6")[0] == 10
    written, pieces = write(run, out, "all", 6)
    assert not list(out.rglob(".*.tmp")) and written == 7 and pieces == whole and len(whole) == 18
    rows = list(csv.DictReader(io.StringIO((out / "index.csv").read_text())))
    assert tuple(rows[0]) == class_folders.COLUMNS and len(rows) == 18
    assert rows[-1] == {"file": "mono_cyte/generated_000005.png", "label": "mono:cyte", "seed": "0", "index": "5", "checkpoint": "8"}
    scans, _ = read_folder(out, max_pixels=1000)
    assert [(scan.label, int(scan.pixels[0, 0, 0])) for scan in scans] == [
        (name, 10 * label + i) for label, name in enumerate(("basophil", "large cell", "mono_cyte")) for i in range(6)
    ]


def test_what_is_in_the_way_is_refused(run, tmp_path):
    write(run, tmp_path / "out", "basophil")
    with pytest.raises(ConfigError, match="format is png there, npy now"):
        write(run, tmp_path / "out", "basophil", kind="npy")
    (tmp_path / "out" / "generation.json").unlink()
    with pytest.raises(ConfigError, match="without generation.json"):
        write(run, tmp_path / "out", "basophil")
    with pytest.raises(ConfigError, match="learned no classes; leave it out"):
        generation.write_images(run, Request(1, 0, str(tmp_path / "other"), labels="all"), None, chunk_size=4, step=8)
    (run / "classes.json").unlink()
    with pytest.raises(RunError, match="is not the workdir of a run on scans with classes"):
        write(run, tmp_path / "new", "all")
