"""Labelme's files: what is written reads back to the same map, shapes cover what they say, and damaged files give one short error."""

import base64
import json
import os

import cv2
import numpy as np
import pytest
import skimage.measure
from PIL import Image, ImageDraw

from microscopy import labelme
from microscopy.folder import read_folder
from microscopy.scan import DataError

LIMIT = 10**6


def read(path, **options):
    return labelme.read_labelme(path, max_pixels=LIMIT, **options)


def polygon(points, label="grain", group=None, kind="polygon"):
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}}


def stored(path, *shapes, size=(20, 30), **changes):
    content = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": "a.png", "imageData": None}
    path.write_text(json.dumps(content | {"imageHeight": size[0], "imageWidth": size[1]} | changes))
    return path


def same_partition(first, second):
    pairs = set(zip(first.ravel().tolist(), second.ravel().tolist(), strict=True))
    return len(pairs) == len(np.unique(first)) == len(np.unique(second)) and all((a == 0) == (b == 0) for a, b in pairs)


def random_map(seed):
    random = np.random.default_rng(seed)
    ids = random.integers(0, random.integers(2, 5), size=random.integers(1, 14, 2))
    return np.kron(ids, np.ones((2, 3), int)) if seed % 2 else ids


@pytest.mark.parametrize("kind", ["polygon", "mask"])
def test_every_map_is_read_back_exactly(tmp_path, kind):
    for seed in range(60):
        ids = random_map(seed)
        path = labelme.write_labelme(tmp_path / "a.json", ids, labels="grain", image="a.png", kind=kind)
        found = read(path, shape=ids.shape)
        assert same_partition(ids, found.instances) and set(found.labels) <= {"grain"} and found.passed_over == ()


def test_pillow_paints_the_written_outlines_as_labelme_would(tmp_path):
    for seed in range(60):
        ids = random_map(seed)
        shapes = json.loads(labelme.write_labelme(tmp_path / "a.json", ids, labels="x", image="a.png").read_text())["shapes"]
        image = Image.new("I", ids.shape[::-1])
        for shape in shapes:
            assert len(shape["points"]) >= 3
            fill = shape["group_id"] or 0
            ImageDraw.Draw(image).polygon([tuple(point) for point in shape["points"]], fill=fill, outline=fill)
        np.testing.assert_array_equal(np.array(image), ids)


def test_shapes_cover_what_they_say(tmp_path):
    y, x = np.mgrid[:20, :30]
    bitmap = np.random.default_rng(0).integers(0, 2, (4, 5), dtype=np.uint8)
    text = base64.b64encode(cv2.imencode(".png", bitmap)[1].tobytes()).decode()
    expected = {
        "rectangle": ([[3.2, 4.0], [10, 7.4]], (y >= 4) & (y <= 7) & (x >= 3) & (x <= 10)),
        "circle": ([[15, 10], [15, 16.5]], (y - 10) ** 2 + (x - 15) ** 2 <= 6.5**2),
        "polygon": ([[0, 0], [29, 0], [29, 9.4], [0, 9.4]], y <= 9),
        "oriented_rectangle": ([[10, 2], [14, 6], [10, 10], [6, 6]], abs(y - 6) + abs(x - 10) <= 4),
        "mask": ([[20, 10], [24, 13]], np.pad(bitmap, ((10, 6), (20, 5))) > 0),
    }
    for kind, (points, covered) in expected.items():
        shape = polygon(points, kind=kind) | ({"mask": text} if kind == "mask" else {})
        found = read(stored(tmp_path / "a.json", shape))
        np.testing.assert_array_equal(found.instances > 0, covered, err_msg=kind)


SQUARE = skimage.measure.find_contours(np.pad(np.ones((3, 3)), 4), 0.5)[0][:, ::-1] - 4.0
HALVES = {
    "square": (SQUARE, "polygon"),
    "triangle": ([[0.5, 0.5], [4.5, 1.0], [2.0, 6.5]], "polygon"),
    "rectangle": ([[0.6, 0.6], [3.5, 3.5]], "rectangle"),
    "circle": ([[3.5, 3.5], [3.5, 6.5]], "circle"),
    "oriented_rectangle": ([[2.5, 0.5], [4.5, 2.5], [2.5, 4.5], [0.5, 2.5]], "oriented_rectangle"),
}


@pytest.mark.parametrize("name", HALVES)
def test_a_shape_between_pixels_covers_the_same_wherever_it_is_moved(tmp_path, name):
    points, kind = np.asarray(HALVES[name][0]), HALVES[name][1]
    first = read(stored(tmp_path / "a.json", polygon((points + 1).tolist(), kind=kind))).instances
    assert first.any()
    for x, y in ((1, 0), (0, 1), (1, 1), (2, 3), (15, 8)):
        moved = read(stored(tmp_path / "a.json", polygon((points + 1 + (x, y)).tolist(), kind=kind))).instances
        np.testing.assert_array_equal(moved, np.roll(first, (y, x), (0, 1)), err_msg=f"{x}, {y}")
    cut = read(stored(tmp_path / "a.json", polygon((points - (2, 1)).tolist(), kind=kind))).instances  # some of it is outside the image
    np.testing.assert_array_equal(cut[:8, :8], first[2:10, 3:11])
    if name == "square":
        canvas = Image.new("1", (30, 20))
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in points + 1], fill=1, outline=1)
        np.testing.assert_array_equal(first > 0, np.array(canvas))


def test_parts_outside_the_image_are_cut_off(tmp_path):
    text = base64.b64encode(cv2.imencode(".png", np.ones((6, 6), np.uint8))[1].tobytes()).decode()
    corner = polygon([[-3, -2], [2, 3]], kind="mask") | {"mask": text}
    found = read(
        stored(tmp_path / "a.json", corner, polygon([[25, 15], [40, 15], [40, 30], [25, 30]]), polygon([[31, 5], [40, 5], [35, 9]]))
    )
    expected = np.zeros((20, 30), np.int32)
    expected[:4, :3], expected[15:, 25:] = 1, 2
    np.testing.assert_array_equal(found.instances, expected)
    assert found.passed_over == ("grain: other shapes cover it, or it lies outside",)


def test_groups_holes_labels_and_what_has_no_area(tmp_path):
    box = lambda low, high: [[low, low], [high, low], [high, high], [low, high]]  # noqa: E731
    shapes = [
        polygon(box(0, 9), "b"),
        polygon(box(3, 5), labelme.BACKGROUND),
        polygon(box(12, 13), "a", 7),
        polygon(box(15, 16), "a", 7),
        polygon(box(18, 19), "b", 7),
        polygon([[1, 1]], "dot", kind="point"),
    ]
    found = read(stored(tmp_path / "a.json", *shapes))
    assert found.labels == ("b", "a", "b") and found.passed_over == ("shape 5 (dot): a point has no area",)
    assert np.bincount(found.instances.ravel())[1:].tolist() == [100 - 9, 8, 4] and found.instances[4, 4] == 0
    numbers = labelme.class_numbers(found.labels)
    assert numbers == {"a": 1, "b": 2}
    assert np.bincount(labelme.class_map(found, numbers).ravel())[1:].tolist() == [8, 95]
    with pytest.raises(DataError, match="label 'b' is none of a"):
        labelme.class_map(found, {"a": 1})


BAD_SHAPES = {
    "is no shape": 7,
    "has no label": polygon([], label=3),
    "is a 'star'": polygon([[0, 0]], kind="star"),
    "group_id is no whole": polygon([], group="x"),
    "marks pixels to be left out": polygon([], label=labelme.IGNORE),
    "no list of pairs": polygon([[0, 0], [1, "2"], [3, 4]]),
    "polygon of 2 points": polygon([[0, 0], [1, 1]]),
    "rectangle of 3 points; it needs 2": polygon([[0, 0], [1, 1], [2, 2]], kind="rectangle"),
    "far outside": polygon([[0, 0], [10**400, 1], [3, 4]]),
    "has no mask": polygon([[0, 0], [1, 1]], kind="mask"),
    "no base64": polygon([[0, 0], [1, 1]], kind="mask") | {"mask": "§"},
    "its mask: is another kind of file": polygon([[0, 0], [1, 1]], kind="mask") | {"mask": "aGVsbG8="},
}
BAD_TEXTS = {
    "damaged JSON": "{",
    "NaN is no number": '{"shapes": [NaN]}',
    "nested too deeply": "[" * 200000,
    "no list of shapes": '{"shapes": 3}',
    "no numbers of pixels": '{"shapes": [], "imageHeight": "9"}',
    "are no numbers of pixels": '{"shapes": [], "imageHeight": 1, "imageWidth": 1%s}' % ("0" * 400),
    "more than max_pixels": '{"shapes": [], "imageHeight": 99999, "imageWidth": 99999}',
    "far outside": json.dumps({"shapes": [polygon([[0, 0], [0, 1], [1, 1]])], "imageHeight": 2, "imageWidth": 2}).replace(
        "[0, 1]", "[1e999, 1]"
    ),
}


@pytest.mark.parametrize("reason", BAD_SHAPES)
def test_a_wrong_shape_is_one_short_error(tmp_path, reason):
    check_error(stored(tmp_path / "a.json", BAD_SHAPES[reason]), reason)


@pytest.mark.parametrize("reason", BAD_TEXTS)
def test_a_damaged_file_is_one_short_error(tmp_path, reason):
    (tmp_path / "a.json").write_text(BAD_TEXTS[reason])
    check_error(tmp_path / "a.json", reason)


def check_error(path, reason):
    with pytest.raises(DataError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and reason in text and len(text.splitlines()) == 1 and len(text) < 400


@pytest.mark.parametrize("place", ["../secret.png", "/etc/hostname", "C:\\x.png", "..\\secret.png", "link/secret.png", "a\0b"])
def test_image_paths_out_of_the_folder_are_refused(tmp_path, place):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    os.symlink(tmp_path, tmp_path / "in" / "link")
    path = stored(tmp_path / "in" / "a.json", imagePath=place)
    check_error(path, "imagePath")
    with pytest.raises(DataError, match="imagePath"):
        labelme.image_file(path, labelme.Annotated(np.zeros((1, 1), np.int32), (), place))


def test_the_image_in_the_folder_is_found_and_a_named_one_anywhere(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "in" / "b.png").write_bytes(b"x")
    inside = stored(tmp_path / "in" / "b.json", imagePath="b.png")
    assert labelme.image_file(inside, read(inside)) == tmp_path / "in" / "b.png"
    outside = stored(tmp_path / "in" / "a.json", imagePath="..\\a.png")
    assert read(outside, image=tmp_path / "a.png").image == "..\\a.png"
    check_error(outside, "outside its folder")
    missing = stored(tmp_path / "in" / "c.json", imagePath="c.png")
    with pytest.raises(DataError, match="does not exist"):
        labelme.image_file(missing, read(missing))


def test_what_cannot_be_written_is_an_error(tmp_path):
    for ids, labels, reason in (
        (np.full((2, 2), -1), "a", "whole numbers"),
        (np.ones((2, 2)), "a", "whole numbers"),
        (np.ones((2, 2), int), {2: "a"}, "instance 1"),
        (np.ones((2, 2), int), labelme.BACKGROUND, "instance 1"),
    ):
        with pytest.raises(DataError, match=reason):
            labelme.write_labelme(tmp_path / "a.json", ids, labels=labels, image="a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_its_masks_from_labelme_files(tmp_path, caplog):
    ids = np.zeros((20, 30), np.int32)
    ids[2:6, 3:9], ids[10:15, 20:] = 2, 1  # larger ones come first
    for name in ("a", "b", "c"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.arange(600, dtype=np.uint8).reshape(20, 30))
    labelme.write_labelme(tmp_path / "a.json", ids, labels="grain", image="a.png")
    stored(tmp_path / "b.json", polygon([[1, 1]], kind="point"))
    (tmp_path / "c.json").write_text('{"gain": 3}')
    scans = {scan.id: scan for scan in read_folder(tmp_path, max_pixels=LIMIT, margins=(1, 0, 0, 0))[0]}
    np.testing.assert_array_equal(scans["a"].mask, ids[1:])
    assert scans["b"].mask.max() == 0 and scans["c"].mask is None and "a point has no area" in caplog.text
    (tmp_path / "drawn").mkdir()
    stored(tmp_path / "drawn" / "b.json", polygon([[0, 0], [4, 4]], kind="rectangle"), imagePath="../b.png")
    scans = {scan.id: scan for scan in read_folder(tmp_path, max_pixels=LIMIT, masks=tmp_path / "drawn")[0]}
    assert scans["a"].mask is None and (scans["b"].mask > 0).sum() == 25
    stored(tmp_path / "drawn" / "b.json", imagePath="../b.png", size=(20, 31))
    with pytest.raises(DataError, match="annotates 31 x 20 px, its image has 30 x 20"):
        read_folder(tmp_path, max_pixels=LIMIT, masks=tmp_path / "drawn")
    assert read_folder(tmp_path, max_pixels=LIMIT, masks="")[0][0].mask is None
