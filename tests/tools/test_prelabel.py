"""Labelme files to correct: they hold what was found, name their image, are read as masks, and none that exists is touched."""

import cv2
import numpy as np
import pytest
from PIL import Image

from microscopy.folder import read_folder, read_scan
from microscopy.formats import read_image
from microscopy.labelme import image_file, read_labelme
from microscopy.normalisation import ValueMap
from microscopy.scan import DataError, Scan
from microscopy.writing import encode_gwy
from segmentation import exported, inference
from tests.microscopy import native_writers
from tests.segmentation.test_prediction import data
from tools import prelabel


def discs(background=20, foreground=220):
    y, x = np.mgrid[:60, :80]
    image = np.full((60, 80), background, np.uint8)
    for row, column, radius in ((20, 20, 9), (40, 55, 12)):
        image[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = foreground
    return image


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    (folder / "grains").mkdir(parents=True)
    cv2.imwrite(str(folder / "a.png"), discs())
    cv2.imwrite(str(folder / "b.tif"), discs(200, 30).astype(np.uint16) * 16)
    cv2.imwrite(str(folder / "grains" / "c.png"), discs())
    (folder / "h.gwy").write_bytes(encode_gwy(discs(0, 3).astype(np.float32), (2.0, 2.0)))
    return folder


def run(*words):
    return prelabel.main(["", *words])


def found(path, image=None):
    annotated = read_labelme(path, max_pixels=10**6, image=image)
    return annotated.instances > 0, annotated


def test_files_beside_the_images_are_their_masks_from_then_on(scans, capsys):
    assert run(f"--input={scans}", f"--output={scans}") == 0
    assert "4 Labelme files written, 0 were there" in capsys.readouterr().out
    for id, suffix in (("a", ".png"), ("b", ".tif"), ("grains/c", ".png"), ("h", ".gwy")):
        mask, annotated = found(scans / f"{id}.json", scans / f"{id}{suffix}")
        assert annotated.labels == ("particle", "particle") and np.mean(mask != (discs() > 100)) < 0.02
    assert image_file(scans / "a.json", found(scans / "a.json")[1]) == scans / "a.png"
    picture = cv2.imread(str(image_file(scans / "h.json", found(scans / "h.json")[1])), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (60, 80) and picture.dtype == np.uint8 and picture[20, 20] > picture[5, 60] + 100
    masks = {scan.id: scan.mask for scan in read_folder(scans, max_pixels=10**6)[0]}
    assert set(masks) == {"a", "b", "grains/c", "h"} and all(mask.max() == 2 for mask in masks.values())


def test_labels_of_an_unfinished_scan_are_its_mask(tmp_path):
    height = discs(0, 3).astype(np.float32)
    height[56:] = np.nan
    (tmp_path / "h.sxm").write_bytes(native_writers.sxm([("Z", "m", "both", (height * 1e-9,) * 2)]))
    assert run(f"--input={tmp_path}", f"--output={tmp_path}") == 0
    ((scan,), _) = read_folder(tmp_path, max_pixels=10**6)
    assert scan.mask.shape == (56, 80) and np.mean((scan.mask > 0) != (discs()[:56] > 100)) < 0.02


def test_a_file_that_exists_is_never_touched(scans, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.json").write_text("mine")
    assert run(f"--input={scans}", f"--output={tmp_path / 'out'}", "--label=grain", "--polarity=bright") == 0
    assert (tmp_path / "out" / "a.json").read_text() == "mine"
    before = (tmp_path / "out" / "grains" / "c.json").read_bytes()
    assert b'"../../scans/grains/c.png"' in before and b'"grain"' in before
    assert run(f"--input={scans}", f"--output={tmp_path / 'out'}", "--label=other") == 0
    assert (tmp_path / "out" / "grains" / "c.json").read_bytes() == before
    assert "0 Labelme files written, 4 were there" in capsys.readouterr().out


def test_a_trained_network_finds_instead_of_the_threshold(scans, tmp_path, monkeypatch):
    """A model that calls the left half foreground, which no threshold would."""

    def left(image):
        probability = np.zeros(image.shape[:3], np.float32)
        probability[:, :, :40] = 1
        return probability

    network = inference.Network(left, data(), ValueMap(0.0, 255.0, "grey", (0, 0)), 0, 1, 1)
    monkeypatch.setattr(exported, "load", lambda path: (network, {}))
    assert run(f"--input={scans / 'a.png'}", f"--output={tmp_path / 'out'}", "--weights=m.safetensors") == 0
    mask, _ = found(tmp_path / "out" / "a.json", scans / "a.png")
    assert mask[:, :40].all() and not mask[:, 40:].any()
    network.data.channel, seen = "Z backward", []
    monkeypatch.setattr(
        prelabel, "read_scan", lambda *names, **options: seen.append(options["channel"]) or read_scan(*names, max_pixels=10**6)
    )
    assert run(f"--input={scans / 'a.png'}", f"--output={tmp_path / 'other'}", "--weights=m.safetensors") == 0
    assert run(f"--input={scans / 'a.png'}", f"--output={tmp_path / 'third'}") == 0 and seen == ["Z backward", ""]


def test_a_networks_own_least_area_holds_unless_another_is_given(scans, tmp_path, monkeypatch):
    """A model that finds one region of 25 px and one of 400."""

    def dots(image):
        probability = np.zeros(image.shape[:3], np.float32)
        probability[:, 5:10, 5:10] = probability[:, 20:40, 20:40] = 1
        return probability

    network = inference.Network(dots, data(), ValueMap(0.0, 255.0, "grey", (0, 0)), None, 1, 1, min_area=50)
    monkeypatch.setattr(exported, "load", lambda path: (network, {}))
    for words, number in (([], 1), (["--min_area=20"], 2), (["--min_area=500"], 0)):
        output = tmp_path / f"out{number}"
        assert run(f"--input={scans / 'a.png'}", f"--output={output}", "--weights=m.safetensors", *words) == 0
        assert len(found(output / "a.json", scans / "a.png")[1].labels) == number


@pytest.mark.parametrize("colours", [False, True])
def test_what_labelme_would_turn_has_a_picture_of_its_stored_pixels(tmp_path, colours):
    exif = Image.Exif()
    exif[274] = 6
    stored = np.repeat(discs()[..., None], 3, axis=2) // (1, 2, 3) if colours else discs()
    Image.fromarray(stored.astype(np.uint8)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert run(f"--input={tmp_path}", f"--output={tmp_path}") == 0
    picture = image_file(tmp_path / "a.json", found(tmp_path / "a.json")[1])
    assert picture == tmp_path / ".pictures" / "a.png"
    np.testing.assert_array_equal(read_image(picture, max_pixels=10**6), read_image(tmp_path / "a.jpg", max_pixels=10**6))
    ((scan,), _) = read_folder(tmp_path, max_pixels=10**6)
    assert np.mean((scan.mask > 0) != (discs() > 100)) < 0.02


@pytest.mark.parametrize("label", ["", "_background_", "__ignore__"])
def test_a_label_that_cannot_be_is_told_before_anything_is_written(scans, tmp_path, capsys, label):
    assert run(f"--input={scans}", f"--output={tmp_path / 'out'}", f"--label={label}") == 2
    assert f"--label={label}: " in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_more_bad_scans_than_are_named_are_counted(scans, capsys):
    for name in "defgi":
        (scans / f"{name}.png").write_bytes(b"\x89PNG none")
    assert run(f"--input={scans}", f"--output={scans}") == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "prelabel: " not in line]
    assert lines[-5] == "5 scans have none:" and lines[-1] == "and 2 more."


def test_a_bad_scan_is_told_and_the_others_are_done(scans, capsys):
    (scans / "d.png").write_bytes(b"\x89PNG none")
    assert run(f"--input={scans}", f"--output={scans}") == 1
    shown = capsys.readouterr()
    assert "4 Labelme files written" in shown.out and "1 scans have none:" in shown.err and "d.png" in shown.err


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "--input=FILE_OR_DIR and --output=DIR are needed"),
        (["--input=a", "--output=b", "--weights=c", "--workdir=d"], "give one of them"),
        (["--input=a", "--output=b", "--weights=none.safetensors"], "none.safetensors: cannot be read"),
        (["--input=no/such", "--output=b"], "no such file or folder"),
        (["--input=a", "--output=b", "--polarity=grey"], "--polarity"),
    ],
)
def test_what_cannot_be_is_told_in_short(words, match, capsys):
    assert run(*words) in (1, 2)
    told = capsys.readouterr().err
    assert match in told and "Traceback" not in told


def test_colours_become_luma_and_odd_channels_are_told():
    assert prelabel.shown_values(Scan("a", np.zeros((4, 5, 3), np.uint8), "")).shape == (4, 5)
    with pytest.raises(DataError, match="2 channels"):
        prelabel.shown_values(Scan("a", np.zeros((4, 5, 2), np.uint8), ""))
