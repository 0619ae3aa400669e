"""What scanning adds to the surface the tip follows: drift, tilt, line offsets, 1/f and white noise, spikes. Lengths in nm."""

import math

import numpy as np
import scipy.fft
import scipy.ndimage


def drifted(surface: np.ndarray, shape: tuple[int, int], origin: np.ndarray, drift: np.ndarray) -> np.ndarray:
    """Returns the heights, (h, w) = `shape`, a scan reads from `surface` (linear interpolation) while the specimen drifts.

    Pixel (i, j) reads the specimen at origin + (i + drift_y i/h, j + drift_x i/h), all in pixels: a shear along the slow-scan axis i.
    `drift` (y, x) is what accumulates from the first line to the end. `origin` and `drift` must keep every position on `surface`.
    """
    matrix = np.array([[1 + drift[0] / shape[0], 0.0], [drift[1] / shape[0], 1.0]])
    return scipy.ndimage.affine_transform(surface, matrix, offset=origin, output_shape=shape, order=1, mode="nearest")


def undrift(points: np.ndarray, shape: tuple[int, int], origin: np.ndarray, drift: np.ndarray) -> np.ndarray:
    """Returns where in the scan, (n, 2) float64 pixels, the specimen's `points` (n, 2) in pixels appear; inverts `drifted`."""
    row = (points[:, 0] - origin[0]) / (1 + drift[0] / shape[0])
    return np.stack([row, points[:, 1] - origin[1] - row * drift[1] / shape[0]], axis=-1)


def drifted_discs(centres: np.ndarray, diameters: np.ndarray, shape: tuple[int, int], origin: np.ndarray, drift: np.ndarray) -> np.ndarray:
    """Returns an int32 map (h, w) = `shape`: n + 1 where the position that `drifted` reads lies in disc n of the specimen, else 0.

    `centres` (n, 2) and `diameters` (n) in pixels of the specimen. Each pixel's position is tested itself: drawing the discs first
    and then resampling the labels would misplace edges by up to half a pixel against the heights.
    """
    labels = np.zeros(shape, np.int32)
    for index, (place, centre, radius) in enumerate(zip(undrift(centres, shape, origin, drift), centres, diameters / 2, strict=True)):
        rows = radius / (1 + drift[0] / shape[0]) + 1
        half = np.array([rows, radius + rows * abs(drift[1]) / shape[0] + 1])
        low, high = np.maximum(np.floor(place - half), 0).astype(int), np.minimum(np.ceil(place + half) + 1, shape).astype(int)
        if (low >= high).any():
            continue
        row, column = np.arange(low[0], high[0])[:, None], np.arange(low[1], high[1])[None, :]
        y, x = origin[0] + row * (1 + drift[0] / shape[0]), origin[1] + column + row * drift[1] / shape[0]
        labels[low[0] : high[0], low[1] : high[1]][np.hypot(y - centre[0], x - centre[1]) < radius] = index + 1
    return labels


def tilted_plane(shape: tuple[int, int], nm_per_pixel: float, tilt_degrees: float, random: np.random.Generator) -> np.ndarray:
    """Returns a plane, (h, w) float64 in nm, 0 in the middle, sloping in a random direction by up to `tilt_degrees` (uniform)."""
    slope = math.tan(math.radians(random.uniform(0, tilt_degrees)))
    azimuth = random.uniform(0, 2 * math.pi)
    y, x = ((np.arange(size) - (size - 1) / 2) * nm_per_pixel for size in shape)
    return slope * (math.sin(azimuth) * y[:, None] + math.cos(azimuth) * x[None, :])


def flicker(shape: tuple[int, int], rms: float, exponent: float, random: np.random.Generator) -> np.ndarray:
    """Returns 1/f noise, (h, w) float64 in nm, mean 0 and `rms` over the scan.

    One time series in the order the pixels are read, line after line, with a power spectral density ~ f^-exponent from
    one period per scan up to the pixel rate, so that neighbouring lines share their slow part.
    """
    length = scipy.fft.next_fast_len(math.prod(shape), real=True)
    frequency = scipy.fft.rfftfreq(length)
    amplitude = np.zeros_like(frequency)
    amplitude[1:] = frequency[1:] ** (-exponent / 2)
    series = scipy.fft.irfft(scipy.fft.rfft(random.normal(size=length)) * amplitude, length)[: math.prod(shape)]
    series -= series.mean()
    return series.reshape(shape) * (rms / series.std())


def spikes(
    shape: tuple[int, int], nm_per_pixel: float, number: float, height: float, length: float, random: np.random.Generator
) -> np.ndarray:
    """Returns feedback spikes, (h, w) float64 in nm, 0 where there are none.

    Their number is Poisson with mean `number` a scan. Each is a run along the fast axis, exponentially long (mean
    `length` nm, at least one pixel), up or down by an exponential height (mean `height` nm), that decays along the run.
    """
    added = np.zeros(math.prod(shape))
    for start in random.integers(added.size, size=random.poisson(number)):
        run = added[start : start + 1 + int(random.exponential(length) / nm_per_pixel)]
        run += random.choice([-1, 1]) * random.exponential(height) * np.linspace(1, 0, run.size, endpoint=False)
    return added.reshape(shape)
