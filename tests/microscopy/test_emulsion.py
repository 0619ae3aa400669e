"""The simulated emulsion: seeds decide, densities and blur are as asked for, the mask is what grains show, no threshold solves it."""

import dataclasses
import math

import numpy as np
import pytest

from microscopy import emulsion
from microscopy.emulsion import GRAIN, EmulsionSettings
from microscopy.scan import DataError

SMALL = EmulsionSettings(size_px=(256, 320), nm_per_pixel=300.0, blur_per_um=0.4, depth_of_field=3.0)
CLEAN = dataclasses.replace(SMALL, shading=0.0, full_well=1e12, read_noise=0.0)


def grain(y, x, z, radius=0.45, track=1):
    return (y, x, z, radius, track)


def best_jaccards(pixels, truth):
    """The Jaccard index of "at most t" for every grey level t."""
    hits = np.bincount(pixels[truth], minlength=256).cumsum()
    return hits / (np.bincount(pixels.ravel(), minlength=256).cumsum() + truth.sum() - hits)


def test_best_jaccards_finds_a_solvable_threshold():
    truth = np.arange(100).reshape(10, 10) % 7 == 0
    pixels = np.where(truth, 30, 200).astype(np.uint8)
    assert best_jaccards(pixels, truth)[30] == 1.0 and best_jaccards(pixels, truth)[255] == pytest.approx(truth.mean())


def test_no_threshold_solves_the_default_frames_nor_one_for_all():
    frames = [emulsion.simulate_frames(EmulsionSettings(), (0, index)) for index in range(3)]
    pixels, truth = np.stack([f.pixels[0] for f in frames]), np.stack([f.mask[0] > 0 for f in frames])
    assert pixels.shape == (3, 1024, 1280) and pixels.dtype == np.uint8
    each = [best_jaccards(*pair).max() for pair in zip(pixels, truth, strict=True)]
    assert 0.2 < best_jaccards(pixels, truth).max() <= 0.75 and max(each) <= 0.75


def test_the_mask_hangs_little_on_where_focus_is_said_to_end():
    settings = EmulsionSettings()
    grains = emulsion.simulate_frames(settings, 9001).grains
    border = emulsion.absorbance(settings, np.array([grain(75, 75, settings.depth_of_field / 2)], GRAIN), 0.0).max()
    assert 1 - np.exp(-border) == pytest.approx(0.06, abs=0.01)
    masks = [
        emulsion.focus_mask(dataclasses.replace(settings, depth_of_field=depth), grains, 0.0) > 0
        for depth in (settings.depth_of_field, 1.1 * settings.depth_of_field, 3.0, 3.3)
    ]
    overlap = [(masks[i] & masks[i + 1]).sum() / (masks[i] | masks[i + 1]).sum() for i in (0, 2)]
    assert overlap[0] > 0.98 > 0.96 > overlap[1]


def test_without_fog_depth_shading_and_noise_one_threshold_is_the_mask():
    settings = dataclasses.replace(CLEAN, fog_per_1000um3=0.0, thickness=0.1, dip_degrees=0.0)
    frames = emulsion.simulate_frames(settings, 1)
    level = settings.background * settings.visible
    rounded = frames.pixels[0] == level  # grey levels cannot say on which side of it these lie
    np.testing.assert_array_equal((frames.pixels[0] < level)[~rounded], (frames.mask[0] > 0)[~rounded])
    assert rounded.mean() < 2e-3
    assert 0.01 < (frames.mask > 0).mean() < 0.3


def test_seeds_decide():
    first, again, other = (emulsion.simulate_frames(SMALL, seed, 2) for seed in (3, 3, 4))
    for name in ("pixels", "mask", "grains"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes() != getattr(other, name).tobytes()


def test_grain_numbers_are_those_asked_for():
    """Fog: a Poisson number in the volume drawn from. Tracks: grains per length of straight tracks in the plane."""
    fog = dataclasses.replace(SMALL, num_tracks=0.0, thickness=4.0, fog_per_1000um3=20.0)
    grains = emulsion.draw_grains(fog, np.random.default_rng(0))
    inside = (grains["y_um"] >= 0) & (grains["y_um"] < 76.8) & (grains["x_um"] >= 0) & (grains["x_um"] < 96.0)
    expected = 76.8 * 96.0 * 4.0 * 20 / 1000
    assert abs(inside.sum() - expected) < 4 * math.sqrt(expected) and (grains["track"] == 0).all()
    assert grains["radius_um"].min() >= 0.4 and grains["radius_um"].max() <= 0.5 and abs(grains["z_um"]).max() <= 2.0
    flat = dataclasses.replace(SMALL, fog_per_1000um3=0.0, dip_degrees=0.0, curvature_radius=math.inf, scatter=0.0, grains_per_100um=300.0)
    grains = emulsion.draw_grains(flat, np.random.default_rng(1))
    num, length = 0, 0.0
    for track in np.unique(grains["track"]):
        mine = grains[grains["track"] == track]
        place = np.stack([mine["y_um"], mine["x_um"]], -1)
        centred = place - place.mean(0)
        _, spread, axes = np.linalg.svd(centred, full_matrices=False)
        assert spread[1] < 1e-6 * spread[0] and np.ptp(mine["z_um"]) == 0
        num, length = num + len(mine) - 1, length + np.ptp(centred @ axes[0])
    assert abs(num / length - 3.0) < 4 * math.sqrt(num) / length and num > 1000


def test_tracks_are_as_thick_and_bent_as_asked_for():
    settings = dataclasses.replace(SMALL, num_tracks=200.0, fog_per_1000um3=0.0, dip_degrees=0.0, curvature_radius=math.inf, scatter=0.3)
    grains = emulsion.draw_grains(settings, np.random.default_rng(2))
    spread = [np.std(grains["z_um"][grains["track"] == track]) for track in range(1, 150)]
    assert np.median(spread) == pytest.approx(0.3, rel=0.05)
    circle = dataclasses.replace(settings, scatter=0.0, curvature_radius=500.0)
    bent = emulsion._track(circle, np.array([50, 50]), 60.0, np.random.default_rng(0))
    y, x = bent[:, 0], bent[:, 1]
    centre = np.linalg.lstsq(np.stack([2 * y, 2 * x, np.ones_like(x)], -1), y**2 + x**2, rcond=None)[0]
    assert math.sqrt(centre[2] + centre[0] ** 2 + centre[1] ** 2) > 450


@pytest.mark.parametrize("depth", [0.0, 2.0, 4.0])
def test_the_blur_of_a_grain_has_the_width_of_its_depth_and_keeps_its_absorbance(depth):
    settings = dataclasses.replace(SMALL, size_px=(201, 201), nm_per_pixel=100.0)
    grains = np.array([grain(10.0, 10.0, depth)], GRAIN)
    image = emulsion.absorbance(settings, grains, 0.0).astype(np.float64)
    y, x = np.mgrid[:201, :201] * 0.1
    variance = (image * (y - 10) ** 2).sum() / image.sum()
    assert variance == pytest.approx(0.45**2 / 4 + 0.2**2 + (0.4 * depth) ** 2, rel=0.04)  # a disc's variance is r^2 / 4
    assert image.sum() * 0.01 == pytest.approx(-math.log(0.15) * math.pi * 0.45**2, rel=0.02)
    assert (image * x).sum() / image.sum() == pytest.approx(10.0, abs=0.01)


def test_the_mask_holds_tracks_in_focus_only_and_numbers_them():
    rows = [grain(15, 15, 0), grain(15, 45, 0, track=2), grain(45, 15, 0, track=0), grain(45, 45, 1.6), grain(60, 60, -0.5)]
    grains = np.array(rows, GRAIN)
    mask = emulsion.focus_mask(SMALL, grains, 0.0)
    at = lambda y, x: int(mask[round(y / 0.3), round(x / 0.3)])  # noqa: E731
    assert [at(15, 15), at(15, 45), at(45, 15), at(45, 45), at(60, 60)] == [1, 2, 0, 0, 1]
    y, x = np.nonzero(mask == 2)
    assert np.hypot(y * 0.3 - 15, x * 0.3 - 45).max() < 0.45 + 0.3 and len(y) >= 5
    alone = np.exp(-emulsion.absorbance(SMALL, grains[[0, 1, 4]], 0.0)) <= 0.6
    np.testing.assert_array_equal(mask > 0, alone)


def test_a_stack_has_the_grains_of_each_plane_in_focus():
    frames = emulsion.simulate_frames(SMALL, 5, 5)
    assert frames.pixels.shape == frames.mask.shape == (5, 256, 320)
    np.testing.assert_allclose(emulsion.plane_depths(SMALL, 5), [-2, -1, 0, 1, 2])
    for plane, depth in enumerate(emulsion.plane_depths(SMALL, 5)):
        np.testing.assert_array_equal(frames.mask[plane], emulsion.focus_mask(SMALL, frames.grains, depth))
    shared = [((frames.mask[0] > 0) & (mask > 0)).sum() for mask in frames.mask]
    assert shared[0] > shared[1] > shared[4]


def test_noise_is_of_the_electrons_asked_for():
    settings = dataclasses.replace(SMALL, num_tracks=0.0, fog_per_1000um3=0.0, shading=0.0, background=128.0)
    deviation = emulsion.simulate_frames(settings, 0).pixels.astype(float).std()
    gain = settings.full_well / 255
    assert deviation == pytest.approx(math.sqrt((128 * gain + 20.0**2) / gain**2 + 1 / 12), rel=0.02)


def test_shading_takes_light_from_the_corners():
    light = emulsion.illumination(SMALL, np.random.default_rng(0))
    assert light.max() == pytest.approx(200.0) and 0.3 * 200 < light.min() < 0.85 * 200


def test_scans_carry_mask_scale_and_depend_on_their_number_only():
    scans = emulsion.emulsion_scans(SMALL, 2, seed=7)
    assert [scan.id for scan in scans] == ["emulsion_000", "emulsion_001"] and scans[0].unit == "grey"
    np.testing.assert_array_equal(scans[1].pixels, emulsion.simulate_frames(SMALL, (7, 1)).pixels[0])
    assert scans[0].nm_per_pixel == (300.0, 300.0) and scans[0].mask.dtype == np.int32 and scans[0].mask.shape == (256, 320)


@pytest.mark.parametrize(
    "change",
    [
        {"size_px": (4, 400)},
        {"dip_degrees": 90.0},
        {"curvature_radius": 0.0},
        {"grain_radius": (0.5, 0.4)},
        {"transmission": 1.0},
        {"visible": 0.0},
        {"shading": 0.6},
        {"read_noise": math.nan},
        {"nm_per_pixel": 0.0},
        {"num_tracks": 1e9},
    ],
)
def test_a_setting_out_of_range_is_named(change):
    with pytest.raises(DataError, match=f"emulsion setting {next(iter(change))} = "):
        EmulsionSettings(**change)


def test_a_stack_of_no_planes_is_refused():
    with pytest.raises(DataError, match="num_planes = 0"):
        emulsion.simulate_frames(SMALL, 0, 0)


def test_an_emulsion_without_grains_is_empty():
    frames = emulsion.simulate_frames(dataclasses.replace(SMALL, num_tracks=0.0, fog_per_1000um3=0.0), 0)
    assert frames.mask.max() == 0 and len(frames.grains) == 0 and frames.pixels.min() > 80
