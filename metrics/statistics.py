"""Mean and covariance of features, in pieces that merge: any order, any batch size, many hosts."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from microscopy.scan import DataError

LARGEST = 1e30
"""Features of more are no network's, and their cubes leave the range of float64."""


class Statistics(NamedTuple):
    """Count of rows, their mean (d,) and `m2` (d, d), the sum of outer products of deviations from the mean; both float64."""

    count: int
    mean: np.ndarray
    m2: np.ndarray


def checked(features: np.ndarray, name: str, min_rows: int = 2) -> np.ndarray:
    """Returns the features as a float64 array (n, d).

    Raises DataError that begins with `name`, such as "generated features", when they are not a table of real numbers with at
    least `min_rows` rows and one column, or when one of them is NaN or infinite.
    """
    features = np.asarray(features)
    if features.ndim != 2 or features.dtype.kind not in "fiub":
        raise DataError(f"{name}: a table (n, d) of real numbers is needed, not {features.dtype} of shape {features.shape}.")
    if features.shape[0] < min_rows or features.shape[1] < 1:
        what = "a score of a set needs" if min_rows == 2 else "needed are"
        raise DataError(f"{name}: {features.shape[0]} rows of {features.shape[1]} values; {what} at least {min_rows} rows.")
    features = features.astype(np.float64)
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        raise DataError(
            f"{name}: {int(bad.sum())} of {len(bad)} rows hold NaN or infinity, the first is row {int(bad.argmax())}.\n"
            "Compute them again, or leave those rows out."
        )
    largest = float(np.abs(features).max())
    if largest > LARGEST:
        raise DataError(f"{name}: values up to {largest:.3g}; up to {LARGEST:g} their cubes and products can be summed. Scale them.")
    return features


def checked_pair(real: np.ndarray, generated: np.ndarray, min_rows: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Returns both sets of features as float64 (n, d) and (m, d). Raises DataError as `checked`, and for unequal widths."""
    real, generated = checked(real, "real features", min_rows), checked(generated, "generated features", min_rows)
    if real.shape[1] != generated.shape[1]:
        raise DataError(f"real features have {real.shape[1]} columns and generated ones {generated.shape[1]}: take one layer for both.")
    return real, generated


def statistics(features: np.ndarray, name: str = "features") -> Statistics:
    """Returns the statistics of one batch of features (n, d), n >= 1, in float64. Raises DataError as `checked`."""
    features = checked(features, name, min_rows=1)
    mean = features.mean(axis=0)
    deviations = features - mean
    return Statistics(len(features), mean, deviations.T @ deviations)


def merged(first: Statistics, second: Statistics) -> Statistics:
    """Returns the statistics of both batches together, equal to those of all rows at once up to rounding.

    Chan, Golub & LeVeque 1983, eq. 2.1: M2 = M2a + M2b + n_a n_b / (n_a + n_b) * outer(delta). Raises DataError for unequal widths.
    """
    if first.mean.shape != second.mean.shape:
        raise DataError(f"statistics of {first.mean.size} and of {second.mean.size} features cannot be merged: take one layer for both.")
    count = first.count + second.count
    delta = second.mean - first.mean
    mean = first.mean + delta * (second.count / count)
    return Statistics(count, mean, first.m2 + second.m2 + (first.count * second.count / count) * np.outer(delta, delta))


def statistics_of(batches: Iterable[np.ndarray], name: str = "features") -> Statistics:
    """Returns the statistics of all batches (n_i, d) together. Raises DataError as `checked`, and when there is no batch."""
    found = None
    for batch in batches:
        more = statistics(batch, name)
        found = more if found is None else merged(found, more)
    if found is None:
        raise DataError(f"{name}: there is no batch at all.")
    return found


def covariance(of: Statistics, name: str = "features") -> np.ndarray:
    """Returns the covariance (d, d), float64, divided by count - 1. Raises DataError for a single row."""
    if of.count < 2:
        raise DataError(f"{name}: a covariance needs at least 2 rows, not {of.count}.")
    return of.m2 / (of.count - 1)


def covariance_rank(features: np.ndarray, name: str = "features") -> int:
    """Returns the rank of the covariance of features (n, d): at most min(n - 1, d), less for copies and constant columns.

    Singular values of the centred features below eps * max(n, d) of the largest count as 0, as in numpy.linalg.matrix_rank.
    """
    features = checked(features, name)
    scale = np.abs(features).max()
    deviations = features - features.mean(axis=0)
    # What centring leaves of a constant column is rounding of the column's own size, not of the deviations'.
    deviations[:, np.abs(deviations).max(axis=0) <= 4 * np.finfo(np.float64).eps * scale] = 0
    return int(np.linalg.matrix_rank(deviations))
