"""Scores from features side by side with NumPy and SciPy on this machine: python -m benchmarks.metrics [--many]

Prints milliseconds a call and peer/ours, round by round in turn (benchmarks.timing). Both sides are float64 and must agree.
"""

import argparse
from collections.abc import Callable

import numpy as np
import scipy.linalg

from benchmarks import timing
from metrics import fid, kid

WIDTH = 2048


def features(num: int, seed: int) -> np.ndarray:
    """Returns (num, 2048) float32 features, correlated and not negative as those behind a ReLU are."""
    source = np.random.default_rng(seed)
    mixed = source.normal(size=(num, WIDTH)) @ (source.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH))
    return np.maximum(mixed + 0.1 * seed, 0).astype(np.float32)


def frechet_by_sqrtm(real: np.ndarray, generated: np.ndarray) -> float:
    """Returns the Frechet distance as the public codes compute it: covariances, scipy.linalg.sqrtm of their product."""
    real, generated = real.astype(np.float64), generated.astype(np.float64)
    first, second = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    difference = real.mean(axis=0) - generated.mean(axis=0)
    root = scipy.linalg.sqrtm(first @ second)
    return float(difference @ difference + np.trace(first) + np.trace(second) - 2 * np.trace(root).real)


def kid_by_subsets(real: np.ndarray, generated: np.ndarray, num: int, size: int, seed: int) -> float:
    """Returns the mean KID of `num` subsets as the public codes compute it: three kernel matrices for each in NumPy."""
    real, generated = real.astype(np.float64), generated.astype(np.float64)
    source, found = np.random.default_rng(seed), []
    for _ in range(num):
        x, y = (rows[source.choice(len(rows), size, replace=False)] for rows in (real, generated))
        xx, yy, xy = ((a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (size * (size - 1))
        found.append(within - 2 * xy.mean())
    return float(np.mean(found))


def compare(title: str, peer: Callable[[], float], ours: Callable[[], float], rounds: int, tolerance: float) -> None:
    """Prints a line with both medians and their ratio. Raises SystemExit where the values differ by more than `tolerance`."""
    values = {}

    def keeping(name, call):
        def kept():
            values[name] = call()

        return kept

    seconds = timing.interleaved({"peer": keeping("peer", peer), "ours": keeping("ours", ours)}, rounds)
    if not abs(values["peer"] - values["ours"]) <= tolerance * max(abs(values["peer"]), 1):
        raise SystemExit(f"{title}: the peer says {values['peer']}, ours {values['ours']}: speeds of different things")
    medians = [timing.summary(seconds[name])["median_ms"] for name in ("peer", "ours")]
    ratio = timing.ratio_text(timing.ratio(seconds["peer"], seconds["ours"]))
    print(f"{title}: peer {medians[0]:.1f} ms, ours {medians[1]:.2f} ms, {ratio}, {rounds} rounds", flush=True)


def frechet(num: int, rounds: int) -> None:
    """Prints the Frechet distance of `num` against `num` rows: scipy.linalg.sqrtm and ours."""
    real, generated = features(num, 1), features(num, 2)
    title = f"Frechet distance, {WIDTH} columns, N = {num}, against scipy.linalg.sqrtm"
    # Of rank N - 1 the product is singular, and sqrtm loses half its digits.
    compare(title, lambda: frechet_by_sqrtm(real, generated), lambda: fid.frechet_distance(real, generated), rounds, 1e-4)


def kernel_subsets(rounds: int, num: int = 100, size: int = 1000, rows: int = 2000) -> None:
    """Prints the KID of 100 subsets of 1000 among 2000 rows: NumPy and ours."""
    real, generated = features(rows, 1), features(rows, 2)
    title = f"KID, {WIDTH} columns, {num} subsets of {size} among {rows}, against NumPy"

    def ours() -> float:
        return kid.kernel_distance_subsets(real, generated, num, size, seed=0).mean

    compare(title, lambda: kid_by_subsets(real, generated, num, size, seed=0), ours, rounds, 1e-9)


def main() -> None:
    """Prints the comparisons on the cores this process may use; --many adds N = 5000 (minutes)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each side (default: 3)")
    parser.add_argument("--many", action="store_true", help="also the Frechet distance at N = 5000")
    options = parser.parse_args()
    print(f"{timing.num_cores()} cores, NumPy {np.__version__}, SciPy {scipy.__version__}, float64")
    frechet(100, options.rounds)
    kernel_subsets(options.rounds)
    if options.many:
        frechet(5000, options.rounds)


if __name__ == "__main__":
    main()
