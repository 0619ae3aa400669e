"""Planted faults are named, each once; a sound set is left alone; the exit code says which it was."""

import json

import cv2
import numpy as np
import pytest
import scipy.ndimage

from configs import dcgan48
from microscopy import coco
from microscopy.labelme import Annotated
from tools import check_dataset


def blobs(seed, shape=(160, 160)):
    random = np.random.default_rng(seed)
    field = scipy.ndimage.gaussian_filter(random.normal(size=shape), 6)
    mask = field > np.quantile(field, 0.8)
    image = 80 + 90 * scipy.ndimage.gaussian_filter(mask.astype(float), 1.0) + random.normal(0, 8, shape)
    return image.clip(0, 255).astype(np.uint8), (mask * 255).astype(np.uint8)


@pytest.fixture
def data(tmp_path):
    """A sound set of 8 pairs: images in `data`, masks in `data/masks`."""
    (tmp_path / "data" / "masks").mkdir(parents=True)
    for seed in range(8):
        put(tmp_path / "data", seed, *blobs(seed))
    return tmp_path / "data"


def put(root, name, image=None, mask=None):
    for folder, array in ((root, image), (root / "masks", mask)):
        if array is not None:
            assert cv2.imwrite(str(folder / f"{name}.png"), array)


def findings(root, capsys, *words):
    """(exit code, {(name, stem)}, all the text) of a check."""
    code = check_dataset.main(["", "--config=configs/dcgan48.py", f"--config.data.source=folder:{root}", *words])
    output = capsys.readouterr()
    lines = [line.split(": ") for line in output.out.splitlines() if line.count(": ") >= 2]
    return code, {(line[0], line[1].rpartition("/")[2].removesuffix(".png")) for line in lines}, output.out + output.err


def test_a_sound_set_is_left_alone(data, capsys):
    code, found, text = findings(data, capsys)
    assert (code, found) == (0, set()) and "8 scans read, 8 with masks, 0 refused.\nNothing found." in text


@pytest.mark.parametrize("place", ["images/masks", "masks", "round/masks"])
def test_masks_are_found_wherever_reading_finds_them(data, tmp_path, capsys, place):
    root = tmp_path / "other"
    images = root / ("round" if place.startswith("round") else "images")
    images.parent.mkdir()
    data.rename(images)
    if place == "masks":
        (images / "masks").rename(root / "masks")
    assert cv2.imwrite(str(root / place / "lonely.png"), blobs(21)[1])
    code, found, _ = findings(root, capsys)
    assert (code, found) == (1, {("unpaired", "lonely")})


def test_each_planted_fault_is_named(data, capsys):
    put(data, 0, mask=np.roll(blobs(0)[1], (9, -5), (0, 1)))
    put(data, 1, mask=blobs(2)[1])
    put(data, 2, mask=blobs(1)[1])
    put(data, 3, mask=np.zeros((160, 160), np.uint8))
    put(data, 4, mask=np.where(blobs(4)[1] > 0, 254, 0).astype(np.uint8))
    put(data, "without", blobs(20)[0])
    put(data, "lonely", mask=blobs(21)[1])
    put(data, "small", blobs(22)[0], blobs(22)[1][:80])
    (data / "cut.png").write_bytes((data / "0.png").read_bytes()[:500])
    code, found, text = findings(data, capsys)
    assert code == 1
    assert found == {
        ("shifted", "0"),
        ("swapped", "1"),
        ("swapped", "2"),
        ("empty", "3"),
        ("values", "4"),
        ("unpaired", "without"),
        ("unpaired", "lonely"),
        ("size", "small"),
        ("unreadable", "cut"),
    }
    assert "its mask fits when moved by -9 px down and 5 px right" in text and "9 findings: " in text
    assert "swapped: " in text and "its mask fits 2 better" in text and "has 254 beside 0, 255" in text


def test_duplicates_name_the_splits(data, capsys):
    for name, seed in (("copy", 5), ("turned", 6)):
        image, mask = blobs(seed)
        put(data, name, *((np.rot90(image), np.rot90(mask)) if name == "turned" else (image, mask)))
    code, found, text = findings(data, capsys, "--config.data.held_out=0.5", "--config.seed=1")
    assert code == 1 and {name for name, _ in found} == {"duplicate", "same mask"}
    lines = [line for line in text.splitlines() if line.startswith("duplicate: ")]
    assert len(lines) == 2 and any("turned or mirrored" in line for line in lines)
    splits = ["across" in line for line in lines]
    assert splits == sorted(splits, reverse=True) and sum("both in" in line for line in lines) == splits.count(False)


def test_duplicates_are_split_by_fold_and_group_as_in_training(data, capsys):
    for seed in range(8):
        for folder in (data, data / "masks"):
            (folder / f"{seed}.png").rename(folder / f"p{seed // 2}_{seed}.png")
    put(data, "p0_1", *blobs(0))
    put(data, "p1_3", *blobs(4))
    _, _, text = findings(data, capsys, "--config.data.fold=1/2", "--config.data.group_by=^(p[0-9])_")
    lines = sorted(line.rpartition(", ")[2] for line in text.splitlines() if line.startswith("duplicate: "))
    assert lines == ["across held-out and train", "both in held-out"]


def test_levels_of_folders_are_checked(data, tmp_path, capsys):
    (tmp_path / "set").mkdir()
    data.rename(tmp_path / "set" / "first")
    put(tmp_path / "set" / "first", "lonely", mask=blobs(21)[1])
    (tmp_path / "set" / "first" / "masks" / "broken.png").write_bytes(b"\x89PNG none")
    code, found, text = findings(tmp_path / "set", capsys, "--config.data.levels=patient")
    assert code == 1 and found == {("unpaired", "lonely"), ("unpaired", "broken"), ("unreadable", "broken")} and "8 scans read" in text


def test_stacks_are_compared_by_their_middle_planes(tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    for seed in range(4):
        image, mask = blobs(seed)
        mask = np.roll(mask, (9, -5), (0, 1)) if seed == 0 else mask // 2 if seed == 1 else mask
        assert cv2.imwritemulti(str(tmp_path / f"{seed}.tif"), [image // 2, image, image // 2])
        assert cv2.imwritemulti(str(tmp_path / "masks" / f"{seed}.tif"), [0 * mask, mask, 0 * mask])
    config = "--config=configs/unet3d_emulsion.py:tiny"
    assert check_dataset.main(["", config, f"--config.data.source=folder:{tmp_path}", "--config.data.planes=3"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.count(": ") >= 2]
    assert len(lines) == 2 and lines[0].startswith("values: ") and "1.tif: has 127 beside 0, 255" in lines[0]
    assert lines[1].startswith("shifted: ") and "0.tif: " in lines[1]


def test_stacks_of_which_none_has_the_configs_planes_are_named(tmp_path, capsys):
    for seed in range(4):
        assert cv2.imwritemulti(str(tmp_path / f"{seed}.tif"), [blobs(seed)[0]] * 2)
    words = ["", "--config=configs/unet3d_emulsion.py:tiny", f"--config.data.source=folder:{tmp_path}", "--config.data.planes=3"]
    assert check_dataset.main(words) == 1
    output = capsys.readouterr()
    assert output.out.count("has 2 pages, config.data.planes is 3") == 4 and "0 scans read, 0 with masks, 4 refused" in output.out
    assert output.err.endswith("\n4 findings: 4 unreadable.\n")


def test_masks_all_of_the_wrong_size_are_named(data, capsys):
    for seed in range(8):
        put(data, seed, mask=blobs(seed)[1][:80])
    code, found, _ = findings(data, capsys)
    assert code == 1 and found == {("size", str(seed)) for seed in range(8)}


@pytest.mark.parametrize("field", ["fold=1/9", "group_by=^(p)_"])
def test_findings_are_told_where_the_config_cannot_divide_the_scans(data, capsys, field):
    put(data, 3, *blobs(2))
    put(data, 4, mask=blobs(4)[1][:80])
    code, found, text = findings(data, capsys, f"--config.data.{field}")
    assert code == 2 and found == {("size", "4"), ("duplicate", "2"), ("same mask", "3")}
    assert f"config.data.{field.partition('=')[0]}=" in text and "3 findings: 1 size" in text and "in None" not in text


def test_pixels_are_let_go_scan_by_scan(data):
    config = dcgan48.get_config().unlock()
    config.data.update({"source": f"folder:{data}", "use_masks": True})
    seen, refused = check_dataset.look(config.data)
    assert len(seen) == 8 and not refused and all(one.scan.pixels.size == 0 and one.scan.mask is None and one.mask for one in seen)


def test_values_may_be_given(data, capsys):
    code, found, _ = findings(data, capsys, "--values=0,255")
    assert (code, found) == (0, set())
    code, found, _ = findings(data, capsys, "--values=0,1")
    assert code == 1 and found == {("values", str(seed)) for seed in range(8)}
    assert findings(data, capsys, "--values=a")[0] == 2


def test_maps_of_instances_have_values_of_their_own(data, capsys):
    for seed in range(8):
        put(data, seed, mask=scipy.ndimage.label(blobs(seed)[1])[0].astype(np.uint8))
    assert findings(data, capsys)[:2] == (0, set())


def test_a_labelme_file_that_points_outside_is_unreadable(data, capsys):
    (data / "masks" / "0.png").unlink()
    content = {"shapes": [], "imagePath": "../../secret.png", "imageHeight": 160, "imageWidth": 160}
    (data / "masks" / "0.json").write_text(json.dumps(content))
    code, found, text = findings(data, capsys)
    assert code == 1 and ("unreadable", "0") in found and "outside its folder" in text


def test_a_coco_file_is_checked_like_a_folder_of_masks(data, tmp_path, capsys):
    pytest.importorskip("pycocotools.mask")
    sizes = {seed: (160, 160) if seed else (80, 160) for seed in range(7)} | {"gone": (160, 160)}
    masks = {
        f"images/{name}.png": (blobs(0 if name == "gone" else name)[1] > 0).astype(np.int32)[: size[0]] for name, size in sizes.items()
    }
    path = coco.write_coco(tmp_path / "annotations.json", {name: Annotated(mask, ("grain",)) for name, mask in masks.items()})
    code, found, text = findings(data, capsys, f"--config.data.masks={path}")
    assert code == 1 and found == {("size", "0"), ("unpaired", "7"), ("unpaired", "gone")}
    assert f"unpaired: {path}, images/gone: has no scan" in text and f"{path}: images/0.png: annotates 160 x 80 px" in text


def test_the_simulator_is_sound(capsys):
    words = ["", "--config=configs/dcgan48.py", "--config.data.num_simulated=3"]
    assert check_dataset.main(words) == 0 and "3 scans read, 3 with masks" in capsys.readouterr().out
    assert check_dataset.main([""]) == 2
