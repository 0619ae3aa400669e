"""Generated images: the same bytes however many are asked for, in nm, in a folder of one request, whole after any accident."""

import errno
import json
import os
import re
import signal
import subprocess
import time

import cv2
import jax
import numpy as np
import pytest

from configs import dcgan32
from gan import dcgan
from microscopy import formats
from microscopy.channels import to_nm
from microscopy.native import list_channels
from microscopy.normalisation import ValueMap
from training import checkpoints, generation, workdir
from training.errors import ConfigError, RunError
from training.generation import Request
from training.signals import Stop

MAP = ValueMap(-1.3, 7.9, "nm", (0.001, 0.001), (2.0, 2.0))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir with a checkpoint of a generator, and its config."""
    path, config = tmp_path_factory.mktemp("run"), dcgan32.get_config("tiny")
    task = dcgan.make_task(config)
    workdir.describe(path, config, MAP)
    checkpoints.save(path, 8, task.settle(task.init(jax.random.key(1), None)))
    return path, config


def generate(trained, output, num, *, seed=0, kind="png", stop=None):
    dcgan.generate(trained[1], trained[0], Request(num, seed, str(output), kind, stop=stop or Stop()))
    return contents(output)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "generation.json"}


def faked(trained, output, num, *, kind="png", stop=None, chunk_size=4, channels=1, called=None):
    """Writes images that an ordinary function makes: image i is a ramp that begins at i."""

    def chunk(number):
        if called is not None:
            called.append(number)
        index = np.arange(number * chunk_size, (number + 1) * chunk_size, dtype=np.float32).reshape(-1, 1, 1, 1)
        ramp = np.linspace(-1, 1, 6 * 5 * channels, dtype=np.float32).reshape(1, 6, 5, channels)
        return np.clip(ramp + index / 100, -1, 1)

    request = Request(num, 0, str(output), kind, stop=stop or Stop())
    generation.write_images(trained[0], request, chunk, chunk_size=chunk_size, step=8)
    return contents(output)


@pytest.mark.parametrize("kind", ["png", "npy"])
def test_images_are_the_same_bytes_however_many_are_asked_for(trained, tmp_path, kind):
    whole = generate(trained, tmp_path / "100", 100, kind=kind)
    assert list(whole) == [f"generated_{i:06d}.{kind}" for i in range(100)] and len(set(whole.values())) == 100
    for num in (1, 7, 64):
        assert generate(trained, tmp_path / str(num), num, kind=kind).items() <= whole.items()
    for num in (1, 7, 64, 100, 7):  # piece by piece into one folder; asking for fewer changes nothing
        pieces = generate(trained, tmp_path / "pieces", num, kind=kind)
    assert pieces == whole
    other = generate(trained, tmp_path / "seed", 100, seed=1, kind=kind)
    assert not set(other.values()) & set(whole.values())


def test_the_method_computes_chunks_of_one_size_whatever_is_missing(trained, tmp_path, monkeypatch):
    ranges, original = {}, generation.write_images

    def spy(workdir, request, chunk, *, chunk_size, step, label_kind):
        assert (chunk_size, step, label_kind) == (64, 8, "none")
        for number in range(2):
            ranges.setdefault(number, []).append(chunk(number))
        return original(workdir, request, chunk, chunk_size=chunk_size, step=step)

    monkeypatch.setattr(generation, "write_images", spy)
    for num in (1, 100):
        files = generate(trained, tmp_path / str(num), num, kind="npy")
    for number, arrays in ranges.items():
        assert {array.shape for array in arrays} == {(64, 32, 32, 1)}
        np.testing.assert_array_equal(*arrays)
        for i in range(64 * number, min(100, 64 * number + 64)):
            written = np.load(tmp_path / "100" / f"generated_{i:06d}.npy")
            np.testing.assert_array_equal(written, MAP.from_unit(arrays[0][i - 64 * number, ..., 0]))
    assert len(files) == 100


@pytest.mark.parametrize("channels", [1, 3])
def test_heights_in_nm_survive_tiff_and_npy_bit_by_bit_and_png_to_half_a_level(trained, tmp_path, channels):
    for kind in ("png", "tiff", "npy"):
        assert len(faked(trained, tmp_path / kind, 3, kind=kind, channels=channels)) == 3
    unit = np.clip(np.linspace(-1, 1, 30 * channels, dtype=np.float32).reshape(6, 5, channels) + np.float32(0.02), -1, 1)
    heights = (unit.astype(np.float64) + 1) / 2 * (7.9 + 1.3) - 1.3
    heights = heights[..., 0] if channels == 1 else heights
    npy = np.load(tmp_path / "npy" / "generated_000002.npy")
    assert npy.dtype == np.float32
    np.testing.assert_allclose(npy, heights, rtol=0, atol=5e-7)  # half a float32 step at 8
    tiff = formats.read_image(tmp_path / "tiff" / "generated_000002.tiff", max_pixels=1000)
    np.testing.assert_array_equal(tiff, npy)
    (stated,) = list_channels(tmp_path / "tiff" / "generated_000002.tiff", max_pixels=1000)
    assert stated.nm_per_pixel == (2.0, 2.0) and stated.unit == ("nm" if channels == 1 else "grey")
    png = formats.read_image(tmp_path / "png" / "generated_000002.png", max_pixels=1000)
    assert png.dtype == np.uint8 and np.abs(png / 255 * 9.2 - 1.3 - heights).max() <= 9.2 / 255 / 2 + 1e-6
    record = json.loads((tmp_path / "npy" / "generation.json").read_text())
    assert record["unit"] == "nm" and (record["value_at_minus_one"], record["value_at_plus_one"]) == (-1.3, 7.9)
    assert record["step"] == 8 and record["nm_per_pixel"] == [2.0, 2.0]
    assert record["weights_sha256"] == checkpoints.verify(trained[0], 8)["sha256"]
    assert json.loads((tmp_path / "png" / "generation.json").read_text())["unit"] == "grey, 8 bit"


def test_gwy_holds_the_heights_and_the_pixel_size(trained, tmp_path):
    for kind in ("npy", "gwy"):
        faked(trained, tmp_path / kind, 2, kind=kind)
    (channel,) = list_channels(tmp_path / "gwy" / "generated_000001.gwy", max_pixels=1000)
    assert channel.unit == "m" and channel.nm_per_pixel == pytest.approx((2.0, 2.0), rel=1e-12)
    heights = np.load(tmp_path / "npy" / "generated_000001.npy")
    np.testing.assert_allclose(to_nm(channel).pixels, heights, rtol=2e-7, atol=1e-12)


def test_gwy_of_grey_levels_is_refused_before_anything_is_written(trained, tmp_path):
    (tmp_path / "run").mkdir()
    workdir.describe(tmp_path / "run", trained[1], ValueMap(0.0, 255.0, "grey", (0.0, 0.0)))
    with pytest.raises(ConfigError, match="--format=gwy holds heights, but the scans were in grey. Choose png, tiff or npy"):
        faked((tmp_path / "run", trained[1]), tmp_path / "images", 2, kind="gwy")
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize(("change", "match"), [({"seed": 1}, "seed is 0 there, 1 now"), ({"kind": "npy"}, "format is png there, npy now")])
def test_a_folder_of_another_request_is_refused(trained, tmp_path, change, match):
    before = generate(trained, tmp_path, 2)
    with pytest.raises(ConfigError, match=f"(?s){match}.*another folder") as error:
        generate(trained, tmp_path, 2, **change)
    assert contents(tmp_path) == before and len(str(error.value).splitlines()) <= 5


def test_a_folder_of_other_weights_is_refused(trained, tmp_path):
    generate(trained, tmp_path / "images", 2)
    task = dcgan.make_task(trained[1])
    (tmp_path / "run").mkdir()
    workdir.describe(tmp_path / "run", trained[1], MAP)
    checkpoints.save(tmp_path / "run", 8, task.settle(task.init(jax.random.key(2), None)))
    with pytest.raises(ConfigError, match="weights_sha256 is .* there"):
        generate((tmp_path / "run", trained[1]), tmp_path / "images", 2)


def test_images_that_nobody_claims_are_refused(trained, tmp_path):
    (tmp_path / "generated_000000.png").write_bytes(b"?")
    with pytest.raises(ConfigError, match=r"holds files, such as generated_000000.png, without generation.json"):
        faked(trained, tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["generated_000000.png"]


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_record_is_a_short_error(trained, tmp_path, content):
    (tmp_path / "generation.json").write_text(content)
    with pytest.raises(RunError, match="generation.json cannot be read") as error:
        faked(trained, tmp_path, 2)
    assert len(str(error.value).splitlines()) <= 5


def test_a_folder_that_cannot_be_is_a_short_error(trained, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="^--output=.*file cannot be used: "):
        faked(trained, tmp_path / "file", 2)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"num_images": 0}, "--num_images=0: ask for at least 1"),
        ({"output": ""}, "--output=DIR is missing"),
        ({"format": "jpeg"}, "--format=jpeg: choose png, tiff, npy, gwy"),
        ({"seed": -1}, "--seed=-1: 0 to 4294967295"),
        ({"seed": 2**32}, "--seed=4294967296"),
    ],
)
def test_requests_that_cannot_be_are_refused(fields, match):
    with pytest.raises(ConfigError, match=match):
        generation.check(Request(**{"num_images": 1, "seed": 0, "output": "x", **fields}))


def test_stopped_and_gone_on_with_it_is_the_uninterrupted_folder(trained, tmp_path, capsys):
    whole = faked(trained, tmp_path / "whole", 14)
    stop, called = Stop(), []

    class Called(list):
        def append(self, number):
            super().append(number)
            stop.signal = signal.SIGTERM if number == 1 else stop.signal

    part = faked(trained, tmp_path / "part", 14, stop=stop, called=Called())
    assert len(part) == 8 and part.items() <= whole.items()
    assert "interrupted after 8 images; the same command goes on." in capsys.readouterr().out
    (tmp_path / "part" / "generated_000002.png").unlink()
    assert faked(trained, tmp_path / "part", 14, called=called) == whole
    assert called == [0, 2, 3]  # a chunk that is whole is not computed again
    assert re.search(r"7 images written in [\d.]+ s \(\d+ images/s\), 7 were there", capsys.readouterr().out)


def test_a_full_disk_is_a_short_error_and_leaves_whole_files_only(trained, tmp_path, monkeypatch):
    whole = faked(trained, tmp_path / "whole", 10)
    fsync, flushed = os.fsync, []

    def full(number):
        flushed.append(number)
        if len(flushed) >= 7:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(number)

    with monkeypatch.context() as patch, pytest.raises(RunError) as error:
        patch.setattr(os, "fsync", full)
        faked(trained, tmp_path / "full", 10)
    lines = str(error.value).splitlines()
    named = re.escape(str(tmp_path / "full" / "generated_00000"))
    assert re.fullmatch(rf"{named}\d\.png cannot be written: No space left on device\.", lines[0]) and len(lines) == 2
    left = contents(tmp_path / "full")
    assert len(left) == 5 and left.items() <= whole.items()  # several are written at once: which ones, chance says
    assert faked(trained, tmp_path / "full", 10) == whole


def test_killed_in_a_write_nothing_stands_under_a_final_name(trained, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def replace(source, target):
        assert source.read_bytes() == b"half"
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", replace)
        generation.write(tmp_path / "generated_000000.png", b"half")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_swept_but_not_a_write_under_way(trained, tmp_path):
    faked(trained, tmp_path, 2)
    ended = subprocess.Popen(["true"])
    ended.wait()
    living, old = os.getppid(), f"generation.json.{os.getpid()}"
    ages = {f"generated_000002.png.{living}": 60, f"generated_000003.png.{living}": 3, f"generated_000003.png.{ended.pid}": 3}
    ages |= {f"generated_000001.png.{ended.pid}": 0, old: 3, "notes": 60}
    for name, age in ages.items():
        (tmp_path / f".{name}.tmp").write_bytes(b"half")
        os.utime(tmp_path / f".{name}.tmp", (time.time() - age,) * 2)
    left = {f".generated_000003.png.{living}.tmp", f".generated_000001.png.{ended.pid}.tmp", ".notes.tmp"}
    assert set(faked(trained, tmp_path, 4)) == {f"generated_{i:06d}.png" for i in range(4)} | left


def test_more_images_than_a_folder_can_take_are_refused_before_they_are_listed(trained, tmp_path):
    with pytest.raises(ConfigError, match="--num_images=99999999999: ask for 10,000,000 at most"):
        faked(trained, tmp_path / "out", 99999999999)
    assert not (tmp_path / "out").exists()


def test_pictures_are_rgb_in_every_format(tmp_path):
    image = np.zeros((4, 4, 3), np.float32) + np.array([1.0, 0.0, -1.0], np.float32).reshape(1, 1, 3)
    for kind in ("png", "tiff", "npy"):
        (tmp_path / f"x.{kind}").write_bytes(generation.encode(image, kind, ValueMap(0.0, 255.0, "grey", (0.0, 0.0))))
        path = tmp_path / f"x.{kind}"
        pixels = np.load(path) if kind == "npy" else formats.read_image(path, max_pixels=100)
        np.testing.assert_allclose(pixels[0, 0], [255, 127.5, 0], atol=0.5)
    assert cv2.imread(str(tmp_path / "x.tiff"), cv2.IMREAD_UNCHANGED).dtype == np.float32
