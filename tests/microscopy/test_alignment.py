"""Masks that do not lie on their images: moves are found with their size, exchanged ones with their partner, sound ones left alone."""

import os
import pathlib

import numpy as np
import pytest
import scipy.ndimage

from microscopy import alignment, simulator
from microscopy.folder import read_folder

DATA = pathlib.Path(os.environ.get("SCANFORGE_TEST_DATA", pathlib.Path(__file__).parents[2] / "../shared/data"))


def blobs(seed, shape=(160, 200)):
    """(pixels uint8 with noise, instance map) of bright smooth blobs."""
    random = np.random.default_rng(seed)
    field = scipy.ndimage.gaussian_filter(random.normal(size=shape), 6)
    mask = field > np.quantile(field, 0.8)
    image = 80 + 90 * scipy.ndimage.gaussian_filter(mask.astype(float), 1.0) + random.normal(0, 8, shape)
    return image.clip(0, 255).astype(np.uint8), scipy.ndimage.label(mask)[0].astype(np.int32)


def swapped(pairs):
    return alignment.swapped([alignment.copies(*pair) for pair in pairs])


def moved(array, by):
    return np.roll(array, by, (0, 1))


def test_agreement_is_the_mean_steepness_under_the_moved_outlines():
    pixels, mask = blobs(0, (40, 50))
    steep = alignment.edges(pixels).astype(float)
    steep = np.pad((steep - steep.mean()) / steep.std(), 3)
    y, x = np.nonzero(alignment.outlines(mask))
    expected = [[steep[y + 3 + dy, x + 3 + dx].mean() for dx in range(-3, 4)] for dy in range(-3, 4)]
    np.testing.assert_allclose(alignment.agreement(pixels, mask, 3), expected, atol=1e-6)


def test_patches_agree_with_the_whole(monkeypatch):
    pixels, mask = blobs(1, (160, 160))
    whole = alignment.agreement(pixels, mask)
    monkeypatch.setattr(alignment, "PATCH", 80)
    parts = alignment.agreement(pixels, mask)
    assert np.corrcoef(whole.ravel(), parts.ravel())[0, 1] > 0.9 and np.unravel_index(parts.argmax(), parts.shape) == (24, 24)


def test_outlines_lie_on_both_sides_of_a_border():
    mask = np.zeros((5, 6), np.int32)
    mask[2, 2:4] = 1
    found = alignment.outlines(mask)
    assert (
        found[2].tolist() == [0, 1, 1, 1, 1, 0]
        and found[1].tolist() == found[3].tolist() == [0, 0, 1, 1, 0, 0]
        and found[[0, 4]].sum() == 0
    )


@pytest.mark.parametrize("by", [(5, 0), (0, -7), (-12, 9)])
def test_a_moved_mask_is_found_with_its_move(by):
    for seed in range(5):
        pixels, mask = blobs(seed)
        dy, dx = alignment.displacement(pixels, moved(mask, by))
        assert abs(dy + by[0]) <= 1 and abs(dx + by[1]) <= 1


def test_sound_masks_and_empty_images_are_left_alone():
    for seed in range(5):
        pixels, mask = blobs(seed)
        assert alignment.displacement(pixels, mask) is None and alignment.displacement(pixels, moved(mask, (1, 1))) is None
    assert alignment.displacement(np.full((50, 60), 7, np.uint8), blobs(0, (50, 60))[1]) is None
    colour = np.repeat(blobs(0)[0][..., None], 3, axis=2)
    assert alignment.displacement(colour, moved(blobs(0)[1], (8, 0))) is not None


def test_exchanged_masks_are_found_with_their_partner():
    pairs = [blobs(seed) for seed in range(6)]
    assert swapped(pairs) == []
    pairs[1], pairs[4] = (pairs[1][0], pairs[4][1]), (pairs[4][0], pairs[1][1])
    found = swapped([*pairs, blobs(9, (80, 90))])
    assert [(i, j) for i, j, _, _ in found] == [(1, 4), (4, 1)] and all(other > own + 0.3 for _, _, own, other in found)


@pytest.mark.parametrize(
    ("images", "masks"), [("np-emps/images", "np-emps/segmaps"), ("isbi2012-em/train/image", "isbi2012-em/train/label")]
)
def test_real_pairs_are_sound_and_planted_faults_are_found(images, masks, tmp_path):
    if not (DATA / images).is_dir():
        pytest.skip(f"no {images} under {DATA}; set SCANFORGE_TEST_DATA")
    names = sorted(path.stem for path in (DATA / images).iterdir())[:20]
    (tmp_path / "names.txt").write_text("\n".join(names))
    scans, _ = read_folder(DATA / images, masks=DATA / masks, max_pixels=10**7, select=tmp_path / "names.txt")
    pairs = [(scan.pixels, scan.mask) for scan in scans]
    assert swapped(pairs) == [] and not any(alignment.displacement(*pair) for pair in pairs)
    found = [alignment.displacement(pixels, moved(mask, (8, -6))) for pixels, mask in pairs]
    assert sum(move is not None and np.hypot(move[0] + 8, move[1] - 6) <= 2 for move in found) >= 0.7 * len(pairs)


def test_the_common_shift_of_simulated_pairs_is_small_and_a_moved_set_is_found():
    settings = simulator.SimulatorSettings(size_px=(256, 256), nm_per_pixel=0.5)
    scans = [simulator.simulate_scan(settings, seed) for seed in range(6)]
    images, masks = (np.stack([getattr(scan, name) for scan in scans]) for name in ("height", "mask"))
    images = images - images.mean((1, 2), keepdims=True)
    assert np.hypot(*alignment.common_shift(images, masks)) < 0.5
    for by in ((3, -5), (-0.5, 2.25)):
        moved_images = scipy.ndimage.shift(images, (0, *by), order=3, mode="reflect")
        np.testing.assert_allclose(alignment.common_shift(moved_images, masks), by, atol=0.5)
        np.testing.assert_allclose(alignment.common_shift(-moved_images, masks), by, atol=0.5)
    assert alignment.common_shift(images, np.zeros_like(masks)) == (0.0, 0.0)
