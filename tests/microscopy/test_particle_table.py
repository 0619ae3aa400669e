"""A set of particles against brute force, and the CSV file it is written to."""

import csv
import math

import numpy as np
import pytest

from microscopy import particle_table, particles


@pytest.fixture(scope="module")
def labels():
    """Returns 40 small squares at random places of a frame of 200 x 300 pixels, each with a label of its own; one is cut."""
    random = np.random.default_rng(0)
    found = np.zeros((200, 300), np.int32)
    cells = random.permutation(10 * 15)[:39]
    for label, cell in enumerate(cells, 1):
        y, x = 20 * (cell // 15) + random.integers(1, 10), 20 * (cell % 15) + random.integers(1, 10)
        size = random.integers(3, 9)
        found[y : y + size, x : x + size] = label
    found[195:, 0:4] = 40
    return found


@pytest.mark.parametrize("scale", [None, (0.5, 0.5), (2.0, 0.7)])
def test_a_set_against_brute_force(labels, scale):
    rows = particles.measure(labels, nm_per_pixel=scale)
    found = particle_table.describe(rows, labels.shape, scale)
    places = np.array([np.argwhere(labels == label).mean(0) for label in range(1, 41)])
    for unit, size in {"": (1.0, 1.0), **({"_nm": scale} if scale else {})}.items():
        apart = np.linalg.norm((places[:, None] - places) * np.array(size), axis=-1)
        nearest = (apart + np.diag(np.full(40, np.inf))).min(1)
        assert found[f"nearest_neighbour_mean{unit}"] == pytest.approx(nearest.mean())
        assert found[f"nearest_neighbour_median{unit}"] == pytest.approx(np.median(nearest))
        areas = np.array([(labels == label).sum() for label in range(1, 40)]) * size[0] * size[1]  # the 40th is cut
        assert found[f"median_diameter{unit}"] == pytest.approx(2 * math.sqrt(np.median(areas) / math.pi))
    assert (found["particles"], found["whole"]) == (40, 39) and found["coverage"] == pytest.approx((labels > 0).mean())
    assert ("density_per_um2" in found) == (scale is not None) == ("median_diameter_nm" in found)
    if scale:
        assert found["density_per_um2"] == pytest.approx(40 / (200 * scale[0] * 300 * scale[1] * 1e-6))


def test_too_few_particles_give_nan():
    nothing = particle_table.describe([], (10, 10), (1.0, 1.0))
    assert nothing["particles"] == nothing["coverage"] == nothing["density_per_um2"] == 0
    assert math.isnan(nothing["median_diameter_nm"]) and math.isnan(nothing["nearest_neighbour_mean_nm"])
    mask = np.zeros((10, 10), bool)
    mask[4:6, 4:6] = True
    alone = particle_table.describe(particles.measure(mask), (10, 10))
    assert alone["median_diameter"] == pytest.approx(2 * math.sqrt(4 / math.pi)) and math.isnan(alone["nearest_neighbour_median"])


def test_the_table_as_a_file(labels, tmp_path):
    height = np.where(labels > 0, 3.0, 0.5)
    rows = particles.measure(labels, nm_per_pixel=(0.5, 0.25), height=height, tip_radius_nm=0.1)
    path = particle_table.write_table(tmp_path / "table.csv", rows)
    with open(path, newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == 40 and [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]
    units = ("_px", "_px2", "_nm", "_nm2", "_nm3")
    plain = {"label", "eccentricity", "circularity", "solidity", "touches_border"}
    assert {name for name in read[0] if not name.endswith(units)} == plain
    assert {"y_px", "area_px2", "feret_max_px", "area_nm2", "height_max_nm", "volume_nm3", "tip_corrected_diameter_nm"} <= set(read[0])
    for row, line in zip(rows, read, strict=True):
        assert float(line["area_px2"]) == row["area"] and float(line["volume_nm3"]) == row["volume_nm3"]
        assert line["touches_border"] == str(int(row["touches_border"])) and float(line["x_px"]) == row["x"]


def test_a_table_without_rows_is_an_empty_file(tmp_path):
    assert particle_table.write_table(tmp_path / "empty.csv", []).read_bytes() == b""


def test_a_table_that_cannot_be_written_leaves_the_old_one(labels, tmp_path):
    path = particle_table.write_table(tmp_path / "table.csv", particles.measure(labels))
    before = path.read_bytes()
    with pytest.raises(KeyError):
        particle_table.write_table(path, [{"label": 1, "area": 2.0}, {"label": 2}])
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
