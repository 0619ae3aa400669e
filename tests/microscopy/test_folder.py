"""Folders in the layouts users have, and the errors for those they have by mistake."""

import hashlib
import os
import pathlib

import cv2
import numpy as np
import pytest
import scipy.ndimage

from microscopy.folder import list_scans, read_folder, read_scan
from microscopy.scan import DataError

LIMIT = 10**6
DATA = pathlib.Path(os.environ.get("SCANFORGE_TEST_DATA", pathlib.Path(__file__).parents[2] / "../shared/data"))


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)
    return array


def noise(seed, shape=(12, 15), dtype=np.uint8):
    return np.random.default_rng(seed).integers(np.iinfo(dtype).max, size=shape, dtype=dtype, endpoint=True)


def ids_of(folder, **options):
    return [scan.id for scan in read_folder(folder, max_pixels=LIMIT, **options)[0]]


def test_a_flat_folder_of_mixed_sizes_and_depths(tmp_path):
    grey, deep, colour = noise(0), noise(1, (20, 9), np.uint16), noise(2, (7, 30, 3))
    write(tmp_path / "b.png", grey)
    write(tmp_path / "a.TIF", deep)
    write(tmp_path / "c.x.png", colour)
    np.save(tmp_path / "d.npy", np.full((3, 4), 0.5))
    for name in (".hidden.png", "index.csv", "README.md", "notes.txt"):
        (tmp_path / name).write_text("not an image")
    scans, refused = read_folder(tmp_path, max_pixels=LIMIT, nm_per_pixel=2)
    assert refused == []
    assert [(scan.id, scan.pixels.dtype) for scan in scans] == [("a", "u2"), ("b", "u1"), ("c.x", "u1"), ("d", "f4")]
    for scan, stored in zip(scans, (deep, grey, colour, np.full((3, 4), 0.5)), strict=True):
        np.testing.assert_array_equal(scan.pixels, stored)
        assert scan.sha256 == hashlib.sha256(pathlib.Path(scan.file).read_bytes()).hexdigest()
        assert (scan.unit, scan.nm_per_pixel, scan.mask, scan.label, scan.group) == ("grey", (2.0, 2.0), None, None, None)


def test_sub_folders_are_classes_one_level_down(tmp_path):
    for name in ("cat/1.png", "dog/1.png", "dog/deep/2.png", ".git/3.png", "masks/cat/1.png", "loose.png"):
        write(tmp_path / name, noise(0))
    scans, _ = read_folder(tmp_path, max_pixels=LIMIT)
    assert [(scan.id, scan.label) for scan in scans] == [("cat/1", "cat"), ("dog/1", "dog"), ("loose", None)]
    assert [scan.mask is not None for scan in scans] == [True, False, False]


@pytest.mark.parametrize("name", ["metrics.jsonl", "lineage.json", "generation.json", "prediction.json", "crops.json", "inspect.json"])
def test_folders_this_program_wrote_are_no_classes(tmp_path, name):
    write(tmp_path / "dot/1.png", noise(0))
    (tmp_path / "dot/config.json").write_text("of the microscope")
    write(tmp_path / "run/generated_000.png", noise(1))
    (tmp_path / "run" / name).touch()
    write(tmp_path / "fresh/samples/step_00000000.png", noise(2))
    write(tmp_path / "fresh/picture.png", noise(3))
    (tmp_path / "fresh/config.json").touch()
    assert ids_of(tmp_path) == ["dot/1"]
    assert ids_of(tmp_path / "run") == ["generated_000"]  # asked for by name it is read


@pytest.mark.parametrize("name", ["images", "image"])
def test_a_folder_that_holds_images_stands_for_it(tmp_path, name):
    write(tmp_path / name / "1.png", noise(0))
    write(tmp_path / "segmaps" / "1.png", noise(1))
    write(tmp_path / "masks" / "1.png", noise(2))
    (scan,), _ = read_folder(tmp_path, max_pixels=LIMIT)
    assert (scan.id, scan.label) == ("1", None)
    np.testing.assert_array_equal(scan.mask, noise(2))


@pytest.mark.parametrize("place", ["set/images/masks/a.png", "set/masks/a.tif", "elsewhere/a.png"])
def test_masks_are_found_inside_beside_and_where_told(tmp_path, place):
    write(tmp_path / "set/images/a.png", noise(0))
    write(tmp_path / "set/images/b.png", noise(1))
    ids = write(tmp_path / place, noise(2, dtype=np.uint16))
    masks = str(tmp_path / "elsewhere") if place.startswith("elsewhere") else None
    (a, b), _ = read_folder(tmp_path / "set/images", max_pixels=LIMIT, masks=masks)
    assert a.mask.dtype == np.int32 and b.mask is None
    np.testing.assert_array_equal(a.mask, ids)
    assert read_folder(tmp_path / "set/images", max_pixels=LIMIT, masks="")[0][0].mask is None


def test_masks_inside_class_folders(tmp_path):
    write(tmp_path / "cat/1.png", noise(0))
    write(tmp_path / "cat/masks/1.png", noise(1))
    (scan,), _ = read_folder(tmp_path, max_pixels=LIMIT)
    np.testing.assert_array_equal(scan.mask, noise(1))


def test_margins_are_cut_from_image_and_mask_before_regions_are_counted(tmp_path):
    image = write(tmp_path / "a.png", noise(0))
    mask = np.zeros((12, 15), np.uint8)
    mask[2:11, 3] = mask[2:11, 8] = mask[10, 3:9] = 255  # a U: one region, two once its foot is cut off
    write(tmp_path / "masks/a.png", mask)
    (scan,), _ = read_folder(tmp_path, max_pixels=LIMIT, margins=(1, 2, 3, 1))
    np.testing.assert_array_equal(scan.pixels, image[1:9, 1:13])
    np.testing.assert_array_equal(scan.mask > 0, mask[1:9, 1:13] > 0)
    assert scan.mask.max() == 2 and scipy.ndimage.label(mask)[1] == 1
    with pytest.raises(DataError, match=r"a\.png: margins .* leave nothing of 15 x 12"):
        read_folder(tmp_path, max_pixels=LIMIT, margins=(6, 0, 6, 0))


@pytest.mark.parametrize("margins", [(1, 2, 3), (0, 0, 0, -1), (0, 0, 0, 1.5), (True, 0, 0, 0)])
def test_margins_that_are_none(tmp_path, margins):
    write(tmp_path / "a.png", noise(0))
    with pytest.raises(DataError, match="margins"):
        read_folder(tmp_path, max_pixels=LIMIT, margins=margins)


def test_scale_is_a_number_or_a_pair(tmp_path):
    write(tmp_path / "a.png", noise(0))
    for given, kept in ((None, None), (0.5, (0.5, 0.5)), ((1, 2), (1.0, 2.0))):
        assert read_folder(tmp_path, max_pixels=LIMIT, nm_per_pixel=given)[0][0].nm_per_pixel == kept
    for wrong in (0, -1, float("nan"), float("inf"), (1, 2, 3), "wide", (1, 0)):
        with pytest.raises(DataError, match="nm_per_pixel"):
            read_folder(tmp_path, max_pixels=LIMIT, nm_per_pixel=wrong)


def test_a_bad_file_stops_or_is_counted(tmp_path):
    write(tmp_path / "good.png", noise(0))
    write(tmp_path / "wrong_mask.png", noise(0))
    write(tmp_path / "masks/wrong_mask.png", noise(0, (11, 15)))
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:-20])
    (tmp_path / "old.bmp").write_bytes(b"BM" + bytes(50))
    with pytest.raises(DataError, match=r"cut\.png: .*truncated"):
        read_folder(tmp_path, max_pixels=LIMIT)
    scans, refused = read_folder(tmp_path, max_pixels=LIMIT, skip_bad=True)
    assert [scan.id for scan in scans] == ["good"]
    assert [pathlib.Path(item.file).name for item in refused] == ["cut.png", "old.bmp", "wrong_mask.png"]
    assert refused[0].reason.startswith("is truncated") and "BMP" in refused[1].reason
    assert "15 x 11 and 15 x 12 px" in refused[2].reason and str(tmp_path / "masks/wrong_mask.png") in refused[2].reason
    (tmp_path / "good.png").unlink()
    with pytest.raises(DataError, match=r"none of its 3 images can be read; the first: .*cut\.png"):
        read_folder(tmp_path, max_pixels=LIMIT, skip_bad=True)


def test_two_files_of_one_stem_are_both_named(tmp_path):
    write(tmp_path / "a.png", noise(0))
    write(tmp_path / "a.tif", noise(1))
    write(tmp_path / "b.png", noise(2))
    with pytest.raises(DataError, match=r"a\.png: has the same stem as a\.tif"):
        read_folder(tmp_path, max_pixels=LIMIT)
    scans, refused = read_folder(tmp_path, max_pixels=LIMIT, skip_bad=True)
    assert [scan.id for scan in scans] == ["b"]
    assert [pathlib.Path(item.file).name for item in refused] == ["a.png", "a.tif"]
    assert all("same stem" in item.reason for item in refused)


def test_two_masks_of_one_stem_are_both_named(tmp_path):
    for name in ("a.png", "masks/a.png", "masks/a.tif"):
        write(tmp_path / name, noise(0))
    with pytest.raises(DataError, match=r"a\.png: has the same stem as a\.tif"):
        read_folder(tmp_path, max_pixels=LIMIT)


def test_masks_of_which_none_fits_are_an_error(tmp_path):
    write(tmp_path / "set/a.png", noise(0))
    write(tmp_path / "masks/other.png", noise(0))
    assert read_folder(tmp_path / "set", max_pixels=LIMIT)[0][0].mask is None  # found beside by chance: another set's
    with pytest.raises(DataError, match="no mask has the stem"):
        read_folder(tmp_path / "set", max_pixels=LIMIT, masks=tmp_path / "masks")
    write(tmp_path / "set/masks/a_mask.png", noise(0))
    with pytest.raises(DataError, match="no mask has the stem"):
        read_folder(tmp_path / "set", max_pixels=LIMIT)
    with pytest.raises(DataError, match=r"maks: no such folder \(did you mean .*masks\?\)"):
        read_folder(tmp_path / "set", max_pixels=LIMIT, masks=tmp_path / "maks")


def test_select_reads_only_those_named(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/2.png", "#3.png"):
        write(tmp_path / name, noise(0))
    (tmp_path / "cat/9.png").write_bytes(b"damaged, but not asked for")
    names = tmp_path / "names.txt"
    names.write_text("\ufeff# the good ones\ndog/2\n\n  1 \ndog/2\n", encoding="utf-8")
    assert ids_of(tmp_path, select=names) == ["cat/1", "dog/2"]
    cases = {"1\ncatt/2\n": r"catt/2 is no image's id \(nearest: cat/2\)", "2": "2 fits cat/2 and dog/2", "# 1": "selects nothing"}
    for text, words in cases.items():
        names.write_text(text)
        with pytest.raises(DataError, match=rf"names\.txt: {words}"):
            read_folder(tmp_path, max_pixels=LIMIT, select=names, skip_bad=True)
    with pytest.raises(DataError, match=r"gone\.txt: cannot be read"):
        read_folder(tmp_path, max_pixels=LIMIT, select=tmp_path / "gone.txt")
    names.write_bytes(b"\xff\xfe1")
    with pytest.raises(DataError, match=r"names\.txt: cannot be read"):
        read_folder(tmp_path, max_pixels=LIMIT, select=names)


def test_folders_that_are_none(tmp_path):
    (tmp_path / "particles").mkdir()
    (tmp_path / "particles/table.csv").touch()
    (tmp_path / "file.png").touch()
    cases = {
        "partciles": r"partciles: no such folder \(did you mean .*particles\?\)",
        "partciles/round/small": r"no such folder \(did you mean .*particles\?\)",
        "zzz": "zzz: no such folder; check",
        "file.png": r"file\.png: is a file; give a folder",
        "particles": r"particles: holds no image \(only \.csv\); give",
        "a\0b": "null",
    }
    for name, words in cases.items():
        with pytest.raises(DataError, match=words) as caught:
            read_folder(tmp_path / name, max_pixels=LIMIT)
        assert len(str(caught.value).splitlines()) == 1


def test_a_folder_that_may_not_be_listed(tmp_path, monkeypatch):
    write(tmp_path / "a.png", noise(0))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(DataError, match="permission denied"):
        read_folder(tmp_path, max_pixels=LIMIT)


def test_real_particles_with_their_instance_maps(tmp_path):
    root = DATA / "np-emps"
    if not root.is_dir():
        pytest.skip(f"no np-emps under {DATA}; set SCANFORGE_TEST_DATA")
    table = np.genfromtxt(root / "index.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    good = (table["n_particles"] >= 8) & (table["median_bbox_aspect"] < 1.35) & (table["mean_grey_particle_minus_background"] > 25)
    names = tmp_path / "bright_round.txt"
    names.write_text("\n".join(table["id"][good]))
    scans, _ = read_folder(root / "images", max_pixels=LIMIT, masks=root / "segmaps", select=names)
    assert len(scans) == 53
    for scan in scans:
        row = table[table["id"] == scan.id][0]
        assert scan.pixels.shape == scan.mask.shape == (row["height"], row["width"])
        assert len(np.unique(scan.mask[scan.mask > 0])) == row["n_particles"]
        inside = scan.pixels[scan.mask > 0].mean() - scan.pixels[scan.mask == 0].mean()
        assert abs(inside - row["mean_grey_particle_minus_background"]) < 0.06


def test_the_files_of_a_folder_or_a_file_each_under_a_name_of_its_own(tmp_path):
    for name in ("b.png", "a.tif", "a.png", "cat/a.png", "cat/masks/a.png", "out/b.png"):
        write(tmp_path / name, noise(0))
    (tmp_path / "out" / "prediction.json").touch()
    files = {"a.png": "a.png", "a.tif": "a.tif", "b": "b.png", "cat/a": "cat/a.png"}
    assert list_scans(tmp_path) == {id: tmp_path / name for id, name in files.items()}
    assert list_scans(tmp_path / "cat" / "a.png") == {"a": tmp_path / "cat" / "a.png"}
    scan = read_scan("cat/a", tmp_path / "cat" / "a.png", max_pixels=LIMIT)
    np.testing.assert_array_equal(scan.pixels, noise(0))
    assert (scan.id, scan.file, scan.unit, scan.mask, scan.label) == ("cat/a", str(tmp_path / "cat/a.png"), "grey", None, "cat")
    write(tmp_path / "a.png.png", noise(0))
    with pytest.raises(DataError, match="would have the same name as .*; rename one"):
        list_scans(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        list_scans(tmp_path / "none")
    with pytest.raises(DataError, match=r"cat.aa.png: no such file or folder \(did you mean .*a.png\?\); check the path"):
        list_scans(tmp_path / "cat" / "aa.png")
