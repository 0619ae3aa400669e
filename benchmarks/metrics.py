"""Scores side by side with NumPy, SciPy and PyTorch on this machine: python -m benchmarks.metrics [--many]

Prints milliseconds a call and peer/ours, round by round in turn. In a round each side's time is the median of some calls: a few
milliseconds after minutes of another's work would measure that work's caches. Both sides run in this process, scores from features
in float64 and with the same BLAS threads (--threads), the features, where PyTorch is installed, in float32 on all cores. They must agree.
"""

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
import scipy.linalg

from benchmarks import timing
from metrics import fid, inception, kid
from metrics.inception_table import TAPS
from metrics.weights import Weights

WIDTH = 2048
SECONDS = 1.0
"""What a side's calls take together in a round, at least; one call where that is longer, MAX_CALLS at most."""
MAX_CALLS = 25


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


def compare(title: str, peer: Callable, ours: Callable, rounds: int, tolerance: float) -> None:
    """Prints a line with both medians and their ratio. Raises SystemExit where values differ by more than `tolerance` of the peer's."""
    calls, values, times = {"peer": peer, "ours": ours}, {}, {}
    for name, call in calls.items():
        start = time.perf_counter()
        values[name] = call()
        taken = time.perf_counter() - start
        # The first call may compile, or wake threads; a long one need not be repeated to know that it is long.
        taken = taken if taken > 10 * SECONDS else median_seconds(call, 1)
        times[name] = min(MAX_CALLS, int(np.ceil(SECONDS / taken)))
    difference, scale = np.abs(values["peer"] - values["ours"]).max(), np.abs(values["peer"]).max()
    if not difference <= tolerance * max(scale, 1):
        raise SystemExit(f"{title}: ours differs from the peer by {difference}, values are up to {scale}: speeds of different things")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in list(calls)[:: 1 if number % 2 == 0 else -1]:
            seconds[name].append(median_seconds(calls[name], times[name]))
    medians = [timing.summary(seconds[name])["median_ms"] for name in ("peer", "ours")]
    ratio = timing.ratio_text(timing.ratio(seconds["peer"], seconds["ours"]))
    counts = f"{rounds} rounds of {times['peer']} and {times['ours']} calls"
    print(f"{title}: peer {medians[0]:.1f} ms, ours {medians[1]:.2f} ms, {ratio}, {counts}", flush=True)


def median_seconds(call: Callable[[], object], times: int) -> float:
    """Returns the median of the seconds of `times` calls, after a pause, the first of several not counted."""
    time.sleep(timing.PAUSE)
    seconds = []
    for _ in range(times if times == 1 else times + 1):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[-times:])


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


def inception_features(rounds: int, tap: str, num: int) -> None:
    """Prints the time of `num` images' Inception features: PyTorch (see benchmarks.torch_inception) and ours."""
    from benchmarks import torch_inception

    source = np.random.default_rng(0)
    shapes = inception.layers((tap,))
    arrays = {name: np.float32(source.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape)) for name, shape in shapes.items()}
    images = source.integers(0, 256, (num, inception.SIDE, inception.SIDE, 3), np.uint8)
    extract = inception.make_features(Weights("random", "", arrays), (tap,))
    part = inception.CHUNK_CPU if jax.default_backend() == "cpu" else inception.CHUNK
    peers = torch_inception.features(arrays, images, TAPS.index(tap) + 1, part, timing.num_cores())
    print(torch_inception.describe())
    for name, peer in peers.items():
        title = f"Inception features of {num} images, {tap} columns, against {name}"
        compare(title, peer, lambda: extract(images)[tap], rounds, 1e-4)


def main() -> None:
    """Prints the comparisons on the cores this process may use; --many adds N = 5000 (minutes)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds (default: 3)")
    parser.add_argument("--many", action="store_true", help="also the Frechet distance at N = 5000")
    parser.add_argument("--images", type=int, default=32, help="images for Inception features (default: 32)")
    parser.add_argument(
        "--threads", type=int, default=1, help="of BLAS, both sides (default: 1; more wait for each other when others work)"
    )
    options = parser.parse_args()
    if os.environ.get("OPENBLAS_NUM_THREADS") != str(options.threads):
        # OpenBLAS counts its threads when NumPy is imported: begin again.
        again = [sys.executable, "-m", "benchmarks.metrics", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | {"OPENBLAS_NUM_THREADS": str(options.threads)})
    print(f"{timing.num_cores()} cores, {options.threads} BLAS threads, NumPy {np.__version__}, SciPy {scipy.__version__}")
    frechet(100, options.rounds)
    kernel_subsets(options.rounds)
    if options.many:
        frechet(5000, options.rounds)
    if importlib.util.find_spec("torch"):
        for tap in ("768", "2048"):
            inception_features(options.rounds, tap, options.images)
    else:
        print("PyTorch is not installed: Inception features are not compared.")


if __name__ == "__main__":
    main()
