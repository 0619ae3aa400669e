"""Clusters against planted rods of known length and direction, a flood fill written out, and closed forms."""

import itertools

import numpy as np
import pytest

from microscopy.clusters import angles, measure_clusters
from microscopy.scan import DataError


def rod(shape, centre_um, azimuth, dip, length_um, radius_um, nm_per_voxel):
    """Bool (d, h, w): voxels whose centre is within `radius_um` of a straight line of `length_um`; angles in degrees."""
    a, b = np.radians([azimuth, dip])
    axis = np.array([np.sin(b), np.cos(b) * np.sin(a), np.cos(b) * np.cos(a)])
    place = np.stack(np.indices(shape), -1) * np.asarray(nm_per_voxel) / 1000 - centre_um
    along = place @ axis
    return (abs(along) <= length_um / 2) & (np.linalg.norm(place - along[..., None] * axis, axis=-1) <= radius_um)


@pytest.mark.parametrize(("azimuth", "dip"), [(0, 0), (30, 10), (75, -12), (120, 25), (160, -40)])
def test_a_planted_track_has_its_length_and_direction_in_oblong_voxels(azimuth, dip):
    scale, centre = (1000.0, 300.0, 250.0), np.array([8.0, 13.0, 12.0])
    mask = rod((17, 88, 97), centre, azimuth, dip, 16.0, 0.9, scale)
    (row,) = measure_clusters(mask, np.where(mask, 0.75, 0.1), scale)
    assert row["length_um"] == pytest.approx(16.0, rel=0.04)
    off = abs(row["azimuth_degrees"] - azimuth)
    assert min(off, 180 - off) < 1.5 and row["dip_degrees"] == pytest.approx(dip if min(off, 180 - off) == off else -dip, abs=1.5)
    assert [row[name] for name in ("z_um", "y_um", "x_um")] == pytest.approx(centre, abs=0.1)
    assert row["volume_um3"] == pytest.approx(mask.sum() * 0.075) and row["mean_probability"] == pytest.approx(0.75)
    assert row["elongation"] > 4 and not row["touches_border"]


def test_a_row_of_voxels_measures_their_number_and_the_edge_is_told():
    mask = np.zeros((4, 9, 20), bool)
    mask[1, 2, 3:14] = True
    mask[0:3, 6, 0] = True
    one, other = measure_clusters(mask)
    if one["voxels"] == 3:
        one, other = other, one
    assert one["length"] == pytest.approx(11) and (one["z"], one["y"], one["x"]) == (1, 2, 8) and not one["touches_border"]
    assert other["length"] == pytest.approx(3) and other["dip_degrees"] == pytest.approx(90) and other["touches_border"]
    assert one["elongation"] == pytest.approx(11) and "mean_probability" not in one and "length_um" not in one
    assert [row["voxels"] for row in measure_clusters(mask, min_voxels=4)] == [11]
    assert measure_clusters(np.zeros((2, 3, 4), bool)) == []


def test_clusters_are_those_of_a_flood_fill_over_26_neighbours():
    mask = np.random.default_rng(0).random((6, 12, 12)) > 0.9
    left, sizes = set(map(tuple, np.argwhere(mask))), []
    while left:
        todo, size = [left.pop()], 1
        while todo:
            here = todo.pop()
            for step in itertools.product((-1, 0, 1), repeat=3):
                there = tuple(np.add(here, step))
                if there in left:
                    left.remove(there)
                    todo.append(there)
                    size += 1
        sizes.append(size)
    rows = measure_clusters(mask)
    assert sorted(row["voxels"] for row in rows) == sorted(sizes) and len(sizes) > 10
    assert [row["cluster"] for row in rows] == list(range(1, len(sizes) + 1))


def test_an_axis_has_no_direction():
    for axis in ([0.5, -0.5, 0.7], [0.1, 0.0, -1.0], [-1.0, 0.0, 0.0]):
        assert angles(np.array(axis)) == pytest.approx(angles(-np.array(axis)))
    assert angles(np.array([0.0, 1.0, -1.0])) == pytest.approx((135.0, 0.0))
    assert angles(np.array([1.0, 1.0, 0.0])) == pytest.approx((90.0, 45.0))


def test_arrays_that_do_not_fit_are_told():
    mask = np.zeros((2, 3, 4), bool)
    for arguments in ((mask[0],), (mask.astype(int),), (mask, np.zeros((2, 3, 5))), (mask, None, (1.0, 0.0, 1.0))):
        with pytest.raises(DataError, match="needed"):
            measure_clusters(*arguments)
