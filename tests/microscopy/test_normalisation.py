"""Splits of labelled scans: no group in two parts, every class in both where it can be; whatever the groups are."""

import numpy as np
import pytest

from microscopy.normalisation import fit, split
from microscopy.pictures import to_uint8
from microscopy.scan import Scan


def scans_of(labels, groups):
    pixels = np.zeros((2, 2), np.uint8)
    return [Scan(f"s{i}", pixels, str(i), label=label, group=group) for i, (label, group) in enumerate(zip(labels, groups, strict=True))]


def labels_of(parts):
    return {name: [scan.label for scan in part] for name, part in parts.items()}


@pytest.mark.parametrize("seed", range(6))
def test_every_class_is_in_every_part_at_its_share(seed):
    labels = ["a"] * 60 + ["b"] * 20 + ["c"] * 3 + ["d"] * 2 + ["e"]
    parts = labels_of(split(scans_of(labels, [None] * 86), seed, 0.2, 0.1))
    counts = {name: [part.count(label) for label in "abcde"] for name, part in parts.items()}
    assert counts == {"train": [42, 14, 1, 1, 1], "held_out": [12, 4, 1, 1, 0], "test": [6, 2, 1, 0, 0]}


@pytest.mark.parametrize("seed", range(40))
def test_no_group_is_in_two_parts_and_no_scan_is_lost(seed):
    random = np.random.default_rng(seed)
    num = int(random.integers(3, 60))
    labels = [str(name) if name != "none" else None for name in random.choice(["a", "b", "c", "none"], num)]
    groups = [str(group) if group else None for group in random.integers(0, random.integers(3, 20), num)]
    shares = random.uniform(0, 0.3, 2)
    scans = scans_of(labels, groups)
    parts = split(scans, seed, *shares)
    where = {}
    for name, part in parts.items():
        for scan in part:
            assert where.setdefault(scan.group or scan.id, name) == name
    assert sorted(scan.id for part in parts.values() for scan in part) == sorted(scan.id for scan in scans)
    assert {scan.label for scan in parts["train"]} == set(labels)


def test_patients_of_several_classes_are_held_out_at_about_the_share():
    random = np.random.default_rng(0)
    groups = [f"p{i // 5}" for i in range(500)]
    parts = split(scans_of([str(label) for label in random.choice(list("abcd"), 500)], groups), 0, 0.2, 0.1)
    sizes = {name: len({scan.group for scan in part}) for name, part in parts.items()}
    assert 15 <= sizes["held_out"] <= 25 and 7 <= sizes["test"] <= 14 and sum(sizes.values()) == 100


def test_a_set_without_classes_is_split_as_ever():
    parts = split(scans_of([None] * 20, [None] * 20), 0, 0.2, 0.1)
    order = np.random.default_rng(0).permutation(20)
    names = sorted(f"s{i}" for i in range(20))
    assert {scan.id for scan in parts["held_out"]} == {names[i] for i in order[:4]}
    assert {scan.id for scan in parts["test"]} == {names[i] for i in order[4:6]}


def test_a_given_range_is_the_map_and_undoes_the_writing_of_a_png():
    pixels = np.random.default_rng(0).integers(40, 200, (9, 9, 3), np.uint8)
    scan = Scan("a", pixels, "a")
    given, own = fit([scan], (0.0, 255.0)), fit([scan])
    assert (given.low, given.high, given.clipped, given.dtype) == (0.0, 255.0, (0.0, 0.0), "uint8") and own.low > 39
    np.testing.assert_array_equal(to_uint8(given.to_unit(pixels)), pixels)
    assert fit([scan], (100.0, 150.0)).clipped == (np.mean(pixels < 100), np.mean(pixels > 150))
