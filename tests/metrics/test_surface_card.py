"""The surface card: real against real, growing damage, closed forms, and independence of order, seed and unit."""

import json
import math

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from metrics import surface, surface_card
from microscopy.scan import DataError
from microscopy.surfaces import add_caps, deposit, draw_diameters, self_affine

SIDE = 64


def scans(num=20, seed=0):
    """Returns rough substrates with caps on them, float64 (num, SIDE, SIDE) in nm, at 2 nm a pixel."""
    found = []
    for number in range(num):
        random = np.random.default_rng((seed, number))
        substrate = self_affine((SIDE, SIDE), 2.0, 0.7, 0.3, 30.0, random)
        diameters = draw_diameters((2.0 * SIDE) ** 2, 0.15, 16.0, 1.2, random)
        centres = deposit(diameters, (2.0 * (SIDE - 1),) * 2, 0.1, 4.0, random)
        found.append(add_caps(substrate, 2.0, centres, diameters, diameters / 3))
    return np.stack(found)


@pytest.fixture(scope="module")
def sets():
    return scans(seed=0), scans(seed=1)


def damaged(images, kind, strength):
    if kind == "blur":
        return scipy.ndimage.gaussian_filter(images, (0, strength, strength))
    if kind == "noise":
        return images + strength * np.random.default_rng(5).normal(size=images.shape)
    return images + strength * (np.indices(images.shape[1:]).sum(0) % 2 * 2 - 1)


@pytest.mark.parametrize(("kind", "strengths"), [("blur", (1, 2, 4)), ("noise", (0.3, 1, 3)), ("checkerboard", (0.2, 0.6, 2))])
def test_the_score_grows_with_damage(sets, kind, strengths):
    real, other = sets
    cards = [surface_card.card(real, images, 2.0, repeats=40) for images in (other, *(damaged(other, kind, one) for one in strengths))]
    scores = [card["score"] for card in cards]
    assert (np.diff(scores) > 0).all(), scores
    assert scores[-1] > 3 * scores[0]
    for name in ("psd", "heights"):
        distances = [card["quantities"][name]["distance"] for card in cards]
        assert (np.diff(distances) > 0).all(), (name, distances)
    assert cards[-1]["score_low"] > cards[-1]["score_floor_high"]
    assert cards[-1]["p_value"] == pytest.approx(1 / 41) and cards[0]["p_value"] > 0.05


def test_real_against_real_is_about_the_floor(sets):
    found = surface_card.card(*sets, 2.0)
    assert 0.5 < found["score"] < found["score_floor_high"] and found["num_quantities"] == 11
    inside = [row["distance"] <= row["floor_high"] for row in found["quantities"].values()]
    assert sum(inside) >= 9 and found["p_value"] > 0.05
    assert all(row["low"] <= row["high"] and 0 < row["floor"] < row["floor_high"] for row in found["quantities"].values())
    assert (found["num_real"], found["num_generated"], found["repeats"], found["seed"]) == (20, 20, 200, 0)
    json.dumps(found, allow_nan=False)


def test_p_values_are_uniform_where_nothing_differs():
    images = scipy.ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(40, 8, 16, 16)), (0, 0, 1, 1))
    found = np.array([surface_card.card(one[:5], one[5:], repeats=19)["p_value"] for one in images])
    assert 0.05 <= (found <= 0.2).mean() <= 0.4 and 0.35 <= found.mean() <= 0.7
    damage = [surface_card.card(one[:5], 1.5 * one[5:], repeats=19)["p_value"] for one in images[:5]]
    assert np.mean(damage) < 0.15


def test_a_set_is_no_way_from_itself(sets):
    found = surface_card.card(sets[0], sets[0][::-1], repeats=10)
    assert all(row["distance"] == pytest.approx(0, abs=1e-12) for row in found["quantities"].values())


def test_heights_times_two_in_closed_form(sets):
    real = sets[0] - sets[0].mean(axis=(1, 2), keepdims=True)
    found = surface_card.card(real, 2 * real, 2.0, repeats=20)["quantities"]
    assert found["psd"]["distance"] == pytest.approx(math.log10(4), rel=1e-9)
    for name in ("sa", "sq"):
        mean = np.mean([surface.height_parameters(image)[name] for image in real])
        assert found[name]["distance"] == pytest.approx(mean) and found[name]["generated"] == pytest.approx(2 * found[name]["real"])
    # Pooled heights, each moved by itself: the mean distance is that of |z|.
    assert found["heights"]["distance"] == pytest.approx(np.abs(real).mean(), rel=0.01)
    for name in ("ssk", "sku", "correlation_length", "diameter", "coverage", "density", "spacing"):
        assert found[name]["distance"] == pytest.approx(0, abs=1e-6)


def test_wasserstein_agrees_with_scipy():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 9, (13, 4)).astype(float), random.normal(3, 5, (8, 4))
    expected = [scipy.stats.wasserstein_distance(*pair) for pair in zip(first.T, second.T, strict=True)]
    np.testing.assert_allclose(surface_card.wasserstein(first, second), expected, rtol=1e-12)


def test_units(sets):
    pixels, nm = (surface_card.image_values(sets[0][:3], scale) for scale in (None, 2.0))
    factors = [1, 1, 1, 1, 2, 2, 1, 1 / 4, 2]
    np.testing.assert_allclose(nm, pixels * factors, rtol=1e-9)
    found = surface_card.card(sets[0], sets[1], repeats=2)["quantities"]
    assert (found["spacing"]["unit"], found["density"]["unit"], found["sq"]["unit"]) == ("px", "1/Mpx", "z")


def test_the_same_seed_gives_the_same_card(sets):
    first, again, other = (surface_card.card(sets[0][:5], sets[1][:7], repeats=20, seed=seed) for seed in (3, 3, 4))
    assert first == again and first != other and first["quantities"]["sq"]["distance"] == other["quantities"]["sq"]["distance"]
    assert (first["num_real"], first["num_generated"]) == (5, 7)


def test_floors_fall_with_the_number_of_images(sets):
    few = surface_card.card(sets[0][:5], sets[1][:5], repeats=30)["quantities"]
    many = surface_card.card(*sets, repeats=30)["quantities"]
    assert np.mean([many[name]["floor"] < few[name]["floor"] for name in many]) > 0.7


def test_flat_images_are_far_but_finite(sets):
    found = surface_card.card(sets[0], np.full_like(sets[0], 0.1), 2.0, repeats=10)
    assert found["score"] > 10 and math.isfinite(found["score"])
    values = surface_card.image_values(np.full((1, 8, 6), 0.1), 2.0)[0]
    np.testing.assert_allclose(values, [0, 0, 0, 0, 6, 0, 0, 0, 20], atol=1e-12)


def test_bad_input_is_refused(sets):
    real = sets[0]
    for arguments, message in (
        ((real[:1], real), "real images"),
        ((real, real[..., None]), "generated images"),
        ((real, real[:, ::2]), "resize"),
        ((real, real * np.nan), "NaN"),
        ((real * 0, real), "flat"),
        ((real, real, -1.0), "nm_per_pixel"),
    ):
        with pytest.raises(DataError, match=message):
            surface_card.card(*arguments)
