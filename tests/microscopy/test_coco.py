"""COCO files: exact both ways, read by pycocotools itself as written, and damaged ones give one short error."""

import json
import sys

import cv2
import numpy as np
import pytest

from configs import unet
from microscopy import coco, listing, preparation
from microscopy import folder as folder_module
from microscopy.labelme import Annotated
from microscopy.scan import DataError

LIMIT = 10**6


@pytest.fixture
def library():
    return pytest.importorskip("pycocotools.mask")


def read(path):
    return coco.read_coco(path, max_pixels=LIMIT)


def stored(path, segmentation, size=(6, 8), changes=(), **annotation):
    record = {"id": 1, "image_id": 1, "category_id": 3, "segmentation": segmentation, "iscrowd": 0, **annotation}
    image = {"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]}
    content = {"images": [image], "annotations": [record], "categories": [{"id": 3, "name": "grain"}], **dict(changes)}
    path.write_text(json.dumps(content))
    return path


def random_set(seed=0):
    random = np.random.default_rng(seed)
    images = {}
    for index in range(4):
        ids = np.kron(random.integers(0, 6, size=(7, 5 + index)), np.ones((4, 3), int)).astype(np.int32)
        ids[random.random(ids.shape) < 0.1] = 0
        labels = tuple(random.choice(["b", "a"], ids.max()).tolist())
        images[f"sub/{index}.png"] = Annotated(ids, labels, f"sub/{index}.png")
    images["empty.png"] = Annotated(np.zeros((3, 4), np.int32), (), "empty.png")
    return images


def test_every_map_is_read_back_exactly(tmp_path, library):
    images = random_set()
    found = read(coco.write_coco(tmp_path / "set.json", images))
    assert list(found) == list(images)
    for name, annotated in images.items():
        np.testing.assert_array_equal(found[name].instances, annotated.instances)
        assert (found[name].labels, found[name].image, found[name].passed_over) == (annotated.labels, name, ())


def test_pycocotools_reads_what_is_written(tmp_path, library, capsys):
    from pycocotools.coco import COCO

    images = random_set(1)
    index = COCO(coco.write_coco(tmp_path / "set.json", images))
    capsys.readouterr()
    assert [category["name"] for category in index.loadCats(index.getCatIds())] == ["a", "b"]
    for id, annotated in zip(index.getImgIds(), images.values(), strict=True):
        for number, annotation in enumerate(index.loadAnns(index.getAnnIds(imgIds=[id])), start=1):
            mask = annotated.instances == number
            np.testing.assert_array_equal(coco._decoded(index.annToRLE(annotation), library), mask)
            y, x = np.nonzero(mask)
            assert annotation["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1] and annotation["area"] == mask.sum()


def test_polygons_and_uncompressed_runs(tmp_path, library):
    two = [[0, 0, 2, 0, 2, 2, 0, 2], [4.0, 3.0, 14.0, 3.0, 14.0, 5.0, 4.0, 5.0]]
    mask = read(stored(tmp_path / "a.json", two))["a.png"].instances
    expected = np.zeros((6, 8), np.int32)
    expected[:2, :2] = expected[3:5, 4:] = 1
    np.testing.assert_array_equal(mask, expected)
    runs = {"size": [6, 8], "counts": [6, 3, 39]}  # down the columns
    mask = read(stored(tmp_path / "a.json", runs))["a.png"].instances
    assert np.argwhere(mask).tolist() == [[0, 1], [1, 1], [2, 1]]


def test_crowds_and_covered_instances_are_listed(tmp_path, library):
    found = read(stored(tmp_path / "a.json", {"size": [6, 8], "counts": [0, 48]}, iscrowd=1))["a.png"]
    assert found.instances.max() == 0 and found.passed_over == ("grain: a crowd, no single instance",)
    runs = [{"image_id": 1, "category_id": 3, "segmentation": {"size": [6, 8], "counts": [0, n, 48 - n]}} for n in (5, 9)]
    found = read(stored(tmp_path / "a.json", [], changes={"annotations": runs}))["a.png"]
    assert (found.instances == 1).sum() == 9 and found.labels == ("grain",) and "other instances cover it" in found.passed_over[0]


BAD = {
    "is empty; delete": [],
    "3 points or more": [[0, 0, 1, 1]],
    "3 points or more, ": [[0, 0, 1, 1, 2, 2, 3]],
    "far outside": [[0, 0, 1e999, 1, 2, 2]],
    "longer than twice": [[0, 0, 8, 6] * 100],
    "neither polygons nor runs": "x",
    "neither polygons nor runs of 8 x 6": {"size": [8, 6], "counts": [48]},
    "do not fill the image": {"size": [6, 8], "counts": [6, 3, 10**30]},
    "do not fill": {"size": [6, 8], "counts": [-6, 54]},
    "are damaged": {"size": [6, 8], "counts": "\u00e9"},
    "are truncated": {"size": [6, 8], "counts": "o"},
}


@pytest.mark.parametrize("reason", BAD)
def test_a_wrong_segmentation_is_one_short_error(tmp_path, reason, library):
    path = tmp_path / "a.json"
    stored(path, BAD[reason])
    path.write_text(path.read_text().replace("Infinity", "1e999"))
    check_error(path, reason)


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("images with id", {"images": 3}),
        ("file_name is '7'", {"images": [{"id": 1, "file_name": 7, "height": 2, "width": 2}]}),
        ("leads out of the folder", {"images": [{"id": 1, "file_name": "..\\b.png", "height": 6, "width": 8}]}),
        ("leads out of the folder", {"images": [{"id": 1, "file_name": "/b.png", "height": 6, "width": 8}]}),
        ("more than max_pixels", {"images": [{"id": 1, "file_name": "a", "height": 10**9, "width": 8}]}),
        ("does not hold", {"categories": []}),
        ("two images", {"images": [{"id": id, "file_name": "a", "height": 6, "width": 8} for id in (1, 2)]}),
    ],
)
def test_a_damaged_file_is_one_short_error(tmp_path, reason, changes, library):
    check_error(stored(tmp_path / "a.json", [[0, 0, 1, 0, 1, 1]], changes=changes), reason)


def check_error(path, reason):
    with pytest.raises(DataError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and reason in text and len(text.splitlines()) == 1 and len(text) < 400


def test_an_instance_without_label_is_not_written(tmp_path, library):
    with pytest.raises(DataError, match=r"instance 2 of a.png has no label"):
        coco.write_coco(tmp_path / "a.json", {"a.png": Annotated(np.array([[1, 2]], np.int32), ("x",))})
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(DataError, match=r"pip install pycocotools==2\.0\.11"):
        coco.read_coco(tmp_path / "a.json", max_pixels=LIMIT)


def scans_of(folder, names, shape=(20, 30)):
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / name), np.random.default_rng(index).integers(0, 255, shape, dtype=np.uint8))
    return folder


def squares(number, shape=(20, 30)):
    ids = np.zeros(shape, np.int32)
    for n in range(number):
        ids[3:9, 2 + 9 * n : 9 + 9 * n] = n + 1
    return Annotated(ids, ("grain",) * number)


def test_a_coco_file_is_the_masks_of_a_folder(tmp_path, library):
    folder = scans_of(tmp_path / "scans", ["a.png", "b.png", "c.png", "deep/d.png"])
    listed = {"images/a.tif": squares(2), "b.jpg": squares(0), "deep/d.png": squares(1), "gone.png": squares(1)}
    path = coco.write_coco(tmp_path / "annotations.json", listed)
    scans, _ = folder_module.read_folder(folder, max_pixels=LIMIT, masks=path)
    masks = {scan.id: scan.mask for scan in scans}
    assert masks["c"] is None and not masks["b"].any()
    np.testing.assert_array_equal(masks["a"], squares(2).instances)
    np.testing.assert_array_equal(masks["deep/d"], squares(1).instances)


def test_training_reads_a_coco_file_scan_by_scan(tmp_path, library):
    folder = scans_of(tmp_path / "scans", [f"{n}.png" for n in range(5)], (80, 80))
    broken = squares(1, (80, 70))  # of another size than its scan
    path = coco.write_coco(tmp_path / "annotations.json", {f"{n}.png": squares(3, (80, 80)) if n else broken for n in range(5)})
    config = unet.get_config("tiny").unlock()
    config.data.update({"source": f"folder:{folder}", "masks": str(path), "skip_bad": True, "rotation": "quarter"})
    config.data.update({"crop": 32, "height": 32, "width": 32})
    prepared = preparation.prepare(config)
    scans = [scan for part in prepared.splits.values() for scan in part]
    assert len(scans) == 4 and all(scan.mask.max() == 3 and scan.mask.shape == scan.pixels.shape[:2] for scan in scans)
    assert [refused.reason for refused in prepared.refused] == [
        f"{path}: 0.png: annotates 70 x 80 px, its image has 80 x 80; annotate the image that you train on"
    ]
    config.data.update({"masks": str(coco.write_coco(tmp_path / "few.json", {"1.png": squares(1, (80, 80))}))})
    with pytest.raises(DataError, match="4 of 5 scans have no mask, the first is"):
        preparation.prepare(config)


@pytest.mark.parametrize(
    ("names", "listed", "found"),
    [
        (["a/1.png", "b/1.png"], ["b/1.png", "a/1.png"], {"a/1": "a/1.png", "b/1": "b/1.png"}),
        (["a/1.png"], ["b/1.png", "a/1.png"], {"a/1": "a/1.png", "b/1": "b/1.png"}),
        (["1.png"], ["scans\\1.tif", "other/1.png"], {"1": "scans\\1.tif", "other/1": "other/1.png"}),
        (["a/1.png", "b/1.png"], ["1.png"], "fits a/1 and b/1; write its folder"),
        (["1.png"], ["a/1.png", "b/1.png"], "'a/1.png' and 'b/1.png' have the same stem"),
        (["1.png"], ["1.png", "1.tif"], "have the same stem"),
    ],
)
def test_names_of_a_coco_file_find_their_images(tmp_path, names, listed, found):
    images = listing.list_files(scans_of(tmp_path / "scans", names))
    if isinstance(found, dict):
        assert listing.coco_names(tmp_path / "a.json", listed, images) == found
        return
    with pytest.raises(DataError, match=found):
        listing.coco_names(tmp_path / "a.json", listed, images)


@pytest.mark.parametrize("text", ["{", '{"shapes": []}', '{"images": [], "annotations": [], "categories": []}'])
def test_a_json_file_that_is_no_set_of_the_folder_is_one_short_error(tmp_path, library, text):
    folder = scans_of(tmp_path / "scans", ["a.png"])
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError) as caught:
        folder_module.read_folder(folder, max_pixels=LIMIT, masks=tmp_path / "a.json")
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'}: ") and len(str(caught.value).splitlines()) == 1


def test_levels_of_folders_take_a_coco_file_too(tmp_path, library):
    folder = scans_of(tmp_path / "scans", ["ada/images/x.png", "bob/images/x.png"])
    path = coco.write_coco(tmp_path / "a.json", {"ada/x.png": squares(1), "bob/images/x.png": squares(2)})
    scans, _ = folder_module.read_folder(folder, max_pixels=LIMIT, masks=path, levels=("patient",))
    assert {scan.id: int(scan.mask.max()) for scan in scans} == {"ada/x": 1, "bob/x": 2}
