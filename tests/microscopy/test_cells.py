"""Simulated cells: seeds decide, classes have their shares, forms are what they are called, and mean colours tell nothing of them."""

import dataclasses

import cv2
import numpy as np
import pytest
from scipy import ndimage, optimize

from microscopy.cell_forms import FORMS, filtered
from microscopy.cells import Cell, CellsSettings, cells_scans, label_of, simulate_cell
from microscopy.scan import DataError

COARSE = CellsSettings(size_px=(64, 64), nm_per_pixel=320.0)


@pytest.fixture(scope="module")
def many():
    return cells_scans(COARSE, 640, seed=0)


def of_form(form: str, num: int) -> list[Cell]:
    found = (index for index in range(100) if label_of(CellsSettings(), 5, index) == form)
    return [simulate_cell(CellsSettings(), 5, next(found)) for _ in range(num)]


def logistic_accuracy(features, labels, others, truth) -> float:
    """Held-out accuracy of a multinomial logistic regression, by quasi-Newton on the cross entropy."""
    mean, deviation = features.mean(0), features.std(0)
    design, held = (np.c_[(values - mean) / deviation, np.ones(len(values))] for values in (features, others))
    hot = np.eye(len(FORMS))[labels]

    def loss(weights):
        logits = design @ weights.reshape(design.shape[1], -1)
        logits -= logits.max(1, keepdims=True)
        log_share = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return -(hot * log_share).sum() / len(hot), (design.T @ (np.exp(log_share) - hot) / len(hot)).ravel()

    best = optimize.minimize(loss, np.zeros(design.shape[1] * len(FORMS)), jac=True).x
    return float(((held @ best.reshape(design.shape[1], -1)).argmax(1) == truth).mean())


def test_the_logistic_regression_finds_classes_that_colours_do_tell():
    random = np.random.default_rng(0)
    labels = np.arange(200) % 4
    features = np.eye(4)[labels][:, :3] + 0.1 * random.standard_normal((200, 3))
    assert logistic_accuracy(features[:100], labels[:100], features[100:], labels[100:]) > 0.98


def test_mean_colours_do_not_tell_the_classes(many):
    colours = np.array([scan.pixels.mean((0, 1)) for scan in many])
    labels = np.array([FORMS.index(scan.label) for scan in many])
    accuracy = logistic_accuracy(colours[:320], labels[:320], colours[320:], labels[320:])
    assert accuracy <= 0.45  # chance is 0.25
    assert colours.std(0).min() > 10  # they do vary


def test_every_class_has_its_share_in_any_run_of_numbers(many):
    for start in (0, 100, 333):
        counts = [sum(scan.label == form for scan in many[start : start + 200]) for form in FORMS]
        assert max(abs(count - 50) for count in counts) <= 3
    unequal = dataclasses.replace(COARSE, shares=(0.1, 0.0, 0.7, 0.2))
    counts = [sum(label_of(unequal, 1, index) == form for index in range(400)) for form in FORMS]
    assert counts[1] == 0 and np.abs(np.subtract(counts, (40, 0, 280, 80))).max() <= 4


def test_a_picture_depends_on_seed_and_number_only():
    one, same = simulate_cell(COARSE, 3, 7), cells_scans(COARSE, 8, seed=3)[7]
    assert np.array_equal(one.pixels, same.pixels) and np.array_equal(one.mask, same.mask) and same.label == one.label
    assert same.id == "cell_0007" and same.group == "patient_001" and same.nm_per_pixel == (320.0, 320.0)
    assert same.pixels.shape == (64, 64, 3) and same.pixels.dtype == np.uint8 and same.mask.dtype == np.int32
    for seed, index in ((4, 7), (3, 6)):
        assert not np.array_equal(simulate_cell(COARSE, seed, index).pixels, one.pixels)


def test_the_classes_differ_in_form_and_nuclear_share():
    """Solidity (area over convex hull), elongation and the nucleus's share of the cell, measured on the pixels of the truth."""
    found = {form: np.mean([measured(cell.nucleus, cell.mask) for cell in of_form(form, 6)], axis=0) for form in FORMS}
    solidity, elongation, share = (dict(zip(found, column, strict=True)) for column in np.transpose(list(found.values())))
    assert solidity["lobed"] < 0.7 < solidity["kidney"] < 0.9 < min(solidity["round"], solidity["elongated"])
    assert elongation["elongated"] > 2.3 and elongation["round"] < 1.25
    assert 0.6 < share["round"] < 0.8 and max(share["lobed"], share["elongated"]) < 0.4 < share["kidney"] < 0.55


def measured(nucleus: np.ndarray, mask: np.ndarray) -> tuple[float, float, float]:
    places = np.argwhere(nucleus).astype(np.float32)
    hull = cv2.contourArea(cv2.convexHull(places[:, ::-1].copy()))
    spread = np.sqrt(np.linalg.eigvalsh(np.cov(places.T)))
    return nucleus.sum() / hull, spread[1] / spread[0], nucleus.sum() / mask.sum()


def test_a_nucleus_is_one_piece_in_its_cell_and_darker_than_it():
    for form in FORMS:
        for cell in of_form(form, 4):
            assert ndimage.label(cell.nucleus, np.ones((3, 3)))[1] == 1 and ndimage.label(cell.mask)[1] == 1
            assert (cell.mask[cell.nucleus] == 1).all() and set(np.unique(cell.mask)) == {0, 1}
            inside = cell.pixels[cell.nucleus].mean()
            assert inside < cell.pixels[(cell.mask == 1) & ~cell.nucleus].mean() - 10 and inside < cell.pixels[cell.mask == 0].mean() - 20


def test_cells_of_one_patient_share_a_stain_and_others_do_not():
    plain = dataclasses.replace(COARSE, cell_spread=0.0, colour_cast=0.0, brightness=(0.9, 0.9), shading=0.0, num_red_cells=0.0)
    ground = np.array([np.median(scan.pixels[scan.mask == 0], axis=0) for scan in cells_scans(plain, 40, seed=2)]).reshape(8, 5, 3)
    assert np.ptp(ground, axis=1).max() <= 2 < np.ptp(ground.mean(1), axis=0).min()


def test_the_blur_is_a_gaussian_of_its_sigmas_along_its_axes():
    point = np.zeros((64, 64))
    point[32, 32] = 1.0
    assert filtered(point, 2.0) == pytest.approx(ndimage.gaussian_filter(point, 2.0, truncate=8), abs=1e-6)
    assert filtered(point, (4.0, 2.0)) == pytest.approx(ndimage.gaussian_filter(point, (2.0, 4.0), truncate=8, mode="wrap"), abs=1e-6)


@pytest.mark.parametrize(
    "name, value",
    [
        ("size_px", (8, 128)),
        ("shares", (0.5, 0.5, 0.5, 0.5)),
        ("shares", (1.0,)),
        ("cells_per_patient", 0),
        ("nucleus_diameter", (0.0, 5.0)),
        ("nucleus_density", (2.0, 1.0)),
        ("brightness", (0.5, 1.5)),
        ("stain_spread", -0.1),
        ("full_well", float("nan")),
    ],
)
def test_a_setting_out_of_its_range_is_named(name, value):
    with pytest.raises(DataError, match=f"cells setting {name} = ") as error:
        CellsSettings(**{name: value})
    assert len(str(error.value).splitlines()) == 1
