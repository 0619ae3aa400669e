"""Precision, recall, density, coverage and MiFID against double loops and cases that tell one from the other."""

import numpy as np
import pytest

from metrics import neighbours
from metrics.fid import frechet_distance
from microscopy.scan import DataError


def sets(n=40, m=30, width=3, seed=0):
    source = np.random.default_rng(seed)
    return source.normal(size=(n, width)), 0.5 + 0.7 * source.normal(size=(m, width))


def radius(rows, index, k):
    return sorted(np.linalg.norm(rows[index] - other) for number, other in enumerate(rows) if number != index)[k - 1]


def share_inside(points, centres, k):
    radii = [radius(centres, index, k) for index in range(len(centres))]
    return np.mean([any(np.linalg.norm(p - c) <= r for c, r in zip(centres, radii, strict=True)) for p in points])


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("chunk", [7, 1024])
def test_against_double_loops(monkeypatch, k, chunk):
    monkeypatch.setattr(neighbours, "CHUNK", chunk)
    real, generated = sets()
    found = neighbours.manifold(real, generated, k, k)
    assert found.precision == share_inside(generated, real, k) and found.recall == share_inside(real, generated, k)
    inside = np.array([[np.linalg.norm(g - r) < radius(real, index, k) for index, r in enumerate(real)] for g in generated])
    assert found.density == pytest.approx(inside.sum() / (k * len(generated))) and found.coverage == inside.any(axis=0).mean()
    assert found.recall != found.precision and found.coverage != found.density


def test_one_mode_of_two_has_precision_and_no_recall_of_the_other():
    source = np.random.default_rng(1)
    left, right = source.normal(size=(100, 2)), 50 + source.normal(size=(100, 2))
    real, one_mode = np.concatenate([left, right]), 0.5 * source.normal(size=(200, 2))
    dropped = neighbours.manifold(real, one_mode)
    assert dropped.precision > 0.95 and dropped.recall < 0.5 and dropped.coverage < 0.55
    invented = neighbours.manifold(one_mode, real)
    assert invented.precision < 0.5 and invented.recall > 0.95
    assert neighbours.precision_recall(one_mode, real) == neighbours.precision_recall(real, one_mode)[::-1]


def test_equal_distant_and_offset_sets():
    real, generated = sets()
    same = neighbours.manifold(real, real)
    assert same.precision == same.recall == same.coverage == 1 and same.density > 0.9
    assert neighbours.manifold(real, real + 100) == (0, 0, 0, 0)
    moved = neighbours.manifold(real + 1e5, generated + 1e5)
    assert moved == neighbours.manifold(real, generated)


def test_density_is_one_for_one_distribution_and_an_outlier_does_not_raise_it():
    source = np.random.default_rng(2)
    real, generated = source.normal(size=(2, 1500, 4))
    assert neighbours.density_coverage(real, generated)[0] == pytest.approx(1, abs=0.05)
    # Naeem et al. 2020, eq. 10: expected coverage 1 - prod over j < k of (m - j)/(n + m - 1 - j), about 1 - 2^-k.
    assert neighbours.density_coverage(real, generated)[1] == pytest.approx(1 - 2.0**-5, abs=0.02)


def test_memorisation_distance_by_hand():
    features = np.array([[1.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    others = np.array([[0.0, 2.0], [0.0, 0.0], [-5.0, 5.0]])
    expected = ((1 - np.sqrt(0.5)) + (1 - 0.8)) / 2
    assert neighbours.memorisation_distance(features, others) == pytest.approx(expected)
    assert neighbours.memorisation_distance(features, -7 * features[::-1]) == pytest.approx(0, abs=1e-15)
    assert neighbours.memorisation_distance(np.eye(4)[:2], np.eye(4)[2:]) == 1


def test_the_memorisation_distance_is_of_the_first_set():
    few, many = np.eye(3)[:2], np.eye(3)
    assert neighbours.memorisation_distance(few, many) == 0 and neighbours.memorisation_distance(many, few) == pytest.approx(1 / 3)


def test_mifid():
    source = np.random.default_rng(0)
    real, generated = 5 + source.normal(size=(60, 4)), 5.2 + source.normal(size=(50, 4))
    frechet, distance = frechet_distance(real, generated), neighbours.memorisation_distance(real, generated)
    assert 0 < distance < 0.1 and neighbours.mifid(real, generated) == pytest.approx(frechet / distance)
    assert neighbours.mifid(real, generated, threshold=distance / 2) == pytest.approx(frechet)
    assert neighbours.mifid(real, real) == 0


def test_bad_input_is_refused():
    real, generated = sets(4, 9)
    assert 0 <= neighbours.precision_recall(real, generated)[0] <= 1
    with pytest.raises(DataError, match="real features: 4 rows have no 5-th neighbour; take k from 1 to 3"):
        neighbours.manifold(real, generated)
    with pytest.raises(DataError, match="0-th"):
        neighbours.precision_recall(real, generated, 0)
    with pytest.raises(DataError, match="all zero"):
        neighbours.memorisation_distance(np.zeros((2, 3)), generated)
    real[0, 0] = np.nan
    with pytest.raises(DataError, match="real features: 1 of 4 rows"):
        neighbours.mifid(real, generated)
