"""Cut and padded about the middle: pixels, masks and records, and how the fields lead there."""

import numpy as np
import pytest

from configs import dcgan
from microscopy import framing, preparation
from microscopy.scan import DataError, FieldError, Scan


def config_of(**changes):
    config = dcgan.config("test", 16, 4, "tiny").unlock()
    config.data.update({"source": "folder:x", "held_out": 0.3, "test": 0.0, **changes})
    return config


PIXELS = np.arange(30, dtype=np.uint8).reshape(5, 6)
SCAN = Scan("s", PIXELS, "sha", file="s.png", mask=np.ones((5, 6), np.int32))


def test_larger_scans_are_cut_about_the_middle():
    scan, record = framing.framed(SCAN, (2, 4), "", cut=True)
    assert np.array_equal(scan.pixels, PIXELS[1:3, 1:5]) and scan.mask.shape == (2, 4)
    assert record == {"cut": [1, 1, 2, 1], "padded": [0, 0, 0, 0], "fill": ""}


def test_smaller_scans_go_on_with_their_border_or_a_constant_and_masks_with_0():
    scan, record = framing.framed(SCAN, (8, 6), "border", cut=True)
    assert np.array_equal(scan.pixels, PIXELS[[0, 0, 1, 2, 3, 4, 4, 4]]) and scan.mask.sum() == 30 and not scan.mask[0].any()
    assert record == {"cut": [0, 0, 0, 0], "padded": [1, 0, 2, 0], "fill": "border"}
    scan, record = framing.framed(SCAN, (2, 9), "200", cut=True)
    assert np.array_equal(scan.pixels[:, 1:7], PIXELS[1:3]) and (scan.pixels[:, [0, 7, 8]] == 200).all() and scan.pixels.dtype == np.uint8
    assert record == {"cut": [1, 0, 2, 0], "padded": [0, 2, 0, 1], "fill": "200"}


def test_colours_keep_their_channels_and_whole_scans_are_not_touched():
    colour = Scan("c", np.stack([PIXELS] * 3, -1), "sha")
    scan, _ = framing.framed(colour, (7, 6), "border", cut=False)
    assert scan.pixels.shape == (7, 6, 3) and np.array_equal(scan.pixels[0], colour.pixels[0])
    assert framing.framed(SCAN, (4, 4), "border", cut=False) == (SCAN, None)


@pytest.mark.parametrize("pad", ["-1", "256", "0.5"])
def test_a_constant_that_the_type_cannot_hold_is_named(pad):
    with pytest.raises(FieldError, match=f"config.data.pad='{pad}': s.png stores uint8; 0 to 255, or border"):
        framing.framed(SCAN, (9, 9), pad, cut=False)


def test_the_least_size_holds_the_crop_at_every_turn():
    assert framing.least_size((3, 4), "none") == (3, 4)
    assert framing.least_size((3, 4), "quarter") == (4, 4)
    assert framing.least_size((3, 4), "free") == (5, 5)


def test_scans_too_small_for_the_crop_are_padded_where_that_is_asked_for(monkeypatch):
    sizes = [(40, 30), (20, 50), (33, 33)]
    random = np.random.default_rng(0)
    scans = [Scan(str(i), random.integers(256, size=size, dtype=np.uint8), str(i)) for i, size in enumerate(sizes)]
    monkeypatch.setattr(preparation, "load_scans", lambda data: (list(scans), []))
    with pytest.raises(FieldError, match="1 of 3 scans are too small for 24 x 24 px: 1 .50 x 20 px.*\n.*--config.data.pad=border"):
        preparation.prepare(config_of(crop=24, rotation="none"))
    bare = preparation.prepare(config_of(crop=16, rotation="none"))
    prepared = preparation.prepare(config_of(crop=24, rotation="none", pad="0"))
    shapes = {scan.id: scan.pixels.shape for part in prepared.splits.values() for scan in part}
    assert shapes == {"0": (40, 30), "1": (24, 50), "2": (33, 33)} and prepared.crop == (24, 24)
    assert prepared.facts["1"]["padding"] == {"cut": [0, 0, 0, 0], "padded": [2, 0, 2, 0], "fill": "0"}
    assert prepared.facts["0"]["padding"] is None and prepared.value_map == bare.value_map  # what was added was not measured


def test_a_canvas_makes_one_size_without_stretching(monkeypatch):
    scans = [Scan(str(i), np.random.default_rng(i).integers(256, size=(30 + i, 40 - i), dtype=np.uint8), str(i)) for i in range(4)]
    monkeypatch.setattr(preparation, "load_scans", lambda data: (list(scans), []))
    with pytest.raises(DataError, match="smaller than config.data.canvas=36; pad it by --config.data.pad=border"):
        preparation.prepare(config_of(canvas=36, rotation="none"))
    prepared = preparation.prepare(config_of(canvas=36, rotation="none", pad="border"))
    assert {scan.pixels.shape for part in prepared.splits.values() for scan in part} == {(36, 36)} and prepared.crop == (36, 36)
    cut = next(scan for part in prepared.splits.values() for scan in part if scan.id == "0")
    assert np.array_equal(cut.pixels[3:33], scans[0].pixels[:, 2:38])
