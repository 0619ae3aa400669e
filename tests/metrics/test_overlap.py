"""Scores of masks and instance maps against closed forms, scikit-image and brute-force tables and pairs."""

import collections
import itertools
import math

import numpy as np
import pytest
import skimage.measure
import skimage.metrics

from metrics import overlap
from microscopy.scan import DataError


def cells(seed=0, side=60, num=9, width=1):
    """Returns an instance map of Voronoi cells with background lines of 2 width + 1 pixels or so between them."""
    seeds = np.random.default_rng(seed).uniform(0, side, (num, 2))
    grid = np.stack(np.mgrid[:side, :side], -1)
    nearest = np.sort(np.linalg.norm(grid[:, :, None] - seeds, axis=-1), -1)
    owner = np.linalg.norm(grid[:, :, None] - seeds, axis=-1).argmin(-1) + 1
    return np.where(nearest[..., 1] - nearest[..., 0] > 2 * width, owner, 0)


def noisy_maps(seed):
    random = np.random.default_rng(seed)
    truth = np.kron(random.integers(0, 4, (4, 4)), np.ones((3, 3), int))
    return np.where(random.random(truth.shape) < 0.3, random.integers(0, 5, truth.shape), truth), truth


def brute_force(predicted, truth):
    """Returns the partition scores by walking every pixel and every pair of pixels of the truth's foreground."""
    places = np.argwhere(truth > 0)
    own = [int(predicted[tuple(place)]) or -1 - number for number, place in enumerate(places)]
    true = [int(truth[tuple(place)]) for place in places]
    pairs = list(itertools.product(range(len(own)), repeat=2))
    both = sum(own[a] == own[b] and true[a] == true[b] for a, b in pairs)
    same_own, same_true = (sum(labels[a] == labels[b] for a, b in pairs) for labels in (own, true))
    found = {"v_rand": both / (same_own + same_true) * 2, "v_rand_split": both / same_true, "v_rand_merge": both / same_own}
    shares = [collections.Counter(labels) for labels in (own, true, zip(own, true, strict=True))]
    entropy = [-sum(n / len(own) * math.log(n / len(own)) for n in share.values()) for share in shares]
    mutual = entropy[0] + entropy[1] - entropy[2]
    return found | {
        "v_info": 2 * mutual / (entropy[0] + entropy[1]),
        "v_info_split": mutual / entropy[0],
        "v_info_merge": mutual / entropy[1],
    }


def test_scores_of_pixels_from_their_counts():
    predicted = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    truth = np.array([[0, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    pixels = overlap.counts(predicted, truth)
    assert pixels.tolist() == [2, 1, 2, 5]
    assert (overlap.iou(pixels), overlap.dice(pixels), overlap.percent(pixels)) == (0.4, 4 / 7, 70.0)
    for scaled in ((predicted * 255, truth * 255), (predicted * 2 - 1, truth > 0), (predicted * 0.2, truth)):
        np.testing.assert_array_equal(overlap.counts(*scaled), pixels)
    nothing = overlap.counts(np.zeros((3, 3)), np.zeros((3, 3), bool))
    assert (overlap.iou(nothing), overlap.dice(nothing), overlap.percent(nothing)) == (1, 1, 100)
    both = overlap.counts(np.stack([predicted, truth]), np.stack([truth, predicted]))
    np.testing.assert_array_equal(both, pixels + overlap.counts(truth, predicted))


def test_module_and_squaring_are_means_over_signed_maps():
    random = np.random.default_rng(0)
    predicted, truth = random.random((30, 20)) < 0.4, random.random((30, 20)) < 0.4
    wrong = 1 - overlap.percent(overlap.counts(predicted, truth)) / 100
    assert overlap.module(predicted, truth) == pytest.approx(2 * wrong) and overlap.squaring(predicted, truth) == pytest.approx(4 * wrong)
    assert 0.2 < wrong < 0.8
    soft = np.full((4, 4), 0.5, np.float32)
    assert (overlap.module(soft, np.ones((4, 4), bool)), overlap.squaring(soft, -np.ones((4, 4), int))) == (0.5, 2.25)


@pytest.mark.parametrize("seed", range(4))
def test_partition_scores_against_every_pair_of_pixels(seed):
    predicted, truth = noisy_maps(seed)
    expected = brute_force(predicted, truth)
    assert overlap.partition_scores(predicted, truth, thin=False) == pytest.approx(expected, rel=1e-12)
    assert min(expected.values()) > 0.05 and max(expected.values()) < 0.99


def test_partition_scores_against_scikit_image():
    predicted, truth = cells(1) + 1, cells(0)
    found = overlap.partition_scores(predicted, truth, thin=False)
    split, merge = skimage.metrics.variation_of_information(truth, predicted, ignore_labels=(0,))
    shares = np.bincount(truth[truth > 0]) / (truth > 0).sum()
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    assert found["v_info_merge"] == pytest.approx((entropy - merge) / entropy, rel=1e-9)
    assert found["v_info_split"] == pytest.approx((entropy - merge) / (entropy - merge + split), rel=1e-9)
    error = skimage.metrics.adapted_rand_error(truth, predicted, ignore_labels=(0,))[0]
    assert found["v_rand"] == pytest.approx(1 - error, abs=0.002)  # it leaves out the pairs of a pixel with itself


def test_a_cut_lowers_split_and_a_merger_lowers_merge():
    truth = np.kron(np.array([[1, 2], [3, 4]]), np.ones((8, 8), int))
    cut, merged = truth + 4 * (np.arange(16) % 8 < 4), np.where(truth == 2, 1, truth)
    found = overlap.partition_scores(cut, truth)
    assert found == pytest.approx(
        {"v_rand": 2 / 3, "v_rand_split": 0.5, "v_rand_merge": 1, "v_info": 0.8, "v_info_split": 2 / 3, "v_info_merge": 1}
    )
    found = overlap.partition_scores(merged, truth)
    assert found["v_rand_split"] == found["v_info_split"] == pytest.approx(1)
    assert found["v_rand_merge"] == pytest.approx(2 / 3) and found["v_info_merge"] == pytest.approx(0.75)


def test_thinned_borders_are_one_pixel_wide_and_their_width_does_not_count():
    truth, wide = (overlap.segments(cells(side=90, width=width)) for width in (1, 3))
    thin = overlap.thin_borders(wide)
    assert set(np.unique(thin)) == set(np.unique(wide)) and (thin == 0).sum() < 0.5 * (wide == 0).sum()
    assert ((thin == wide) | (wide == 0)).all()
    background = np.pad(thin == 0, 1, constant_values=False)
    squares = background[:-1, :-1] & background[1:, :-1] & background[:-1, 1:] & background[1:, 1:]
    assert squares.sum() <= 3  # where lines meet
    # Across the line lies another segment, not the same one.
    assert len(np.unique(skimage.measure.label(thin > 0, connectivity=1))) == len(np.unique(thin))
    after, before = (overlap.partition_scores(wide, truth, thin=thin) for thin in (True, False))
    assert all(after[name] > before[name] + 0.03 for name in ("v_rand", "v_info"))
    # A grid, whose midway line is the same for any odd width.
    places = np.abs((np.arange(60) - 14) % 15)
    masks = [np.minimum(*np.ix_(np.minimum(places, 15 - places), np.minimum(places, 15 - places))) > reach for reach in (0, 2)]
    assert set(overlap.partition_scores(masks[1], masks[0]).values()) == {1.0}
    assert overlap.partition_scores(masks[1], masks[0], thin=False)["v_rand"] < 0.8


def test_one_segment_and_no_segment():
    ones, none = np.ones((6, 6), bool), np.zeros((6, 6), bool)
    assert set(overlap.partition_scores(ones, ones).values()) == {1.0}
    assert all(math.isnan(value) for value in overlap.partition_scores(ones, none).values())
    lost = overlap.partition_scores(none, ones)
    assert lost["v_rand_split"] == pytest.approx(1 / 36) and lost["v_rand_merge"] == 1 and lost["v_info_split"] == 0


def test_a_mask_is_cut_into_4_connected_segments():
    assert overlap.segments(np.eye(3, dtype=bool)).max() == 3
    assert overlap.segments(np.array([[5, 0, 5], [9, 0, 2]])).tolist() == [[2, 0, 2], [3, 0, 1]]


def objects():
    """Returns maps of 4 predicted and 5 true objects: IoU 1, 0.6, 0.5 (no match), one extra, two missed."""
    predicted, truth = np.zeros((10, 10), int), np.zeros((10, 10), int)
    predicted[0, :4], truth[0, :4] = 7, 3
    predicted[2, :3], truth[2, :5] = 2, 8
    predicted[4, :2], truth[4, :4] = 1, 1
    predicted[6, :5] = 9
    truth[8, :5], truth[9, 6:] = 4, 5
    return predicted, truth


def test_scores_of_objects_from_their_counts():
    found = overlap.object_counts(*objects())
    assert found.tolist() == [2, 2, 3, 1.6]
    assert (overlap.precision(found), overlap.recall(found), overlap.average_precision(found)) == (0.5, 0.4, 2 / 7)
    assert overlap.panoptic_quality(found) == pytest.approx({"pq": 1.6 / 4.5, "sq": 0.8, "rq": 2 / 4.5})
    assert overlap.object_counts(*objects(), threshold=0.7).tolist() == [1, 3, 4, 1]
    swapped = overlap.object_counts(*objects()[::-1])
    assert (overlap.precision(swapped), overlap.recall(swapped)) == (0.4, 0.5)


def test_objects_against_every_pair():
    predicted, truth = cells(0, width=2), np.roll(cells(0, width=1), 4, axis=0)
    masks = [[labels == label for label in np.unique(labels) if label] for labels in (predicted, truth)]
    ious = [(a & b).sum() / (a | b).sum() for a, b in itertools.product(*masks)]
    matched = [value for value in ious if value > 0.5]
    assert 2 <= len(matched) < len(masks[0])
    expected = [len(matched), len(masks[0]) - len(matched), len(masks[1]) - len(matched), sum(matched)]
    np.testing.assert_allclose(overlap.object_counts(predicted, truth), expected, rtol=1e-12)


def test_no_objects():
    none, some = np.zeros((5, 5), int), np.eye(5, dtype=int)
    found = overlap.object_counts(none, none)
    assert (overlap.average_precision(found), overlap.panoptic_quality(found)["pq"]) == (1, 1) and math.isnan(overlap.precision(found))
    found = overlap.object_counts(none, some)
    assert (overlap.recall(found), overlap.average_precision(found), overlap.panoptic_quality(found)["pq"]) == (0, 0, 0)


def test_bad_input_is_refused():
    mask = np.ones((4, 4), bool)
    for call, message in (
        (lambda: overlap.counts(mask, mask[1:]), "same shape"),
        (lambda: overlap.counts(mask * np.nan, mask), "NaN"),
        (lambda: overlap.counts(np.zeros((0, 4)), np.zeros((0, 4))), "mask of"),
        (lambda: overlap.module(mask.astype(np.uint8), mask), "-1..1"),
        (lambda: overlap.squaring(mask * 2.0, mask), "-1..1"),
        (lambda: overlap.partition_scores(mask * 1.0, mask), "instance map"),
        (lambda: overlap.partition_scores(mask, mask[1:]), "same shape"),
        (lambda: overlap.object_counts(-mask.astype(int), mask), "instance map"),
        (lambda: overlap.object_counts(mask, mask, threshold=0.3), "unique"),
    ):
        with pytest.raises(DataError, match=message):
            call()
