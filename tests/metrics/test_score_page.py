"""The page of a comparison: neighbours that are the nearest, charts with the right curves, a PNG beside the JSON."""

import json

import cv2
import numpy as np

from metrics import score, score_page
from metrics.image_sets import ImageSet
from metrics.neighbours import nearest
from microscopy import plots
from microscopy.scan import Scan


def image_set(name, seed, sigma=1.0, size=(40, 44), scale=None):
    random = np.random.default_rng(seed)
    images = [cv2.GaussianBlur(random.normal(size=size), (0, 0), sigma).astype(np.float32) for _ in range(8)]
    return ImageSet(name, [Scan(str(i), image, "", f"{i}", "nm", scale) for i, image in enumerate(images)], None)


def test_nearest_against_all_distances():
    random = np.random.default_rng(0)
    first, second = random.normal(100, 1, (7, 3)), random.normal(100, 1, (9, 3))
    distances = np.linalg.norm(first[:, None] - second[None], axis=2)
    index, found = nearest(first, second)
    assert np.array_equal(index, distances.argmin(1))
    np.testing.assert_allclose(found, distances.min(1), rtol=1e-12)


def colour_rows(picture, colour):
    """Returns the mean height of a colour's pixels inside the frame in each of 4 quarters of the chart from the left."""
    inside = picture[60:360, 100:610]
    marks = (np.abs(inside.astype(int) - colour) < 40).all(-1)
    return [float(np.nonzero(part)[0].mean()) for part in np.array_split(marks, 4, axis=1) if part.any()]


def test_the_spectrum_of_blurred_maps_falls_below_at_high_frequencies():
    sets = {"real": image_set("real", 0, 0.6, scale=(2.0, 2.0)), "blurred": image_set("blurred", 1, 2.0, (50, 40), scale=(2.0, 2.0))}
    chart = score_page.spectra_chart(sets)
    assert chart.shape == (420, 640, 3) and chart.dtype == np.uint8
    real, blurred = (colour_rows(chart, colour) for colour in plots.COLOURS[:2])
    assert blurred[-1] > real[-1] + 60  # rows count downwards
    # In nm the axis differs from the one in pixels.
    assert (score_page.spectra_chart(sets, 5.0) != chart).any()


def test_heights_of_a_rougher_set_are_lower_in_the_middle():
    smooth, rough = image_set("smooth", 0, 3.0), image_set("rough", 1, 0.8)
    chart = score_page.heights_chart({"real": smooth, "rough": rough})
    real, other = (colour_rows(chart, colour) for colour in plots.COLOURS[:2])
    assert min(real) < min(other)


def test_the_command_writes_the_page_and_keeps_the_json_when_it_cannot(tmp_path, capsys, monkeypatch):
    random = np.random.default_rng(0)
    for name in ("real", "made"):
        images = np.stack([cv2.GaussianBlur(random.normal(size=(32, 32)), (0, 0), 1.5) for _ in range(8)])
        np.save(tmp_path / f"{name}.npy", images)
    words = [str(tmp_path / "real.npy"), str(tmp_path / "made.npy"), "--metrics=surface", f"--json={tmp_path / 'out.json'}"]
    assert score.main([*words, f"--page={tmp_path / 'pages' / 'page.png'}"]) == 0
    page = cv2.imread(str(tmp_path / "pages" / "page.png"))
    assert page.shape[1] > 2 * plots.WIDTH and page.shape[0] > plots.HEIGHT + 2 * score_page.TILE
    (tmp_path / "out.json").unlink()

    def refuse(path, picture):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(score_page.pictures, "write_png", refuse)
    assert score.main([*words, f"--page={tmp_path / 'page.png'}"]) == 1
    assert "page.png: cannot be written" in capsys.readouterr().err and "surface" in json.loads((tmp_path / "out.json").read_text())


def test_the_neighbours_of_copies_are_the_originals():
    real = image_set("real", 0)
    tables = [score_page._thumbnails(each, None) for each in ([Scan("", np.uint8(127 + 20 * s.pixels), "") for s in real.scans],) * 2]
    index, distances = nearest(tables[0][::-1], tables[1])
    assert index.tolist() == list(range(8))[::-1] and not distances.any()
