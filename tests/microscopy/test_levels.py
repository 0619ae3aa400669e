"""Patient / study / images: which folders are read, what their names mean, where masks lie, and what is refused."""

import logging

import cv2
import numpy as np
import pytest

from microscopy import folder, levels
from microscopy.scan import DataError, FieldError

LIMIT = 10**6


def write(path, value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((6, 8), value, np.uint8))


@pytest.fixture
def hospital(tmp_path):
    for number, place in enumerate(("ada/s1/images/a.png", "ada/s2/images/a.png", "bob/s1/images/b.png", "bob/s1/images/c.png")):
        write(tmp_path / place, 10 * number + 5)
    write(tmp_path / "bob/s1/masks/b.png", 255)
    return tmp_path


def read(path, text, **options):
    return folder.read_folder(path, max_pixels=LIMIT, levels=levels.parse(text), **options)[0]


def test_the_patient_is_the_group_and_images_stand_for_their_study(hospital):
    scans = read(hospital, "patient/study")
    assert [(scan.id, scan.group, scan.label) for scan in scans] == [
        ("ada/s1/a", "ada", None),
        ("ada/s2/a", "ada", None),
        ("bob/s1/b", "bob", None),
        ("bob/s1/c", "bob", None),
    ]
    assert [int(scan.pixels[0, 0]) for scan in scans] == [5, 15, 25, 35]
    assert [scan.mask is not None for scan in scans] == [False, False, True, False] and scans[2].mask.max() == 1


def test_a_level_may_be_the_class_and_a_patient_of_two_classes_is_one_group(tmp_path):
    for place in ("benign/ada/x.png", "malign/ada/y.png", "malign/bob/z.png"):
        write(tmp_path / place)
    scans = read(tmp_path, "class/patient")
    assert [(scan.label, scan.group) for scan in scans] == [("benign", "ada"), ("malign", "ada"), ("malign", "bob")]
    assert {scan.group for scan in read(tmp_path, "class/slide")} == {None}
    assert levels.meaning("p/s/x", ("group", "sample")) == (None, "s")  # patient before sample before group


def test_masks_may_lie_in_another_folder_of_the_same_levels(hospital, tmp_path_factory):
    other = tmp_path_factory.mktemp("masks")
    write(other / "ada/s2/a.png", 255)
    assert [scan.id for scan in read(hospital, "patient/study", masks=other) if scan.mask is not None] == ["ada/s2/a"]
    with pytest.raises(DataError, match="no mask has the stem of an image"):
        read(hospital, "patient/study", masks=hospital / "ada")
    assert all(scan.mask is None for scan in read(hospital, "patient/study", masks=""))


def test_an_image_above_the_last_level_is_named(hospital):
    write(hospital / "bob/late.png")
    with pytest.raises(DataError, match=r"bob/late.png: lies beside the folders of the level study; move it into one"):
        read(hospital, "patient/study")


def test_levels_that_hold_nothing_are_told(hospital, caplog):
    (hospital.parent / "empty").mkdir(exist_ok=True)
    with pytest.raises(DataError, match=r"holds no image below folders patient/study/day; check config.data.levels"):
        read(hospital.parent / "empty", "patient/study/day")
    (hospital / "eve/s1").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        assert len(read(hospital, "patient/study")) == 4
    assert [record.getMessage() for record in caplog.records] == [f"{hospital / 'eve/s1'}: holds no image and is passed over"]


@pytest.mark.parametrize(
    ("text", "full", "empty"),
    [
        ("", "round/a.png", "lobed"),
        ("class/patient", "round/ada/a.png", "lobed"),
        ("class/patient", "round/ada/a.png", "lobed/ada"),
        ("patient/class", "ada/round/a.png", "ada/lobed"),
    ],
)
def test_an_empty_class_folder_is_an_error(tmp_path, text, full, empty):
    write(tmp_path / full)
    (tmp_path / empty).mkdir(parents=True)
    with pytest.raises(DataError, match="lobed: is the folder of a class and holds no image; add some, or remove it") as error:
        read(tmp_path, text)
    assert len(str(error.value).splitlines()) == 1
    if text == "patient/class":  # another patient has some of the class
        write(tmp_path / "bob/lobed/b.png")
        assert {scan.label for scan in read(tmp_path, text)} == {"round", "lobed"}


@pytest.mark.parametrize(
    "text, words",
    [
        ("patient/", "different words"),
        ("patient/patient", "different words"),
        ("Patient", "different words"),
        ("patient/a/b/c/d/e/f", "up to 6"),
        ("day/study", "call one patient, sample or group, or class"),
    ],
)
def test_wrong_levels_are_named(text, words):
    with pytest.raises(FieldError, match=words) as error:
        levels.parse(text)
    assert str(error.value).startswith(f"config.data.levels={text!r}: ") and levels.parse("") == ()


def test_a_folder_without_images_beside_images_is_no_class(tmp_path, caplog):
    write(tmp_path / "a.png")
    (tmp_path / "notes").mkdir()
    with caplog.at_level(logging.WARNING):
        assert [scan.id for scan in read(tmp_path, "")] == ["a"]
    assert "notes: holds no image and is passed over" in caplog.text
