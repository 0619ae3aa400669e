"""The door: content decides, every error names the file, and unfinished scans keep what was measured."""

import io

import numpy as np
import pytest

from microscopy.formats import read_image
from microscopy.native import finished_lines, is_scan_file, list_channels, read_channel, read_channels
from microscopy.scan import DataError
from tests.microscopy import native_writers as write

Z = np.random.default_rng(0).normal(size=(8, 9)).astype(np.float32)
FILES = {
    "sxm": write.sxm([("Z", "m", "both", (Z, Z))]),
    "gwy": write.gwy([write.gwy_field(Z)], ["Z"]),
    "ibw": write.ibw({"HeightTrace": Z}),
    "nid": write.nid([("Scan forward", "Z-Axis", "m", (Z * 1000).astype(int))]),
    "spm": write.nanoscope([("Height", "Trace", "[Sens. Zscan] (0.0067 V/LSB) 2.5 V", 2, 2, (Z * 1000).astype(int))]),
    "stp": write.wsxm(Z),
    "tiff": write.park(Z),
    "jpk": write.jpk([("height", 0, "m", 1e-15, 0.0, (Z * 1e6).astype(int))]),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("suffix", [".bin", ".sxm", ".png", ""])
def test_what_a_file_is_shows_in_its_content_not_in_its_suffix(kind, suffix):
    channels = read_channels(FILES[kind], f"scan{suffix}", max_pixels=256)
    assert channels[0].pixels.shape == (8, 9) and channels[0].name


@pytest.mark.parametrize(
    "name, content", [("a.sxm", b"Z"), ("a.gwy", FILES["ibw"][1:]), ("a.ibw", FILES["ibw"][:200]), ("a.NID", b"[Data]")]
)
def test_a_suffix_whose_content_is_something_else(name, content):
    with pytest.raises(DataError, match=rf"^{name}: is no \.\w+ file or damaged at its start"):
        read_channels(content, name, max_pixels=256)


def test_photographs_become_one_unnamed_channel(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, Z)
    (channel,) = read_channels(buffer.getvalue(), "a.npy", max_pixels=256)
    np.testing.assert_array_equal(channel.pixels, Z)
    assert (channel.name, channel.unit, channel.nm_per_pixel) == ("", "grey", None)
    with pytest.raises(DataError, match=r"^a\.png: is another kind of file"):
        read_channels(b"nothing", "a.png", max_pixels=256)
    (tmp_path / "a.sxm").write_bytes(FILES["sxm"])
    assert len(list_channels(tmp_path / "a.sxm", max_pixels=256)) == 2
    with pytest.raises(DataError, match=r"gone\.sxm: cannot be read"):
        list_channels(tmp_path / "gone.sxm", max_pixels=256)


def test_colours_in_npy_come_back(tmp_path):
    for order in "CF":
        colour = np.asarray(np.random.default_rng(1).normal(size=(6, 5, 3)).astype(np.float32), order=order)
        np.save(tmp_path / "a.npy", colour)
        np.testing.assert_array_equal(read_image(tmp_path / "a.npy", max_pixels=30), colour)
    np.save(tmp_path / "a.npy", np.zeros((6, 5, 4), np.uint8))
    with pytest.raises(DataError, match="3 dimensions"):
        read_image(tmp_path / "a.npy", max_pixels=100)
    np.save(tmp_path / "a.npy", colour)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    with pytest.raises(DataError, match="truncated"):
        read_image(tmp_path / "a.npy", max_pixels=100)


def test_which_files_are_taken_for_scans(tmp_path):
    for name, content, taken in (
        ("a.sxm", b"", True), ("a.SXM", b"", True), ("a.jpk-qi-image", b"", True), ("a.png", b"", True), ("a.007", FILES["spm"], True),
        ("a.008", b"part eight of an archive", False), ("a.txt", b"", False), ("a.0071", FILES["spm"], False),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert is_scan_file(tmp_path / name) is taken, name
    (tmp_path / "folder.001").mkdir()
    assert not is_scan_file(tmp_path / "folder.001")


@pytest.mark.parametrize(
    "rows, kept, words",
    [
        ([], slice(0, 8), ""),
        ([5, 6, 7], slice(0, 5), "unfinished: 3 at the bottom of 8 lines cut off"),
        ([0, 1], slice(2, 8), "unfinished: 2 at the top of 8 lines cut off"),
        ([0, 6, 7], slice(1, 6), "unfinished: 1 at the top and 2 at the bottom of 8 lines cut off"),
        ([4, 5, 6, 7], slice(0, 4), "unfinished: 4 at the bottom of 8 lines cut off"),
    ],
)
def test_unfinished_lines_at_either_end_are_cut_off(rows, kept, words):
    pixels = Z.copy()
    pixels[rows, 3:] = np.nan
    assert finished_lines(pixels) == (kept, words)


@pytest.mark.parametrize(
    "rows, words",
    [([3], "in 1 of 8 lines amid"), ([0, 4, 5], "in 2 of 8 lines amid"), (range(3, 8), "3 of 8 lines were"), (range(8), "0 of 8")],
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_holes_and_too_few_lines_are_refused(rows, words, value):
    pixels = Z.copy()
    pixels[list(rows), 2] = value
    with pytest.raises(DataError, match=words):
        finished_lines(pixels)


def test_one_channel_with_its_lines_and_note():
    unfinished = Z.copy()
    unfinished[6:] = np.nan
    content = write.sxm([("Z", "m", "both", (unfinished * np.float32(1e-9), Z)), ("Current", "A", "forward", (Z,))])
    channel, lines, note = read_channel(content, "a.sxm", "", max_pixels=100)
    assert (channel.unit, lines, note) == ("nm", slice(0, 6), "unfinished: 2 at the bottom of 8 lines cut off")
    np.testing.assert_allclose(channel.pixels[lines], Z[:6], rtol=1e-6)
    assert read_channel(content, "a.sxm", "current", max_pixels=100)[1:] == (slice(0, 8), "")
    with pytest.raises(DataError, match=r"^a\.sxm: has no channel 'phase'; .*Z forward, Z backward, Current forward"):
        read_channel(content, "a.sxm", "phase", max_pixels=100)
