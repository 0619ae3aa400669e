"""The folder of crops: what is in it, what each line of its index says, and that it can be stopped and gone on with."""

import collections
import csv
import errno
import hashlib
import json
import os
import pathlib
import re
import signal

import cv2
import numpy as np
import pytest

from configs import dcgan32
from microscopy import atomic, folder, formats
from microscopy.preparation import prepare
from microscopy.scan import DataError
from tools import make_crops
from training import generation
from training.errors import ConfigError, RunError
from training.generation import Request
from training.signals import Stop

SIZE = 32
TINY = "--config=configs/dcgan32.py:tiny"


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    path = tmp_path_factory.mktemp("scans")
    for index in range(4):
        noise = np.random.default_rng(index).normal(size=(80 + 10 * index, 100)).astype(np.float32)
        image = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
        cv2.imwrite(str(path / f"scan{index}.png"), image)
    return path


def config_of(scans, **data):
    config = dcgan32.get_config("tiny").unlock()
    config.data.update({"source": f"folder:{scans}", "crop": SIZE, "held_out": 0.25, "test": 0.0, **data})
    return config.lock()


def crop(scans, output, *, num=5, reflections=4, seed=0, kind="png", stop=None, size=SIZE, **data):
    request = Request(1, seed, str(output), kind, stop=stop or Stop())
    return make_crops.write_crops(config_of(scans, **data), request, crops_per_scan=num, reflections=reflections, size=size)


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def index_of(path):
    return list(csv.DictReader((path / "index.csv").read_text().splitlines()))


def test_every_training_scan_gives_m_crops_in_k_reflections(scans, tmp_path, capsys):
    assert crop(scans, tmp_path) == 3 * 5 * 4
    out = capsys.readouterr().out
    assert "3 training scans x 5 crops x 4 reflections = 60 images; crops 32 x 32 px to 32 x 32." in out
    assert re.search(r"60 images written in [\d.]+ s \(\d+ images/s\)\.", out)
    rows, train = index_of(tmp_path), prepare(config_of(scans)).splits["train"]
    assert {row["file"] for row in rows} == contents(tmp_path).keys() - {"index.csv", "crops.json"}
    counts = collections.Counter((row["scan"], row["reflection"]) for row in rows)
    assert counts == {(scan.id, name): 5 for scan in train for name in make_crops.MIRRORS}
    record = json.loads((tmp_path / "crops.json").read_text())
    assert (record["num_scans"], record["crops_per_scan"], record["num_images"], record["crop_px"]) == (3, 5, 60, [32, 32])
    assert record["config"]["data"]["crop"] == 32 and record["value_map"]["unit"] == "grey"
    read, refused = folder.read_folder(tmp_path, max_pixels=10_000)
    assert len(read) == 60 and not refused and {(scan.pixels.shape, scan.pixels.dtype.name) for scan in read} == {((32, 32), "uint8")}
    assert len({scan.pixels.tobytes() for scan in read}) == 60


def test_the_same_request_gives_the_same_bytes_and_another_seed_others(scans, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        crop(scans, tmp_path / name, seed=seed)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b and a.keys() == c.keys()
    assert not any(a[name] == c[name] for name in a)


@pytest.mark.parametrize("kind", ["png", "npy"])
def test_reflections_are_exact_mirrors_of_each_other(scans, tmp_path, kind):
    crop(scans, tmp_path, kind=kind)
    rows = index_of(tmp_path)
    load = np.load if kind == "npy" else lambda path: cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    for start in range(0, len(rows), 4):
        plain, left_right, up_down, both = (load(tmp_path / row["file"]) for row in rows[start : start + 4])
        np.testing.assert_array_equal(left_right, np.fliplr(plain))
        np.testing.assert_array_equal(up_down, np.flipud(plain))
        np.testing.assert_array_equal(both, np.rot90(plain, 2))
        assert not np.array_equal(plain, left_right) and not np.array_equal(plain, up_down)


def test_the_index_says_where_a_crop_lies_by_warp_affine(scans, tmp_path):
    crop(scans, tmp_path, num=12, reflections=1, kind="npy")
    value_map, rows = prepare(config_of(scans)).value_map, index_of(tmp_path)
    angles = []
    for row in rows:
        assert row["sha256"] == hashlib.sha256(pathlib.Path(row["source"]).read_bytes()).hexdigest()
        image = cv2.imread(row["source"], cv2.IMREAD_UNCHANGED)
        y, x, half = float(row["y_px"]), float(row["x_px"]), (SIZE - 1) / 2
        angles.append(float(row["angle_degrees"]) + 90 * int(row["quarter"]))
        cos, sin = np.cos(np.deg2rad(angles[-1])), np.sin(np.deg2rad(angles[-1]))
        matrix = np.array([[cos, -sin, x - cos * half + sin * half], [sin, cos, y - sin * half - cos * half]])
        wanted = cv2.warpAffine(value_map.to_unit(image), matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        got = np.load(tmp_path / row["file"])
        assert got.dtype == np.float32 and np.abs(got - value_map.from_unit(wanted)).max() < 2.5  # of 255; OpenCV rounds to 1/32 px
    assert len(set(angles)) == len(rows) and min(angles) < 0 and max(angles) > 180


def test_unturned_crops_are_the_scans_own_pixels(scans, tmp_path):
    crop(scans, tmp_path, rotation="none", reflections=1, kind="npy")
    value_map = prepare(config_of(scans)).value_map
    for row in index_of(tmp_path):
        assert (row["angle_degrees"], row["quarter"]) == ("0.0000", "0")
        top, left = (int(float(row[name]) - (SIZE - 1) / 2) for name in ("y_px", "x_px"))
        pixels = cv2.imread(row["source"], cv2.IMREAD_UNCHANGED)[top : top + SIZE, left : left + SIZE]
        np.testing.assert_array_equal(np.load(tmp_path / row["file"]), value_map.from_unit(value_map.to_unit(pixels)))


def test_reduced_crops_are_marked_with_their_own_scale_and_hold_heights(tmp_path):
    data = {"source": "simulated", "num_simulated": 2, "crop": 128, "held_out": 0.0}
    for kind in ("npy", "tiff"):
        crop(None, tmp_path / kind, num=2, reflections=1, kind=kind, **data)
    record = json.loads((tmp_path / "npy" / "crops.json").read_text())
    assert record["unit"] == "nm" and record["value_map"]["nm_per_pixel"] == [1.0, 1.0]  # 128 px of 0.25 nm on 32
    for row in index_of(tmp_path / "npy"):
        heights = np.load(tmp_path / "npy" / row["file"])
        assert heights.shape == (32, 32) and heights.dtype == np.float32
        assert record["value_map"]["low"] - 1e-6 <= heights.min() < heights.max() <= record["value_map"]["high"] + 1e-6
        tiff = formats.read_image(tmp_path / "tiff" / row["file"].replace(".npy", ".tiff"), max_pixels=10_000)
        np.testing.assert_array_equal(tiff, heights)


def test_stopped_and_gone_on_with_it_is_the_uninterrupted_folder(scans, tmp_path, monkeypatch, capsys):
    crop(scans, tmp_path / "whole", num=30, reflections=2)
    stop, written = Stop(), []

    def write(path, content):
        written.append(path)
        stop.signal = signal.SIGTERM if len(written) == 50 else stop.signal
        atomic.write_bytes(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(generation, "write", write)
        crop(scans, tmp_path / "part", num=30, reflections=2, stop=stop)
    assert "interrupted after 128 images; the same command goes on." in capsys.readouterr().out
    assert not (tmp_path / "part" / "index.csv").exists()
    (tmp_path / "part" / "crop_0001_00007_left_right.png").unlink()
    assert crop(scans, tmp_path / "part", num=30, reflections=2) == 180 - 127
    assert "127 were there" in capsys.readouterr().out
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")


def test_a_full_disk_is_a_short_error_and_leaves_whole_files_only(scans, tmp_path, monkeypatch):
    crop(scans, tmp_path / "whole", reflections=1)
    flushed, fsync = [], os.fsync

    def full(number):
        flushed.append(number)
        if len(flushed) > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(number)

    with monkeypatch.context() as patch, pytest.raises(RunError, match="crop_.*cannot be written: No space left on device"):
        patch.setattr(os, "fsync", full)
        crop(scans, tmp_path / "full", reflections=1)
    whole, left = contents(tmp_path / "whole"), contents(tmp_path / "full")
    assert len(left) == 6 and all(whole[name] == content for name, content in left.items())
    crop(scans, tmp_path / "full", reflections=1)
    assert contents(tmp_path / "full") == whole


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seed": 1}, "seed is 0 there, 1 now"),
        ({"num": 6}, "crops_per_scan is 5 there, 6 now"),
        ({"reflections": 2}, "num_images is 60 there, 30 now"),
        ({"size": 16}, "config.data.height is 32 there, 16 now"),
        ({"rotation": "none"}, "config.data.rotation is free there, none now"),
        ({"kind": "npy"}, "format is png there, npy now"),
    ],
)
def test_a_folder_of_another_request_is_refused(scans, tmp_path, change, match):
    crop(scans, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=match):
        crop(scans, tmp_path, **change)
    assert contents(tmp_path) == before


def test_changed_scans_and_unclaimed_files_are_refused(scans, tmp_path):
    crop(scans, tmp_path / "crops", reflections=1)
    other = tmp_path / "scans"
    other.mkdir()
    for path in sorted(scans.iterdir()):
        (other / path.name).write_bytes(path.read_bytes())
    assert crop(other, tmp_path / "crops", reflections=1) == 0  # the same scans in another place
    train = prepare(config_of(other)).splits["train"][0].file
    image = cv2.imread(train, cv2.IMREAD_UNCHANGED)
    image[:3, :3] = image[:3, :3] // 2 + 10
    cv2.imwrite(train, image)
    with pytest.raises(ConfigError, match="another request: (scans_sha256|value_map)"):
        crop(other, tmp_path / "crops", reflections=1)
    (tmp_path / "crops" / "crops.json").unlink()
    with pytest.raises(ConfigError, match=r"holds files, such as .*, without crops.json"):
        crop(scans, tmp_path / "crops", reflections=1)


def test_scans_too_small_for_the_crop_are_named(scans, tmp_path):
    with pytest.raises(DataError, match=r"scan0.png \(100 x 80 px\)"):
        crop(scans, tmp_path, crop=64)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "code", "match"),
    [
        ([], 2, "--config=configs/NAME.py is missing"),
        ([TINY, "--output=OUT"], 2, "--crops_per_scan=M is missing"),
        ([TINY, "--crops_per_scan=1"], 2, "--output=DIR is missing"),
        ([TINY, "--crops_per_scan=0", "--output=OUT"], 2, "--crops_per_scan=0: ask for at least 1"),
        ([TINY, "--crops_per_scan=1", "--output=OUT", "--reflections=3"], 2, "--reflections=3: 1 .none., 2"),
        ([TINY, "--crops_per_scan=1", "--output=OUT", "--size=0"], 2, "--size=0: 1 to 8192 px"),
        ([TINY, "--crops_per_scan=1", "--output=OUT", "--format=bmp"], 2, "--format=bmp: choose png"),
        ([TINY, "--crop_per_scan=1"], 2, "--crop_per_scan is not a flag. Did you mean --crops_per_scan?"),
        ([TINY, "--config.data.source=folder:OUT/none", "--crops_per_scan=1", "--output=OUT"], 1, "OUT/none: no such folder"),
        (["--help"], 0, "--crops_per_scan="),
    ],
)
def test_the_command_line_tells_in_short_what_is_wrong(words, code, match, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(make_crops.command.CONFIGS.parent)
    assert make_crops.run(["make_crops", *(word.replace("OUT", str(tmp_path / "out")) for word in words)]) == code
    out, err = capsys.readouterr()
    assert re.search(match.replace("OUT", str(tmp_path / "out")), err if code else out)
    assert "Traceback" not in err and len(err.splitlines()) <= 5
    assert not (tmp_path / "out").exists()


def test_the_command_line_writes_the_crops(scans, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(make_crops.command.CONFIGS.parent)
    words = [TINY, f"--config.data.source=folder:{scans}", "--config.data.crop=32", "--config.data.held_out=0", "--config.data.test=0.0"]
    words += [f"--output={tmp_path}", "--crops_per_scan=2", "--reflections=2", "--size=16"]
    assert make_crops.run(["make_crops", *words]) == 0
    assert "4 training scans x 2 crops x 2 reflections = 16 images; crops 32 x 32 px to 16 x 16." in capsys.readouterr().out
    assert len(list(tmp_path.glob("*.png"))) == 16
