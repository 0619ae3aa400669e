"""Scans of another folder in the place of the held-out ones: the levels of its folders, and what is too small told with a remedy."""

import cv2
import numpy as np
import pytest

from configs import dcgan
from microscopy import levels, listing, other_scans, preparation
from microscopy.scan import DataError


def write(path, seed, shape=(40, 44)):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8))


def config_of(folder, **changes):
    config = dcgan.config("test", 16, 4, "tiny").unlock()
    config.data.update({"source": f"folder:{folder}", "crop": 16, "rotation": "none", **changes})
    return config


@pytest.fixture
def tree(tmp_path):
    """class/patient/study/x.png: two classes of three patients of two images."""
    for number in range(12):
        kind, patient = ("dot", "wire")[number % 2], number // 2 % 3
        write(tmp_path / "tree" / kind / f"{kind}{patient}" / "s1" / f"x{number}.png", number)
    return tmp_path / "tree"


def held_out(config, prepared, place):
    return {scan.id: (scan.label, scan.group) for scan in other_scans.with_held_out(config, prepared, str(place)).splits["held_out"]}


def test_folders_are_of_the_runs_levels_where_images_lie_so_deep_else_of_classes(tree, tmp_path):
    config = config_of(tree, levels="class/patient/study")
    prepared = preparation.prepare(config)
    write(tmp_path / "deep" / "wire" / "eve" / "s9" / "new.png", 99)
    assert held_out(config, prepared, tmp_path / "deep") == {"wire/eve/s9/new": ("wire", "eve")}
    write(tmp_path / "flat" / "dot" / "new.png", 99)
    assert held_out(config, prepared, tmp_path / "flat") == {"dot/new": ("dot", None)}
    write(tmp_path / "other" / "wire" / "eve" / "new.png", 99)
    with pytest.raises(
        DataError, match=f"other: holds no image; images lie deeper, in {tmp_path}/other/wire/eve: give that folder, or name"
    ):
        held_out(config, prepared, tmp_path / "other")


@pytest.mark.parametrize(
    ("id", "names", "own"),
    [
        ("x", "", None),
        ("dot/x", "", "dot"),
        ("dot/eve/x", "class/patient", "dot"),
        ("eve/dot/x", "patient/class", "dot"),
        ("dot/x", "patient/class", "dot"),
        ("dot/eve/s1/x", "patient/study", "dot"),
    ],
)
def test_the_class_of_an_id_is_its_levels(id, names, own):
    assert levels.class_of(id, levels.parse(names)) == own


def test_what_is_too_small_is_named_with_its_size_the_needed_one_and_how_many(tree, tmp_path):
    write(tmp_path / "new" / "large.png", 98)
    write(tmp_path / "new" / "small.png", 99, (15, 40))
    config = config_of(tree, levels="class/patient/study")
    words = r"--input=.*: with rotation none 1 of 2 scans are too small for 16 x 16 px: .*small.png \(40 x 15 px\)\.\nPad them, give larger"
    with pytest.raises(DataError, match=words) as error:
        held_out(config, preparation.prepare(config), tmp_path / "new")
    assert "nm" not in str(error.value) and ".." not in str(error.value) and "or leave them out" in str(error.value)
    config.data.rotation = "free"
    with pytest.raises(DataError, match=r"small.png \(40 x 15 px\); at every angle that needs 23 x 23 px\.\n"):
        held_out(config, preparation.prepare(config), tmp_path / "new")
    config.data.pad = "border"
    assert set(held_out(config, preparation.prepare(config), tmp_path / "new")) == {"large", "small"}
    config.data.update({"pad": "", "canvas": 16, "rotation": "none"})
    with pytest.raises(DataError, match=r"--input=.*small.png: 40 x 15 px is smaller than config.data.canvas=16\.\nPad them"):
        held_out(config, preparation.prepare(config), tmp_path / "new")


def test_images_at_any_depth_are_listed_where_there_are_none_above(tree, tmp_path):
    assert len(listing.list_scans(tree, any_depth=True)) == 12
    with pytest.raises(DataError, match=f"images lie deeper, in {tree}/dot/dot0/s1: give"):
        listing.list_scans(tree)
    (tree / "dot" / "dot0" / "s1" / "round").symlink_to(tree)
    assert "wire/wire0/s1/x1" in listing.list_scans(tree, any_depth=True)
    write(tree / "dot" / "y.png", 50)
    assert list(listing.list_scans(tree, any_depth=True)) == ["dot/y"]
