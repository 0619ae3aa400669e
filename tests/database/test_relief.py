import base64
import re

import cv2
import numpy as np
import pytest

from database import relief
from database.relief import Scale

BOX = Scale(100.0, 100.0, "nm", 0.0, 10.0, "height, nm")


def picture(svg):
    content = base64.b64decode(re.search(r"base64,([^\"]+)", svg)[1])
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)


def bump(size=64, y=0.5, x=0.5, width=0.15):
    rows, columns = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size), indexing="ij")
    return (8 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2))).astype(np.float32)


def seen_by_a_camera(point, aspect=1.0):
    """(across, up) of a point of the box by a rotation matrix about the vertical, one about the horizontal, and a pinhole."""
    x, away, z = point[0] - 0.5, (0.5 - point[1]) * aspect, point[2] * relief.BOX
    turn, tilt = relief.AZIMUTH, relief.ELEVATION
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    across, depth, up = about_x @ about_z @ np.array([x, away, z])
    return relief.DISTANCE / (relief.DISTANCE + depth) * np.array([across, up])


def test_points_lie_where_a_pinhole_camera_sees_them():
    _, place = relief._placed(np.zeros((8, 8), np.float32), BOX)
    points = np.random.default_rng(0).uniform(size=(20, 3))
    expected = np.array([seen_by_a_camera(point) for point in points])
    found = np.array([place(*point) for point in points])
    zoom = (found[1, 0] - found[0, 0]) / (expected[1, 0] - expected[0, 0])  # one zoom and one shift; up is down in pixels
    np.testing.assert_allclose(found - found[0], (expected - expected[0]) * [zoom, -zoom], atol=1e-9)
    corners = np.array([place(*corner) for corner in np.ndindex(2, 2, 2)])
    assert (corners >= 0).all() and (corners <= [relief.WIDTH, relief.HEIGHT]).all()
    assert place(0.5, 1.0, 0.0)[1] > place(0.5, 0.0, 0.0)[1] and place(1.0, 0.5, 0.0)[0] > place(0.0, 0.5, 0.0)[0]


def test_the_same_heights_give_the_same_bytes_and_others_do_not():
    assert relief.svg(bump(), BOX, "a") == relief.svg(bump(), BOX, "a")
    assert relief.svg(bump(), BOX, "a") != relief.svg(bump(x=0.4), BOX, "a")


def test_what_is_higher_stands_higher_and_covers_what_is_behind():
    tops = []
    for level in (2.0, 4.0, 8.0):
        covered = picture(relief.svg(np.full((32, 32), level, np.float32), BOX, "flat"))[..., 3] > 128
        tops.append(np.flatnonzero(covered.any(axis=1))[0])
    assert tops[0] > tops[1] > tops[2]
    rises = np.diff(tops[::-1])
    assert rises[0] == pytest.approx(2 * rises[1], abs=3)
    ridge = np.zeros((64, 64), np.float32)
    ridge[40:44] = 10.0
    hidden = ridge.copy()
    hidden[30:36, 30:50] = 3.0  # behind the ridge, far below its crest
    np.testing.assert_array_equal(picture(relief.svg(ridge, BOX, "")), picture(relief.svg(hidden, BOX, "")))


def test_the_side_towards_the_light_is_brighter():
    surface, place = relief._placed(bump(), BOX)
    shown = relief.draw(surface, place, 1.0).astype(float)[..., :3].sum(-1)
    sides = {}
    for name, x in (("left", 0.35), ("right", 0.65)):
        column, row = place(x, 0.5, surface[32, round(x * 63)])
        sides[name] = shown[round(float(row)) - 2 : round(float(row)) + 3, round(float(column)) - 2 : round(float(column)) + 3].mean()
    assert sides["left"] > 1.25 * sides["right"]


def test_edges_are_clean_and_what_is_outside_is_see_through():
    found = picture(relief.svg(np.full((32, 32), 5.0, np.float32), BOX, ""))
    assert found.shape == (relief.HEIGHT, relief.WIDTH, 4) and found[0].max() == 0 and found[..., 3].max() == 255
    half = (found[..., 3] > 40) & (found[..., 3] < 215)
    assert half.sum() > 100 and found[half][:, :3].max(axis=1).min() > 30  # no black seam


def test_the_axes_have_round_numbers_units_and_safe_words():
    text = relief.svg(bump(), Scale(64.0, 32.0, "nm", -1.2, 6.3, "<b>"), '"><script>')
    assert "<script>" not in text and "<b>" not in text and "&lt;b&gt;" in text
    numbers = re.findall(r"<text[^>]*>(-?[\d.]+)</text>", text)
    assert numbers == ["0", "20", "40", "60", "0", "10", "20", "30", "0", "2", "4", "6"]
    assert text.count(">nm</text>") == 2 and relief.exaggeration(BOX) == pytest.approx(relief.BOX * 100 / 10)


@pytest.mark.parametrize("heights", [np.zeros((1, 5)), np.zeros((4, 4, 3)), np.full((4, 4), np.nan)])
def test_what_is_no_map_is_refused(heights):
    with pytest.raises(ValueError, match="a relief needs finite heights"):
        relief.svg(heights, BOX, "")
    with pytest.raises(ValueError, match="from 1 to 1"):
        relief.svg(np.zeros((4, 4)), BOX._replace(low=1, high=1), "")
