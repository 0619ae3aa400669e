"""Frechet distance between two sets of features: mean and covariance of both, in float64, without a matrix square root.

||mu1 - mu2||^2 + Tr S1 + Tr S2 - 2 Tr (S1 S2)^(1/2), between Gaussians (Dowson & Landau 1982, eq. 16); on Inception features
the FID (Heusel et al. 2017, eq. 6). Covariances are divided by N - 1. The last term needs no square root of a matrix that may be
singular: it is the sum of the singular values of any A^T B with A A^T = S1 and B B^T = S2.
"""

import numpy as np
import scipy.linalg

from metrics.statistics import Statistics, checked_pair, covariance, statistics
from microscopy.scan import DataError


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Returns the Frechet distance, >= 0, between features (n, d) and (m, d), both of at least 2 rows.

    Dowson & Landau 1982, eq. 16; Heusel et al. 2017, eq. 6. With fewer rows than columns the n x m form is taken, which needs no
    covariance; both forms agree to rounding, about 1e-12 of the traces. Biased upwards at finite n: see `metrics.fid_infinity`.
    Raises DataError naming the set that is no finite table of two rows and more.
    """
    real, generated = checked_pair(real, generated)
    if by_rows(len(real), len(generated), real.shape[1]):
        return _from_rows(real, generated)
    return frechet_from_statistics(statistics(real), statistics(generated))


def by_rows(num_real: int, num_generated: int, width: int) -> bool:
    """Returns whether the n x m form is the cheaper one: both sets, or their product, smaller than the covariance."""
    return max(num_real, num_generated) < width or num_real * num_generated < width * width


def frechet_from_statistics(real: Statistics, generated: Statistics) -> float:
    """Returns the Frechet distance, >= 0, from the statistics of both sets (counts of at least 2), by symmetric eigenvalues.

    Dowson & Landau 1982, eq. 16. With S1 = L L^T the eigenvalues of the symmetric L^T S2 L are those of S2 S1. Only as many as
    the counts allow (rank at most N - 1) are summed: square roots of rounded zeros would add 1e-8 each. Raises DataError for
    unequal widths and for a count of 1.
    """
    if real.mean.shape != generated.mean.shape:
        raise DataError(f"real features have {real.mean.size} columns and generated ones {generated.mean.size}: take one layer for both.")
    first, second = covariance(real, "real features"), covariance(generated, "generated features")
    rank = min(len(first), real.count - 1, generated.count - 1)
    eigenvalues = _product_eigenvalues(second, first)[-rank:]
    difference = real.mean - generated.mean
    traces = np.trace(first) + np.trace(second)
    return _distance(difference, traces, np.sqrt(np.maximum(eigenvalues, 0)).sum())


def _product_eigenvalues(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Returns the eigenvalues, ascending, of second @ first: by Cholesky, or by eigenvalues where `first` is singular to rounding."""
    try:
        # L^T S2 L in n^3 operations, two products take 4 n^3; eigvalsh(type=2), which would do all this, is three times as slow.
        product, _ = scipy.linalg.lapack.dsygst(second, np.linalg.cholesky(first), itype=2, lower=1)
    except np.linalg.LinAlgError:
        values, vectors = scipy.linalg.eigh(first, check_finite=False, driver="evd")
        factor = vectors * np.sqrt(np.maximum(values, 0))
        product = factor.T @ second @ factor
    return scipy.linalg.eigvalsh(product, lower=True, check_finite=False)


def _from_rows(real: np.ndarray, generated: np.ndarray) -> float:
    """Returns the Frechet distance by the nuclear norm of Xc Yc^T, where Xc^T Xc = S1 and Yc^T Yc = S2."""
    means = [features.mean(axis=0) for features in (real, generated)]
    rows = [(x - mean) / np.sqrt(len(x) - 1) for x, mean in zip((real, generated), means, strict=True)]
    traces = sum(np.vdot(x, x) for x in rows)
    return _distance(means[0] - means[1], traces, scipy.linalg.svdvals(rows[0] @ rows[1].T, check_finite=False).sum())


def _distance(difference: np.ndarray, traces: float, root_trace: float) -> float:
    # Equal sets give plus or minus a rounding of the traces; a distance is not negative.
    return float(max(difference @ difference + traces - 2 * root_trace, 0.0))
