"""The label field against every distance worked out one by one, and back to the mask it came from: touching particles stay apart."""

import cv2
import numpy as np
import pytest
import scipy.ndimage

from metrics import overlap
from microscopy import label_field
from microscopy.scan import DataError


def brute_force(mask, reach):
    """tanh(d / reach) with d from every pixel to every other."""
    places = np.argwhere(np.ones(mask.shape, bool))
    distance = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    labels = mask.ravel()
    found = []
    for place, own in enumerate(labels):
        others = distance[place][labels != own] if own else distance[place][labels > 0]
        found.append((others.min() - 0.5) * (1 if own else -1) if others.size else (np.inf if own else -np.inf))
    return np.tanh(np.array(found).reshape(mask.shape) / reach)


def discs(centres, radii, shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, np.int32)
    for number, ((cy, cx), radius) in enumerate(zip(centres, radii, strict=True), 1):
        mask[(np.hypot(y - cy, x - cx) <= radius) & (mask == 0)] = number
    return mask


def packed(seed, size=512, num=100):
    """About a hundred discs, many in touch, of radii 8 to 20 px."""
    random = np.random.default_rng(seed)
    kept, radii = np.zeros((0, 2)), np.zeros(0)
    while len(kept) < num:
        centre, radius = random.uniform(0, size, 2), random.uniform(8, 20)
        if len(kept):
            near = int(np.argmin(np.hypot(*(kept - centre).T) - radii))
            direction = centre - kept[near]
            if random.random() < 0.5:  # moved until it touches its neighbour
                centre = kept[near] + direction / np.hypot(*direction) * (radii[near] + radius)
        if not len(kept) or np.all(np.hypot(*(kept - centre).T) >= radii + radius - 1e-9):
            kept, radii = np.vstack([kept, centre]), np.append(radii, radius)
    return discs(kept, radii, (size, size))


@pytest.mark.parametrize("seed", range(4))
def test_the_field_is_every_pixels_distance_to_its_own_outline(seed):
    random = np.random.default_rng(seed)
    blobs = scipy.ndimage.gaussian_filter(random.normal(size=(2, 21, 26)), (0, 2, 2))
    mask = np.where(blobs[0] > 0, 5 + 3 * (blobs[1] > 0), 0) * (1, 1, 100_000_000, 1)[seed]  # two that touch, cut by the frame
    if seed == 3:
        mask = np.where(mask == 0, 2, mask)  # no background at all
    found = label_field.field(mask, 6.0)
    assert found.dtype == np.float32 and found.shape == mask.shape
    np.testing.assert_allclose(found, brute_force(mask, 6.0), atol=1e-5)


def test_maps_of_one_kind_of_pixel_are_at_the_ends():
    empty, full = np.zeros((5, 6), np.int32), np.full((5, 6), 7)
    for kind in label_field.KINDS:
        assert (label_field.field(empty, kind=kind) == -1).all() and (label_field.field(full, kind=kind) == 1).all()
        assert label_field.instances(label_field.field(empty, kind=kind), kind=kind).max() == 0
    assert set(label_field.instances(label_field.field(full)).ravel()) == {1}
    mask = discs([(10, 10)], [5], (20, 20))
    assert np.array_equal(label_field.field(mask, kind="mask"), np.where(mask, 1, -1))


def test_a_hundred_particles_come_back_with_those_that_touch_apart():
    mask = packed(0)
    field = label_field.field(mask)
    assert np.array_equal(field > 0, mask > 0) and len({label_field.field(mask).tobytes() for _ in range(5)}) == 1
    found = label_field.instances(field, 1)
    assert found.max() == mask.max()
    regions = scipy.ndimage.label(mask > 0, np.ones((3, 3)))[1]
    assert regions < 90  # so that a field without valleys would have failed
    true, extra, missed, iou = overlap.object_counts(found, mask)
    assert (true, extra, missed) == (100, 0, 0) and iou / true > 0.99


@pytest.mark.parametrize(("size", "least"), [(96, 0.97), (192, 0.985)])
def test_a_reduced_field_that_is_uneven_still_gives_each_particle(size, least):
    mask = packed(1, 384, 40)
    small = cv2.resize(label_field.field(mask), (size, size), interpolation=cv2.INTER_AREA)
    uneven = scipy.ndimage.gaussian_filter(np.random.default_rng(0).normal(size=small.shape), 1.5)
    small = small + 0.03 * uneven / uneven.std()
    truth = label_field.numbered(mask[2::4, 2::4] if size == 96 else mask[1::2, 1::2])
    true, extra, missed, iou = overlap.object_counts(label_field.instances(small, 3), truth)
    assert 2 * true / (2 * true + extra + missed) > least and iou / true > 0.8


def test_a_drawn_mask_is_cut_at_its_necks_and_specks_are_left_out():
    mask = discs([(20, 14), (20, 36), (4, 50)], [11, 11, 1.5], (40, 56))
    mask[20, 24:27] = 1
    for kind in label_field.KINDS:
        drawn = label_field.field(mask, kind=kind)
        assert label_field.instances(drawn, kind=kind, min_area=12).max() == 2
        assert label_field.instances(drawn, kind=kind, min_area=4).max() == 3
    assert [label_field.smallest_area(size, size) for size in (32, 96, 256)] == [4, 12, 85]


def test_a_long_particle_stays_one():
    y, x = np.mgrid[:80, :80]
    mask = (
        (((y - 40) * np.cos(0.4) + (x - 40) * np.sin(0.4)) / 9) ** 2 + (((x - 40) * np.cos(0.4) - (y - 40) * np.sin(0.4)) / 33) ** 2
    ) <= 1
    assert label_field.instances(label_field.field(mask.astype(np.int32))).max() == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_show_the_outlined_image_above_the_field(channels):
    mask = discs([(16, 16)], [8], (32, 32))
    image = np.repeat(np.where(mask, 0.8, -0.8)[..., None], channels, axis=-1)
    both = np.concatenate([image, label_field.field(mask)[..., None]], axis=-1)[None].astype(np.float32)
    (shown,) = label_field.shown(both)
    assert shown.shape == (192, 96, 3) and shown.dtype == np.uint8
    edge = (shown[:96] == (255, 120, 0)).all(-1)
    assert edge.any() and not edge[~(mask > 0).repeat(3, 0).repeat(3, 1)].any()
    assert shown[96 + 48, 48, 0] > 128 > shown[96, 0, 0]
    plain, field = label_field.apart(both[..., :channels])
    assert field is None and label_field.shown(plain).shape == (1, 32, 32, channels)


@pytest.mark.parametrize(
    "arguments",
    [
        (np.zeros((3, 3)),),
        (np.zeros((2, 3, 3), int),),
        (np.full((3, 3), -1),),
        (np.eye(3, dtype=int), 0.0),
        (np.eye(3, dtype=int), 5.0, "none"),
    ],
)
def test_what_is_no_map_or_no_kind_is_refused(arguments):
    with pytest.raises(DataError, match="label field"):
        label_field.field(*arguments)
