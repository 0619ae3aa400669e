"""The simulated scans: truth and pixels agree, seeds decide, and no single threshold solves the default set."""

import dataclasses
import hashlib
import math

import cv2
import numpy as np
import pytest

from microscopy import levelling, surfaces
from microscopy.scan import DataError
from microscopy.simulator import Simulated, SimulatorSettings, simulate_scan, simulated_scans

NO_ERRORS = SimulatorSettings(drift=0, tilt_degrees=0, line_offset=0, flicker=0, white_noise=0, num_spikes=0)
IDEAL = dataclasses.replace(NO_ERRORS, substrate="flat", tip_radius=0)


@pytest.fixture(scope="module")
def default_scans():
    return simulated_scans(SimulatorSettings(), num_scans=8, seed=0)


def best_jaccard(height, truth):
    """The Jaccard index of the best single threshold, by trying every one: all prefixes of the pixels sorted by height."""
    order = np.argsort(-height.ravel(), kind="stable")
    hits = np.cumsum(truth.ravel()[order])
    return (hits / (np.arange(1, hits.size + 1) + truth.sum() - hits)).max()


def test_best_jaccard_finds_a_solvable_threshold():
    truth = np.arange(100).reshape(10, 10) % 7 == 0
    assert best_jaccard(truth * 2.0 + 5, truth) == 1.0
    assert best_jaccard(-1.0 * truth, truth) == pytest.approx(truth.mean())


def test_no_single_threshold_solves_the_default_scans(default_scans):
    raw = [best_jaccard(scan.pixels, scan.mask > 0) for scan in default_scans]
    levelled = [best_jaccard(levelling.level(scan.pixels, "plane+rows")[0], scan.mask > 0) for scan in default_scans]
    assert np.mean(raw) <= 0.75 and np.mean(levelled) <= 0.75
    assert np.mean(levelled) > 0.5


@pytest.mark.parametrize("side", [512, 192, 96])
def test_particles_stand_out_after_levelling_also_when_reduced(default_scans, side):
    """Mean height inside footprints over the substrate far from them, in standard deviations of that substrate."""
    ratios = []
    for scan in default_scans:
        levelled = cv2.resize(levelling.level(scan.pixels, "plane+rows")[0], (side, side), interpolation=cv2.INTER_AREA)
        inside = cv2.resize((scan.mask > 0).astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        reach = 8.0 / (scan.nm_per_pixel[0] * 512 / side)
        far = cv2.distanceTransform((inside == 0).astype(np.uint8), cv2.DIST_L2, 5) > reach
        ratios.append((levelled[inside > 0.9].mean() - levelled[far].mean()) / levelled[far].std())
    assert np.mean(ratios) > 3


def test_scan_record(default_scans):
    scan = default_scans[3]
    assert [s.id for s in default_scans] == [f"simulated_{i:03d}" for i in range(8)]
    assert (scan.pixels.dtype, scan.pixels.shape, scan.mask.dtype, scan.mask.shape) == (np.float32, (512, 512), np.int32, (512, 512))
    assert (scan.unit, scan.nm_per_pixel, scan.file, scan.group, scan.label) == ("nm", (0.25, 0.25), "", None, None)
    assert scan.sha256 == hashlib.sha256(scan.pixels.tobytes()).hexdigest()
    assert len({s.sha256 for s in default_scans}) == 8
    alone = simulate_scan(SimulatorSettings(), (0, 3))
    assert np.array_equal(alone.height, scan.pixels) and np.array_equal(alone.mask, scan.mask)


def test_same_seed_same_bytes_other_seed_other_bytes():
    settings = SimulatorSettings(size_px=(96, 128))
    first, again, other = (simulate_scan(settings, seed) for seed in (7, 7, 8))
    for name in (field.name for field in dataclasses.fields(Simulated)):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    assert first.height.shape == (96, 128) and first.height.tobytes() != other.height.tobytes()
    assert first.mask.tobytes() != other.mask.tobytes()


@pytest.mark.parametrize("drift", [0.0, 6.0])
def test_mask_agrees_with_the_table(drift):
    scan = simulate_scan(dataclasses.replace(SimulatorSettings(), drift=drift), 3)
    particles, scale = scan.particles, 0.25
    assert np.array_equal(np.unique(scan.mask), np.arange(len(particles) + 1))
    assert np.array_equal(particles["label"], np.arange(1, len(particles) + 1))
    assert particles["whole"].sum() > 15 and not particles["whole"].all()
    stretch = []
    for particle in particles[particles["whole"]]:
        y, x = np.nonzero(scan.mask == particle["label"])
        assert abs(y.mean() * scale - particle["y_nm"]) < 0.1 and abs(x.mean() * scale - particle["x_nm"]) < 0.1
        stretch.append(len(y) * scale**2 / (math.pi / 4 * particle["diameter_nm"] ** 2))
        assert 0.3 <= particle["height_nm"] / particle["diameter_nm"] <= 0.5
    # Drift along y takes one factor for all: 1 / (1 + drift_y / side).
    assert np.std(stretch) < 0.02 and abs(np.mean(stretch) - 1) < (0.01 if drift == 0 else 0.06)
    assert np.allclose(particles["volume_nm3"], surfaces.cap_volume(particles["diameter_nm"], particles["height_nm"]))


def test_heights_and_volumes_of_pixels_agree_with_the_table():
    scan = simulate_scan(IDEAL, 0)
    for particle in scan.particles[scan.particles["whole"]]:
        inside = scan.height[scan.mask == particle["label"]]
        assert inside.max() == pytest.approx(particle["height_nm"], abs=0.02)
        assert inside.sum() * 0.25**2 == pytest.approx(particle["volume_nm3"], rel=0.01)
    assert not scan.height[scan.mask == 0].any()


def test_drift_moves_heights_and_mask_alike():
    scan = simulate_scan(dataclasses.replace(IDEAL, drift=10.0, agglomerated=0.0), 5)
    still = simulate_scan(dataclasses.replace(IDEAL, agglomerated=0.0), 5)
    assert not np.array_equal(scan.mask, still.mask)
    for particle in scan.particles[scan.particles["whole"]]:
        y, x = np.nonzero(scan.mask == particle["label"])
        weight = scan.height[y, x]
        centre = np.array([(y * weight).sum(), (x * weight).sum()]) / weight.sum()
        np.testing.assert_allclose(centre * 0.25, [particle["y_nm"], particle["x_nm"]], atol=0.05)


def test_tip_raises_but_never_lowers():
    sharp = simulate_scan(dataclasses.replace(IDEAL, tip_radius=0.0), 1)
    blunt = simulate_scan(dataclasses.replace(IDEAL, tip_radius=0.5), 1)
    blunter = simulate_scan(dataclasses.replace(IDEAL, tip_radius=6.0), 1)
    assert np.array_equal(sharp.mask, blunter.mask)
    assert sharp.height.sum() < blunt.height.sum() < blunter.height.sum()
    assert (blunt.height >= sharp.height).all() and (blunter.height >= blunt.height).all()


def test_steps_of_the_terraces_survive_into_the_scan():
    scan = simulate_scan(dataclasses.replace(NO_ERRORS, coverage=0.0, tip_radius=0.0), 2)
    levels = np.unique(scan.height)
    assert len(scan.particles) == 0 and not scan.mask.any() and len(levels) >= 3
    np.testing.assert_allclose(np.diff(levels), 0.335, atol=1e-5)


def test_coverage_and_sizes_of_many_scans():
    scans = [simulate_scan(dataclasses.replace(IDEAL, size_px=(256, 256), nm_per_pixel=0.5), seed) for seed in range(60)]
    assert np.mean([(scan.mask > 0).mean() for scan in scans]) == pytest.approx(0.18, abs=0.01)
    # Only centres inside the frame: a large footprint reaches into the frame more often than a small one.
    particles = np.concatenate([scan.particles for scan in scans])
    inside = (np.minimum(particles["y_nm"], particles["x_nm"]) >= 0) & (np.maximum(particles["y_nm"], particles["x_nm"]) < 128)
    logs = np.log(particles["diameter_nm"][inside])
    assert np.exp(np.median(logs)) == pytest.approx(9.0, rel=0.03) and np.exp(logs.std()) == pytest.approx(1.25, rel=0.03)


def test_every_scan_error_changes_the_heights_and_nothing_else():
    small = dataclasses.replace(NO_ERRORS, size_px=(64, 64))
    clean = simulate_scan(small, 0)
    for error in ({"tilt_degrees": 1.0}, {"line_offset": 0.2}, {"flicker": 0.2}, {"white_noise": 0.1}, {"num_spikes": 20.0}):
        scan = simulate_scan(dataclasses.replace(small, **error), 0)
        assert not np.array_equal(scan.height, clean.height) and np.array_equal(scan.mask, clean.mask), error
    rough = simulate_scan(dataclasses.replace(small, substrate="self_affine"), 0)
    assert np.array_equal(rough.mask, clean.mask) and not np.array_equal(rough.height, clean.height)


@pytest.mark.parametrize(
    "wrong",
    [{"coverage": 0.9}, {"tip_radius": -1.0}, {"substrate": "moon"}, {"hurst": 1.0}, {"height_ratio": (0.3, 0.7)}, {"drift": 99.0},
     {"white_noise": math.nan}, {"size_px": (4, 4)}, {"nm_per_pixel": 0.0}],
)  # fmt: skip
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))) as error:
        SimulatorSettings(**wrong)
    assert len(str(error.value).splitlines()) == 1
