"""Scores by nearest neighbours among features: precision, recall, density, coverage, and the memorisation of training images."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from metrics.fid import frechet_distance
from metrics.statistics import checked_pair
from microscopy.scan import DataError

CHUNK = 1024


class Manifold(NamedTuple):
    """Scores by balls around each row that reach its k-th neighbour in its own set; `density` may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Returns (precision, recall), both 0 to 1, of features (n, d) and (m, d).

    Kynkaanniemi et al. 2019, eq. 1 and 2: precision is the share of *generated* rows within the balls of real ones, recall the
    share of *real* rows within the balls of generated ones; a ball reaches its row's k-th neighbour and includes its edge. A
    generator of a single good image has precision 1 and recall 0. Raises DataError as `manifold`.
    """
    real, generated = _centred(real, generated, k)
    return _share_inside(generated, real, _radii(real, k)), _share_inside(real, generated, _radii(generated, k))


def density_coverage(real: np.ndarray, generated: np.ndarray, k: int = 5) -> tuple[float, float]:
    """Returns (density, coverage) of features (n, d) and (m, d).

    Naeem et al. 2020, eq. 3 and 4: density is how many of the real rows' balls a generated row lies in, over k (1 is expected
    for equal distributions); coverage, 0 to 1, is the share of real rows whose ball holds a generated row. Edges are left out,
    as in the authors' code. Raises DataError as `manifold`.
    """
    real, generated = _centred(real, generated, k)
    radii, inside, covered = _radii(real, k), 0, np.zeros(len(real), bool)
    for distances in _squared_distances(generated, real):
        within = distances < radii
        inside += int(within.sum())
        covered |= within.any(axis=0)
    return inside / (k * len(generated)), float(covered.mean())


def manifold(real: np.ndarray, generated: np.ndarray, k_precision: int = 3, k_density: int = 5) -> Manifold:
    """Returns precision, recall (k = 3, Kynkaanniemi et al. 2019), density and coverage (k = 5, Naeem et al. 2020).

    Raises DataError as `metrics.statistics.checked_pair`, and when a set has no more than k rows.
    """
    return Manifold(*precision_recall(real, generated, k_precision), *density_coverage(real, generated, k_density))


def memorisation_distance(features: np.ndarray, others: np.ndarray) -> float:
    """Returns the mean over rows of `features` of 1 - |cosine| to the row of `others` most alike: 0 for copies, 1 for orthogonal.

    MiFID's distance (Bai et al. 2021, eq. 2; Kaggle "Generative Dog Images" 2019), before its threshold. Rows of zeros have no
    direction and are left out. Raises DataError as `metrics.statistics.checked_pair`, and when a set has only such rows.
    """
    features, others = (_directions(rows) for rows in checked_pair(features, others))
    chunks = (np.abs(features[start : start + CHUNK] @ others.T).max(axis=1) for start in range(0, len(features), CHUNK))
    # The cosine of a row with itself can exceed 1 by rounding.
    return float(np.mean(1 - np.minimum(np.concatenate(list(chunks)), 1)))


def mifid(real: np.ndarray, generated: np.ndarray, threshold: float = 0.1) -> float:
    """Returns the Frechet distance over the memorisation distance of real rows to generated ones, that taken as 1 from `threshold` on.

    The Kaggle score of 2019 as torchmetrics 1.9 has it, down to its 1e-14 beside the divisor, 0 for a Frechet distance up to
    1e-8, and the direction: every real row's nearest generated one. Raises DataError as `memorisation_distance`.
    """
    frechet, distance = frechet_distance(real, generated), memorisation_distance(real, generated)
    if frechet <= 1e-8:
        return 0.0
    return frechet / ((distance if distance < threshold else 1.0) + 1e-14)


def nearest(features: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (index (n) of the row of `others` (m, d) nearest to each row of `features` (n, d), their Euclidean distances (n)).

    Raises DataError as `metrics.statistics.checked_pair`, single rows allowed.
    """
    features, others = checked_pair(features, others, min_rows=1)
    mean = others.mean(axis=0)
    index = np.concatenate([d.argmin(axis=1) for d in _squared_distances(features - mean, others - mean)])
    return index, np.linalg.norm(features - others[index], axis=1)


def _centred(real: np.ndarray, generated: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns both sets around the real mean: squares of large offsets would cancel in the distances."""
    real, generated = checked_pair(real, generated)
    for name, rows in (("real", real), ("generated", generated)):
        if not 1 <= k < len(rows):
            raise DataError(f"{name} features: {len(rows)} rows have no {k}-th neighbour; take k from 1 to {len(rows) - 1}.")
    mean = real.mean(axis=0)
    return real - mean, generated - mean


def _squared_distances(first: np.ndarray, second: np.ndarray) -> Iterator[np.ndarray]:
    """Yields chunks (c, m) of the squared distances of each row of `first` to all of `second`."""
    squares = np.einsum("ij,ij->i", second, second)
    for start in range(0, len(first), CHUNK):
        rows = first[start : start + CHUNK]
        found = rows @ second.T
        found *= -2
        found += np.einsum("ij,ij->i", rows, rows)[:, None] + squares
        yield np.maximum(found, 0, out=found)


def _radii(features: np.ndarray, k: int) -> np.ndarray:
    """Returns each row's squared distance to its k-th neighbour, itself not counted."""
    found = []
    for number, distances in enumerate(_squared_distances(features, features)):
        own = np.arange(len(distances))
        distances[own, number * CHUNK + own] = np.inf
        found.append(np.partition(distances, k - 1, axis=1)[:, k - 1])
    return np.concatenate(found)


def _share_inside(points: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> float:
    return float(np.mean(np.concatenate([(distances <= radii).any(axis=1) for distances in _squared_distances(points, centres)])))


def _directions(features: np.ndarray) -> np.ndarray:
    features = features[features.any(axis=1)]
    if not len(features):
        raise DataError("features are all zero: no row has a direction to compare.")
    # By the largest value first, so that squares of tiny and huge features neither vanish nor overflow.
    features = features / np.abs(features).max(axis=1, keepdims=True)
    return features / np.linalg.norm(features, axis=1, keepdims=True)
