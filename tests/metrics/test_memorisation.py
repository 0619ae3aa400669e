"""Memorisation: planted copies found, honest crops left alone, the search against double loops, the threshold against Gumbel draws."""

import cv2
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from metrics import matching, memorisation
from metrics.matching import find_places
from metrics.memorisation import random_crops
from microscopy.scan import DataError
from microscopy.simulator import SimulatorSettings, simulate_scan

SCALE, SIZE = 2.0, 40
SETTINGS = SimulatorSettings(size_px=(192, 180), nm_per_pixel=0.6, median_diameter=7.0)


@pytest.fixture(scope="module")
def scans():
    return [simulate_scan(SETTINGS, (3, index)).height for index in range(9)]


@pytest.fixture(scope="module")
def found(scans):
    """Returns (finding for 100 planted copies and then 100 honest crops, the copies' true scan, place, angle and mirroring)."""
    copies, *truth = planted(scans[:2], 100, np.random.default_rng(1))
    honest = planted(scans[6:], 100, np.random.default_rng(2))[0]
    images = np.concatenate([copies, honest])
    return memorisation.memorisation(scans[:2], scans[2:6], images, scale=SCALE, num_planted=40), truth


def planted(scans, num, source, contrast=True):
    """Returns (images, scan, place, degrees, mirrored) of crops turned by any angle, cut at full resolution and of other contrast."""
    images, truth, side = [], [], round(SIZE * SCALE)
    for _ in range(num):
        which, angle, mirrored = source.integers(len(scans)), source.uniform(0, 360), source.random() < 0.5
        y, x = (source.uniform(0.71 * side, length - 0.71 * side) for length in scans[which].shape)
        # OpenCV's angles run the other way in an image whose y points down.
        matrix = cv2.getRotationMatrix2D((x, y), angle, 1)
        matrix[:, 2] += (side - 1) / 2 - np.array([x, y])
        image = cv2.warpAffine(scans[which], matrix, (side, side), flags=cv2.INTER_CUBIC)
        image = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        image = image[:, ::-1] if mirrored else image
        if contrast:
            image = (image - image.min()) / np.ptp(image)
            image = source.uniform(0.5, 20) * image ** source.uniform(0.8, 1.25) + source.uniform(-50, 50)
            image = image + 0.1 * image.std() * source.normal(size=image.shape)
        images.append(image)
        truth.append((which, (y, x), angle, mirrored))
    return np.stack(images), *(np.array(part) for part in zip(*truth, strict=True))


def levelled(values, y, x):
    terms = np.stack([np.ones_like(y), y, x, y * y, y * x, x * x], -1)
    return values - terms @ np.linalg.lstsq(terms, values, rcond=None)[0]


def likeness(image, scan, y, x, degrees, mirrored):
    """Returns the correlation over the disc by SciPy's interpolation."""
    middle = (len(image) - 1) / 2
    dy, dx = (
        part[np.hypot(*np.mgrid[-middle : middle + 1, -middle : middle + 1]) <= middle] for part in np.mgrid[: len(image), : len(image)]
    )
    values = image[dy, len(image) - 1 - dx if mirrored else dx].astype(float)
    dy, dx = dy - middle, dx - middle
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    there = scipy.ndimage.map_coordinates(scan.astype(float), [y + dy * cos + dx * sin, x + dx * cos - dy * sin], order=1)
    return np.corrcoef(levelled(values, dy, dx), levelled(there, dy, dx))[0, 1]


def smooth(shape, seed, sigma=1.5):
    return scipy.ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)


def test_planted_copies_are_found_and_honest_crops_are_not(found):
    result, (scan, place, angle, mirrored) = found
    copies = slice(0, 100)
    assert result.copied[copies].mean() >= 0.99 and result.copied[100:].mean() <= 0.01
    assert result.sensitivity >= 0.97 and result.copied_share == result.copied.mean()
    right = result.copied[copies]
    assert (result.scan[copies] == scan)[right].all() and (result.mirrored[copies] == mirrored)[right].all()
    assert np.hypot(*(result.place[copies] - place)[right].T).max() < 1
    # A mirrored image was turned before it was mirrored, as in `Memorisation`.
    turned = np.abs((result.angle[copies] - angle + 180) % 360 - 180)[right]
    assert turned.max() < 1, turned


def test_p_values_are_ranks_among_the_held_out_crops(found):
    result = found[0]
    assert len(result.held_out) == 299 and result.threshold >= result.held_out[-1]
    for similarity, p in zip(result.similarity, result.p_value, strict=True):
        assert p == (1 + sum(other >= similarity for other in result.held_out)) / 300
    assert (result.p_value[:99] <= 0.02).all() and 0.2 < np.median(result.p_value[100:]) < 0.8


@pytest.mark.parametrize(("size", "mirrored"), [(12, False), (13, True), (40, True)])
def test_a_place_is_as_alike_as_scipy_says_and_no_other_is_more_so(size, mirrored):
    scans = [smooth((size + 9, size + 11), seed, size / 10) for seed in (1, 2)]
    images = np.stack([smooth((size, size), seed, size / 10) for seed in (3, 4)])
    if mirrored:
        images = images[:, ::-1]
    places = find_places(images, scans)
    for index, (image, similarity) in enumerate(zip(images, places.similarity, strict=True)):
        place = (places.y[index], places.x[index], places.angle[index], places.mirrored[index])
        assert similarity == pytest.approx(likeness(image, scans[places.scan[index]], *place), abs=2e-4)
        half, best = (size - 1) / 2, -1
        for scan in scans:
            for y in np.arange(half, scan.shape[0] - half, 3):
                for x in np.arange(half, scan.shape[1] - half, 3):
                    best = max(best, *(likeness(image, scan, y, x, angle, flip) for angle in range(0, 360, 30) for flip in (False, True)))
        assert similarity > best - 1e-3


def test_circular_harmonics_are_the_correlation_on_rings():
    scan, image = smooth((20, 18), 1), smooth((16, 16), 2)
    side, rings = 16, 8
    radii = (np.arange(rings) + 0.5) * 7.5 / rings
    y, x = (np.multiply.outer(radii, along(np.arange(72) * np.pi / 36)) for along in (np.sin, np.cos))
    harmonics = [matching._harmonics(np.float32(image[None]))]
    similarity, places = matching._similarities(harmonics, np.float32(scan), side, 1)
    assert similarity.shape == (1, 5, 3)
    turn = np.reshape(matching._which_turn(harmonics[0], places[:, None]), (5, 3))
    weight = np.sqrt(np.repeat(radii, 72))
    terms = np.stack([np.ones_like(y), y, x, y * y, y * x, x * x], -1).reshape(-1, 6) * weight[:, None]

    def rung(values, centre):
        rung = weight * scipy.ndimage.map_coordinates(values, [centre[0] + y, centre[1] + x], order=1).ravel()
        rung = (rung - terms @ np.linalg.lstsq(terms, rung, rcond=None)[0]).reshape(rings, 72)
        return rung / np.linalg.norm(rung)

    own = rung(image, (7.5, 7.5))
    for top in range(5):
        for left in range(3):
            there = rung(scan, (top + 7.5, left + 7.5))
            turns = [np.sum(own * np.roll(there, -step, axis=1)) for step in range(72)]
            assert similarity[0, top, left] == pytest.approx(max(turns), abs=1e-5) and turn[top, left] == np.argmax(turns)


def test_contrast_tilt_and_bow_do_not_matter_but_inversion_does():
    scan = smooth((60, 70), 5, 2)
    y, x = np.mgrid[-1:1:24j, -1:1:24j]
    image = scan[20:44, 31:55]
    places = find_places(np.stack([image, 7 * image - 3, image + 2 * y - x + 3 * x * x, -image]), [scan])
    assert places.similarity[:3] == pytest.approx(1, abs=1e-4) and places.similarity[3] < 0.9
    assert places.y[:3] == pytest.approx(31.5, abs=0.02) and places.x[:3] == pytest.approx(42.5, abs=0.02)
    assert not places.mirrored[:3].any() and np.cos(np.radians(places.angle[:3])) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("size", [9, 50])
def test_a_scan_as_large_as_the_image_has_one_place(monkeypatch, size):
    monkeypatch.setattr(matching, "BLOCK", 2)
    scan = np.random.default_rng(0).normal(size=(size, size))
    places = find_places(np.stack([scan, np.rot90(scan), scan.T]), [scan[1:], scan])
    assert places.similarity == pytest.approx(1, abs=1e-5) and places.similarity.max() <= 1 and (places.scan == 1).all()
    assert np.stack([places.y, places.x]) == pytest.approx((size - 1) / 2) and list(places.mirrored) == [False, False, True]
    assert (places.angle + 180) % 360 - 180 == pytest.approx(np.array([0, 90, -90]), abs=1e-3)


def test_an_image_does_not_depend_on_the_others_and_a_seed_gives_the_same(scans, found):
    images = planted(scans[:2], 3, np.random.default_rng(4))[0]
    runs = [
        memorisation.memorisation(scans[:2], scans[3:4], part, scale=SCALE, num_calibration=50, num_planted=2, seed=1)
        for part in (images, images, images[::-1], images[1:2])
    ]
    for one, other in zip(runs[0], runs[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert runs[2].threshold == pytest.approx(runs[0].threshold, abs=1e-5)
    for other, own in ((runs[2], slice(None, None, -1)), (runs[3], slice(1, 2))):
        assert other.similarity == pytest.approx(runs[0].similarity[own], abs=1e-5)
        assert other.place == pytest.approx(runs[0].place[own], abs=1e-2) and (other.scan == runs[0].scan[own]).all()


def test_another_magnification_is_found_where_it_is_asked_for(scans):
    image = random_crops(scans[:1], 1, SIZE, 1.2 * SCALE, np.random.default_rng(0))
    plain, wider = (memorisation.memorisation(scans[:2], [], image, scale=SCALE, scales=scales) for scales in ((1.0,), (1.0, 1.2)))
    assert wider.similarity[0] > 0.99 > plain.similarity[0] + 0.02
    assert wider.scale[0] == pytest.approx(1.2 * SCALE) and plain.scale[0] == SCALE and wider.scan[0] == 0


def test_without_held_out_scans_nothing_is_called(scans):
    colour = np.repeat(scans[0][..., None], 3, axis=2)
    image = planted(scans[:1], 1, np.random.default_rng(0), contrast=False)[0]
    result = memorisation.memorisation([colour], [], np.repeat(image[..., None], 3, axis=3), scale=SCALE)
    assert result.similarity[0] > 0.97 and result.scan.dtype == np.int64
    assert all(part is None for part in result[6:])


def test_copies_of_a_lattice_cannot_be_told_and_it_says_so():
    y, x = np.mgrid[:80, :80]
    lattice = np.cos(2 * np.pi * x / 8) + np.cos(2 * np.pi * y / 8)
    image = random_crops([lattice.astype(np.float32)], 1, 32, 1.0, np.random.default_rng(0))
    result = memorisation.memorisation([lattice], [lattice], image, num_calibration=50, num_planted=20)
    assert result.threshold > 0.98 and result.sensitivity <= 0.1
    flat = memorisation.memorisation([np.full((40, 40), 7)], [np.full((40, 40), 9)], image, num_calibration=50, num_planted=5)
    assert flat.similarity[0] == 0 and not flat.copied.any() and flat.sensitivity == 0


@pytest.mark.parametrize(("num", "num_scans", "between"), [(50, 10, 0.0), (299, 10, 0.0), (299, 3, 0.02), (299, 2, 0.02), (299, 8, 0.04)])
def test_the_threshold_keeps_false_alarms_under_one_percent(num, num_scans, between):
    source = np.random.default_rng(0)
    law, rates = scipy.stats.gumbel_r(0.8, 0.05), []
    for _ in range(400):
        # Each scan has crops alike by `between`; a false alarm is a crop of another scan.
        shift = between * source.normal(size=num_scans)[np.arange(num) % num_scans]
        threshold = np.arctanh(memorisation._threshold(np.tanh(law.rvs(num, random_state=source) + shift), num_scans))
        rates.append(law.sf(threshold - between * source.normal(size=50)).mean())
    assert np.mean(rates) < 0.01
    if num == 299 and not between:
        assert np.mean(np.array(rates) <= 0.01) >= 0.95


def test_random_crops_lie_within_the_scan():
    y, x = np.mgrid[:90, :120].astype(np.float32)
    crops = [random_crops([axis], 200, 20, 3.5, np.random.default_rng(6)) for axis in (y, x)]
    assert crops[0].min() >= 0 and crops[0].max() <= 89 and crops[1].min() >= 0 and crops[1].max() <= 119
    # Over two pixels: the share of a halved pixel counts as if it lay in that pixel's middle.
    down, right = (np.stack([(np.roll(crop, -2, axis) - crop)[:, 9, 9] / 2 for crop in crops], -1) for axis in (1, 2))
    assert np.linalg.norm(down, axis=1) == pytest.approx(3.5, rel=0.02)
    handed = down[:, 0] * right[:, 1] - down[:, 1] * right[:, 0]
    assert np.abs(handed) == pytest.approx(3.5**2, rel=0.03) and 60 < (handed < 0).sum() < 140


SCAN, IMAGE = np.arange(900.0).reshape(30, 30) % 7, np.eye(16)[None]


@pytest.mark.parametrize(
    ("training", "held_out", "generated", "options", "message"),
    [
        ([], [SCAN], IMAGE, {}, "no training scans"),
        ([SCAN], [SCAN], IMAGE[:0], {}, "generated images"),
        ([SCAN], [SCAN], IMAGE[0], {}, "generated images"),
        ([SCAN], [SCAN], IMAGE[:, :4, :4], {}, "4 pixels"),
        ([SCAN], [SCAN], IMAGE * np.nan, {}, "generated image 0"),
        ([SCAN, SCAN + np.inf], [SCAN], IMAGE, {}, "training scan 1"),
        ([SCAN], [SCAN[0]], IMAGE, {}, "held-out scan 0"),
        ([SCAN], [SCAN[:15]], IMAGE, {}, "larger than every scan"),
        ([SCAN[:15]], [], IMAGE, {}, "larger than every training scan"),
        ([SCAN], [SCAN], IMAGE, {"scale": 0.0}, "scale 0.0"),
        ([SCAN], [SCAN], IMAGE, {"scales": ()}, "scales"),
        ([SCAN], [SCAN], IMAGE, {"num_calibration": 5}, "num_calibration 5"),
    ],
)
def test_bad_input_is_one_short_error(training, held_out, generated, options, message):
    with pytest.raises(DataError, match=message) as error:
        memorisation.memorisation(training, held_out, generated, **options)
    assert len(str(error.value).splitlines()) <= 5
